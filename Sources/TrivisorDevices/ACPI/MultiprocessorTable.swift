// The MP tables: what kernels without ACPI find of processors and interrupts.
//
//     floating pointer ──▶ configuration table ──▶ processors, buses, I/O APIC, who interrupts where
//
// A kernel looks for the pointer's signature at 16-byte boundaries in the first kilobyte of the extended BIOS data area, in the last one of
// conventional memory, and between 0xf0000 and 0xfffff.
//
// Source: Intel MultiProcessor Specification 1.4, chapter 4; the tables' numbers in the comments are its.

import TrivisorVMM

/// The floating pointer and the table behind it, ready to be copied into guest memory.
public struct MultiprocessorTable: Sendable {
  private enum EntryType {
    static let processor: UInt8 = 0, bus: UInt8 = 1, ioAPIC: UInt8 = 2, interrupt: UInt8 = 3, localInterrupt: UInt8 = 4
  }
  private enum InterruptType {
    static let vectored: UInt8 = 0, nonMaskable: UInt8 = 1, external: UInt8 = 3
  }
  private static let revision: UInt8 = 4
  private static let everybody: UInt8 = 0xff
  /// Of the I/O APIC and of local ones in a processor.
  private static let ioAPICVersion: UInt8 = 0x11, localAPICVersion: UInt8 = 0x14
  /// Polarity active high, level-triggered (table 4-10).
  private static let activeHighLevel: UInt16 = 0x0d

  /// Where `bytes` belong.
  public let base: GuestPhysicalAddress
  /// The pointer, and behind it the table.
  public let bytes: [UInt8]

  /// - Parameter base: a multiple of 16, where kernels look.
  public init(_ machine: ACPIMachine, at base: GuestPhysicalAddress) {
    self.base = base
    let table = Self.configuration(machine)
    // Table 4-1: the table follows; no default configuration, and no IMCR: the 8259s' output goes through the first local APIC.
    var pointer =
      Array("_MP_".utf8) + littleEndian(base.rawValue + 16, count: 4) + [1, Self.revision, 0, 0, 0, 0, 0, 0]
    pointer[10] = Self.checksum(pointer)
    bytes = pointer + table
  }

  private static func checksum(_ bytes: [UInt8]) -> UInt8 { 0 &- bytes.reduce(0, &+) }

  /// The table (4-2) with its entries, in the order of their types.
  private static func configuration(_ machine: ACPIMachine) -> [UInt8] {
    let count = min(max(machine.processorCount, 0), 255)
    // What its register says after RESET, which kernels compare; that a processor has the number, too, has mattered only where both
    // were on one bus of their own.
    let ioAPIC: UInt8 = 0
    // A PCI bus has the number that it has as a bus.
    let legacyBus: UInt8 = machine.pciHost == nil ? 0 : 1
    var entries: [[UInt8]] = (0..<count).map { processor(UInt8($0)) }
    if machine.pciHost != nil { entries.append([EntryType.bus, 0] + Array("PCI   ".utf8)) }
    entries.append([EntryType.bus, legacyBus] + Array("ISA   ".utf8))
    entries.append([EntryType.ioAPIC, ioAPIC, ioAPICVersion, 1] + littleEndian(0xfec0_0000, count: 4))
    // All but the one by which the second 8259 interrupts the first.
    for line in UInt8(0)..<16 where line != 2 {
      let isControl = Int(line) == machine.systemControlInterrupt
      let input = line == 0 ? UInt8(truncatingIfNeeded: machine.timerInput) : line
      entries.append(
        interrupt(
          EntryType.interrupt, InterruptType.vectored, flags: isControl ? activeHighLevel : 0, bus: legacyBus,
          source: line, to: ioAPIC, input: input))
    }
    for wire in machine.pciHost?.interrupts ?? [] {
      let source = UInt8(truncatingIfNeeded: wire.device << 2) | (wire.pin &- 1) & 3
      entries.append(
        interrupt(
          EntryType.interrupt, InterruptType.vectored, bus: 0, source: source, to: ioAPIC,
          input: UInt8(truncatingIfNeeded: wire.interrupt)))
    }
    for (type, input) in [(InterruptType.external, UInt8(0)), (InterruptType.nonMaskable, 1)] {
      entries.append(
        interrupt(EntryType.localInterrupt, type, bus: legacyBus, source: 0, to: everybody, input: input))
    }
    let content = entries.flatMap { $0 }
    var table = Array("PCMP".utf8) + littleEndian(UInt64(44 + content.count), count: 2) + [revision, 0]
    table += Array("TRIVISOR".utf8) + Array("MACHINE     ".utf8)
    // No table of the maker's; no extended entries.
    table += littleEndian(0, count: 4) + littleEndian(0, count: 2) + littleEndian(UInt64(entries.count), count: 2)
    table += littleEndian(0xfee0_0000, count: 4) + littleEndian(0, count: 4) + content
    table[7] = checksum(table)
    return table
  }

  /// Table 4-4. Who wants to know more of a processor asks CPUID: here is what all of them have.
  private static func processor(_ identifier: UInt8) -> [UInt8] {
    // Enabled; the first one begins.
    let flags: UInt8 = identifier == 0 ? 3 : 1
    // Family 15 stands for one that CPUID has further fields for; an FPU and a local APIC.
    let (signature, features): (UInt64, UInt64) = (0xf00, 1 << 0 | 1 << 9)
    return [EntryType.processor, identifier, localAPICVersion, flags] + littleEndian(signature, count: 4)
      + littleEndian(features, count: 4) + littleEndian(0, count: 8)
  }

  /// Tables 4-10 and 4-11.
  private static func interrupt(
    _ entry: UInt8, _ type: UInt8, flags: UInt16 = 0, bus: UInt8, source: UInt8, to destination: UInt8, input: UInt8
  ) -> [UInt8] {
    [entry, type] + littleEndian(UInt64(flags), count: 2) + [bus, source, destination, input]
  }
}
