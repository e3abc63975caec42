import TrivisorInstructionSet

/// Everything that a look at an image finds.
public struct Inspection: Sendable {
  /// What the bytes are, in words.
  public let format: String
  /// The code that was swept.
  public let regions: [CodeRegion]
  /// Instructions that decode, and places where none begins.
  public let instructionCount: Int
  /// See `instructionCount`.
  public let undefinedCount: Int
  /// The most frequent first, by character.
  public let findings: [Finding]
  /// Names for places.
  public let symbols: SymbolTable
  /// How many sites a Linux kernel's paravirt-ops patch, where the kernel says so.
  public let paravirtSites: Int?

  /// Bytes of code.
  public var codeSize: Int { regions.reduce(0) { $0 + $1.size } }

  /// - Parameters:
  ///   - bytes: an ELF file, or flat code.
  ///   - flatMode: how flat code is decoded, and which it is if `bytes` are no ELF file.
  ///   - flatAddress: where flat code runs.
  public init(_ bytes: [UInt8], flatMode: CPUMode, flatAddress: UInt64) {
    if let elf = ELFImage(bytes) {
      let mode: CPUMode = elf.is64Bit ? .bits64 : .bits32
      format = "ELF, \(elf.is64Bit ? 64 : 32) bits"
      let sections = elf.sections.filter { $0.isExecutable && !$0.range.isEmpty }
      let segments = elf.segments.filter { $0.isExecutable && !$0.range.isEmpty }
      regions = Self.withoutOverlap(
        sections.isEmpty
          ? segments.map { CodeRegion(name: "segment", address: $0.address, mode: mode, range: $0.range) }
          : sections.map { CodeRegion(name: $0.name, address: $0.address, mode: mode, range: $0.range) })
      symbols = SymbolTable(elf.symbols)
      // struct paravirt_patch_site of arch/x86/include/asm/paravirt_types.h: an address, a type, a length, padding.
      paravirtSites = elf.section(".parainstructions").map { $0.range.count / (elf.is64Bit ? 16 : 8) }
    } else {
      format = "flat code"
      regions = [CodeRegion(name: "image", address: flatAddress, mode: flatMode, range: bytes.indices)]
      symbols = SymbolTable([])
      paravirtSites = nil
    }
    var scan = Scan()
    for region in regions { scan.sweep(region, of: bytes) }
    instructionCount = scan.instructionCount
    undefinedCount = scan.undefinedCount
    let order = InstructionCharacter.allCases
    findings = scan.findings.sorted { lhs, rhs in
      let (left, right) = (order.firstIndex(of: lhs.character) ?? 0, order.firstIndex(of: rhs.character) ?? 0)
      return (left, -lhs.addresses.count, lhs.name) < (right, -rhs.addresses.count, rhs.name)
    }
  }

  /// In the order of the file, each of its bytes once: a damaged file may say of any number of regions that they are all of it.
  private static func withoutOverlap(_ regions: [CodeRegion]) -> [CodeRegion] {
    var end = 0
    var result: [CodeRegion] = []
    for region in regions.sorted(by: { $0.range.lowerBound < $1.range.lowerBound }) where region.range.upperBound > end
    {
      let start = max(region.range.lowerBound, end)
      end = region.range.upperBound
      result.append(
        CodeRegion(
          name: region.name, address: region.address &+ UInt64(start - region.range.lowerBound), mode: region.mode,
          range: start..<end))
    }
    return result
  }

  /// How often an instruction was found.
  public func count(of name: String) -> Int { findings.first { $0.name == name }?.addresses.count ?? 0 }

  /// The symbols, or sections where there are none, that hold a finding's addresses; the most frequent first.
  public func places(of finding: Finding) -> [(name: String, count: Int)] {
    var counts: [String: Int] = [:]
    let regions = self.regions.sorted { $0.address < $1.address }
    var current = (name: "", range: UInt64(0)..<0, count: 0)
    for address in finding.addresses {
      if !current.range.contains(address) {
        if current.count > 0 { counts[current.name, default: 0] += current.count }
        let (name, range) = place(of: address, in: regions)
        current = (name, range, 0)
      }
      current.count += 1
    }
    if current.count > 0 { counts[current.name, default: 0] += current.count }
    return counts.map { ($0.key, $0.value) }.sorted { (-$0.1, $0.0) < (-$1.1, $1.0) }
  }

  /// What holds an address, and a range around it of which the same can be said.
  /// - Parameter regions: by address.
  private func place(of address: UInt64, in regions: [CodeRegion]) -> (String, Range<UInt64>) {
    if let symbol = symbols.symbol(at: address) {
      return (symbol.name, address..<max(symbol.address &+ symbol.size, address))
    }
    var (low, high) = (0, regions.count)
    while low < high {
      let middle = (low + high) / 2
      if regions[middle].address <= address { low = middle + 1 } else { high = middle }
    }
    guard low > 0, address - regions[low - 1].address < UInt64(regions[low - 1].size) else {
      return ("?", address..<address)
    }
    let region = regions[low - 1]
    // Between symbols there may be others further on.
    let (end, overflow) = region.address.addingReportingOverflow(UInt64(region.size))
    return (region.name, address..<(symbols.isEmpty && !overflow ? end : address))
  }
}
