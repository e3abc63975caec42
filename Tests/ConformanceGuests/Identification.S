// CPUID (AMD64 APM vol. 3, appendix E).

#include "guest.h"

// Vendor and the highest functions of both ranges.
guest cpuid_vendor, 64
  xorl %eax, %eax
  cpuid
  user_emit %rax
  user_emit %rbx
  user_emit %rdx
  user_emit %rcx
  movl $0x80000000, %eax
  cpuid
  user_emit %rax
  user_emit %rbx
  user_finish
endguest cpuid_vendor

// Every function that carries feature flags. The upper halves of the registers are cleared.
guest cpuid_features, 64
  movl $1, %eax
  orq $-1, %rcx
  orq $-1, %rdx
  cpuid
  user_emit %rcx
  user_emit %rdx
  movl $7, %eax
  xorl %ecx, %ecx
  orq $-1, %rbx
  cpuid
  user_emit %rbx
  movl $0x80000001, %eax
  cpuid
  user_emit %rcx
  user_emit %rdx
  movl $0x80000007, %eax
  cpuid
  user_emit %rdx
  movl $0xd, %eax
  movl $1, %ecx
  cpuid
  user_emit %rax
  user_finish
endguest cpuid_features

// Functions that are not there answer with zeros on AMD's processors.
guest cpuid_unsupported, 64
  movl $0x7fffffff, %eax
  movl $5, %ecx
  cpuid
  orl %ebx, %eax
  orl %ecx, %eax
  orl %edx, %eax
  user_emit %rax
  movl $0x8fffffff, %eax
  cpuid
  orl %ebx, %eax
  orl %ecx, %eax
  orl %edx, %eax
  user_emit %rax
  user_finish
endguest cpuid_unsupported

// The bits that follow the processor's state: OSXSAVE follows CR4, the APIC's flag follows its enabling.
guest cpuid_dynamic, 64
  movl $1, %eax
  cpuid
  shrl $27, %ecx
  andl $1, %ecx
  emit_value %ecx
  movq %cr4, %rax
  orl $0x40000, %eax
  movq %rax, %cr4
  movl $1, %eax
  cpuid
  shrl $27, %ecx
  andl $1, %ecx
  emit_value %ecx
  shrl $9, %edx
  andl $1, %edx
  emit_value %edx
  finish
endguest cpuid_dynamic

guest cpuid_hypervisor, 64
  movl $1, %eax
  cpuid
  shrl $31, %ecx
  user_emit %rcx
  movl $0x40000000, %eax
  cpuid
  user_emit %rax
  user_emit %rbx
  user_emit %rcx
  user_emit %rdx
  user_finish
endguest cpuid_hypervisor

// The brand string, four bytes at a time.
guest cpuid_brand, 64
  movl $0x80000002, %eax
  cpuid
  user_emit %rax
  user_emit %rbx
  user_emit %rcx
  user_finish
endguest cpuid_brand
