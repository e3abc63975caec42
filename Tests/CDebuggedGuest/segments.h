// Segments of a guest with 64-bit user code, in the order that SYSCALL and SYSRET ask for (AMD64 APM vol. 2, 4.8 and 6.1), and the MSRs of
// those. tools/check-gdb's kernel has them, too.

  .set KERNEL_CODE, 0x08
  .set KERNEL_DATA, 0x10
  .set USER_DATA, 0x20 | 3
  .set USER_CODE, 0x28 | 3
  .set TASK, 0x30
  .set MSR_EFER, 0xc0000080
  .set MSR_STAR, 0xc0000081
  .set MSR_LSTAR, 0xc0000082
  .set MSR_SFMASK, 0xc0000084

  // The global descriptor table; the base of the task's segment is to be written into `task_descriptor`.
  .macro segment_table
table:
  .quad 0
  .quad 0x00af9b000000ffff  // KERNEL_CODE
  .quad 0x00cf93000000ffff  // KERNEL_DATA
  .quad 0
  .quad 0x00cff3000000ffff  // USER_DATA
  .quad 0x00affb000000ffff  // USER_CODE
task_descriptor:
  .quad 0x0000890000000067
  .quad 0
table_end:
  .endm
