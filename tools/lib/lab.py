"""Runs one command in a machine of its own, as if it ran here: what tools/kvm-lab and tools/host-lab have in common."""

import argparse
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from host_clock import CounterFrequency
from lab_channels import Buffer, Lines, RawTerminal, Sink, Source, is_our_terminal
from lab_files import FileError
from lab_machine import Machine
from lab_system import LabFailure, base_archive, choose_files, fetch_kernel, write_run_archive

TIMED_OUT, LAB_FAILED = 124, 125
BOOT_LIMIT = 120  # seconds until the command starts; a busy host can be slow
DRAIN_LIMIT = 5  # seconds without a byte after the command's end until its output is taken as complete


class Interrupted(Exception):
    """A signal asked this process to end."""


class Run:
    """One command in one machine, from its start to its status."""

    def __init__(self, lab, options):
        self.lab, self.options = lab, options
        # What happens, in order: a signal's number, a line from the lab's init as words, a sink that is complete, an
        # error of a sink, or None when the machine ended.
        self.events = queue.SimpleQueue()
        self.terminal = RawTerminal(0) if is_our_terminal(0) else None
        self.machine = self.extractor = None
        self.sinks = {}

    def start(self):
        frequency = CounterFrequency()
        fetch_kernel()
        command, payload = choose_files(self.options)
        mark = secrets.token_hex(16)
        initrd = os.memfd_create(f"{self.lab.name}-initrd")
        with os.fdopen(os.dup(initrd), "wb") as stream:
            stream.write(base_archive(self.lab))
            write_run_archive(stream, self.options, command, payload, self.settings(mark))
        # A file is there twice while the kernel unpacks it, and the root file system takes half of the memory at most.
        memory = self.options.memory or 2048 + 3 * (payload.size >> 20)
        self.machine = Machine(self.lab, self.options, memory, initrd, frequency.kilohertz(), bool(self.terminal))

        descriptors = {"output": 1, "errors": 2}
        if self.terminal:
            descriptors["terminal"] = os.open(os.ttyname(0), os.O_WRONLY | os.O_NOCTTY)
        if self.options.output:
            descriptors["files"] = self.start_extractor()
        for name, descriptor in descriptors.items():
            source = self.machine.channels[name]
            if name == "terminal":
                source = Buffer(source)
            self.sinks[name] = Sink(source, descriptor, mark.encode(), self.events)
            self.sinks[name].start()
        Lines(self.machine.channels["control"], self.events).start()
        threading.Thread(target=self.wait_for_machine, daemon=True).start()

    def settings(self, mark):
        """The variables that the lab's init reads."""
        no_input = os.path.samestat(os.fstat(0), os.stat(os.devnull)) or (os.isatty(0) and not self.terminal)
        files = {"input": "/dev/null" if no_input else "/lab/stdin", "output": "/lab/stdout", "errors": "/lab/stderr"}
        if os.path.samestat(os.fstat(1), os.fstat(2)):
            files["errors"] = files["output"]  # one stream keeps the order of what is written to both
        if self.terminal:
            files |= {name: "/dev/hvc0" for descriptor, name in enumerate(files) if os.isatty(descriptor)}
        return {
            "mark": mark,
            "has_kvm": "yes" if self.lab.has_kvm else "",
            "directory": os.getcwd(),
            "output_directory": os.path.abspath(self.options.output) if self.options.output else "",
            **files,
        }

    def start_extractor(self):
        os.makedirs(self.options.output, exist_ok=True)
        command = ["tar", "-x", "--no-same-owner", "--no-overwrite-dir", "-C", self.options.output]
        self.extractor = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        return self.extractor.stdin.fileno()

    def wait_for_machine(self):
        self.machine.process.wait()
        self.events.put(None)

    def wait(self):
        """The command's exit status, once it has ended and all that it wrote has come out."""
        status, missing = None, set(self.sinks.values())
        deadline = time.monotonic() + BOOT_LIMIT
        running = False
        while status is None or missing:
            try:
                event = self.events.get(timeout=max(0, deadline - time.monotonic()) if deadline else 1)
            except queue.Empty:
                if status is not None:
                    if all(sink.silence > DRAIN_LIMIT for sink in missing):
                        raise LabFailure("the command ended, but not all of its output came out") from None
                elif running and deadline:
                    raise TimeoutError from None
                elif not running:
                    raise LabFailure(f"the machine did not come to the command within {BOOT_LIMIT} s") from None
                continue
            match event:
                case signal.Signals():
                    raise Interrupted(event)
                case OSError():
                    raise LabFailure(f"the command's output can't be written: {event.strerror}")
                case Sink():
                    missing.discard(event)
                case ["started"]:
                    running = True
                    deadline = time.monotonic() + self.options.timeout if self.options.timeout else None
                    if self.terminal:
                        self.terminal.enter()
                    Source(0, self.machine.channels["terminal" if self.terminal else "input"], self.events).start()
                case ["status", number]:
                    status, deadline = int(number), None
                case ["failed", *reason]:
                    raise LabFailure(" ".join(reason))
                case None:
                    raise LabFailure(self.cause_of_death(running))
        if self.extractor:
            self.extractor.stdin.close()
            if self.extractor.wait() != 0:
                raise LabFailure(f"what the command left in {self.options.output} could not be unpacked")
        return status

    def cause_of_death(self, running):
        code = self.machine.process.returncode
        for line in self.machine.log_lines():
            if "LAB-FAILED: " in line:
                return line.split("LAB-FAILED: ")[1]
            if "Kernel panic" in line:
                return f"the lab's kernel panicked {'while the command ran' if running else 'before the command'}"
        if code != 0:
            return f"QEMU ended with {f'status {code}' if code > 0 else signal.Signals(-code).name}"
        return "the machine was powered off or reset before the command ended"

    def stop(self):
        if self.terminal:
            self.terminal.leave()
        if self.machine:
            self.machine.stop()
        if self.extractor:
            self.extractor.kill()
            self.extractor.wait()
        if self.options.log and self.machine:
            Path(self.options.log).write_text("".join(line + "\n" for line in self.machine.log_lines()))


