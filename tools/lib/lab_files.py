"""What of the host's files goes into the lab: those named, at the same absolute paths, and the libraries they need."""

import os
import re
import shutil
import stat
import struct
import subprocess

# These belong to the lab itself.
_RESERVED = ("/proc", "/sys", "/dev", "/lab", "/init")
_ELF64_LITTLE_ENDIAN, _X86_64, _PT_INTERP = b"\x7fELF\x02\x01", 62, 3


class FileError(Exception):
    """One sentence for the user."""


class Payload:
    """Absolute path inside the lab -> path on this host."""

    def __init__(self):
        self.files = {}
        self.links = {}
        self.directories = set()

    def add(self, path):
        """Adds a file, or a folder with all that is in it; a program brings its libraries."""
        if not os.path.exists(path):
            raise FileError(f"{path} does not exist")
        path = os.path.abspath(path)
        if _is_reserved(path):
            raise FileError(f"{path} can't be carried: the lab has its own {path.split('/')[1]}")
        if not os.path.isdir(path):
            if not os.path.isfile(path):
                raise FileError(f"{path} is neither a file nor a folder")
            self._add_file(path)
            return
        for directory, subdirectories, files in os.walk(path):
            self.directories.add(directory)
            for name in subdirectories + files:
                entry = os.path.join(directory, name)
                mode = os.lstat(entry).st_mode
                if stat.S_ISLNK(mode):
                    self.links[entry] = os.readlink(entry)
                elif stat.S_ISREG(mode):
                    self._add_file(entry)

    def add_as(self, inside, path):
        self._add_file(os.path.abspath(path), inside)

    def add_named_in(self, argument):
        """Adds the files that an argument names: as a whole, as in --option=FILE, as in FILE,readonly."""
        value = argument.split("=", 1)[-1]
        for candidate in {argument, value, argument.split(",")[0], value.split(",")[0]}:
            path = os.path.abspath(candidate)
            if candidate and "\0" not in candidate and not _is_reserved(path) and os.path.isfile(path):
                self._add_file(path)

    @property
    def size(self):
        return sum(os.path.getsize(path) for path in self.files.values())

    def write(self, archive):
        for path in sorted(self.directories):
            archive.directory(_inside(path))
        for path, target in sorted(self.links.items()):
            archive.symlink(_inside(path), os.fsencode(target))
        for inside, path in sorted(self.files.items()):
            archive.host_file(_inside(inside), path)

    def _add_file(self, path, inside=None):
        if (inside or path) in self.files:
            return
        if not os.access(path, os.R_OK):
            raise FileError(f"{path} can't be read")
        self.files[inside or path] = path
        if _needs_interpreter(path):
            for library in _libraries(path):
                self.files.setdefault(library, library)


def _is_reserved(path):
    return path == "/" or any(path == root or path.startswith(root + "/") for root in _RESERVED)


def _inside(path):
    return os.fsencode(path.lstrip("/"))


def _needs_interpreter(path):
    """Whether a file is a dynamically linked program (or a library that can be run as one)."""
    with open(path, "rb") as file:
        header = file.read(64)
        if len(header) < 64 or header[:6] != _ELF64_LITTLE_ENDIAN or struct.unpack_from("<H", header, 18)[0] != _X86_64:
            return False
        offset, size, count = *struct.unpack_from("<Q", header, 32), *struct.unpack_from("<HH", header, 54)
        if offset > os.fstat(file.fileno()).st_size:
            return False
        file.seek(offset)
        table = file.read(size * count)
    return size >= 4 and any(
        struct.unpack_from("<I", table, at)[0] == _PT_INTERP for at in range(0, len(table) - 3, size)
    )


def _libraries(path):
    """A program's interpreter and libraries as ldd(1) finds them."""
    if not shutil.which("ldd"):
        raise FileError(f"{path} is linked dynamically, and without ldd its libraries can't be found")
    output = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
    if missing := re.search(r"^\s*(\S+) => not found", output, re.MULTILINE):
        raise FileError(f"{path} needs {missing[1]}, which this host does not have")
    return re.findall(r"^\s*(?:\S+ => )?(/\S+) \(0x", output, re.MULTILINE)
