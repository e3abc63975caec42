import VMM
import X86

/// An exception that the guest is to receive (AMD64 APM vol. 2, 8.2).
struct GuestException: Error, Equatable {
  let vector: UInt8
  var errorCode: UInt32?
  /// Linear address of a page fault, for CR2.
  var address: UInt64?
  /// A #DB that comes before its instruction by DR7.GD.
  var isDebugGuard = false

  static let divide = GuestException(vector: 0)
  static let debug = GuestException(vector: 1)
  static let debugGuard = GuestException(vector: 1, isDebugGuard: true)
  static let breakpoint = GuestException(vector: 3)
  static let overflow = GuestException(vector: 4)
  static let boundRange = GuestException(vector: 5)
  static let invalidOpcode = GuestException(vector: 6)
  static let deviceNotAvailable = GuestException(vector: 7)
  static let doubleFault = GuestException(vector: 8, errorCode: 0)
  static func pageFault(_ code: PageFaultError, at address: UInt64) -> GuestException {
    GuestException(vector: 14, errorCode: code.rawValue, address: address)
  }
  static let x87 = GuestException(vector: 16)
  static let alignmentCheck = GuestException(vector: 17, errorCode: 0)
  static let simd = GuestException(vector: 19)
  static let general = general(0)
  static func general(_ code: UInt32) -> GuestException { GuestException(vector: 13, errorCode: code) }
  static func stack(_ code: UInt32) -> GuestException { GuestException(vector: 12, errorCode: code) }
  static func notPresent(_ code: UInt32) -> GuestException { GuestException(vector: 11, errorCode: code) }
  static func invalidTask(_ code: UInt32) -> GuestException { GuestException(vector: 10, errorCode: code) }

  /// The frame of a fault has RF set, so that a breakpoint on the instruction does not come again when it is restarted. The
  /// frame of an instruction breakpoint has not: its handler decides (AMD64 APM vol. 2, 3.1.6).
  var setsResumeFlag: Bool {
    switch vector {
    case 1: isDebugGuard
    case 3, 4, 8: false
    default: true
    }
  }

  /// The classes of AMD64 APM vol. 2, 8.2.9, that decide whether two make a double fault.
  var isContributory: Bool { vector == 0 || (10...13).contains(vector) }
  var isPageFault: Bool { vector == 14 }
}

/// Why an instruction did not complete.
enum Interruption: Error {
  case exception(GuestException)
  /// The machine ends or pauses; RIP is where it would go on.
  case stop(StopReason)
  /// The engine cannot do this yet; the text names it.
  case unsupported(String)
}
