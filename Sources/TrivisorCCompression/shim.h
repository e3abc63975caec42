// The libraries for what Linux kernels are packed with (Debian: libbz2-dev, liblz4-dev, liblzma-dev, zlib1g-dev,
// libzstd-dev; each brings the static archive that the release executable is linked with).
#pragma once

#include <bzlib.h>
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>