def parse(lab, arguments):
    parser = argparse.ArgumentParser(
        prog=lab.name,
        usage=f"{lab.name} [OPTION...] -- COMMAND [ARGUMENT...]",
        description=lab.description + """. Its standard streams and its exit status are
            those of the command outside. COMMAND is a program by its path, trivisor, one of busybox's programs, or one
            in PATH. Files that the arguments name are there inside, at the same paths; so are the libraries of a
            program that needs some.""",
        epilog="""Own statuses, each with a sentence on standard error: 124 the time ran out, 125 the lab failed. At a
            terminal every key is the command's; Ctrl-] three times ends the lab.""",
    )
    if not lab.processor:
        parser.add_argument(
            "--cpu", required=True, metavar="MODEL",
            help="the processor, as QEMU names it: Haswell-v4, EPYC, max, or a model with features changed: max,-fma")
    parser.add_argument("--cpus", type=int, default=1, metavar="N", help="processors (default: 1)")
    parser.add_argument(
        "--parallel", action="store_true", help="processors run in parallel: faster, and now and then the lab hangs")
    parser.add_argument("--memory", type=int, metavar="MIB", help="memory (default: 2048 and what the files need)")
    parser.add_argument("--file", action="append", default=[], metavar="PATH", help="one more file or folder inside")
    parser.add_argument("--output", metavar="DIR", help="what the command leaves in this folder comes back")
    parser.add_argument("--timeout", type=float, default=300, metavar="SECONDS", help="default: 300; 0 for none")
    parser.add_argument("--trivisor", metavar="PATH", help="the trivisor inside (default: build/release/trivisor)")
    parser.add_argument("--log", metavar="FILE", help="write the kernel's whole log to this file")
    if "--" in arguments:
        at = arguments.index("--")
        arguments, command = arguments[:at], arguments[at + 1 :]
    else:
        command = []
    options = parser.parse_args(arguments)
    options.command = command
    if not command:
        parser.error("name a command after --")
    if options.cpus < 1 or options.timeout < 0 or (options.memory is not None and options.memory < 256):
        parser.error("--cpus must be at least 1, --memory at least 256, --timeout not negative")
    return options


def run_tool(lab):
    """A lab's whole program; does not return."""
    # Not sys.exit: a thread may be waiting for input that never comes.
    status = _main(lab)
    sys.stderr.flush()
    os._exit(status)


def _main(lab):
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # a closed standard stream must not become one of our own files
    try:
        options = parse(lab, sys.argv[1:])
    except SystemExit as exit:
        return LAB_FAILED if exit.code else 0

    run = Run(lab, options)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: run.events.put(signal.Signals(number)))
    failure = None
    try:
        run.start()
        return run.wait()
    except Interrupted as interruption:
        run.stop()
        # To end by the same signal tells the shell what happened.
        signal.signal(interruption.args[0], signal.SIG_DFL)
        os.kill(os.getpid(), interruption.args[0])
    except TimeoutError:
        run.stop()
        print(f"{lab.name}: the command did not end within {options.timeout:g} s", file=sys.stderr)
        return TIMED_OUT
    except (LabFailure, FileError, OSError, subprocess.SubprocessError) as error:
        failure = error
    finally:
        run.stop()
    print(f"{lab.name}: {failure}", file=sys.stderr)
    if run.machine and (lines := run.machine.log_lines()[-40:]):
        print("The end of the machine's log:", *lines, sep="\n  ", file=sys.stderr)
    return LAB_FAILED
