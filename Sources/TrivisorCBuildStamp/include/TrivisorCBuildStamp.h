#ifndef TRIVISOR_BUILD_STAMP_H
#define TRIVISOR_BUILD_STAMP_H

// Which commit an executable was built from, and that commit's date, with a blank between them; empty for a build that nobody
// stamped. tools/stamp writes it into the finished executable: the sources need not be compiled anew for it.
const char *_Nonnull trivisor_build_stamp(void);

#endif
