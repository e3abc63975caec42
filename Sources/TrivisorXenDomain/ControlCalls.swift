// Hypercalls for those who manage a machine or other domains: a domain that may do neither is told so, in the order in which
// Xen judges them (common/sysctl.c, common/domctl.c, arch/x86/platform_hypercall.c and others): first whether the argument
// can be read, then its version, then whose call it is.

import TrivisorVMM

struct ControlCalls: HypercallSubject {
  let call: Hypercall

  /// __HYPERVISOR_… (Xen's public header xen.h).
  private enum Number {
    static let platform: UInt64 = 7
    static let nonMaskableInterrupt: UInt64 = 28
    static let hardwareMachine: UInt64 = 34
    static let systemControl: UInt64 = 35
    static let domainControl: UInt64 = 36
    static let kernelExecution: UInt64 = 37
    static let performanceMonitoring: UInt64 = 40
    static let deviceModel: UInt64 = 41
    static let machineCheck: UInt64 = 48
  }

  /// …_INTERFACE_VERSION of Xen 4.17.
  private enum InterfaceVersion {
    static let platform: UInt32 = 0x0300_0000
    static let systemControl: UInt32 = 0x15
    static let domainControl: UInt32 = 0x15
  }

  func perform(_ number: UInt64) throws(XenError) -> UInt64 {
    switch number {
    case Number.platform: try refuse(arguments[0], version: InterfaceVersion.platform)
    case Number.systemControl: try refuse(arguments[0], version: InterfaceVersion.systemControl)
    case Number.domainControl: try refuse(arguments[0], version: InterfaceVersion.domainControl)
    case Number.kernelExecution, Number.machineCheck: throw .notPermitted
    // Switched off, as it is unless Xen's command line says otherwise.
    case Number.performanceMonitoring: throw .notSupported
    case Number.nonMaskableInterrupt: try nonMaskableInterrupt()
    case Number.hardwareMachine: try hardwareMachine()
    case Number.deviceModel: try deviceModel()
    default: throw .notImplemented
    }
    return 0
  }

  private func refuse(_ address: UInt64, version: UInt32) throws(XenError) {
    // The command and the version are the first two words of all three.
    _ = try half(address)
    guard try half(address &+ 4) == version else { throw .accessDenied }
    throw .notPermitted
  }

  /// HYPERVISOR_nmi_op: register (0) or unregister (1) the kernel's handler of NMIs.
  private func nonMaskableInterrupt() throws(XenError) {
    switch arguments[0] & 0xffff_ffff {
    case 0: try processor.setInterruptHandler(try long(arguments[1]))
    case 1: processor.traps[2] = .init()
    default: throw .notImplemented
    }
  }

  /// HYPERVISOR_hvm_op: this is no hardware virtual machine.
  private func hardwareMachine() throws(XenError) {
    switch arguments[0] {
    // Set and get a parameter.
    case 0, 1:
      let owner = try short(arguments[1])
      guard domain.isSelf(owner) || owner == 0 else { throw .noSuchProcess }
      throw .invalid
    default: throw .notImplemented
    }
  }

  /// HYPERVISOR_dm_op: nor is it a device model of one.
  private func deviceModel() throws(XenError) {
    let owner = UInt16(truncatingIfNeeded: arguments[0])
    if domain.isSelf(owner) || owner == 0 { throw .notPermitted }
    throw .noSuchProcess
  }
}
