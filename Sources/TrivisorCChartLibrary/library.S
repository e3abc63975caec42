// Chart.js as read-only data of the executable: for pages that work without a network.

  .section .rodata
  .balign 16
  .globl chart_library_start
  .globl chart_library_end
chart_library_start:
  .incbin "chart.min.js"
chart_library_end:

  .section .note.GNU-stack, "", @progbits
