import TrivisorVMM
import TrivisorX86

/// An exception that the guest is to receive (AMD64 APM vol. 2, 8.2).
package struct GuestException: Error, Equatable {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  package let vector: UInt8
  /// Where the vector has one.
  package var errorCode: UInt32?
  /// Linear address of a page fault, for CR2.
  package var address: UInt64?
  /// A #DB that comes before its instruction by DR7.GD.
  var isDebugGuard = false

  init(vector: UInt8, errorCode: UInt32? = nil, address: UInt64? = nil) {
    self.vector = vector
    self.errorCode = errorCode
    self.address = address
  }

  init(_ vector: ExceptionVector, errorCode: UInt32? = nil, isDebugGuard: Bool = false) {
    self.vector = vector.rawValue
    self.errorCode = errorCode
    self.isDebugGuard = isDebugGuard
  }

  static let divide = GuestException(.divideError)
  static let debug = GuestException(.debug)
  static let debugGuard = GuestException(.debug, isDebugGuard: true)
  static let breakpoint = GuestException(.breakpoint)
  static let overflow = GuestException(.overflow)
  static let boundRange = GuestException(.boundRange)
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  package static let invalidOpcode = GuestException(.invalidOpcode)
  static let deviceNotAvailable = GuestException(.deviceNotAvailable)
  static let doubleFault = GuestException(.doubleFault, errorCode: 0)
  static func pageFault(_ code: PageFaultError, at address: UInt64) -> GuestException {
    GuestException(vector: ExceptionVector.pageFault.rawValue, errorCode: code.rawValue, address: address)
  }
  static let x87 = GuestException(.x87FloatingPoint)
  static let alignmentCheck = GuestException(.alignmentCheck, errorCode: 0)
  static let simd = GuestException(.simdFloatingPoint)
  static let general = general(0)
  static func general(_ code: UInt32) -> GuestException { GuestException(.generalProtection, errorCode: code) }
  static func stack(_ code: UInt32) -> GuestException { GuestException(.stack, errorCode: code) }
  static func notPresent(_ code: UInt32) -> GuestException { GuestException(.segmentNotPresent, errorCode: code) }
  static func invalidTask(_ code: UInt32) -> GuestException { GuestException(.invalidTSS, errorCode: code) }

  /// The frame of a fault has RF set, so that a breakpoint on the instruction does not come again when it is restarted. The
  /// frame of an instruction breakpoint has not: its handler decides (AMD64 APM vol. 2, 3.1.6).
  var setsResumeFlag: Bool {
    switch ExceptionVector(rawValue: vector) {
    case .debug?: isDebugGuard
    case .breakpoint?, .overflow?, .doubleFault?: false
    default: true
    }
  }

  /// What is delivered when `second` comes of delivering this one (AMD64 APM vol. 2, 8.2.9): a double fault, where both are
  /// of certain classes; `nil` if that is the end.
  func followed(by second: GuestException) -> GuestException? {
    if vector == ExceptionVector.doubleFault.rawValue { return nil }
    let isDouble =
      (isContributory && second.isContributory) || (isPageFault && (second.isContributory || second.isPageFault))
    return isDouble ? .doubleFault : second
  }

  private var isContributory: Bool { ExceptionVector(rawValue: vector)?.isContributory == true }
  private var isPageFault: Bool { vector == ExceptionVector.pageFault.rawValue }
}

/// Why an instruction did not complete.
package enum Interruption: Error {
  case exception(GuestException)
  /// The machine ends or pauses; RIP is where it would go on.
  case stop(StopReason)
  /// The engine cannot do this yet; the text names it.
  case unsupported(String)

  /// What the guest gets of it.
  package var exception: GuestException? {
    if case .exception(let exception) = self { exception } else { nil }
  }
}
