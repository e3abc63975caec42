// Translation of addresses (AMD64 APM vol. 2, chapter 5).

#include "guest.h"

#define ENTRY(page) PAGE_LEVEL1 + ((page) >> 12) * 8
#define PAGE 0x30000
#define OTHER 0x40000

.macro reload_cr3
  movq %cr3, %rax
  movq %rax, %cr3
.endm

// A page of 4 KiB somewhere else; the offset within it stays.
guest paging_small, 64
  movl $0x1234, OTHER + 0x678
  movl PAGE + 0x678, %eax
  user_emit %rax
  user_finish
endguest paging_small

// 2 MiB and 1 GiB: linear 0x40000000 + x is physical x.
guest paging_large, 64
  movl $0x1234, DATA
  movl $0x40000000 + DATA, %ebx
  movl (%rbx), %eax
  user_emit %rax
  movl $0x5678, 4(%rbx)
  movl DATA + 4, %eax
  user_emit %rax
  user_finish
endguest paging_large

// A linear address in the upper half.
guest paging_upper_half, 64
  movl $0x1234, DATA
  movabsq $0xffff800000000000 + DATA, %rbx
  movl (%rbx), %eax
  user_emit %rax
  user_finish
endguest paging_upper_half

// A load sets A at all levels, a store D in the last; an entry that is not used stays as it is.
guest paging_accessed, 64
  movl PAGE, %eax
  movl ENTRY(PAGE), %eax
  andl $0x60, %eax
  user_emit %rax
  movl %eax, PAGE
  movl ENTRY(PAGE), %eax
  andl $0x60, %eax
  user_emit %rax
  movl PAGE_LEVEL2, %eax
  andl $0x20, %eax
  user_emit %rax
  movl PAGE_LEVEL3, %eax
  andl $0x20, %eax
  user_emit %rax
  movl PAGE_LEVEL4, %eax
  andl $0x20, %eax
  user_emit %rax
  movl ENTRY(OTHER), %eax
  andl $0x60, %eax
  user_emit %rax
  user_finish
endguest paging_accessed

// After D was cleared and the translation dropped, the next store sets it again.
guest paging_dirty_again, 64
  movl $1, PAGE
  andb $~0x60, ENTRY(PAGE)
  invlpg PAGE
  movl PAGE, %eax
  movl ENTRY(PAGE), %eax
  andl $0x60, %eax
  emit
  movl $1, PAGE
  movl ENTRY(PAGE), %eax
  andl $0x60, %eax
  emit
  finish
endguest paging_dirty_again

// A store that faults sets neither A nor D in the entry that refuses it... A may be set; D must not.
guest paging_dirty_refused, 64
  arm 1f, 2f
1:
  movl %eax, PAGE
2:
  movl ENTRY(PAGE), %eax
  andl $0x40, %eax
  user_emit %rax
  user_finish
endguest paging_dirty_refused

// INVLPG drops one page's translation.
guest paging_invalidate, 64
  movl $1, PAGE
  movl $2, OTHER
  movl PAGE, %eax
  emit
  movl $OTHER | 7, ENTRY(PAGE)
  invlpg PAGE
  movl PAGE, %eax
  emit
  finish
endguest paging_invalidate

// Loading CR3 drops all but global ones; those go with CR4.PGE.
guest paging_reload, 64
  movl $1, PAGE
  movl $2, OTHER
  movl PAGE, %eax
  emit
  movl $OTHER | 7, ENTRY(PAGE)
  reload_cr3
  movl PAGE, %eax
  emit
  // Global: what the processor remembers may be seen, but after a change of CR4.PGE it must not.
  movq %cr4, %rcx
  movq %rcx, %rax
  orq $0x80, %rax
  movq %rax, %cr4
  movl $OTHER | 0x107, ENTRY(PAGE)
  invlpg PAGE
  movl PAGE, %eax
  emit
  movl $PAGE | 7, ENTRY(PAGE)
  movq %rcx, %cr4
  movl PAGE, %eax
  emit
  finish
endguest paging_reload

// A translation that was not there is never remembered: making an entry present needs no INVLPG.
guest paging_present, 64
  arm 1f, 2f
1:
  movl PAGE, %eax
2:
  movl $OTHER | 7, ENTRY(PAGE)
  movl $3, OTHER
  movl PAGE, %eax
  user_emit %rax
  user_finish
