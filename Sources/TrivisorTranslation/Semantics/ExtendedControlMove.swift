import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// XGETBV and XSETBV (AMD64 APM vol. 2, 11.5.2; vol. 4).
struct ExtendedControlMove<Context: SystemContext> {
  let context: Context

  func execute(_ instruction: Instruction, next: UInt64) throws(Interruption) {
    guard context.cr4.contains(.osXSAVE) else { throw .exception(.invalidOpcode) }
    guard context.general(.rcx, size: 4) == 0 else { throw .exception(.general) }
    if instruction.operation == .xgetbv {
      context.wideAccumulator = context.xcr0.rawValue
    } else {
      let value = XCR0(rawValue: context.wideAccumulator)
      guard context.cpl == 0, value.isPossible, value.isSubset(of: context.identification.stateComponents) else {
        throw .exception(.general)
      }
      context.xcr0 = value
    }
    context.rip = next
  }
}

extension XCR0 {
  /// x87 is always on, and YMM's upper halves need XMM.
  var isPossible: Bool { contains(.x87) && (!contains(.avx) || contains(.sse)) }
}
