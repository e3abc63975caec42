"""Programs that people run, as Debian packages them: natively in a chroot, under QEMU's TCG and under the rewriting technique.

All three have the same root file system, in memory, and the same kernel where there is one: dynamically linked programs at random
addresses, as they come. What a program prints must be the same everywhere, or it is told and left out.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import beside_tcg
import cpio

SCRIPT = Path(__file__).with_name("real.sh")
MEMORY = 3072


def archive(root, path):
    """The root as the kernel's first root file system, with the script as its first process."""
    with open(path, "wb") as stream:
        made = cpio.Archive(stream)
        for folder, folders, files in os.walk(os.fsencode(root)):
            name = os.path.relpath(folder, os.fsencode(root))
            name = b"" if name == b"." else name
            if name:
                made.directory(name, os.stat(folder).st_mode & 0o7777)
            for entry in [*folders, *files]:
                inside, outside = os.path.join(name, entry), os.path.join(folder, entry)
                if os.path.islink(outside):
                    made.symlink(inside, os.readlink(outside))
                elif os.path.isfile(outside):
                    made.host_file(inside, outside)
        made.directory(b"dev")
        made.character_device(b"dev/console", 5, 1)
        made.file(b"real.sh", SCRIPT.read_bytes())
        made.file(b"init", b"#!/bin/sh\nexec /bin/sh /real.sh guest\n", mode=0o755)
        made.finish()


class Times:
    """What one run printed, by program: seconds and a checksum."""

    def __init__(self, command, name, **options):
        run = beside_tcg.Run(command, **options)
        self.seconds, self.results = {}, {}
        for line in run.lines:
            words = line.split()
            if len(words) == 4 and words[0] == "REAL":
                self.seconds[words[1]] = int(words[2]) / 1e9
                self.results[words[1]] = words[3]
        if not self.seconds:
            sys.exit(f"tools/bench: {name} gave no times (status {run.status}): " + "\n".join(run.lines[-5:]))


def run(options):
    root = os.path.join(options.guests, "debian-programs", "root")
    kernel = os.path.join(options.guests, "debian-cloud", "vmlinux")
    for path, guest in ((root, "debian-programs"), (kernel, "debian-cloud")):
        if not os.path.exists(path):
            sys.exit(f"tools/bench: {path} is missing: run tools/fetch-guests {guest}")
    beside_tcg.LONGEST_RUN = 3600
    machines = beside_tcg.Machines(options.trivisor, kernel)
    inside = 'mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc" && exec chroot "$0" sh -c "$1"'
    environment = {"CPUS": str(options.cpus), "ONLY": " ".join(options.only)}
    native = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", inside, root, SCRIPT.read_text()]
    with tempfile.TemporaryDirectory() as folder:
        initrd = os.path.join(folder, "root.cpio")
        archive(root, initrd)
        # The kernel hands words that it does not know to init, as its environment.
        words = " ".join([f"CPUS={options.cpus}"] + ([f'ONLY="{" ".join(options.only)}"'] if options.only else []))
        tcg = machines.tcg(initrd, words, "-cpu", "max", "-smp", str(options.cpus))
        tcg[tcg.index("-m") + 1] = str(MEMORY)
        # Without ACPI a microvm's kernel finds one processor; with it, it starts a little later.
        if options.cpus > 1:
            tcg[tcg.index("microvm,acpi=off")] = "microvm"
        commands = {"native": native, beside_tcg.TCG: tcg}
        for title, path in ((beside_tcg.OURS, options.trivisor), ("the other", options.compare)):
            if path:
                ours = beside_tcg.Machines(path, kernel).ours(initrd, words)
                ours[2:2] = ["--cpus", str(options.cpus)]
                ours[ours.index("--memory") + 1] = str(MEMORY)
                commands[title] = ours
        rounds = [{name: Times(command, name, environment=environment) for name, command in commands.items()}
                  for _ in range(options.runs)]
    return report(options, rounds, list(commands))


def report(options, rounds, names):
    programs, wrong = [], []
    for program in rounds[0]["native"].seconds:
        results = {times.results.get(program) for of in rounds for times in of.values()}
        (programs if len(results) == 1 else wrong).append(program)

    def ratios(program, above, below):
        return statistics.median([of[above].seconds[program] / of[below].seconds[program] for of in rounds])

    columns = [(f"{name}/native", name, "native") for name in names if name != "native"]
    columns += [(f"TCG/{name}", beside_tcg.TCG, name) for name in names if name not in ("native", beside_tcg.TCG)]
    print(f"{len(programs)} programs, {len(rounds)} rounds; seconds are medians, ratios medians of the rounds'")
    print(f"{'':16}{'native':>9}" + "".join(f"{title:>18}" for title, _, _ in columns))
    table = {}
    for program in programs:
        table[program] = {title: ratios(program, above, below) for title, above, below in columns}
        seconds = statistics.median([of["native"].seconds[program] for of in rounds])
        print(f"{program:16}{seconds:9.3f}" + "".join(f"{value:18.2f}" for value in table[program].values()))
    means = {title: statistics.geometric_mean([row[title] for row in table.values()]) for title, _, _ in columns}
    print(f"{'geometric mean':25}" + "".join(f"{value:18.2f}" for value in means.values()))
    for program in wrong:
        print(f"{program}: not the same result everywhere")
    if options.json:
        Path(options.json).write_text(json.dumps({
            "benchmark": "real", "rounds": len(rounds), "ratios": table, "geometricMeans": means, "different": wrong,
            "seconds": [{name: times.seconds for name, times in of.items()} for of in rounds]}, indent=2))
    if wrong:
        sys.exit(1)
    return means, table
