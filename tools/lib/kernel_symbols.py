"""Symbols for a kernel that was packaged without them: the guest's own /proc/kallsyms, put into a copy of its vmlinux.

The kernel must have run with nokaslr, or its addresses are those of that one run. Needs binutils.
"""
import re
import subprocess


def sections(kernel):
    """Name, address and size of what a kernel's file has at addresses of its own."""
    listing = subprocess.run(["readelf", "--sections", "--wide", kernel], stdout=subprocess.PIPE, check=True, text=True)
    found = []
    for line in listing.stdout.splitlines():
        match = re.match(r"\s*\[\s*\d+\]\s+(\S+)\s+(?:PROGBITS|NOBITS)\s+([0-9a-f]+)\s+[0-9a-f]+\s+([0-9a-f]+)", line)
        if match and int(match[2], 16) != 0:
            found.append((match[1], int(match[2], 16), int(match[3], 16)))
    return found


def add(kernel, kallsyms, output):
    """Writes a copy of the kernel with these symbols; gives how many there are."""
    places = sections(kernel)
    seen = set()
    arguments = []
    for line in kallsyms.splitlines():
        words = line.split()
        # Modules' symbols have the module's name behind.
        if len(words) != 3:
            continue
        address, kind, name = int(words[0], 16), words[1], words[2]
        if name in seen or not re.fullmatch(r"[A-Za-z_][\w.]*", name):
            continue
        for section, start, size in places:
            if start <= address < start + size:
                seen.add(name)
                what = "function" if kind in "tTwW" else "object"
                reach = "local" if kind.islower() else "global"
                arguments.append(f"--add-symbol={name}={section}:{address - start:#x},{what},{reach}")
                break
    with open(output + ".symbols", "w") as file:
        file.write("\n".join(arguments))
    subprocess.run(["objcopy", f"@{output}.symbols", kernel, output], check=True)
    return len(seen)
