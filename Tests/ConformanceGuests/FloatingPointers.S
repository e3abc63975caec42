// The x87 instruction, operand and opcode pointers (AMD64 APM vol. 1, 6.2.6; vol. 2, 11.4.4; vol. 5, FNSTENV, FXSAVE).
//
// A guest reports pointers to code relative to the instruction that they should name. Environments are stored first and reported
// when all are there: an exit may cost the pointers, since FXSAVE, by which hosts save them, leaves them out.

#include "guest.h"

// Areas of FNSTENV and FXSAVE, a number each.
#define AREA(number) (DATA + 0x1000 + 0x400 * number)
#define SAVED_OPCODE(number) (AREA(number) + 6)
#define SAVED_INSTRUCTION(number) (AREA(number) + 8)
#define SAVED_OPERAND(number) (AREA(number) + 16)

// FIP less `at`, FOP, FDP of an environment; changes EAX.
.macro emit_environment number:req, at=0
  movl AREA(\number) + 12, %eax
  subl $\at, %eax
  user_emit %rax
  movzwl AREA(\number) + 18, %eax
  user_emit %rax
  movl AREA(\number) + 20, %eax
  user_emit %rax
.endm

// The same of FXSAVE's area, with 64 bits; changes RAX.
.macro emit_saved number:req, at=0
  movq SAVED_INSTRUCTION(\number), %rax
  subq $\at, %rax
  user_emit %rax
  movzwl SAVED_OPCODE(\number), %eax
  user_emit %rax
  movq SAVED_OPERAND(\number), %rax
  user_emit %rax
.endm

// FXSAVE and XSAVE must write what is there otherwise.
.macro spoil_saved number:req
  orq $-1, SAVED_INSTRUCTION(\number)
  orq $-1, SAVED_OPERAND(\number)
  orw $-1, SAVED_OPCODE(\number)
.endm

// FDIVRP that follows leaves an exception pending that is not masked.
.macro prepare_division
  fninit
  movw $0x37b, DATA
  fldcw DATA
  fldl DATA + 8
  fld1
  fldz
.endm

guest floating_pointers, 64
  movl $DATA, %ebx
  movl $2, %ecx
  fninit
  fnstenv AREA(0)
1:
  fldl 8(%rbx)
  fnstenv AREA(1)
  // Of instructions in a row the last, with its prefixes; the operand stays.
  fld1
  fldz
2:
  .byte 0x48
  fadd %st(1), %st
  fnstenv AREA(2)
  // Control and MMX instructions are not meant.
  fnstcw DATA
  fldcw DATA
  fnstsw %ax
  fnclex
  fwait
  emms
  movd %eax, %mm0
  emms
  fnstenv AREA(3)
  // Relative to RIP, by index, and stores.
3:
  fistpl DATA + 0x20 - LOAD + 99b(%rip)
  fnstenv AREA(4)
  fildl DATA
4:
  fstpt -6(%rbx,%rcx,8)
  fnstenv AREA(5)
  // The last round of a loop.
  movl $5, %ecx
5:
  fldl (%rbx)
6:
  fstpl 8(%rbx)
  addl $16, %ebx
  decl %ecx
  jnz 5b
  fnstenv AREA(6)
  // FNSAVE and FNINIT clear them.
  fnsave AREA(7)
  fnstenv AREA(8)
  fldl (%rbx)
  fninit
  fnstenv AREA(9)
  emit_environment 0
  emit_environment 1, AT(1b)
  emit_environment 2, AT(2b)
  emit_environment 3, AT(2b)
  emit_environment 4, AT(3b)
  emit_environment 5, AT(4b)
  emit_environment 6, AT(6b)
  emit_environment 7, AT(6b)
  emit_environment 8
  emit_environment 9
  user_finish
endguest floating_pointers

// While an exception is pending, FXSAVE and XSAVE have them too. They name the instruction that caused it, also when others
// without an operand stand before it and behind it.
guest floating_pointers_pending, 64
  prepare_division
1:
  fdivrp
  fxsave64 AREA(0)
  movl $7, %eax
  xorl %edx, %edx
  xsave64 AREA(1)
  arm 2f, 3f
2:
  fchs
  fabs
3:
  fxsave64 AREA(2)
  // The same in a row that shares a check.
  prepare_division
  movl $DATA + 0x40, %ebx
  arm 5f, 6f
  movq $0, (%rbx)
  movl $0x3ff00000, 12(%rbx)
  fldl (%rbx)
  fldl 8(%rbx)
4:
  fdivl (%rbx)
5:
  faddl 16(%rbx)
  fstpl 24(%rbx)
6:
  fxsave64 AREA(5)
  fnclex
  prepare_division
7:
  fdivrp
  // FNSTENV masks, so that nothing is pending any more.
  fnstenv AREA(3)
  spoil_saved 4
  fxsave64 AREA(4)
  fnclex
  emit_saved 0, AT(1b)
  emit_saved 1, AT(1b)
  emit_saved 2, AT(1b)
  emit_saved 5, AT(4b)
  emit_environment 3, AT(7b)
  emit_saved 4
  user_finish
endguest floating_pointers_pending

