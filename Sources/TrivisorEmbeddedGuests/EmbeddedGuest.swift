// The guests that travel in the executable, so that something runs before anything has been fetched. Their sources are
// in guests/, with a README that says what each shows; `guest:NAME` names them wherever an image is expected.

import TrivisorCEmbeddedGuests

/// A small guest of our own, as an image like any that comes from a file.
public struct EmbeddedGuest: Sendable {
  /// What the image is, and so how it starts.
  public enum Format: Sendable, Equatable {
    /// 512 bytes for address 0x7c00, started in real mode.
    case bootSector
    /// A 32-bit ELF with a multiboot 1 header.
    case elf32
    /// A 64-bit ELF with a multiboot 1 header, a PVH note and a 64-bit entry point.
    case elf64
  }

  /// As the user types it behind `guest:`.
  public let name: String

  /// One line for a list of guests, without a full stop.
  public let summary: String

  /// The words that the guest understands on its command line; empty if there are none.
  public let arguments: String

  /// Which loader the image is for.
  public let format: Format

  /// The image. It lies in the executable itself and stays valid for the process's life.
  public nonisolated(unsafe) let bytes: UnsafeRawBufferPointer

  /// The same guest built for Xen's paravirtual interface (64 bits), where there is one.
  public nonisolated(unsafe) let paravirtualBytes: UnsafeRawBufferPointer?

  /// All guests, simplest first.
  public static let all: [EmbeddedGuest] = [
    EmbeddedGuest(
      "hello", "says hello in 64-bit long mode and repeats its command line", .elf64, embedded_guest_hello(),
      paravirtual: embedded_guest_hello_xen()),
    EmbeddedGuest(
      "hello-real", "says hello in 16-bit real mode, from a boot sector", .bootSector, embedded_guest_hello_real()),
    EmbeddedGuest(
      "hello-protected", "says hello in 32-bit protected mode", .elf32, embedded_guest_hello_protected()),
    EmbeddedGuest(
      "privileged", "each privileged and each sensitive instruction: what happened", .elf64,
      embedded_guest_privileged(), arguments: "only=user | only=kernel, common, row=N",
      paravirtual: embedded_guest_privileged_xen()),
    EmbeddedGuest(
      "features", "an instruction of each processor feature: announced, and working?", .elf64,
      embedded_guest_features(), arguments: "kernel, exact, plain", paravirtual: embedded_guest_features_xen()),
    EmbeddedGuest(
      "compute", "integers, memory, calls, floating point, vectors in user mode; a checksum", .elf64,
      embedded_guest_compute(), arguments: "scale=N",
      paravirtual: embedded_guest_compute_xen()),
    EmbeddedGuest(
      "ring3", "a kernel with user processes: page tables, system calls, a timer", .elf64, embedded_guest_ring3(),
      arguments: "syscall",
      paravirtual: embedded_guest_ring3_xen()),
    EmbeddedGuest(
      "smp", "starts all processors: an atomic counter, a lock, barriers", .elf64, embedded_guest_smp(),
      paravirtual: embedded_guest_smp_xen()),
    EmbeddedGuest(
      "nanobench", "what a kernel's dealings with the processor cost, in cycles", .elf64, embedded_guest_nanobench(),
      arguments: "syscall | check", paravirtual: embedded_guest_nanobench_xen()),
    EmbeddedGuest(
      "crash", "goes wrong, in the way that its command line names", .elf64, embedded_guest_crash(),
      arguments: "triple-fault | loop | halt | jump | jump-reported | stack-overflow",
      paravirtual: embedded_guest_crash_xen()),
  ]

  /// The first process of a Linux guest that runs one command: a static program for its first root (guests/linux/init.swift).
  public static var linuxInit: UnsafeRawBufferPointer {
    let image = embedded_guest_linux_init()
    return UnsafeRawBufferPointer(start: image.start, count: image.count)
  }

  /// Guests that there are for Xen's paravirtual interface only, as their one image.
  public static let paravirtualOnly: [EmbeddedGuest] = [
    EmbeddedGuest(
      "abi", "what a paravirtual guest finds out about the interface below it", .elf64, embedded_guest_abi_xen(),
      paravirtual: embedded_guest_abi_xen()),
    EmbeddedGuest(
      "user32", "a 32-bit paravirtual kernel and its user code", .elf32, embedded_guest_user32_xen(),
      paravirtual: embedded_guest_user32_xen()),
    EmbeddedGuest(
      "consoles", "a domain's two ways to be heard, and what each does with what is out of the common", .elf64,
      embedded_guest_consoles_xen(), arguments: "ring", paravirtual: embedded_guest_consoles_xen()),
    EmbeddedGuest(
      "cost", "what calls, traps and page-table updates of a paravirtual guest cost", .elf64, embedded_guest_cost_xen(),
      paravirtual: embedded_guest_cost_xen()),
    EmbeddedGuest(
      "attack", "attacks the sandbox of the paravirtual technique", .elf64, embedded_guest_attack_xen(),
      arguments: "syscalls | int80 | vsyscall | compat-… | sigreturn-… | stack | flags | race | jumps | frames"
        + " | tables | stale | jump-at=N with=N | descriptors | mappings", paravirtual: embedded_guest_attack_xen()),
  ]

  /// The guest that the user calls `name`.
  public static func named(_ name: String) -> EmbeddedGuest? {
    all.first { $0.name == name } ?? paravirtualOnly.first { $0.name == name }
  }

  private init(
    _ name: String, _ summary: String, _ format: Format, _ image: EmbeddedImage, arguments: String = "",
    paravirtual: EmbeddedImage? = nil
  ) {
    self.name = name
    self.summary = summary
    self.arguments = arguments
    self.format = format
    bytes = UnsafeRawBufferPointer(start: image.start, count: image.count)
    paravirtualBytes = paravirtual.map { UnsafeRawBufferPointer(start: $0.start, count: $0.count) }
  }
}
