/// The exceptions by vector (AMD64 APM vol. 2, table 8-1).
public enum ExceptionVector: UInt8, Sendable, CaseIterable {
  /// #DE.
  case divideError = 0
  /// #DB.
  case debug = 1
  /// NMI.
  case nonMaskableInterrupt = 2
  /// #BP.
  case breakpoint = 3
  /// #OF.
  case overflow = 4
  /// #BR.
  case boundRange = 5
  /// #UD.
  case invalidOpcode = 6
  /// #NM.
  case deviceNotAvailable = 7
  /// #DF.
  case doubleFault = 8
  /// Of processors before the 486.
  case coprocessorSegmentOverrun = 9
  /// #TS.
  case invalidTSS = 10
  /// #NP.
  case segmentNotPresent = 11
  /// #SS.
  case stack = 12
  /// #GP.
  case generalProtection = 13
  /// #PF.
  case pageFault = 14
  /// #MF.
  case x87FloatingPoint = 16
  /// #AC.
  case alignmentCheck = 17
  /// #MC.
  case machineCheck = 18
  /// #XM, Intel's #XF.
  case simdFloatingPoint = 19
  /// #VE, Intel's.
  case virtualization = 20
  /// #CP.
  case controlProtection = 21
  /// #HV.
  case hypervisorInjection = 28
  /// #VC.
  case vmmCommunication = 29
  /// #SX.
  case security = 30

  /// The manual's name.
  public var title: String {
    switch self {
    case .divideError: "divide error"
    case .debug: "debug exception"
    case .nonMaskableInterrupt: "non-maskable interrupt"
    case .breakpoint: "breakpoint"
    case .overflow: "overflow"
    case .boundRange: "bound range exceeded"
    case .invalidOpcode: "invalid opcode"
    case .deviceNotAvailable: "device not available"
    case .doubleFault: "double fault"
    case .coprocessorSegmentOverrun: "coprocessor segment overrun"
    case .invalidTSS: "invalid TSS"
    case .segmentNotPresent: "segment not present"
    case .stack: "stack fault"
    case .generalProtection: "general-protection fault"
    case .pageFault: "page fault"
    case .x87FloatingPoint: "x87 floating-point exception"
    case .alignmentCheck: "alignment check"
    case .machineCheck: "machine check"
    case .simdFloatingPoint: "SIMD floating-point exception"
    case .virtualization: "virtualization exception"
    case .controlProtection: "control-protection exception"
    case .hypervisorInjection: "hypervisor injection exception"
    case .vmmCommunication: "VMM communication exception"
    case .security: "security exception"
    }
  }

  /// It pushes an error code (AMD64 APM vol. 2, table 8-2).
  public var hasErrorCode: Bool {
    switch self {
    case .doubleFault, .invalidTSS, .segmentNotPresent, .stack, .generalProtection, .pageFault, .alignmentCheck,
      .controlProtection, .vmmCommunication, .security:
      true
    default: false
    }
  }

  /// With another one of its class, or with a page fault before it, it makes a double fault (AMD64 APM vol. 2, 8.2.9).
  public var isContributory: Bool {
    switch self {
    case .divideError, .invalidTSS, .segmentNotPresent, .stack, .generalProtection, .controlProtection: true
    default: false
    }
  }
}
