"""Networks and disks of a guest under the hardware technique and under kvmtool: in one KVM lab, in turns, with the same kernel and the same
first process.

The lab's processor is emulated whole, so figures of two rounds can be compared, and not with those of another machine. Sizes are
smaller than beside QEMU's TCG for the same reason.
"""

import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import disk as beside_tcg_disk
import network as beside_tcg_network

# kvmtool's devices are on a PCI bus.
OURS, OURS_PCI, THEIRS = "trivisor", "trivisor, PCI", "kvmtool"
# In the lab. The process of ours that makes connections wants a root file system that is no initial one (pivot_root(2)), a user to become, and a
# default route.
PREPARE = r"""
mkdir -p /whole
mount -t tmpfs -o size=90% whole /whole
for entry in /*; do
  case $entry in
    /whole) ;;
    /dev | /proc | /sys) mkdir -p /whole$entry; mount --bind $entry /whole$entry ;;
    *) cp -a $entry /whole/ ;;
  esac
done
mkdir -p /whole/var/tmp /whole/run
echo nobody:x:65534:65534::/:/bin/false >>/whole/etc/passwd
echo nogroup:x:65534: >>/whole/etc/group
insmod @TUN@
mkdir -p /dev/net
[ -c /dev/net/tun ] || mknod /dev/net/tun c 10 200
tunctl -t outside >/dev/null
ifconfig outside 192.0.2.7 up
route add default gw 192.0.2.1
tunctl -t tap7 >/dev/null
ifconfig tap7 192.168.44.1 up
cp @SCRIPT@ /whole/script
cd /whole
# Over the initial one, and not merely below it: a process whose root is another than its mounts' gets no user namespace.
mount --move . /
exec chroot . sh /script
"""
TAP_GATEWAY, TAP_ADDRESS = "192.168.44.1", "192.168.44.15"


