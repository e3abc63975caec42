#define _GNU_SOURCE
#include "TrivisorCPseudoTerminal.h"
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int open_pseudo_terminal(int *slave) {
  int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (master < 0) return -1;
  if (grantpt(master) == 0 && unlockpt(master) == 0) {
    *slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (*slave >= 0) return master;
  }
  close(master);
  return -1;
}
