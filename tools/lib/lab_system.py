"""What is inside a lab: Debian's cloud kernel, busybox, the modules it needs, and what one run brings along."""

import io
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import cpio
import kernel_modules
from lab_channels import is_our_terminal
from lab_files import Payload

TOOLS = Path(__file__).resolve().parent.parent
PROJECT = TOOLS.parent
FETCHED = PROJECT / "guests" / "fetched"
KERNEL = FETCHED / "debian-cloud"


@dataclass(frozen=True)
class Lab:
    """One of the tools that run a command in a machine of its own, and how its machine differs from the others'."""

    name: str  # the tool's
    description: str  # for --help, up to the full stop
    processor: str = ""  # QEMU's -cpu; where it is empty, the user names one by --cpu
    modules: list = field(default_factory=list)  # beyond those that carry the command's streams
    words: list = field(default_factory=list)  # for the kernel's command line
    has_kvm: bool = False  # /dev/kvm must be there before the command starts


class LabFailure(Exception):
    """One sentence for the user: the lab itself failed, whatever the command did."""


def fetch_kernel():
    if not all((KERNEL / name).exists() for name in ("vmlinux", "busybox", "modules")):
        if subprocess.run([TOOLS / "fetch-guests", "debian-cloud"], stdout=subprocess.DEVNULL).returncode != 0:
            raise LabFailure("the lab's kernel can't be fetched")


def base_archive(lab):
    """The part of the root file system that is the same in every run; made anew when what it is made of changes."""
    base = FETCHED / lab.name / "base.cpio"
    sources = [KERNEL / "vmlinux", KERNEL / "busybox", TOOLS / lab.name, *(TOOLS / "lib").glob("*.py")]
    if base.exists() and all(base.stat().st_mtime > source.stat().st_mtime for source in sources):
        return base.read_bytes()

    modules = kernel_modules.Modules(KERNEL / "modules")
    order = modules.in_load_order(["virtio_mmio", "virtio_console", "loop", *lab.modules])
    stream = io.BytesIO()
    archive = cpio.Archive(stream)
    for name in ("dev", "proc", "sys", "run", "root", "etc", "var"):
        archive.directory(name.encode())
    archive.directory(b"tmp", mode=0o1777)
    archive.character_device(b"dev/console", 5, 1)
    archive.file(b"etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    archive.file(b"etc/group", b"root:x:0:\n")
    archive.host_file(b"lab/busybox", KERNEL / "busybox")
    for path in applets().values():
        archive.symlink(path.encode(), b"/lab/busybox")
    for name in order:
        archive.file(b"lab/modules/%s.ko" % name.encode(), modules.contents(name))
    archive.file(b"lab/modules/order", "".join(name + "\n" for name in order).encode())
    archive.finish()
    # Moved into place whole: another lab may be reading.
    base.parent.mkdir(parents=True, exist_ok=True)
    draft = base.with_suffix(f".{os.getpid()}")
    draft.write_bytes(stream.getvalue())
    draft.rename(base)
    return stream.getvalue()


def applets():
    """The programs that busybox is, by name."""
    paths = subprocess.run([KERNEL / "busybox", "--list-full"], capture_output=True, text=True, check=True).stdout
    return {path.rsplit("/", 1)[-1]: path for path in paths.split()}


def choose_files(options):
    """The command as it is to be run inside, and the files it needs."""
    command, payload = list(options.command), Payload()
    trivisor = options.trivisor or PROJECT / "build" / "release" / "trivisor"
    if options.trivisor or any(re.search(r"\btrivisor\b", word) for word in command):
        if os.path.isfile(trivisor):
            payload.add_as("/usr/bin/trivisor", str(trivisor))
        elif options.trivisor or command[0] == "trivisor":
            raise LabFailure(f"there is no {trivisor}: build it, or name another by --trivisor")
    for path in options.file:
        payload.add(path)
    for argument in command[1:]:
        payload.add_named_in(argument)

    program = command[0]
    if "/" in program:
        payload.add_named_in(program)
    elif program != "trivisor" and program not in applets() and (found := shutil.which(program)):
        command[0] = os.path.abspath(found)
        payload.add(command[0])
    return command, payload


def write_run_archive(stream, options, command, payload, settings):
    archive = cpio.Archive(stream, present=[b"tmp"])
    payload.write(archive)
    for folder in [os.getcwd()] + ([os.path.abspath(options.output)] if options.output else []):
        archive.directory(os.fsencode(folder.lstrip("/")))
    archive.file(b"init", (TOOLS / "lib" / "lab-init").read_bytes(), mode=0o755)
    archive.file(b"lab/command", os.fsencode(script(command)))
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in settings.items()]
    archive.file(b"lab/settings", os.fsencode("".join(lines)))
    archive.finish()


def script(command):
    """What the shell in the lab runs."""
    lines = [f"export HOME=/root TERM={shlex.quote(os.environ.get('TERM', 'dumb'))}"]
    if is_our_terminal(0):
        columns, rows = os.get_terminal_size(0)
        lines.append(f"stty rows {rows} cols {columns}")
    lines.append(f"exec {shlex.join(command)}")
    return "\n".join(lines) + "\n"
