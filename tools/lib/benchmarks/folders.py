"""The host's folders in a guest: by virtio-fs under a technique of ours, and by 9p under QEMU's TCG, the same Debian kernel, in turns.

Both guests have the host's / as their root, under an overlay in memory, and a folder that is written through. What is timed are
commands of one script, by when their marks arrive here: by the clock, and by the processor time of the monitor until then, which is what
can be compared on a host that has other work to do. The guest's page cache is dropped before each, the host's is warm.
"""

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cpio
import host_clock
import kernel_modules

TCG, OURS = "QEMU TCG, 9p", "Trivisor, virtio-fs"
LONGEST_RUN = 1800
FILES, SIZE = 30_000, 256

INIT = """#!/bin/busybox sh
bin=/bin/busybox
$bin mount -t devtmpfs none /dev
$bin mount -t proc none /proc
$bin mount -t sysfs none /sys
for module in /modules/*.ko; do $bin insmod $module; done
options=trans=virtio,version=9p2000.L,msize=512000,cache=loose
$bin mount -t 9p -o $options,ro root /lower
$bin mount -t tmpfs -o size=75% none /upper
$bin mkdir /upper/data /upper/work
$bin mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work none /new
$bin mkdir -p /new/tmp/bench
$bin mount -t 9p -o $options bench /new/tmp/bench
for place in dev proc sys; do $bin mount -o move /$place /new/$place; done
$bin chroot /new /bin/sh /tmp/bench/script </new/dev/null
$bin poweroff -f
"""

# What is timed: a name, and a command whose output must be the same everywhere.
COMMANDS = {
    "read": f"dd if=/tmp/bench/big bs=1M 2>/dev/null | md5sum",
    "write": f"dd if=/dev/zero of=/tmp/bench/new bs=1M count={SIZE} conv=fsync 2>/dev/null; stat -c %s /tmp/bench/new; rm /tmp/bench/new",
    "find": "find /tmp/bench/tree -type f | wc -l",
    "git status": "cd /tmp/bench/tree && git status --porcelain | md5sum",
    "git status again": "cd /tmp/bench/tree && git status --porcelain | md5sum",
}
KEEPS_CACHE = {"git status again"}


