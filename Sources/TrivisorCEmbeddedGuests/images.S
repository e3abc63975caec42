// The guests' images as read-only data of the executable. tools/build-guests makes them from guests/.

#include "checksums.h"

.macro image name, file
  .section .rodata
  .balign 16
  .globl embedded_guest_\name\()_start
  .globl embedded_guest_\name\()_end
embedded_guest_\name\()_start:
  .incbin "\file"
embedded_guest_\name\()_end:
.endm

  image hello, "hello"
  image hello_real, "hello-real"
  image hello_protected, "hello-protected"
  image privileged, "privileged"
  image features, "features"
  image compute, "compute"
  image ring3, "ring3"
  image smp, "smp"
  image nanobench, "nanobench"
  image crash, "crash"
  image hello_xen, "hello-xen"
  image attack_xen, "attack-xen"
  image cost_xen, "cost-xen"
  image abi_xen, "abi-xen"
  image user32_xen, "user32-xen"
  image consoles_xen, "consoles-xen"
  image linux_init, "linux-init"
  image privileged_xen, "privileged-xen"
  image features_xen, "features-xen"
  image compute_xen, "compute-xen"
  image ring3_xen, "ring3-xen"
  image smp_xen, "smp-xen"
  image nanobench_xen, "nanobench-xen"
  image crash_xen, "crash-xen"

  .section .note.GNU-stack, "", @progbits
