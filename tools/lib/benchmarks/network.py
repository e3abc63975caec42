"""A guest's network under QEMU's TCG, with its user network, and under the rewriting technique with passt, in turns: a large file over
HTTP, and small requests with a connection each. The server is on the host's loopback, in a network namespace of its own."""

import os
import statistics
import subprocess
import sys
import time

import cpio
import kernel_modules
from beside_tcg import OURS, TCG, Machines, Run

PORT = 8000
LARGE_MIB = 200
MODULES = ["virtio_mmio", "virtio_net"]


def enter_namespace():
    """This process again, in a network of its own with the loopback and a default route, which passt asks for."""
    if os.environ.get("TRIVISOR_NETWORK_NAMESPACE"):
        for words in ("link set lo up", "link add outside type veth peer name other", "address add 192.0.2.7/24 dev outside",
                      "link set outside up", "link set other up", "route add default via 192.0.2.1"):
            subprocess.run(["ip", *words.split()], check=True)
        return
    os.environ["TRIVISOR_NETWORK_NAMESPACE"] = "1"
    os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])


def guest(kernel_folder, folder, names=MODULES):
    """A guest's initial RAM disk, whose first process measures; what is to be loaded there; and the same program for the host."""
    binary = os.path.join(folder, "requests")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "requests.c")
    subprocess.run(["gcc", "-O2", "-static", "-o", binary, source], check=True)
    initrd = os.path.join(folder, "network.cpio")
    # The only release, perhaps a link.
    modules = kernel_modules.Modules(str(next((kernel_folder / "lib/modules").iterdir()).resolve()))
    needed = modules.in_load_order(names)
    with open(initrd, "wb") as stream:
        archive = cpio.Archive(stream)
        archive.directory(b"dev")
        archive.character_device(b"dev/console", 5, 1)
        archive.directory(b"modules")
        for name in needed:
            archive.file(b"modules/" + name.encode() + b".ko", modules.contents(name))
        archive.host_file(b"init", binary)
        archive.finish()
    return initrd, needed, binary


def measure(trivisor, kernel_folder, folder, rounds, requests):
    initrd, needed, binary = guest(kernel_folder, folder)
    words = (f"ADDRESS=10.0.2.15 GATEWAY=10.0.2.2 PORT={PORT} COUNT={requests} "
             f"MODULES={','.join(needed)}")
    machines = Machines(trivisor, str(kernel_folder / "vmlinuz"))
    commands = {
        # Debian's kernels find virtio over MMIO by ACPI alone.
        TCG: [word.replace("acpi=off", "acpi=on") for word in machines.tcg(
            initrd, words, "-cpu", "max", "-netdev", "user,id=net", "-device", "virtio-net-device,netdev=net")],
        OURS: [*machines.ours(initrd, words), "--network", "user"],
    }
    server = subprocess.Popen([binary, "server", str(PORT)])
    time.sleep(0.3)
    results = {name: {"large, MiB/s": [], "small, 1/s": []} for name in commands}
    try:
        for _ in range(rounds):
            for name, command in commands.items():
                run = Run(command)
                lines = {line.split()[1]: line.split()[2:] for line in run.lines if line.startswith("NETWORK ")}
                if "large" not in lines or "small" not in lines:
                    sys.exit(f"tools/bench: {name} ended with status {run.status}: " + "\n".join(run.lines[-5:]))
                results[name]["large, MiB/s"].append(LARGE_MIB / float(lines["large"][0]))
                results[name]["small, 1/s"].append(int(lines["small"][0]) / float(lines["small"][1]))
    finally:
        server.kill()
    print(f"{LARGE_MIB} MiB over HTTP, and {requests} requests with a connection each; {rounds} rounds, medians (least, most)")
    for name, of in results.items():
        print(f"{name:12}" + "".join(
            f"{f'{column} {statistics.median(values):.0f} ({min(values):.0f}, {max(values):.0f})':>36}" for column, values in of.items()))
    return results
