// How this program becomes a worker of itself, and what of that Swift can't say.
#pragma once

/// Whether this code is in the program's own file, and in no library beside it: only then a second process of the program
/// meets it before its own main function.
int cworker_is_in_program(void);

/// Sends descriptors with one byte over a socket of its own kind. Returns 0 or an error, negated.
int cworker_send_descriptors(int socket, const int *descriptors, int count);

/// Takes them. Returns how many came, at most `limit`, or an error, negated; they are closed on exec.
int cworker_receive_descriptors(int socket, int *descriptors, int limit);

/// Whether the process at the socket's other end, as it was made, is this one's parent.
int cworker_comes_from_parent(int socket);
