"""The archive that Linux unpacks as its first root file system: cpio in the "newc" format.

Each entry is a header of thirteen eight-digit hexadecimal fields after the magic 070701, the name with its NUL, and the
contents, each padded to four bytes; an entry named TRAILER!!! ends the archive. The kernel takes several archives one
after the other, and a later entry replaces an earlier one of the same name: that is what lets the parts that never
change be made once. (Linux: Documentation/driver-api/early-userspace/buffer-format.rst.)

Writing it here, instead of calling cpio(1), gives device nodes to whoever is not root, and the same bytes for the same
input.
"""

import os
import shutil
import stat


class Archive:
    """Writes entries to a binary stream. Names are bytes, relative to the root.

    `present` names directories that an archive before this one has and whose modes must stay.
    """

    def __init__(self, stream, present=()):
        self._stream = stream
        self._inode = 0
        self._directories = set(present)

    def directory(self, name, mode=0o755):
        """Adds a directory, and those above it, unless this archive has it."""
        if not name or name in self._directories:
            return
        self.directory(os.path.dirname(name))
        self._directories.add(name)
        self._entry(name, stat.S_IFDIR | mode)

    def file(self, name, contents, mode=0o644):
        self.directory(os.path.dirname(name))
        self._entry(name, stat.S_IFREG | mode, size=len(contents))
        self._stream.write(contents)
        self._pad(len(contents))

    def host_file(self, name, path):
        """Adds the file at `path` on this host, with its mode and time of modification."""
        self.directory(os.path.dirname(name))
        with open(path, "rb") as source:
            status = os.fstat(source.fileno())
            if status.st_size > 0xFFFF_FFFF:
                raise OSError(f"{os.fsdecode(path)} is larger than 4 GiB, more than a cpio entry can be")
            mode = stat.S_IFREG | stat.S_IMODE(status.st_mode)
            self._entry(name, mode, size=status.st_size, time=int(status.st_mtime))
            start = self._stream.tell()
            shutil.copyfileobj(source, self._stream, 1 << 20)
            if self._stream.tell() - start != status.st_size:
                raise OSError(f"{os.fsdecode(path)} changed while it was read")
        self._pad(status.st_size)

    def symlink(self, name, target):
        self.directory(os.path.dirname(name))
        self._entry(name, stat.S_IFLNK | 0o777, size=len(target))
        self._stream.write(target)
        self._pad(len(target))

    def character_device(self, name, major, minor, mode=0o600):
        self.directory(os.path.dirname(name))
        self._entry(name, stat.S_IFCHR | mode, device=(major, minor))

    def finish(self):
        self._entry(b"TRAILER!!!", 0)

    def _entry(self, name, mode, size=0, time=0, device=(0, 0)):
        self._inode += 1
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (self._inode, mode, 0, 0, links, max(0, time), size, 0, 0, *device, len(name) + 1, 0)
        header = b"070701" + b"".join(b"%08X" % (field & 0xFFFF_FFFF) for field in fields)
        self._stream.write(header + name + b"\0")
        self._pad(len(header) + len(name) + 1)

    def _pad(self, length):
        self._stream.write(b"\0" * (-length % 4))
