#pragma once

/// A new pseudo-terminal: the master's descriptor, and the slave's through `slave`; -1 on failure.
int open_pseudo_terminal(int *slave);
