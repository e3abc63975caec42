import TrivisorVMM
import TrivisorX86

extension DomainProcessor {
  /// HYPERVISOR_fpu_taskswitch, CLTS and MOV to CR0: kept and told, but natively run code can't have #NM of it.
  func setTaskSwitched(_ isSet: Bool) {
    isTaskSwitched = isSet
    if isSet, !domain.abilities.contains(.taskSwitched) { domain.countNotHonoured(.taskSwitched) }
  }

  /// HYPERVISOR_set_debugreg: kept, but native execution has no breakpoints to set.
  func setDebugRegister(_ number: UInt64, _ value: UInt64) throws(XenError) {
    switch number {
    case 0...3:
      guard LinearAddress.isCanonical(value), !(Domain.machineToPhysical..<0xffff_8800_0000_0000).contains(value) else {
        throw .notPermitted
      }
      debugRegisters[Int(number)] = value
      if value != 0 { domain.countNotHonoured(.breakpointAddresses) }
    case 4...7:
      guard number >= 6 || !hasDebuggingExtensions else { throw .noDevice }
      guard value <= UInt64(UInt32.max) else { throw .invalid }
      if number & 1 == 0 {
        debugRegisters[6] = value & 0xffff_efff | 0xffff_0ff0
        return
      }
      // GD, which traps accesses to the registers themselves; then breakpoints.
      guard value & 1 << 13 == 0 else { throw .notPermitted }
      guard value & 0xff == 0 else { throw .notImplemented }
      debugRegisters[7] = value & 0xffff_2fff | 0x400
    default: throw .noDevice
    }
  }

  /// CR4.DE: DR4 and DR5 are no other names for DR6 and DR7.
  private var hasDebuggingExtensions: Bool { CR4(rawValue: control4).contains(.debuggingExtensions) }

  /// HYPERVISOR_get_debugreg.
  func debugRegister(_ number: UInt64) throws(XenError) -> UInt64 {
    switch number {
    case 0...3, 6, 7: return debugRegisters[Int(number)]
    case 4, 5:
      guard !hasDebuggingExtensions else { throw .noDevice }
      return debugRegisters[Int(number) + 2]
    default: throw .noDevice
    }
  }
}
