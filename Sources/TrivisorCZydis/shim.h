// The decoder that the tests of InstructionSet compare with (Debian: libzydis-dev, libzycore-dev).
#include <Zycore/Zycore.h>
#include <Zydis/Zydis.h>
