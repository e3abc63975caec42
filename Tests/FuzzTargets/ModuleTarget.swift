import TrivisorKernelModules

/// What a kernel module says of itself, and a kernel's options.
final class ModuleTarget: FuzzTarget {
  static let name = "module"
  static let seeds = [
    Array("\0depends=a,b-c\0softdep=pre: d post: e\0alias=pci:v*d*\0alias=fs-virtiofs\0".utf8), elf,
    Array("\u{1}CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=m\n".utf8),
  ]

  /// An ELF file with .modinfo and the names of its sections.
  private static var elf: [UInt8] {
    func number(_ value: Int, _ count: Int) -> [UInt8] {
      (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }
    func section(name: Int, offset: Int, size: Int) -> [UInt8] {
      number(name, 4) + number(1, 4) + number(0, 16) + number(offset, 8) + number(size, 8) + number(0, 24)
    }
    let names = Array("\0.modinfo\0".utf8)
    let text = Array("depends=x\0".utf8)
    let head = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1] + [UInt8](repeating: 0, count: 9)
    let header =
      head + number(1, 2) + number(62, 2) + number(1, 4) + number(0, 16) + number(64, 8) + number(0, 4) + number(64, 2)
      + number(0, 4) + number(64, 2) + number(3, 2) + number(2, 2)
    return [2] + header + section(name: 0, offset: 0, size: 0) + section(name: 1, offset: 256, size: text.count)
      + section(name: 0, offset: 266, size: names.count) + text + names
  }

  init() {}

  func run(_ bytes: UnsafeRawBufferPointer) {
    var input = FuzzInput(bytes)
    switch input.byte() % 3 {
    case 0: _ = ModuleInformation(section: Array(input.remainder()))
    case 1: _ = KernelConfiguration(Array(input.remainder()))
    default: _ = ModuleFile.information(Array(input.remainder()))
    }
  }
}
