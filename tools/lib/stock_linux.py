"""Debian's own kernels and systems as they are packaged, at work under Trivisor: what tools/check-linux --stock runs.

Each check is a conversation on the console. A kernel is asked for what it has complained of (levels 0 to 4 of its log),
and every complaint that is not known here, with its reason, fails the check.
"""

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from dialogue import Dialogue

# What kernels complain of on this machine, rightly, as they do under QEMU with the same processor and devices.
KNOWN_COMPLAINTS = [
    # A real Zen 5 needs care for guests of its own, which there can't be here.
    r"Speculative Return Stack Overflow: ",
    # Linux 6.12 looks for a frequency driver on every Zen 5, in machines without firmware for it, too (drivers/cpufreq/amd-pstate.c).
    r"amd_pstate: ",
    r"Please enable it if your BIOS has the CPPC option",
    # The machine has no PCI (as QEMU's microvm).
    r"PCI: Fatal: No config space access function found",
    r"PCI: System does not support PCI",
    # How Debian configures IMA.
    r"device-mapper: core: CONFIG_IMA_DISABLE_HTABLE is disabled",
]

# And of what Xen shows its first domain: its own HWCR, an interrupt for the timer that Xen keeps.
KNOWN_IN_FIRST_DOMAIN = [
    r"MTRRs disabled, skipping PAT",  # which are Xen's
    r"\[Firmware Bug\]: TSC doesn't count with P0 frequency!",
    r"xen map irq failed -1",
    r"Grant table initialized",
]

# What firmware should have set up, told at levels that complain of nothing.
NOT_SET_UP = r"^.*MTRRs (?:disabled|all blank).*$"

# busybox' shell asks the terminal where the cursor is, and nobody answers.
PROMPT = r"# (\x1b\[6n)?$"
COMPLAINTS_END = "complaints: done"


class Stock(NamedTuple):
    name: str
    guest: str  # as tools/fetch-guests calls it
    initrd: str
    arguments: list
    turns: list  # what is waited for, and what is said then
    output: list  # regular expressions, each of which must match
    image: bool = False  # its root, on a disk of its own
    kernel: str = "vmlinuz"
    host: str = ""  # the hypervisor that it is the first domain of, as tools/fetch-guests calls that
    ends: bool = True  # by itself; else it is ended when all was said


def kernel(name):
    """A kernel without a word on the command line, to busybox' shell and its power-off."""
    return Stock(
        f"stock-{name}", f"debian-{name}", "initrd.cpio", [],
        [(PROMPT, f"dmesg -r | grep '^<[0-4]>'; echo {COMPLAINTS_END}\n"),
         (PROMPT, "echo the answer is $((6 * 7))\n"), (PROMPT, "poweroff -f\n")],
        ["the answer is 42"])


def system(name, guest):
    """A whole system from its own initrd and an ext4 disk, to the log-in, its shell, and its power-off."""
    return Stock(
        f"stock-system{name}", guest, "initrd.img", ["--memory", "1G", "--append", "root=/dev/vda rw"],
        [("login: $", "root\n"),
         (PROMPT, "PS1='# '; stty cols 200\n"),
         (PROMPT, "echo state $(systemctl is-system-running --wait)\n"),
         (PROMPT, "systemctl --failed --no-legend\n"),
         (PROMPT, "modprobe ptp_kvm && echo clock $(cat /sys/class/ptp/ptp0/clock_name)\n"),
         (PROMPT, f"dmesg -r | grep '^<[0-4]>'; echo {COMPLAINTS_END}\n"),
         (PROMPT, "echo written by the guest >/root/kept\n"),
         (PROMPT, "systemctl poweroff\n")],
        [r"state running\n", r"clock KVM virtual PTP\n", r"reboot: Power down"], image=True)


def installer(name, guest):
    """Debian's installer to its second question, in the colours and frames of its dialogues."""
    return Stock(
        f"stock-installer{name}", guest, "initrd.gz", ["--memory", "1G"],
        [("Select a language", "\r"), ("Select your location", "")], [], kernel="linux", ends=False)


def first_domain(name, guest):
    """A kernel as the first domain of Debian's Xen, which the monitor loads by multiboot; nothing of a BIOS is there."""
    plain = kernel(name)
    return plain._replace(
        name="stock-xen", guest=guest, host="xen",
        arguments=["--memory", "1G", "--append", "xen no-real-mode console=com1 com1=115200,8n1 dom0_mem=512M"])


CHECKS = [
    *(kernel(name) for name in ("generic", "686", "686-pae", "backports", "unstable")),
    system("", "debian-system"), system("-i386", "debian-system-i386"), system("-trixie", "debian-system-trixie"),
    first_domain("generic", "debian-generic"),
    installer("", "debian-installer"), installer("-i386", "debian-installer-i386"),
]


def images(check, guest, host):
    """The arguments that say what is loaded."""
    if not host:
        return [guest / check.kernel, "--initrd", guest / check.initrd]
    # Xen takes the first word of each command line for a file's name, unless GRUB 2 loaded it.
    return [host / "xen", "--module", f"{guest / check.kernel} vmlinuz console=hvc0", "--module", guest / check.initrd]


def run(check, options, guest, host, folder):
    """Runs a check whose guest lies in `guest`, leaves the console's log in `folder`, and says what did not hold, a
    sentence each."""
    command = [options.trivisor, "run", *images(check, guest, host), "--technique", options.technique,
               "--timeout", f"{options.limit}s", *check.arguments]
    image = folder / f"{check.name}.img"
    if check.image:
        make_image(image, guest / "root")
        command += ["--disk", image]
    dialogue = Dialogue([str(word) for word in command], check.turns, options.limit + 30, check.ends)
    (folder / f"{check.name}.out").write_text(dialogue.output)
    (folder / f"{check.name}.err").write_text(dialogue.errors)
    found = [dialogue.problem] if dialogue.problem else []
    if check.ends and dialogue.status != 0:
        last = dialogue.errors.strip().splitlines()[-1:]
        found.append(f"status {dialogue.status} instead of 0 {last}")
    found += [f"the output lacks {each!r}" for each in check.output if not re.search(each, dialogue.output)]
    if check.ends and not dialogue.problem:
        found += complaints(dialogue.output, KNOWN_COMPLAINTS + (KNOWN_IN_FIRST_DOMAIN if check.host else []))
    if check.image and not found:
        found += problems_of_image(image)
    if check.image and not options.keep:
        image.unlink()
    return found


def complaints(output, known):
    """What the kernel complained of beyond what is known, a sentence each."""
    lines = re.findall(r"^<[0-4]>\[ *[0-9.]+\] (.*)$", output, re.MULTILINE)
    lines += re.findall(NOT_SET_UP, output, re.MULTILINE)
    unknown = [line for line in lines if not any(re.search(each, line) for each in known)]
    if f"\n{COMPLAINTS_END}" not in output:
        return ["the kernel's log was not read to its end"]
    return [f"the kernel complains: {line}" for line in unknown]


def make_image(image, tree):
    """An ext4 disk with a folder's files and their owners, without mounting anything."""
    with open(image, "wb") as file:
        file.truncate(2 << 30)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, image], check=True)


def problems_of_image(image):
    found = []
    check = subprocess.run(["e2fsck", "-f", "-n", image], capture_output=True, text=True)
    if check.returncode != 0:
        found.append(f"e2fsck -f finds: {check.stdout.splitlines()[-1:]}")
    kept = subprocess.run(["debugfs", "-R", "cat /root/kept", image], capture_output=True).stdout
    if kept != b"written by the guest\n":
        found.append("what the guest wrote is not on the disk")
    return found
