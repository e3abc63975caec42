// A user program inside its kernel's image, in whole pages. PROGRAM is the file.
  .section .user, "a"
  .balign 4096
  .globl user_program_start, user_program_end
user_program_start:
  .incbin PROGRAM
  .balign 4096
user_program_end:
