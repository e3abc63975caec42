"""From exec to a command's result: a stock kernel, a root with busybox in memory, and `true`, under QEMU's TCG and under the rewriting technique."""

import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import beside_tcg
import cpio

INIT = "#!/bin/sh\ntrue && echo TRIVISOR-INIT\nexec reboot -f\n"


def roots(folder, busybox):
    """The same root as a folder, for us, and as an archive with a first process that runs the command, for QEMU."""
    root = Path(folder, "root")
    (root / "bin").mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    for name in ("sh", "true", "reboot"):
        os.symlink("busybox", root / "bin" / name)
    initrd = os.path.join(folder, "initrd.cpio")
    with open(initrd, "wb") as stream:
        archive = cpio.Archive(stream)
        for name in (b"dev", b"bin"):
            archive.directory(name)
        archive.character_device(b"dev/console", 5, 1)
        archive.host_file(b"bin/busybox", busybox)
        for name in (b"sh", b"true", b"reboot"):
            archive.symlink(b"bin/" + name, b"busybox")
        archive.file(b"init", INIT.encode(), mode=0o755)
        archive.finish()
    return str(root), initrd


def run(options):
    kernel = os.path.join(options.guest, "vmlinuz")
    busybox = os.path.join(os.path.dirname(options.guest), "debian-cloud", "busybox")
    for path, guest in ((kernel, os.path.basename(options.guest)), (busybox, "debian-cloud")):
        if not os.path.exists(path):
            sys.exit(f"tools/bench: {path} is missing: run tools/fetch-guests {guest}")
    machines = beside_tcg.Machines(options.trivisor, kernel)
    with tempfile.TemporaryDirectory() as folder:
        root, initrd = roots(folder, busybox)
        commands = {
            beside_tcg.TCG: machines.tcg(initrd, "", "-cpu", "max"),
            beside_tcg.OURS: [options.trivisor, "run", "--technique", "rewriting", "--memory", "512", kernel,
                              "--root", f"{root},copy", "--exec", "true"],
        }
        seconds = {name: [] for name in commands}
        for number in range(options.runs + 1):
            for name, command in commands.items():
                run = beside_tcg.Run(command)
                if run.status != 0 or (name == beside_tcg.TCG and "TRIVISOR-INIT" not in "".join(run.lines)):
                    sys.exit(f"tools/bench: {name} ended with status {run.status}: " + "\n".join(run.lines[-5:]))
                if number > 0:
                    seconds[name].append(run.wall)
    print(f"from exec to the end of `true`, {options.runs} rounds after one to warm up; seconds, medians (least, most)")
    for name, values in seconds.items():
        print(f"{name:12}{statistics.median(values):8.2f} ({min(values):.2f}, {max(values):.2f})")
    ratio = statistics.median([ours / tcg for ours, tcg in zip(seconds[beside_tcg.OURS], seconds[beside_tcg.TCG])])
    print(f"ours / TCG  {ratio:8.2f}   median of the rounds'")
    return {"benchmark": "command", "runs": options.runs, "seconds": seconds, "oursToTCG": ratio}
