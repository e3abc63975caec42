"""QEMU, simulating the processor (TCG), with the lab's kernel.

    this process ── socket pairs ── QEMU ── virtio serial ports ── lab-init ── the command
         └── memory files: initial RAM disk in, kernel's log out

Nothing of a run is a named file on the host: what is passed to QEMU are descriptors, and QEMU itself is killed by the
kernel when this process ends for whatever reason. So there is nothing to clean up.
"""

import fcntl
import os
import secrets
import shutil
import socket
import subprocess

from lab_system import KERNEL, LabFailure


class Machine:
    """QEMU with the lab's kernel. `channels` are our ends of its ports, by name."""

    PORTS = ["control", "input", "output", "errors", "files"]

    def __init__(self, lab, options, memory, initrd, frequency, with_terminal):
        if not shutil.which("qemu-system-x86_64"):
            raise LabFailure("qemu-system-x86_64 is not installed: run tools/setup")
        self.log = os.memfd_create(f"{lab.name}-log")
        # The kernel's console and QEMU itself both write to it.
        fcntl.fcntl(self.log, fcntl.F_SETFL, os.O_APPEND)
        words = ["console=ttyS0", "panic=-1", "cryptomgr.notests=1", *lab.words]
        # A panic is printed in any case; without --log the rest would only cost time.
        words += ["ignore_loglevel"] if options.log else ["quiet"]
        if frequency:
            words += [f"tsc_early_khz={frequency}", "tsc=reliable"]
        arguments = [
            "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
            "-machine", "microvm", "-global", "virtio-mmio.force-legacy=false",
            # With a thread for each processor QEMU may go on running code that another one has patched, and kvm.ko makes
            # the kernel patch its scheduler with every machine: docs/kvm-lab.md.
            "-accel", f"tcg,thread={'multi' if options.parallel else 'single'}", "-cpu", lab.processor or options.cpu,
            "-smp", str(options.cpus), "-m", str(memory),
            "-kernel", str(KERNEL / "vmlinux"), "-initrd", f"/proc/self/fd/{initrd}",
            "-chardev", f"file,id=log,path=/proc/self/fd/{self.log},append=on", "-serial", "chardev:log",
            "-device", "virtio-serial-device",
        ]  # fmt: skip
        self.channels, theirs = {}, []
        # The terminal first: the lab's init takes the last port's presence for that of all.
        for number, name in enumerate((["terminal"] if with_terminal else [None]) + self.PORTS):
            if not name:
                continue
            self.channels[name], other = socket.socketpair()
            theirs.append(other)
            device = "virtconsole" if name == "terminal" else "virtserialport"
            arguments += ["-chardev", f"socket,id={name},fd={other.fileno()}"]
            arguments += ["-device", f"{device},nr={number},chardev={name},name={name}"]
        # In a session of its own, because Ctrl-C is for us to handle; killed by the kernel when we are gone.
        start = ["setpriv", "--pdeathsig", "KILL"]
        if not options.parallel:
            # All threads of QEMU on one processor of the host: they lose interrupts to one another otherwise, and a lab
            # that loses the interrupt of its timer while a guest spins is stuck: docs/kvm-lab.md.
            start += ["taskset", "--cpu-list", str(secrets.choice(sorted(os.sched_getaffinity(0))))]
        self.process = subprocess.Popen(
            [*start, "qemu-system-x86_64", *arguments, "-append", " ".join(words)],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True,
            pass_fds=[initrd, self.log, *(each.fileno() for each in theirs)],
        )
        for other in theirs:
            other.close()
        os.close(initrd)

    def log_lines(self):
        os.lseek(self.log, 0, os.SEEK_SET)
        with open(os.dup(self.log), errors="replace") as file:
            lines = [line.rstrip().replace("\r", "") for line in file]
        # QEMU says for each run which features of the CPU model its TCG lacks.
        return [line for line in lines if line and "TCG doesn't support requested feature" not in line]

    def stop(self):
        self.process.kill()
        self.process.wait()
