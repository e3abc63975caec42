"""A disk by fio in the same Linux under QEMU's TCG and under the rewriting technique, in turns, with the same image.

Both monitors go through this host's page cache. The guest's own is left out (direct=1), so that each request is one of the
device's.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import cpio
import host_clock

TCG, OURS = "QEMU TCG", "rewriting"
SIZE = 256 << 20
JOBS = {
    "sequential read, 1 MiB": "--rw=read --bs=1M",
    "sequential write, 1 MiB": "--rw=write --bs=1M",
    "random read, 4 KiB": "--rw=randread --bs=4k",
    "random write, 4 KiB": "--rw=randwrite --bs=4k",
    "random read, 4 KiB, 16 at a time": "--rw=randread --bs=4k --ioengine=libaio --iodepth=16",
    "random write, 4 KiB, 16 at a time": "--rw=randwrite --bs=4k --ioengine=libaio --iodepth=16",
    "random write, 4 KiB, each flushed": "--rw=randwrite --bs=4k --fdatasync=1",
}

INIT = """#!/bin/busybox sh
export PATH=/bin
busybox mkdir -p /proc /sys /dev /tmp
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
for module in $(busybox cat /lib/modules/order); do busybox insmod /lib/modules/$module.ko; done
%s
echo BENCH-END
busybox reboot -f
"""


def archive(path, fio, seconds, jobs, size=SIZE):
    """What comes over the archive of modules: fio with its libraries, and the first process."""
    lines = [
        f"echo BENCH '{name}' $(fio --name=job --filename=/dev/vda --direct=1 --ioengine=psync --size={size} --runtime={seconds} --time_based"
        f" --invalidate=0 --minimal {words})" for name, words in jobs.items()]
    with open(path, "wb") as stream:
        made = cpio.Archive(stream)
        made.file(b"bench-init", (INIT % "\n".join(lines)).encode(), 0o755)
        made.host_file(b"bin/fio", fio)
        for line in subprocess.run(["ldd", fio], capture_output=True, text=True, check=True).stdout.splitlines():
            words = line.split()
            library = next((word for word in words if word.startswith("/")), None)
            if library:
                made.host_file(library.lstrip("/").encode(), os.path.realpath(library))
        made.finish()


def run(command, jobs):
    """By job: MiB and requests a second."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900)
    found = figures(done.stdout.splitlines(), jobs)
    missing = set(jobs) - set(found)
    if missing:
        said = "\n".join(line[:200] for line in done.stdout.splitlines()[-20:])
        sys.exit(f"tools/bench: {command[0]} ended with status {done.returncode} without {missing}:\n{said}\n{done.stderr[-1000:]}")
    return found


def figures(lines, jobs):
    """By job that the guest tells of: MiB and requests a second."""
    found = {}
    for line in lines:
        for name in jobs:
            # A machine's firmware leaves what it said in front of the first.
            _, marker, rest = line.partition(f"BENCH {name} 3;")
            if not marker:
                continue
            fields = ["3", *rest.strip().split(";")]
            # fio(1), terse version 3: bandwidth in KiB/s and requests a second, reading, then writing.
            offset = 6 if "read" in name else 47
            found[name] = (int(fields[offset]) / 1024, int(fields[offset + 1]))
    return found


def disk(options, root):
    fetched = Path(root) / "guests/fetched/debian-cloud"
    fio = subprocess.run(["sh", "-c", "command -v fio"], capture_output=True, text=True).stdout.strip()
    if not fio or not (fetched / "vmlinuz").exists():
        sys.exit("tools/bench: disk needs fio, qemu-system-x86 and tools/fetch-guests debian-cloud")
    jobs = {name: words for name, words in JOBS.items() if options.job in name}
    if not jobs:
        sys.exit(f"tools/bench: no job has '{options.job}' in its name")
    clock = host_clock.CounterFrequency()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        image, extra, initrd = f"{folder}/disk.img", f"{folder}/extra.cpio", f"{folder}/initrd"
        archive(extra, fio, options.seconds, jobs)
        Path(initrd).write_bytes((fetched / "initrd-modules.cpio").read_bytes() + Path(extra).read_bytes())
        with open(image, "wb") as file:
            for _ in range(SIZE >> 20):
                file.write(os.urandom(1 << 20))
        words = "quiet panic=-1 rdinit=/bench-init"
        commands = {
            TCG: ["qemu-system-x86_64", "-accel", "tcg", "-M", "pc", "-m", "512", "-nographic", "-no-reboot", "-kernel", str(fetched / "vmlinuz"),
                  "-initrd", initrd, "-append", f"console=ttyS0 {words} tsc_early_khz={clock.kilohertz()}", "-device", "virtio-blk-pci,drive=disk",
                  "-drive", f"if=none,id=disk,format=raw,file={image},cache=writeback"],
            OURS: [options.trivisor, "run", "--technique", "rewriting", "--memory", "512", "--on-reset", "success", "--quiet", str(fetched / "vmlinuz"),
                   "--initrd", initrd, "--append", words, "--disk", image],
        }
        results = {name: [] for name in commands}
        for number in range(options.runs):
            for name, command in commands.items():
                results[name].append(run(command, jobs))
                print(f"round {number + 1} {name}", file=sys.stderr, flush=True)
    print(f"{'':36}{TCG:>22}{OURS:>22}   ratio")
    table = {}
    for job in jobs:
        medians = {name: [statistics.median(found[job][column] for found in rounds) for column in (0, 1)] for name, rounds in results.items()}
        ratio = statistics.median(ours[job][1] / max(tcg[job][1], 1) for tcg, ours in zip(results[TCG], results[OURS]))
        table[job] = {**medians, "ratio": ratio}
        cells = "".join(f"{medians[name][0]:10.1f} MiB/s {medians[name][1]:>5.0f}/s" for name in commands)
        print(f"{job:36}{cells}   {ratio:5.2f}")
    if options.json:
        Path(options.json).write_text(json.dumps(table, indent=1) + "\n")
