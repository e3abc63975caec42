// x87, SSE and AVX: state, its saving, its exceptions (AMD64 APM vol. 1, chapters 4 to 6; vol. 2, chapter 11).
//
// All of it at CPL 3 too: where kernel code is emulated, vector instructions are what an emulator lacks first.

#include "guest.h"

guest floating_initial, 64
  fninit
  fnstcw DATA
  fnstsw DATA + 2
  movl DATA, %eax
  user_emit %rax
  stmxcsr DATA
  movl DATA, %eax
  user_emit %rax
  user_finish
endguest floating_initial

guest floating_arithmetic, 64
  fninit
  movl $7, DATA
  fildl DATA
  movl $3, DATA
  fidivl DATA
  fstpl DATA
  movq DATA, %rax
  user_emit %rax
  fldpi
  fstpt DATA
  movq DATA, %rax
  user_emit %rax
  movzwl DATA + 8, %eax
  user_emit %rax
  user_finish
endguest floating_arithmetic

// Control words hold what is written, and rounding follows.
guest floating_control, 64
  fninit
  movw $0xf7f, DATA
  fldcw DATA
  movl $7, DATA + 8
  fildl DATA + 8
  movl $2, DATA + 8
  fidivl DATA + 8
  fistpl DATA + 12
  fnstcw DATA + 4
  movzwl DATA + 4, %eax
  user_emit %rax
  movl DATA + 12, %eax
  user_emit %rax
  movl $0x7f80, DATA
  ldmxcsr DATA
  movl $0x40600000, DATA
  cvtss2si DATA, %eax
  user_emit %rax
  stmxcsr DATA
  movl DATA, %eax
  user_emit %rax
  user_finish
endguest floating_control

// A reserved bit of MXCSR.
guest floating_control_refused, 64
  movl $0x10000, DATA
  arm 1f, 2f
1:
  ldmxcsr DATA
2:
  user_finish
endguest floating_control_refused

// Bit 17 of MXCSR exists if FXSAVE's MXCSR_MASK says so.
guest floating_control_mask, 64
  fxsave DATA
  movl DATA + 28, %eax
  user_emit %rax
  movl $0x21f80, DATA
  arm 1f, 2f
1:
  ldmxcsr DATA
2:
  stmxcsr DATA
  movl DATA, %eax
  user_emit %rax
  user_finish
endguest floating_control_mask

.macro fill_xmm register
  movl $0x01010101 * \register + 0x10000, DATA + 64
  movd DATA + 64, %xmm\register
  pshufd $0x40, %xmm\register, %xmm\register
.endm

// All sixteen registers, the x87 stack and the control words live through exits: here 16 stores to a device.
guest floating_exits, 64
  fninit
  fld1
  fldpi
  .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  fill_xmm \n
  movups %xmm\n, DATA + 0x100 + 16 * \n
  .endr
  movl $0x3f80, DATA
  ldmxcsr DATA
  movl $DEVICE, %ebx
  .rept 16
  movl %ebx, (%rbx)
  .endr
  .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  movups %xmm\n, DATA + 0x200 + 16 * \n
  .endr
  cld
  movl $DATA + 0x100, %esi
  movl $DATA + 0x200, %edi
  movl $256, %ecx
  repe cmpsb
  setz %al
  movzbl %al, %eax
  user_emit %rax
  stmxcsr DATA
  movl DATA, %eax
  user_emit %rax
  fistpl DATA
  movl DATA, %eax
  user_emit %rax
  fistpl DATA
  movl DATA, %eax
  user_emit %rax
  user_finish
endguest floating_exits

// The upper halves of the AVX registers too.
guest vector_exits, 64
  .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  movl $0x01010101 * \n + 0x20000, DATA + 64
  vbroadcastss DATA + 64, %ymm\n
  vmovups %ymm\n, DATA + 0x100 + 32 * \n
  .endr
  movl $DEVICE, %ebx
  .rept 16
  movl %ebx, (%rbx)
  .endr
  .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  vmovups %ymm\n, DATA + 0x300 + 32 * \n
  .endr
  cld
  movl $DATA + 0x100, %esi
  movl $DATA + 0x300, %edi
  movl $512, %ecx
  repe cmpsb
  setz %al
  movzbl %al, %eax
  user_emit %rax
  user_finish
endguest vector_exits

