import ArgumentParser

/// `trivisor kernel-config`.
struct KernelConfigCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kernel-config",
    abstract: "Print the options that a Linux kernel needs to be worked in.",
    discussion: """
      For a kernel of your own, from its source tree:

        trivisor kernel-config > /tmp/trivisor.config
        make defconfig kvm_guest.config
        scripts/kconfig/merge_config.sh .config /tmp/trivisor.config

      Devices and file systems may be modules, too: Trivisor finds them in the tree.
      """)

  /// Option and what it is for; those of one group stand together.
  private static let groups: [(title: String, options: [String])] = [
    (
      "the console, the command channel and the ACPI tables that name the devices",
      [
        // Linux 6.1 with ACPI and without PCI can load nobody's tables: it wants a handler for PCI's configuration space, and has none.
        "64BIT", "PRINTK", "TTY", "SERIAL_8250", "SERIAL_8250_CONSOLE", "SERIAL_8250_PNP", "ACPI", "PCI",
        "BLK_DEV_INITRD", "BINFMT_ELF", "BINFMT_SCRIPT",
      ]
    ),
    ("the devices", ["VIRTIO_MENU", "VIRTIO_MMIO", "VIRTIO_BLK", "VIRTIO_CONSOLE", "HW_RANDOM", "HW_RANDOM_VIRTIO"]),
    ("what --vsock and --balloon give", ["VSOCKETS", "VIRTIO_VSOCKETS", "VIRTIO_BALLOON"]),
    ("a network", ["NET", "UNIX", "PACKET", "INET", "IPV6", "NETDEVICES", "VIRTIO_NET"]),
    (
      "the host's folders, and a root that stays as it is",
      ["FUSE_FS", "VIRTIO_FS", "OVERLAY_FS", "SHMEM", "TMPFS", "TMPFS_XATTR", "TMPFS_POSIX_ACL"]
    ),
    (
      "what the first process mounts",
      ["PROC_FS", "SYSFS", "DEVTMPFS", "UNIX98_PTYS", "POSIX_MQUEUE", "SIGNALFD", "EPOLL"]
    ),
    (
      "what programs take for granted, and a small configuration leaves out",
      [
        "MULTIUSER", "FUTEX", "POSIX_TIMERS", "FILE_LOCKING", "EVENTFD", "TIMERFD", "INOTIFY_USER", "AIO",
        "ADVISE_SYSCALLS", "MEMBARRIER",
      ]
    ),
    (
      "kernels as packaged, entered without unpacking themselves", ["HYPERVISOR_GUEST", "PARAVIRT", "KVM_GUEST", "PVH"]
    ),
    ("how a panic is told", ["PVPANIC"]),
  ]

  func run() throws {
    var lines = ["# Linux options for 'trivisor run KERNEL --root / -- COMMAND', for merge_config.sh"]
    for group in Self.groups {
      lines.append("# \(group.title)")
      lines += group.options.map { "CONFIG_\($0)=y" }
    }
    Diagnostics.print(lines.joined(separator: "\n"))
  }
}