// FXSAVE and XSAVE write zeros where nothing is pending, and so what is restored is 0.
guest floating_pointers_clear, 64
  fninit
  spoil_saved 0
  spoil_saved 1
  fldl DATA + 8
  fxsave64 AREA(0)
  movl $7, %eax
  xorl %edx, %edx
  xsave64 AREA(1)
  fxrstor64 AREA(0)
  fnstenv AREA(2)
  emit_saved 0
  emit_saved 1
  emit_environment 2
  user_finish
endguest floating_pointers_clear

// What is loaded is there: by FLDENV, FRSTOR, FXRSTOR and XRSTOR. Of the opcode eleven bits count.
guest floating_pointers_load, 64
  fninit
  movl $0x37f, AREA(0)
  movl $0, AREA(0) + 4
  movl $0xffff, AREA(0) + 8
  movl $0x12345678, AREA(0) + 12
  movl $0xff650000, AREA(0) + 16
  movl $0x9abcdef0, AREA(0) + 20
  movl $0, AREA(0) + 24
  fldenv AREA(0)
  fnstenv AREA(1)
  fninit
  frstor AREA(0)
  fnstenv AREA(2)
  // Half of them, and no opcode, in 16 bits.
  .byte 0x66
  fnstenv AREA(3)
  .byte 0x66
  fldenv AREA(3)
  fnstenv AREA(3)
  fninit
  fxsave64 AREA(4)
  movw $0x123, SAVED_OPCODE(4)
  movabsq $0x123456789abc, %rax
  movq %rax, SAVED_INSTRUCTION(4)
  movabsq $0xffff8123456789ab, %rax
  movq %rax, SAVED_OPERAND(4)
  fxrstor64 AREA(4)
  fnstenv AREA(4)
  fninit
  movl $7, %eax
  xorl %edx, %edx
  xsave64 AREA(5)
  movw $0x7ff, SAVED_OPCODE(5)
  movq $0x1234567, SAVED_INSTRUCTION(5)
  movq $0x2345678, SAVED_OPERAND(5)
  orb $1, AREA(5) + 512
  xrstor64 AREA(5)
  fnstenv AREA(6)
  // Initialized, where the header has no x87.
  andb $~1, AREA(5) + 512
  xrstor64 AREA(5)
  fnstenv AREA(7)
  .irp number, 1, 2, 3, 4, 6, 7
  emit_environment \number
  .endr
  user_finish
endguest floating_pointers_load

// The selectors of code and operand; FXSAVE without REX.W has them in place of the upper halves.
guest floating_pointers_selectors, 64
  movl $USER_DATA, %eax
  movl %eax, %fs
  fninit
  fldl DATA + 8
  fnstenv AREA(0)
  fldl %fs:DATA + 8
  fnstenv AREA(1)
  prepare_division
1:
  fdivrp
  fxsave AREA(2)
  fxrstor AREA(2)
  fxsave64 AREA(3)
  fnclex
  movzwl AREA(0) + 16, %eax
  user_emit %rax
  movzwl AREA(0) + 24, %eax
  user_emit %rax
  movzwl AREA(1) + 24, %eax
  user_emit %rax
  emit_saved 2, AT(1b)
  emit_saved 3, AT(1b)
  user_finish
endguest floating_pointers_selectors

// Of 32-bit code, in both sizes.
guest floating_pointers_compatibility, 32
  movl $DATA, %ebx
  fninit
  orl $-1, AREA(1) + 14
1:
  fldl 8(%ebx)
  fnstenv AREA(0)
  .byte 0x66
  fnstenv AREA(1)
  movl AREA(0) + 12, %eax
  subl $AT(1b), %eax
  user_emit %eax
  movl AREA(0) + 16, %eax
  user_emit %eax
  movl AREA(0) + 20, %eax
  user_emit %eax
  movl AREA(0) + 24, %eax
  user_emit %eax
  movzwl AREA(1) + 6, %eax
  subl $AT(1b), %eax
  user_emit %eax
  movzwl AREA(1) + 8, %eax
  user_emit %eax
  movl AREA(1) + 10, %eax
  user_emit %eax
  movl AREA(1) + 14, %eax
  user_emit %eax
  user_finish
endguest floating_pointers_compatibility

// Of real mode: linear addresses of 20 bits, in both sizes.
guest floating_pointers_real, 16
  movw $0x7000, %bx
  movw $0x7100, %si
  movw $0x7200, %di
  fninit
  movw $0x3456, %ax
  movw %ax, %ds
1:
  fldl 0x1234
  xorw %ax, %ax
  movw %ax, %ds
  .byte 0x66
  fnstenv (%si)
  fnstenv (%bx)
  // And back.
  fninit
  .byte 0x66
  fldenv (%si)
  fnstenv (%di)
  .irp base, %bx, %di
  movzwl 6(\base), %eax
  subl $AT(1b), %eax
  emit
  movzwl 8(\base), %eax
  emit
  movl 10(\base), %eax
  emit
  .endr
  movl 12(%si), %eax
  subl $AT(1b), %eax
  emit
  movl 16(%si), %eax
  emit
  movl 20(%si), %eax
  emit
  movl 24(%si), %eax
  emit
  finish
endguest floating_pointers_real