// A legacy SSE write keeps the upper half, a VEX one clears it, VZEROUPPER clears all.
guest vector_upper, 64
  movl $0x12345678, DATA
  vbroadcastss DATA, %ymm0
  vbroadcastss DATA, %ymm1
  vbroadcastss DATA, %ymm2
  xorps %xmm0, %xmm0
  vxorps %xmm1, %xmm1, %xmm1
  vmovups %ymm0, DATA
  movq DATA, %rax
  user_emit %rax
  movq DATA + 16, %rax
  user_emit %rax
  vmovups %ymm1, DATA
  movq DATA + 16, %rax
  user_emit %rax
  vzeroupper
  vmovups %ymm2, DATA
  movq DATA, %rax
  user_emit %rax
  movq DATA + 16, %rax
  user_emit %rax
  user_finish
endguest vector_upper

// XSAVE writes the components asked for and says which in its header; XRSTOR brings them back, and initializes what the
// header leaves out.
guest xsave_restore, 64
  movl $0x12345678, DATA
  vbroadcastss DATA, %ymm3
  movl $7, %eax
  xorl %edx, %edx
  xsave DATA + 0x1000
  movl DATA + 0x1000 + 512, %eax
  andl $6, %eax
  user_emit %rax
  movl DATA + 0x1000 + 160 + 3 * 16, %eax
  user_emit %rax
  movl DATA + 0x1000 + 576 + 3 * 16, %eax
  user_emit %rax
  vxorps %ymm3, %ymm3, %ymm3
  movl $7, %eax
  xrstor DATA + 0x1000
  vmovups %ymm3, DATA
  movq DATA, %rax
  user_emit %rax
  movq DATA + 24, %rax
  user_emit %rax
  // Only x87 and SSE in the header: the upper halves are initialized.
  movq $3, DATA + 0x1000 + 512
  movl $7, %eax
  xrstor DATA + 0x1000
  vmovups %ymm3, DATA
  movq DATA, %rax
  user_emit %rax
  movq DATA + 24, %rax
  user_emit %rax
  user_finish
endguest xsave_restore

// x87 and SSE alone, while AVX is enabled: what is behind their parts of the area is not touched, and need not be there.
guest xsave_parts, 64
  movl $0x12345678, DATA
  movss DATA, %xmm3
  movl $3, %eax
  xorl %edx, %edx
  xsave DATA + 0x10dc0
  movl DATA + 0x10dc0 + 512, %eax
  andl $2, %eax
  user_emit %rax
  xorps %xmm3, %xmm3
  movl $3, %eax
  xrstor DATA + 0x10dc0
  movss %xmm3, DATA + 8
  movl DATA + 8, %eax
  user_emit %rax
  user_finish
endguest xsave_parts

// A header with reserved bits; an area that is not aligned to 64 bytes.
guest xsave_refused, 64
  movl $7, %eax
  xorl %edx, %edx
  xsave DATA + 0x1000
  movq $0x100, DATA + 0x1000 + 512
  arm 1f, 2f
1:
  xrstor DATA + 0x1000
2:
  arm 3f, 4f
3:
  xsave DATA + 0x1010
4:
  user_finish
endguest xsave_refused

// XCR0 as the operating system set it; there is no XCR1 here.
guest xgetbv, 64
  xorl %ecx, %ecx
  orq $-1, %rdx
  xgetbv
  user_emit %rax
  user_emit %rdx
  movl $5, %ecx
  arm 1f, 2f
1:
  xgetbv
2:
  user_finish
endguest xgetbv

guest xsetbv, 64
  xorl %ecx, %ecx
  xorl %edx, %edx
  movl $3, %eax
  xsetbv
  xgetbv
  emit
  movl $7, %eax
  xsetbv
  xgetbv
  emit
  // x87 can't be left out, AVX needs SSE.
  movl $6, %eax
  arm 1f, 2f
1:
  xsetbv
2:
  movl $5, %eax
  arm 3f, 4f
3:
  xsetbv
4:
  finish
endguest xsetbv

guest xsetbv_user, 64
  xorl %ecx, %ecx
  xorl %edx, %edx
  movl $7, %eax
  arm 1f, 2f
1:
  xsetbv
2:
  user_finish
endguest xsetbv_user

// With CR4.OSXSAVE = 0 neither XGETBV nor AVX exist.
guest xsave_disabled, 64
  xorl %ecx, %ecx
  arm 1f, 2f
