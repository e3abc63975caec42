"""Linux and programs in it under QEMU's TCG in its fastest configuration and under the rewriting technique, in turns.

What one round gives is compared with what the same round gives under the other, so that a host with other work to do
spoils a ratio less than a time.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cpio
import host_clock

COMPUTE = ["sha256", "sieve", "pointer-chase", "hash-table", "matmul", "nbody", "simd"]
TCG, OURS, OTHER = "QEMU TCG", "rewriting", "the other"
LONGEST_RUN = 600


class Run:
    """One process from exec to its end: what it cost, and what it printed."""

    def __init__(self, command, environment=None, marker=None):
        began = time.monotonic()
        self.to_marker = None
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                   env={**os.environ, **(environment or {})})
        signal.signal(signal.SIGALRM, lambda *_: process.kill())
        signal.alarm(LONGEST_RUN)
        self.lines = []
        for line in process.stdout:
            if marker and self.to_marker is None and marker in line:
                self.to_marker = time.monotonic() - began
            self.lines.append(line.decode(errors="replace").rstrip())
        # Not Popen's own wait: the kernel's count of one child, and not the largest of all so far.
        _, status, usage = os.wait4(process.pid, 0)
        signal.alarm(0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.status = process.returncode
        self.wall = time.monotonic() - began
        self.processor = usage.ru_utime + usage.ru_stime
        self.resident = usage.ru_maxrss << 10


class Machines:
    """The two command lines that start the same kernel."""

    def __init__(self, trivisor, kernel):
        clock = host_clock.CounterFrequency()
        time.sleep(0.1)
        # Without it a kernel under TCG calibrates, which takes long and on a loaded host does not end.
        self.frequency = clock.kilohertz()
        self.trivisor, self.kernel = trivisor, kernel

    def tcg(self, initrd, words, *options):
        return ["qemu-system-x86_64", "-accel", "tcg", *options, "-M", "microvm,acpi=off", "-m", "512", "-nographic",
                "-no-reboot", "-kernel", self.kernel, "-initrd", initrd, "-append",
                f"console=ttyS0 quiet panic=-1 reboot=t tsc_early_khz={self.frequency} {words}"]

    def ours(self, initrd, words, trivisor=None):
        return [trivisor or self.trivisor, "run", "--technique", "rewriting", "--memory", "512", "--on-reset", "success",
                self.kernel, "--initrd", initrd, "--append", f"quiet {words}"]


def against_the_other(figures):
    """How long ours takes for each figure, as many times as the other build does in the same round; and their mean."""
    ratios = {name: statistics.median([own / theirs for own, theirs in zip(ours, others)])
              for name, (ours, others) in figures.items()}
    print("this build / the other, medians of the rounds' ratios: "
          + ", ".join(f"{name} {ratio:.3f}" for name, ratio in ratios.items())
          + f"; geometric mean {statistics.geometric_mean(ratios.values()):.3f}")
    return ratios


def boots(machines, initrd, rounds, other):
    """From exec to init and to the end: seconds, processor seconds and the most memory that was resident."""
    commands = {TCG: machines.tcg(initrd, "trivisor.do=reboot"), OURS: machines.ours(initrd, "trivisor.do=reboot")}
    if other:
        commands[OTHER] = machines.ours(initrd, "trivisor.do=reboot", other)
    runs = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            run = Run(command, marker=b"TRIVISOR-INIT")
            if run.status != 0 or run.to_marker is None:
                sys.exit(f"tools/bench: {name} ended with status {run.status}: " + "\n".join(run.lines[-5:]))
            if number > 0:
                runs[name].append(run)
    columns = {"to init, s": "to_marker", "whole, s": "wall", "processor, s": "processor", "resident, MiB": "resident"}
    figures = {name: {column: [getattr(run, attribute) / (2**20 if "MiB" in column else 1) for run in of]
                      for column, attribute in columns.items()} for name, of in runs.items()}
    print(f"Linux to init and its end, {rounds} rounds after one to warm up; medians (least, most)")
    print(f"{'':12}" + "".join(f"{column:>26}" for column in columns))
    for name, of in figures.items():
        print(f"{name:12}" + "".join(
            f"{f'{statistics.median(values):.2f} ({min(values):.2f}, {max(values):.2f})':>26}" for values in of.values()))
    ratios = {column: statistics.median([ours / tcg for ours, tcg in zip(figures[OURS][column], figures[TCG][column])])
              for column in columns}
    print(f"{'ours / TCG':12}" + "".join(f"{ratio:26.2f}" for ratio in ratios.values()) + "   medians of the rounds'")
    result = {"rounds": rounds, "figures": figures, "oursToTCG": ratios}
    if other:
        result["oursToOther"] = against_the_other({column: (figures[OURS][column], figures[OTHER][column]) for column in columns})
    return result


def programs(machines, folder, busybox, rounds, other):
    """Compute programs and system work, natively too."""
    binary = os.path.join(folder, "programs")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "programs.c")
    subprocess.run(["gcc", "-O2", "-static", "-o", binary, source, "-lm"], check=True)
    initrd = os.path.join(folder, "initrd.cpio")
    with open(initrd, "wb") as stream:
        archive = cpio.Archive(stream)
        archive.directory(b"dev")
        archive.character_device(b"dev/console", 5, 1)
        archive.host_file(b"init", binary)
        archive.host_file(b"busybox", busybox)
        archive.finish()
    # The kernel hands words that it does not know to init, as its environment.
    commands = {
        "native": [binary],
        TCG: machines.tcg(initrd, "BUSYBOX=/busybox", "-cpu", "max"),
        OURS: machines.ours(initrd, "BUSYBOX=/busybox"),
    }
    if other:
        commands[OTHER] = machines.ours(initrd, "BUSYBOX=/busybox", other)
    times = {name: {} for name in commands}
    processor = {name: [] for name in commands}
    results = {}
    for _ in range(rounds):
        for name, command in commands.items():
            run = Run(command, {"BUSYBOX": busybox})
            processor[name].append(run.processor)
            for line in run.lines:
                words = line.split()
                if len(words) != 3 or len(words[2]) != 16:
                    continue
                times[name].setdefault(words[0], []).append(float(words[1]))
                if results.setdefault(words[0], words[2]) != words[2]:
                    sys.exit(f"tools/bench: {words[0]} gives {words[2]} under {name}, not {results[words[0]]}")
    print(f"seconds, medians of {rounds} rounds; each program gave the same result everywhere; ratios: medians of the rounds'")
    print(f"{'':16}{'native':>9}{'TCG':>9}{'rewriting':>11}{'rewriting/native':>18}{'TCG/rewriting':>15}")
    gains, slowdowns = {}, {}
    for program, native in times["native"].items():
        tcg, ours = times[TCG].get(program, []), times[OURS].get(program, [])
        if len(tcg) != rounds or len(ours) != rounds:
            print(f"{program:16}{statistics.median(native):9.3f}  no result under {TCG if len(tcg) != rounds else OURS}")
            continue
        gains[program] = statistics.median([theirs / own for theirs, own in zip(tcg, ours)])
        slowdowns[program] = statistics.median([own / plain for own, plain in zip(ours, native)])
        print(f"{program:16}{statistics.median(native):9.3f}{statistics.median(tcg):9.3f}{statistics.median(ours):11.3f}"
              f"{slowdowns[program]:18.2f}{gains[program]:15.2f}")
    means = {}
    for title, chosen in (("compute programs", [name for name in gains if name in COMPUTE]),
                          ("system work", [name for name in gains if name not in COMPUTE])):
        if chosen:
            means[title] = {"TCGToOurs": statistics.geometric_mean([gains[name] for name in chosen]),
                            "oursToNative": statistics.geometric_mean([slowdowns[name] for name in chosen])}
            print(f"{title}, geometric means: TCG/rewriting {means[title]['TCGToOurs']:.2f}, "
                  f"rewriting/native {means[title]['oursToNative']:.2f}")
    print("processor seconds of everything: "
          + ", ".join(f"{name} {statistics.median(values):.2f}" for name, values in processor.items()))
    result = {"rounds": rounds, "seconds": times, "TCGToOurs": gains, "oursToNative": slowdowns, "geometricMeans": means,
              "processorSeconds": processor}
    if other:
        result["oursToOther"] = against_the_other({program: (times[OURS][program], times[OTHER][program]) for program in gains
                                                   if len(times[OTHER].get(program, [])) == rounds})
    return result


def run(options):
    files = {name: os.path.join(options.guest, name) for name in ("vmlinux", "initrd.cpio", "busybox")}
    for path in files.values():
        if not os.path.exists(path):
            sys.exit(f"tools/bench: {path} is missing: run tools/fetch-guests debian-cloud")
    machines = Machines(options.trivisor, files["vmlinux"])
    results = {"benchmark": "programs", "qemu": subprocess.run(
        ["qemu-system-x86_64", "--version"], stdout=subprocess.PIPE, text=True).stdout.partition("\n")[0]}
    if options.boots:
        results["boot"] = boots(machines, files["initrd.cpio"], options.boots, options.compare)
    if options.runs:
        with tempfile.TemporaryDirectory() as folder:
            results["programs"] = programs(machines, folder, files["busybox"], options.runs, options.compare)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2))
    return results