endguest paging_present

// A fault drops the translation that faulted: granting a right needs no INVLPG either.
guest paging_granted, 64
  movl PAGE, %eax
  arm 1f, 2f
1:
  movl $5, PAGE
2:
  orb $2, ENTRY(PAGE)
  movl $5, PAGE
  movl PAGE, %eax
  user_emit %rax
  user_finish
endguest paging_granted

// CR0.WP = 0: CPL 0 writes where the entry says read-only.
guest paging_write_protect, 64
  movl $5, PAGE
  movl PAGE, %eax
  emit
  movq %cr0, %rax
  orl $0x10000, %eax
  movq %rax, %cr0
  arm 1f, 2f
1:
  movl $6, PAGE
2:
  movl PAGE, %eax
  emit
  finish
endguest paging_write_protect

// CR4.SMEP: CPL 0 does not fetch from a user page.
guest paging_smep, 64
  movb $0xc3, PAGE
  movl $PAGE, %ebx
  call *%rbx
  emit_value $1
  // This page itself becomes the supervisor's, or it would fault at once.
  andb $~4, ENTRY(LOAD)
  andb $~4, ENTRY(0xc000)
  reload_cr3
  movq %cr4, %rax
  orl $0x100000, %eax
  movq %rax, %cr4
  movl $PAGE, EXPECTED
  movl $AT(2f), RESUME
  jmp *%rbx
2:
  emit_value $2
  finish
endguest paging_smep

// CR4.SMAP: CPL 0 does not read or write a user page, unless RFLAGS.AC says so.
guest paging_smap, 64
  andb $~4, ENTRY(0xd000)
  andb $~4, ENTRY(0xe000)
  andb $~4, ENTRY(IDT)
  andb $~4, ENTRY(GDT)
  reload_cr3
  movq %cr4, %rax
  orl $0x200000, %eax
  movq %rax, %cr4
  arm 1f, 2f
1:
  movl PAGE, %eax
2:
  pushfq
  orq $0x40000, (%rsp)
  popfq
  movl $7, PAGE
  movl PAGE, %eax
  emit
  stac
  clac
  arm 3f, 4f
3:
  movl %eax, PAGE
4:
  finish
endguest paging_smap

// 32-bit paging: level 2 at 0x30000 with 4 MiB pages and, for the second 4 MiB of the space, a table at 0x31000.
guest paging_legacy, 32
  movl $0x1234, DATA
  movl %cr4, %eax
  orl $0x10, %eax
  movl %eax, %cr4
  movl $0x30000, %eax
  movl %eax, %cr3
  movl %cr0, %eax
  orl $0x80010000, %eax
  movl %eax, %cr0
  movl 0x400000 + DATA, %eax
  emit
  movl $0x5678, 0x800000 + DATA
  movl DATA, %eax
  emit
  // Accessed and dirty.
  movl 0x31000 + (DATA >> 10), %eax
  andl $0x60, %eax
  emit
  movl 0x30008, %eax
  andl $0x60, %eax
  emit
  // Not there, and read-only with WP.
  arm 1f, 2f
1:
  movl 0xc00000, %eax
2:
  arm 3f, 4f
3:
  movl %eax, 0x400000
4:
  finish
endguest paging_legacy

// PAE: a table of four pointers at 0x30000, level 2 at 0x31000.
guest paging_pae, 32
  movl $0x1234, DATA
  movl %cr4, %eax
  orl $0x20, %eax
  movl %eax, %cr4
  movl $0xc0000080, %ecx
  rdmsr
  orl $0x800, %eax
  wrmsr
  movl $0x30000, %eax
  movl %eax, %cr3
  movl %cr0, %eax
  orl $0x80000000, %eax
  movl %eax, %cr0
  movl 0x200000 + DATA, %eax
  emit
  movl $0x5678, 0x400000 + DATA
  movl DATA, %eax
  emit
  // Not there, and no execution.
  arm 1f, 2f
1:
  movl 0x600000, %eax
2:
  movl $0x400000 + DATA, EXPECTED
  movl $AT(3f), RESUME
  movl $0x400000 + DATA, %eax
  jmp *%eax
3:
  finish
endguest paging_pae

