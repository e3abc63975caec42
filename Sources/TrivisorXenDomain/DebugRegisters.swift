import TrivisorX86

/// The debug registers of a domain's processor, as Xen lets a kernel have them (arch/x86/traps.c, `set_debugreg`).
struct DebugRegisters: Equatable {
  private(set) var values: InlineArray<8, UInt64> = [0, 0, 0, 0, 0, 0, always6, always7]

  /// Bits that read as one.
  private static let always6: UInt64 = 0xffff_0ff0
  private static let always7: UInt64 = 0x400
  /// What can be written of them: not bit 12 of DR6; of DR7 not bits 12, 14 and 15.
  private static let writable6: UInt64 = 0xffff_efff
  private static let writable7: UInt64 = 0xffff_2fff
  /// GD, which traps accesses to the registers themselves; and the bits that switch breakpoints on.
  private static let generalDetect: UInt64 = 1 << 13
  private static let enable: UInt64 = 0xff

  static func == (one: DebugRegisters, other: DebugRegisters) -> Bool {
    one.values.indices.allSatisfy { one.values[$0] == other.values[$0] }
  }

  subscript(number: Int) -> UInt64 { values[number] }

  /// A single step was made.
  mutating func noteSingleStep() { values[6] |= DR6.singleStep.rawValue }

  /// - Throws: `notImplemented` for a breakpoint that is to be switched on, and what Xen says of other values.
  mutating func set(_ number: UInt64, _ value: UInt64, control4: CR4) throws(XenError) {
    switch number {
    case 0...3:
      guard LinearAddress.isCanonical(value), !PageTables.hypervisors64.contains(value) else { throw .notPermitted }
      values[Int(number)] = value
    case 4...7:
      // CR4.DE: DR4 and DR5 are no other names for DR6 and DR7.
      guard number >= 6 || !control4.contains(.debuggingExtensions) else { throw .noDevice }
      guard value <= UInt64(UInt32.max) else { throw .invalid }
      if number & 1 == 0 {
        values[6] = value & Self.writable6 | Self.always6
        return
      }
      guard value & Self.generalDetect == 0 else { throw .notPermitted }
      guard value & Self.enable == 0 else { throw .notImplemented }
      values[7] = value & Self.writable7 | Self.always7
    default: throw .noDevice
    }
  }

  /// HYPERVISOR_get_debugreg.
  func read(_ number: UInt64, control4: CR4) throws(XenError) -> UInt64 {
    switch number {
    case 0...3, 6, 7: return values[Int(number)]
    case 4, 5:
      guard !control4.contains(.debuggingExtensions) else { throw .noDevice }
      return values[Int(number) + 2]
    default: throw .noDevice
    }
  }

  /// Of a saved processor; `nil` for what is no list of eight.
  init?(saved: [UInt64]) {
    guard saved.count == values.count else { return nil }
    for number in values.indices { values[number] = saved[number] }
  }

  /// As at RESET.
  init() {}

  /// To be saved.
  var saved: [UInt64] { values.indices.map { values[$0] } }
}
