import TrivisorVMM

/// Linux's command line (Documentation/admin-guide/kernel-parameters.txt).
public enum LinuxCommandLine {
  /// What a kernel needs to be told of this machine, in front of what the user says; where both name a parameter,
  /// Linux takes the later one.
  ///
  /// - The first serial port is the console, unless the request says otherwise.
  /// - A reset goes through the keyboard controller's port, which can be told from a crash; a triple fault can't.
  /// - A panic is followed by that reset instead of an endless loop.
  /// - There is neither keyboard nor mouse to look for; looking takes the guest up to a second.
  public static let defaults = defaults(console: serialConsole)

  /// The first serial port, as Linux calls it.
  public static let serialConsole = "ttyS0"

  private static func defaults(console: String) -> String {
    "console=\(console) reboot=k panic=-1 i8042.noaux i8042.nokbd"
  }

  /// The same of a paravirtual domain: its console is Xen's, and it has none of a PC's devices. Linux from 6.16 on reads a register of
  /// AMD's chipset all the same, which no domain may map, and crashes there.
  private static let domainDefaults = "console=hvc0 panic=-1 initcall_blacklist=print_s5_reset_status_mmio"

  /// x86 Linux's COMMAND_LINE_SIZE without the closing zero byte: for kernels that can't say their limit.
  static let usualLimit = 2047

  /// The whole line.
  static func combine(_ request: BootRequest) -> String {
    guard request.addsDefaultCommandLine else { return request.commandLine }
    let defaults = request.isForDomain ? domainDefaults : defaults(console: request.linuxConsole)
    return request.commandLine.isEmpty ? defaults : defaults + " " + request.commandLine
  }

  /// Places and stores a command line as a C string.
  /// - Returns: its address.
  static func store(_ text: String, limit: Int, _ layout: inout GuestLayout) throws(BootFailure) -> UInt64 {
    let count = text.utf8.count
    guard count <= limit else { throw BootFailure(layout.image, .commandLineTooLong(count: count, limit: limit)) }
    var record = GuestRecord()
    record.append(text: text)
    let address = try layout.placeStructure(
      "the command line", size: UInt64(record.bytes.count), alignment: 16)
    try layout.store(record.bytes, at: address, as: "the command line")
    return address
  }
}