// INVLPG anywhere in a large page drops all of its translation, for loads, stores and code. Linear VIEW + x is physical x, and
// physical 0x200000 + x once the case's entry has changed.
//
// At DATA: the entry's address, what its low half becomes, and an address in the large page, at which nothing else is.
#define VIEW 0x40000000
#define MOVED 0x200000

// Through the large page: loads from three pieces of it, code in four.
.macro large_page_use register:req
  movl VIEW + 0x50000, %eax
  emit
  movl VIEW + 0x51000, %eax
  emit
  movl VIEW + 0x1ff000, %eax
  emit
  // A direct call from another page.
  .byte 0xe8
  .long VIEW + 0x52000 - AT(1f)
1:
  emit
  // An indirect one, and a jump to another page behind it.
  movl $VIEW + 0x53000, %ecx
  call *\register
  emit
  // An instruction that begins in one piece and ends in the next.
  movl $VIEW + 0x55ffe, %ecx
  call *\register
  emit
.endm

// The code and data of one of the two physical ranges; what it gives is above `value`.
.macro large_page_fill at:req, value:req
  movl $\value + 1, \at + 0x50000
  movl $\value + 2, \at + 0x51000
  movl $\value + 3, \at + 0x1ff000
  // mov $…, %eax; ret
  movl $0xb8 | (\value + 4) << 8, \at + 0x52000
  movl $0xc300, \at + 0x52004
  // jmp to the next page; mov $…, %eax; ret
  movl $0x0ffbe9, \at + 0x53000
  movb $0, \at + 0x53004
  movl $0xb8 | (\value + 5) << 8, \at + 0x54000
  movl $0xc300, \at + 0x54004
  // mov $…, %eax over the end of the page; ret
  movw $0xb8 | (\value + 6) << 8, \at + 0x55ffe
  movl $0xc3000000, \at + 0x56000
.endm

.macro large_page_dropped register:req, reloads
  large_page_fill 0, 0
  large_page_fill MOVED, 0x10
  call 5f
  call 5f
  movl $7, VIEW + 0x50800
  movl $8, VIEW + 0x1ff800
  movl DATA, %ecx
  movl DATA + 8, %edx
  movl %edx, (\register)
.ifnb \reloads
  mov %cr3, \reloads
  mov \reloads, %cr3
.endif
  movl DATA + 16, %ecx
  invlpg (\register)
  movl $0x17, VIEW + 0x50800
  movl $0x18, VIEW + 0x1ff800
  call 5f
  call 5f
  emit_value 0x50800
  emit_value 0x1ff800
  emit_value MOVED + 0x50800
  emit_value MOVED + 0x1ff800
  finish
5:
  large_page_use \register
  ret
.endm

guest paging_large_dropped, 64
  large_page_dropped %rcx
endguest paging_large_dropped

// What a load of CR3 leaves of a global page goes with INVLPG.
guest paging_large_global, 64
  large_page_dropped %rcx, %rax
endguest paging_large_global

guest paging_large_dropped_32, 32
  large_page_dropped %ecx
endguest paging_large_dropped_32

guest paging_large_global_32, 32
  large_page_dropped %ecx, %eax
endguest paging_large_global_32

// Rights that control registers give and take, over and over, with the translations in use: CR0.WP on a page that is read-only,
// EFER.NXE on one that is not to be executed.
guest paging_controls, 64
  movq %cr0, %r8
  movl $3, %ebp
1:
  movq %r8, %cr0
  movl %ebp, PAGE
  movl PAGE, %eax
  emit
  movq %r8, %rax
  orl $0x10000, %eax
  movq %rax, %cr0
  arm 2f, 3f
2:
  movl $0x99, PAGE
3:
  movl PAGE, %eax
  emit
  movl %ebp, OTHER
  movl $OTHER, %ebx
  movl $OTHER, EXPECTED
  movl $AT(4f), RESUME
  jmp *%rbx
4:
  movl $0xc0000080, %ecx
  rdmsr
  btrl $11, %eax
  wrmsr
  arm 5f, 6f
5:
  movl OTHER, %eax
6:
  movl $0xc0000080, %ecx
  rdmsr
  btsl $11, %eax
  wrmsr
  movl OTHER, %eax
  emit
  decl %ebp
  jnz 1b
  finish
endguest paging_controls
