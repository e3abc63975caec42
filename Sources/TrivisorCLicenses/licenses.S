// The text as read-only data of the executable.

  .section .rodata
  .globl trivisor_licenses_start
  .globl trivisor_licenses_end
trivisor_licenses_start:
  .incbin "licenses.txt"
trivisor_licenses_end:

  .section .note.GNU-stack, "", @progbits
