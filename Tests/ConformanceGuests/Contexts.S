#include "guest.h"

// Address spaces with numbers (CR4.PCIDE): what must be forgotten of one that the processor is not in, and what of all of them.
//
// Each guest has one set of page tables under several numbers. PAGE is mapped to one of the frames behind each other, and what is read there and
// what code there gives says which one the processor took it for.

#define PAGE 0x30000
#define FRAMES (DATA + 0x20000)
#define ENTRY (PAGE_LEVEL1 + 8 * (PAGE / 4096))
#define ASKED DATA
#define PCIDE 17
#define PGE 7
#define KEEPS 63
#define VIEW 0x40000000
#define MOVED 0x200000

// Ends the guest where PCID and INVPCID are not both there. Leaves CR3 in R8, and CR4 with PCIDE in R9.
.macro begin_contexts
  movl $1, %eax
  cpuid
  btl $17, %ecx
  jnc 90f
  movl $7, %eax
  xorl %ecx, %ecx
  cpuid
  btl $10, %ebx
  jc 91f
90:
  finish
91:
  movq %cr3, %r8
  movq %cr4, %r9
  btsq $PCIDE, %r9
  movq %r9, %cr4
  // mov $number, %eax; ret
  movl $1, %ecx
  movl $FRAMES, %edi
92:
  movb $0xb8, (%rdi)
  movl %ecx, 1(%rdi)
  movb $0xc3, 5(%rdi)
  addl $0x1000, %edi
  incl %ecx
  cmpl $15, %ecx
  jb 92b
.endm

// To an address space, whose translations may be kept, or not.
.macro enter number:req, keeps=1
  leaq \number(%r8), %rax
  .if \keeps
  btsq $KEEPS, %rax
  .endif
  movq %rax, %cr3
.endm

.macro map frame:req, flags=3
  movq $FRAMES + 0x1000 * (\frame - 1) + \flags, ENTRY
.endm

.macro use
  movl PAGE + 1, %eax
  emit
  movl $PAGE, %eax
  call *%rax
  emit
.endm

.macro invalidate kind:req, number=0, address=0
  movq $\number, ASKED
  movq $\address, ASKED + 8
  movl $\kind, %ebx
  invpcid ASKED, %rbx
.endm

// While the processor is in another address space, the mapping changes, and the one that it comes back to is told by each way there is.
guest contexts_dropped, 64
  begin_contexts
  map 1
  enter 1, 0
  use
  enter 2
  map 2
  invalidate 1, 1
  enter 1
  use
  enter 2
  map 3
  enter 1, 0
  use
  enter 2
  map 4
  invalidate 0, 1, PAGE
  enter 1
  use
  enter 2
  map 5
  invalidate 3
  enter 1
  use
  enter 2
  map 6
  invalidate 2
  enter 1
  use
  // All of them go when CR4.PGE changes, and when PCIDE is switched off.
  enter 2
  map 7
  movq %r9, %rax
  btcq $PGE, %rax
  movq %rax, %cr4
  movq %r9, %cr4
  enter 1
  use
  enter 2
  map 8
  movq %r9, %rax
  btrq $PCIDE, %rax
  movq %rax, %cr4
  movq %r8, %cr3
  movq %r9, %cr4
  enter 1
  use
  // What came back goes as everything does.
  enter 2
  enter 1
  map 9
  invlpg PAGE
  use
  enter 2
  enter 1
  map 10
  invalidate 1, 1
  use
  // What was told to one address space is nothing to the others.
  map 11
  enter 2, 0
  use
  enter 1
  invlpg PAGE
  use
  finish
endguest contexts_dropped

// A page that an address space may store to becomes code in another one: its stores change that code.
guest contexts_code, 64
  begin_contexts
  map 1
  enter 1, 0
  movl $0, PAGE + 0x800
  enter 2
  movl $PAGE, %eax
  call *%rax
  emit
  enter 1
  movl $0x55, PAGE + 1
  movl $PAGE, %eax
  call *%rax
  emit
  enter 2
  movl $PAGE, %eax
  call *%rax
  emit
  // By another address, too.
  movl $0x66, FRAMES + 1
  enter 1
  movl $PAGE, %eax
  call *%rax
  emit
  movl $0x77, PAGE + 1
  enter 2
  movl $PAGE, %eax
  call *%rax
  emit
  finish
endguest contexts_code

// INVLPG drops what is global in every address space.
guest contexts_global, 64
  begin_contexts
  btsq $PGE, %r9
  movq %r9, %cr4
  map 1, 0x103
  enter 2, 0
  use
  enter 1, 0
  use
  map 2
  invlpg PAGE
  use
  enter 2
  use
  finish
endguest contexts_global

// INVLPG anywhere in a large page drops all of it, when its pieces were known before the processor was elsewhere.
guest contexts_large, 64
  begin_contexts
  movl $0x11, FRAMES + 0x2000
  movl $0x12, FRAMES + 0x13000
  movl $0x21, MOVED + FRAMES + 0x2000
  movl $0x22, MOVED + FRAMES + 0x13000
  enter 1, 0
  movl VIEW + FRAMES + 0x2000, %eax
  emit
  movl VIEW + FRAMES + 0x13000, %eax
  emit
  enter 2
  enter 1
  movq $MOVED + 0x87, 0x31000
  invlpg VIEW + 0x100000
  movl VIEW + FRAMES + 0x2000, %eax
  emit
  movl VIEW + FRAMES + 0x13000, %eax
  emit
  finish
endguest contexts_large

// More of them than are remembered: each sees the mapping as it became while it was not there.
guest contexts_many, 64
  begin_contexts
  xorl %r12d, %r12d
  map 1
1:
  movl $20, %r10d
2:
  leaq (%r8, %r10), %rax
  btsq $KEEPS, %rax
  movq %rax, %cr3
  addl PAGE + 1, %r12d
  decl %r10d
  jnz 2b
  movl %r12d, %eax
  emit
  btsl $30, %r12d
  jc 3f
  map 2
  invalidate 3
  jmp 1b
3:
  finish
endguest contexts_many

.macro use_straddling
  movl $PAGE + 0xffe, %eax
  call *%rax
  emit
.endm

// INVLPG drops code on two pages of which one is global, where it was known before the processor was elsewhere.
guest contexts_straddling, 64
  begin_contexts
  btsq $PGE, %r9
  movq %r9, %cr4
  // mov $…, %eax over the end of a page; ret
  movw $0x11b8, FRAMES + 0xffe
  movw $0x22b8, FRAMES + 0x2ffe
  movl $0xc3000000, FRAMES + 0x1000
  movl $0xc3000100, FRAMES + 0x4000
  // The first is global.
  movq $FRAMES + 0x103, ENTRY
  movq $FRAMES + 0x1003, ENTRY + 8
  invlpg PAGE
  enter 1, 0
  use_straddling
  enter 2
  movq $FRAMES + 0x2103, ENTRY
  invlpg PAGE
  enter 1
  use_straddling
  // The second is.
  movq $FRAMES + 3, ENTRY
  movq $FRAMES + 0x1103, ENTRY + 8
  invlpg PAGE
  invlpg PAGE + 0x1000
  use_straddling
  enter 2
  movq $FRAMES + 0x4103, ENTRY + 8
  invlpg PAGE + 0x1000
  enter 1
  use_straddling
  finish
endguest contexts_straddling

// Without numbers, bit 63 of CR3 is reserved.
guest contexts_off, 64
  movq %cr3, %rax
  btsq $KEEPS, %rax
  arm 1f, 2f
1:
  movq %rax, %cr3
2:
  finish
endguest contexts_off