1:
  xgetbv
2:
  arm 3f, 4f
3:
  vxorps %xmm0, %xmm0, %xmm0
4:
  user_finish
endguest xsave_disabled

guest fxsave_restore, 64
  fninit
  fldpi
  movl $0x12345678, DATA
  movd DATA, %xmm5
  fxsave DATA + 0x1000
  fninit
  xorps %xmm5, %xmm5
  fxrstor DATA + 0x1000
  movd %xmm5, %eax
  user_emit %rax
  fistpl DATA
  movl DATA, %eax
  user_emit %rax
  // The abridged tag word: one register in use.
  movzbl DATA + 0x1004, %eax
  user_emit %rax
  user_finish
endguest fxsave_restore

// An unmasked x87 exception is reported by the next waiting instruction.
guest exception_floating, 64
  fninit
  movw $0x37b, DATA
  fldcw DATA
  fld1
  movl $0, DATA
  fidivl DATA
  arm 1f, 2f
  nop
1:
  fwait
2:
  fnclex
  fninit
  user_finish
endguest exception_floating

guest exception_vector_floating, 64
  movl $0x1d80, DATA
  ldmxcsr DATA
  movl $0x3f800000, DATA
  movd DATA, %xmm0
  xorps %xmm1, %xmm1
  arm 1f, 2f
1:
  divss %xmm1, %xmm0
2:
  movd %xmm0, %eax
  user_emit %rax
  stmxcsr DATA
  movl DATA, %eax
  andl $0x3f, %eax
  user_emit %rax
  user_finish
endguest exception_vector_floating

// CR0.TS: x87, SSE and AVX instructions are #NM. CR0.EM: x87 is #NM, SSE is #UD. CR4.OSFXSR = 0: SSE is #UD.
guest exception_device_not_available, 64
  arm 1f, 2f
1:
  fldz
2:
  arm 3f, 4f
3:
  xorps %xmm0, %xmm0
4:
  user_finish
endguest exception_device_not_available

// FWAIT is #NM only with both TS and MP.
guest exception_wait, 64
  arm 1f, 2f
1:
  fwait
2:
  user_finish
endguest exception_wait

// MOVAPS and its like want 16 bytes of alignment, MOVUPS does not.
guest exception_vector_alignment, 64
  movups DATA + 8, %xmm0
  arm 1f, 2f
1:
  movaps DATA + 8, %xmm0
2:
  arm 3f, 4f
3:
  movaps %xmm0, DATA + 8
4:
  user_finish
endguest exception_vector_alignment

// With CR0.AM and RFLAGS.AC, an unaligned access at CPL 3 is #AC(0).
guest exception_alignment, 64
  movl DATA + 1, %eax
  pushfq
  orq $0x40000, (%rsp)
  popfq
  movl DATA + 4, %eax
  arm 1f, 2f
1:
  movl DATA + 1, %eax
2:
  pushfq
  andq $~0x40000, (%rsp)
  popfq
  user_finish
endguest exception_alignment

// CR0.NE = 0: an x87 error is interrupt line 13, and the instruction that it is told at waits.
guest floating_interrupt, 16
  movl %cr0, %eax
  andl $~0x20, %eax
  movl %eax, %cr0
  movb $0x11, %al
  outb %al, $0x20
  outb %al, $0xa0
  movb $0x48, %al
  outb %al, $0x21
  movb $0x50, %al
  outb %al, $0xa1
  movb $4, %al
  outb %al, $0x21
  movb $2, %al
  outb %al, $0xa1
  movb $1, %al
  outb %al, $0x21
  outb %al, $0xa1
  // The slave, and of it line 13.
  movb $0xfb, %al
  outb %al, $0x21
  movb $0xdf, %al
  outb %al, $0xa1
  fninit
  // Division by zero is not masked.
  movw $0x37b, 0x7000
  fldcw 0x7000
  sti
  .rept 2
  fld1
  fldz
  fdivrp
  arm 1f, 2f
1:
  fwait
2:
  fnclex
  outb %al, $0xf0
  movb $0x20, %al
  outb %al, $0xa0
  outb %al, $0x20
  sti
  .endr
  fnstsw %ax
  andl $0xff, %eax
  emit
  finish
endguest floating_interrupt
