// Protection keys of user pages (AMD64 APM vol. 2, 5.6.7).

#include "guest.h"

#define PAGE 0x30000
#define LARGE_PAGE 0x200000
#define ENTRY(page) PAGE_LEVEL1 + ((page) >> 12) * 8
// CR4.PKE, and what PKRU can take from keys 1 and 2.
#define PKE 22
#define NO_ACCESS_1 0x4
#define NO_WRITE_1 0x8
#define NO_ACCESS_2 0x10
#define NO_WRITE_2 0x20

// PKRU = value; changes EAX, ECX and EDX.
.macro forbid value:req
  movl $\value, %eax
  xorl %ecx, %ecx
  xorl %edx, %edx
  wrpkru
.endm

.macro set_pke
  movq %cr4, %rax
  btsq $PKE, %rax
  movq %rax, %cr4
.endm

.macro clear_pke
  movq %cr4, %rax
  btrq $PKE, %rax
  movq %rax, %cr4
.endm

// CPUID's OSPKE; changes all four registers.
.macro emit_ospke
  movl $7, %eax
  xorl %ecx, %ecx
  cpuid
  movl %ecx, %eax
  shrl $4, %eax
  andl $1, %eax
  emit
.endm

// Without CR4.PKE neither instruction is there, and CPUID says so.
guest keys_switch, 64
  clear_pke
  emit_ospke
  xorl %ecx, %ecx
  arm 1f, 2f
1:
  rdpkru
2:
  xorl %edx, %edx
  arm 3f, 4f
3:
  wrpkru
4:
  set_pke
  emit_ospke
  xorl %ecx, %ecx
  rdpkru
  emit
  finish
endguest keys_switch

// What they do, and what they don't take.
guest keys_instructions, 64
  movl $-1, %edx
  xorl %ecx, %ecx
  rdpkru
  user_emit %rax
  user_emit %rdx
  movl $0x55555554, %eax
  wrpkru
  movq $-1, %rdx
  movq $-1, %rax
  rdpkru
  user_emit %rax
  user_emit %rdx
  // Of RCX, only ECX counts.
  movq $1, %rcx
  shlq $32, %rcx
  rdpkru
  user_emit %rax
  movl $1, %ecx
  arm 1f, 2f
1:
  rdpkru
2:
  arm 3f, 4f
3:
  wrpkru
4:
  xorl %ecx, %ecx
  movl $1, %edx
  arm 5f, 6f
5:
  wrpkru
6:
  user_finish
endguest keys_instructions

// The page's key is 1. What PKRU takes goes at once, from loads, stores, and repeated instructions; what it gives comes at once.
.macro keys_rights
  movl $5, PAGE
  forbid NO_ACCESS_1
  arm 1f, 2f
1:
  movl PAGE, %ebx
2:
  arm 3f, 4f
3:
  movl %ebx, PAGE
4:
  movl $PAGE, %esi
  movl $DATA, %edi
  movl $16, %ecx
  arm 5f, 6f
5:
  rep movsb
6:
  // Key 1 may be read again.
  forbid NO_WRITE_1
  movl PAGE, %ebx
  addl %ebx, %ebp
  arm 7f, 8f
7:
  addl $1, PAGE
8:
  movl $PAGE, %edi
  movl $4, %ecx
  arm 11f, 12f
11:
  rep stosl
12:
  // Other keys are no matter of this page's.
  forbid NO_ACCESS_2 | NO_WRITE_2
  addl $1, PAGE
  forbid NO_ACCESS_1 | NO_WRITE_1
  forbid 0
  addl $1, PAGE
  addl PAGE, %ebp
.endm

guest keys_rights, 64
  xorl %ebp, %ebp
  keys_rights
  user_emit %rbp
  user_finish
endguest keys_rights

guest keys_rights_32, 32
  xorl %ebp, %ebp
  keys_rights
  movl %ebp, USER_RESULT
  movb $0, USER_FINISH
endguest keys_rights_32