def processor_time(process):
    """Seconds of all its threads, the kernel's work for them included (proc(5))."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def script(commands):
    lines = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root; export PATH HOME"]
    for number, (name, command) in enumerate(commands.items()):
        if name not in KEEPS_CACHE:
            lines.append("sync; echo 3 > /proc/sys/vm/drop_caches")
        lines += [f"echo @begin {number}", f"result=$({{ {command}; }} 2>&1 | tail -1)", f"echo @end {number} $result"]
    return "\n".join([*lines, "echo @over", ""])


class Machines:
    def __init__(self, trivisor, technique, folder, kernel):
        self.folder = folder
        clock = host_clock.CounterFrequency()
        time.sleep(0.1)
        image = str(kernel / "vmlinuz")
        initrd = str(folder / "initrd")
        self._archive(initrd, kernel)
        shares = []
        for tag, path, option in (("root", "/", ",readonly=on"), ("bench", str(folder / "bench"), "")):
            shares += ["-fsdev", f"local,id={tag},path={path},security_model=none,multidevs=remap{option}",
                       "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
        words = f"console=ttyS0 quiet panic=-1 reboot=t tsc_early_khz={clock.kilohertz()}"
        self.commands = {
            TCG: ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-M", "q35", "-nodefaults", "-serial", "stdio", "-display",
                  "none", "-m", "2048", "-no-reboot", "-kernel", image, "-initrd", initrd, "-append", words, *shares],
            OURS: [trivisor, "run", "-q", *(["--technique", technique] if technique else []), image, "--memory", "2G", "--root", "/",
                   f"--share={folder / 'bench'},at=/tmp/bench", "--", "sh", "/tmp/bench/script"],
        }

    def _archive(self, path, kernel):
        # The only release, perhaps a link.
        modules = kernel_modules.Modules(str(next((kernel / "lib/modules").iterdir()).resolve()))
        with open(path, "wb") as stream:
            archive = cpio.Archive(stream)
            for name in (b"dev", b"proc", b"sys", b"lower", b"upper", b"new"):
                archive.directory(name)
            archive.character_device(b"dev/console", 5, 1)
            archive.file(b"init", INIT.encode(), 0o755)
            archive.host_file(b"bin/busybox", str(kernel / "busybox"))
            for number, name in enumerate(modules.in_load_order(["virtio_pci", "9pnet_virtio", "9p", "overlay"])):
                archive.file(f"modules/{number:02}-{name}.ko".encode(), modules.contents(name))
            archive.finish()

    def run(self, name, count):
        """Of each command seconds by the clock and of the processor, and what it printed last."""
        began = time.monotonic()
        process = subprocess.Popen(self.commands[name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        signal.signal(signal.SIGALRM, lambda *_: process.kill())
        signal.alarm(LONGEST_RUN)
        starts, seconds, results, lines = {}, {}, {}, []
        for line in process.stdout:
            now = (time.monotonic(), processor_time(process.pid))
            text = line.decode(errors="replace").strip()
            lines.append(text)
            words = text.split()
            if words[:1] == ["@begin"]:
                starts[int(words[1])] = now
            elif words[:1] == ["@end"]:
                number = int(words[1])
                seconds[number] = tuple(end - start for end, start in zip(now, starts[number]))
                results[number] = " ".join(words[2:])
        process.wait()
        signal.alarm(0)
        if len(seconds) != count:
            errors = process.stderr.read().decode(errors="replace")
            sys.exit(f"tools/bench: {name} ended with status {process.returncode}: " + "\n".join([*lines[-8:], errors[-600:]]))
        first = starts[0]
        return seconds, results, (first[0] - began, first[1])


def fill(bench):
    """A tree under git with a few changes in it, and a large file."""
    tree = bench / "tree"
    for number in range(FILES):
        place = tree / f"folder{number // 300:03}"
        if number % 300 == 0:
            place.mkdir(parents=True)
        (place / f"file{number:05}").write_text(f"{number}\n" * (1 + number % 400))
    git = ["git", "-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0"]
    for command in (["init", "-q", "."], ["add", "."], ["commit", "-q", "-m", "tree"]):
        subprocess.run([*git, *command], cwd=tree, check=True)
    for number in range(0, FILES, 3000):
        (tree / f"folder{number // 300:03}/file{number:05}").write_text("changed\n")
    with open(bench / "big", "wb") as file:
        for _ in range(SIZE):
            file.write(os.urandom(1 << 20))


def run(options):
    kernel = Path(options.kernel)
    commands = dict(COMMANDS)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        bench = folder / "bench"
        bench.mkdir()
        fill(bench)
        if options.project:
            shutil.copytree(options.project, bench / "project", symlinks=True)
            commands["test suite"] = f"cp -a /tmp/bench/project /tmp/project && cd /tmp/project && {{ {options.project_command}; }} >/tmp/log 2>&1; echo status $?"
        (bench / "script").write_text(script(commands))
        machines = Machines(options.trivisor, options.technique, folder, kernel)
        figures = {name: {} for name in machines.commands}
        results = {}
        for _ in range(options.runs):
            for name in machines.commands:
                seconds, printed, start = machines.run(name, len(commands))
                figures[name].setdefault("to the first command", []).append(start)
                for number, title in enumerate(commands):
                    figures[name].setdefault(title, []).append(seconds[number])
                    if results.setdefault(title, printed[number]) != printed[number]:
                        sys.exit(f"tools/bench: '{title}' gives {printed[number]!r} under {name}, not {results[title]!r}")
    print(f"{FILES} files, {SIZE} MiB; medians of {options.runs} rounds; what was printed is the same in all")
    ratios = {}
    for place, kind in enumerate(("seconds by the clock", "processor seconds")):
        print(f"{kind:24}{TCG:>20}{OURS:>22}{'ours / TCG':>12}")
        for title in figures[TCG]:
            theirs, ours = ([value[place] for value in figures[name][title]] for name in (TCG, OURS))
            ratio = statistics.median([own / max(other, 0.01) for own, other in zip(ours, theirs)])
            ratios.setdefault(kind, {})[title] = ratio
            print(f"{title:24}{statistics.median(theirs):20.2f}{statistics.median(ours):22.2f}{ratio:12.2f}")
    for title in commands:
        print(f"{title}: {results[title]}")
    return {"benchmark": "folders", "rounds": options.runs, "clockAndProcessorSeconds": figures, "oursToTCG": ratios, "results": results}