def lab(options, files, script, memory=None):
    """What a script in the lab prints."""
    root = Path(__file__).resolve().parents[3]
    command = [str(root / "tools/kvm-lab"), "--cpus", "1", "--timeout", "0", "--trivisor", options.trivisor]
    if memory:
        command += ["--memory", str(memory)]
    for path in files:
        command += ["--file", str(path)]
    lab = subprocess.Popen(
        [*command, "--", "sh", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace")
    lines = []
    for line in lab.stdout:
        lines.append(line.rstrip("\r\n"))
        if line.startswith(("ROUND ", "ENDED ")):
            print(line.strip(), file=sys.stderr, flush=True)
    if lab.wait() != 0:
        sys.exit(f"tools/bench: the lab ended with status {lab.returncode}:\n" + "\n".join(lines[-20:]))
    return lines


# kvmtool with its user network does not end when the guest does.
TURN = r"""
turn() {
  end=$1; shift
  # Before the other process is there, which would do so too.
  : >/said
  "$@" </dev/null >/said 2>&1 &
  monitor=$!
  waited=0
  while kill -0 $monitor 2>/dev/null && [ $waited -lt 600 ]; do
    if grep -q "$end" /said; then sleep 3; break; fi
    sleep 1
    waited=$((waited + 1))
  done
  kill -KILL $monitor 2>/dev/null
  wait $monitor
  status=$?
  cat /said
  echo "ENDED $status"
}
"""


def turns(options, commands, end):
    """Lines of a script: each monitor round by round, with its name in front of what it prints, until it has printed `end`."""
    lines = [TURN]
    for _ in range(options.runs):
        for name, command in commands.items():
            lines.append(f"echo ROUND {shlex.quote(name)}")
            lines.append(f"turn {shlex.quote(end)} {shlex.join(command)}")
    return lines


def by_monitor(lines):
    """What each monitor printed, a list of lines for each of its rounds."""
    found, current = {}, None
    for line in lines:
        line = line.strip("\r\n")
        if line.startswith("ROUND "):
            current = []
            found.setdefault(line[len("ROUND "):], []).append(current)
        elif current is not None:
            current.append(line)
    return found


def monitors(options, kernel, initrd, words, ours=(), theirs=()):
    words = f"quiet panic=-1 {words}"
    command = ["trivisor", "run", kernel, "--initrd", initrd, "--memory", "512M", "--technique", "hardware", "--on-reset", "success",
               "--append", words, *ours]
    return {
        OURS: command,
        OURS_PCI: [*command, "--transport", "pci"],
        THEIRS: [os.path.abspath(options.kvmtool), "run", "-k", kernel, "-i", initrd, "-m", "512", "-c", "1", "--console", "serial",
                 "-p", words, *theirs],
    }


def network(options):
    """Two attachments: a user's network, passt here and a stack of its own there; and a tap interface."""
    fetched = Path(options.guest)
    kernel = str(fetched / "vmlinuz")
    tun = next(Path(os.path.realpath(next((fetched / "lib/modules").iterdir()))).rglob("tun.ko"))
    passt = [path for path in (shutil.which("passt"), shutil.which("passt.avx2")) if path]
    if not passt:
        sys.exit("tools/bench: passt is not there")
    with tempfile.TemporaryDirectory(prefix="trivisor-bench-") as folder:
        initrd, needed, binary = beside_tcg_network.guest(fetched, folder, ["virtio_mmio", "virtio_pci", "virtio_net"])
        common = f"PORT={beside_tcg_network.PORT} COUNT={options.requests} MIB={options.mib} MODULES={','.join(needed)}"

        def words(address, gateway):
            return f"ADDRESS={address} GATEWAY={gateway} {common}"

        user = {**monitors(options, kernel, initrd, words("10.0.2.15", "10.0.2.2"), ours=["--network", "user"])}
        user[THEIRS] = monitors(
            options, kernel, initrd, words("192.168.33.15", "192.168.33.1"), theirs=["--network", "mode=user"])[THEIRS]
        tap = monitors(
            options, kernel, initrd, words(TAP_ADDRESS, TAP_GATEWAY), ours=["--network", "tap=tap7"],
            theirs=["--network", f"mode=tap,tapif=tap7,guest_ip={TAP_ADDRESS},host_ip={TAP_GATEWAY}"])
        wanted = {"user": user, "tap": tap}
        commands = {f"{how}: {name}": command for how, of in wanted.items() if options.attachment in how
                    for name, command in of.items()}
        script, prepare = os.path.join(folder, "measure"), os.path.join(folder, "prepare")
        Path(script).write_text("\n".join(
            [f"{binary} server {beside_tcg_network.PORT} 0.0.0.0 &", "server=$!", *turns(options, commands, "NETWORK small"), "kill $server"]) + "\n")
        Path(prepare).write_text(PREPARE.replace("@TUN@", str(tun)).replace("@SCRIPT@", script))
        lines = lab(options, [kernel, initrd, binary, script, tun, options.kvmtool, *passt], prepare, memory=2560)
    results = {}
    for name, rounds in by_monitor(lines).items():
        figures = results.setdefault(name, {"large, MiB/s": [], "small, 1/s": []})
        for of in rounds:
            # What the kernel said last may stand in front, without an end of its line.
            words = [line.partition("NETWORK ")[2].split() for line in of if "NETWORK " in line]
            said = {word[0]: word[1:] for word in words if len(word) > 2}
            if "large" not in said or "small" not in said:
                print(f"tools/bench: {name} did not come to its end:\n" + "\n".join(of[-8:]), file=sys.stderr)
                continue
            figures["large, MiB/s"].append(float(said["large"][1]) / float(said["large"][0]))
            figures["small, 1/s"].append(int(said["small"][0]) / float(said["small"][1]))
    print(f"in the KVM lab: {options.mib} MiB over HTTP, and {options.requests} requests with a connection each; {options.runs} rounds, "
          "medians (least, most)")
    for name, figures in results.items():
        print(f"{name:24}" + "".join(
            f"{f'{column} {statistics.median(values):.2f} ({min(values):.2f}, {max(values):.2f})':>40}"
            for column, values in figures.items() if values))
    save(options, "network", results)


def disk(options):
    """The jobs of fio on the same image, which lies in the lab's memory."""
    fetched = Path(options.guest)
    kernel = str(fetched / "vmlinuz")
    fio = shutil.which("fio") or sys.exit("tools/bench: fio is not there")
    jobs = {name: words for name, words in beside_tcg_disk.JOBS.items() if options.job in name}
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="trivisor-bench-") as folder:
        image, extra, initrd = f"{folder}/disk.img", f"{folder}/extra.cpio", f"{folder}/initrd"
        beside_tcg_disk.archive(extra, fio, options.seconds, jobs, size=options.mib << 20)
        Path(initrd).write_bytes((fetched / "initrd-modules.cpio").read_bytes() + Path(extra).read_bytes())
        Path(image).write_bytes(os.urandom(options.mib << 20))
        commands = monitors(
            options, kernel, initrd, "rdinit=/bench-init", ours=["--disk", image],
            theirs=["--network", "mode=none", "-d", image])
        script = f"{folder}/measure"
        Path(script).write_text("\n".join(turns(options, commands, "BENCH-END")) + "\n")
        lines = lab(options, [kernel, initrd, image, options.kvmtool], script)
    results = {job: {name: [] for name in commands} for job in jobs}
    for name, rounds in by_monitor(lines).items():
        for of in rounds:
            found = beside_tcg_disk.figures(of, jobs)
            missing = set(jobs) - set(found)
            if missing:
                print(f"tools/bench: {name} ended without {missing}:\n" + "\n".join(of[-8:]), file=sys.stderr)
            for job, (mib, requests) in found.items():
                results[job][name].append((mib, requests))
    print(f"in the KVM lab: fio on {options.mib} MiB, {options.seconds} s a job, {options.runs} rounds; medians")
    print(f"{'':36}" + "".join(f"{name:>24}" for name in commands) + "   of kvmtool's")
    for job, of in results.items():
        cells = {name: [statistics.median(values) for values in zip(*rounds)] for name, rounds in of.items() if rounds}
        if len(cells) < len(commands):
            continue
        text = "".join(f"{cells[name][0]:12.1f} MiB/s {cells[name][1]:>5.0f}/s" for name in commands)
        ratios = ", ".join(f"{cells[name][1] / max(cells[THEIRS][1], 1):.2f}" for name in (OURS, OURS_PCI))
        print(f"{job:36}{text}   {ratios}")
    save(options, "disk", results)


def save(options, benchmark, results):
    if options.json:
        Path(options.json).write_text(
            json.dumps({"benchmark": benchmark, "beside": THEIRS, "runs": options.runs, "figures": results}, indent=1) + "\n")
