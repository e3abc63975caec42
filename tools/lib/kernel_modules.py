"""A kernel's loadable modules, found and ordered without depmod, which a package that was only unpacked never ran."""

import lzma
import os
import re
import subprocess

_FILE = re.compile(r"(?P<name>.+)\.ko(\.(xz|zst))?$")


class Modules:
    """The modules below a folder such as lib/modules/VERSION."""

    def __init__(self, folder):
        self._paths = {}
        for directory, _, files in os.walk(folder):
            for file in files:
                if match := _FILE.match(file):
                    self._paths[_canonical(match["name"])] = os.path.join(directory, file)

    def __contains__(self, name):
        return _canonical(name) in self._paths

    def contents(self, name):
        """A module's ELF file, decompressed if the distribution compresses them."""
        path = self._paths[_canonical(name)]
        with open(path, "rb") as file:
            contents = file.read()
        if path.endswith(".xz"):
            return lzma.decompress(contents)
        if path.endswith(".zst"):
            return subprocess.run(["zstd", "-dc"], input=contents, stdout=subprocess.PIPE, check=True).stdout
        return contents

    def in_load_order(self, names):
        """The names with all that they depend on, each after what it needs."""
        order = []

        def visit(name):
            if name not in order:
                for dependency in self._dependencies(name):
                    visit(dependency)
                order.append(name)

        for name in names:
            visit(_canonical(name))
        return order

    def _dependencies(self, name):
        # The module's .modinfo section holds NUL-separated key=value strings, "depends" among them in every module.
        match = re.search(rb"\0depends=([^\0]*)\0", self.contents(name))
        return [_canonical(word) for word in match[1].decode().split(",") if word] if match else []


def _canonical(name):
    return name.replace("-", "_")