// CR0.WP decides whether CPL 0 heeds WD; AD it heeds in any case.
guest keys_write_protect, 64
  movq %cr0, %r8
  btrq $16, %r8
  movq %r8, %cr0
  forbid NO_WRITE_1
  movl $6, PAGE
  forbid NO_ACCESS_1
  arm 1f, 2f
1:
  movl $7, PAGE
2:
  forbid NO_WRITE_1
  movl $8, PAGE
  btsq $16, %r8
  movq %r8, %cr0
  arm 3f, 4f
3:
  movl $9, PAGE
4:
  movl PAGE, %eax
  emit
  finish
endguest keys_write_protect

// A page that is not the user's has no key, whatever its entry holds.
guest keys_supervisor_page, 64
  forbid NO_ACCESS_1 | NO_WRITE_1
  movl $5, PAGE
  movl PAGE, %eax
  emit
  finish
endguest keys_supervisor_page

// Code is fetched whatever its page's key forbids.
guest keys_fetch, 64
  movb $0xc3, PAGE
  forbid NO_ACCESS_1 | NO_WRITE_1
  movl $PAGE, %ebx
  call *%rbx
  arm 1f, 2f
1:
  movb PAGE, %bl
2:
  call *%rbx
  user_finish
endguest keys_fetch

// All of a page of 2 MiB has its key.
guest keys_large, 64
  movl $1, LARGE_PAGE
  movl $2, LARGE_PAGE + 0x123000
  forbid NO_ACCESS_1
  arm 1f, 2f
1:
  movl LARGE_PAGE, %ebx
2:
  arm 3f, 4f
3:
  movl LARGE_PAGE + 0x123000, %ebx
4:
  user_finish
endguest keys_large

// A store that the page forbids anyway says so of the key, too; a page that is not there, or has a reserved bit, has no key.
guest keys_reasons, 64
  forbid NO_ACCESS_1
  arm 1f, 2f
1:
  movl $1, PAGE
2:
  arm 3f, 4f
3:
  movl $1, PAGE + 0x1000
4:
  arm 5f, 6f
5:
  movl PAGE + 0x2000, %ebx
6:
  user_finish
endguest keys_reasons

// What CR4.PKE decides, it decides anew at each change.
guest keys_toggled, 64
  forbid NO_ACCESS_1
  clear_pke
  movl $5, PAGE
  set_pke
  arm 1f, 2f
1:
  movl PAGE, %eax
2:
  clear_pke
  movl PAGE, %eax
  emit
  finish
endguest keys_toggled

// PKRU as a component of XSAVE: its size, its value, its bit; XRSTOR loads it, or clears it where the bit is not set.
guest keys_saved, 64
  movq %cr4, %rax
  orq $0x40000, %rax
  movq %rax, %cr4
  xorl %ecx, %ecx
  xgetbv
  movl %eax, %r10d
  orl $0x200, %eax
  xsetbv
  movl $0xd, %eax
  movl $9, %ecx
  cpuid
  movl %ebx, %r8d
  emit
  movl %ecx, %eax
  andl $1, %eax
  emit
  movl $0xd, %eax
  xorl %ecx, %ecx
  cpuid
  subl %r8d, %ebx
  emit_value %ebx
  movl $5, PAGE
  forbid NO_WRITE_1 | NO_WRITE_2
  movq $0, DATA + 512
  movl $-1, DATA(%r8)
  movl $0x200, %eax
  xorl %edx, %edx
  xsave DATA
  emit_value DATA(%r8)
  emit_value DATA + 512
  // Another value.
  movl $NO_ACCESS_1, DATA(%r8)
  movl $0x200, %eax
  xrstor DATA
  xorl %ecx, %ecx
  rdpkru
  emit
  arm 1f, 2f
1:
  movl PAGE, %eax
2:
  // Not asked for: it stays.
  movl $1, %eax
  xorl %edx, %edx
  movq $0, DATA + 512
  xrstor DATA
  rdpkru
  emit
  // Asked for, and not there: the initial value.
  movl $0x200, %eax
  xrstor DATA
  rdpkru
  emit
  emit_value PAGE
  finish
endguest keys_saved
