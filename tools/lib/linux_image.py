"""Gets the kernel's ELF file, vmlinux, out of a bzImage.

A bzImage is a real-mode loader followed by a small program that unpacks the kernel; the setup header says where in that
program the compressed kernel lies (payload_offset and payload_length, boot protocol 2.08 and later; Linux:
Documentation/x86/boot.rst). For every method but gzip the build appends the unpacked size in four bytes.
"""

import bz2
import lzma
import shutil
import struct
import subprocess
import zlib


class ImageError(Exception):
    pass


def unpack(image):
    """The vmlinux in a bzImage, both as bytes."""
    if len(image) < 0x260 or image[0x202:0x206] != b"HdrS":
        raise ImageError("this is not a bzImage: it has no setup header")
    if struct.unpack_from("<H", image, 0x206)[0] < 0x208:
        raise ImageError("this bzImage's boot protocol is older than 2.08 and does not say where the kernel lies")
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = image[start : start + length]
    if len(payload) != length or length < 8:
        raise ImageError("this bzImage is truncated")

    kernel = _decompress(payload)
    if kernel[:4] != b"\x7fELF":
        raise ImageError("what this bzImage holds is not an ELF file")
    return kernel


def _decompress(payload):
    body = payload[:-4]
    if payload.startswith(b"\x02\x21\x4c\x18"):
        return _filter(body, "lz4", "-dc")
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        return _filter(body, "zstd", "-dc")
    if payload.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(wbits=31).decompress(payload)
    if payload.startswith((b"\xfd7zXZ\0", b"\x5d\0\0")):
        return lzma.LZMADecompressor().decompress(body)
    if payload.startswith(b"BZh"):
        return bz2.decompress(body)
    raise ImageError(f"this bzImage is compressed by an unknown method (magic {payload[:4].hex()})")


def _filter(data, program, *arguments):
    if not shutil.which(program):
        raise ImageError(f"unpacking this kernel needs {program}: run tools/setup")
    result = subprocess.run([program, *arguments], input=data, capture_output=True)
    if result.returncode != 0:
        reason = result.stderr.decode(errors="replace").strip()
        raise ImageError(f"{program} could not unpack this kernel: {reason}")
    return result.stdout
