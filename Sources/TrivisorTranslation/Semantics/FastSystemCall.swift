import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// SYSCALL, SYSRET, SYSENTER and SYSEXIT (AMD64 APM vol. 3).
struct FastSystemCall<Context: SystemContext> {
  let context: Context
  /// RIP of the instruction behind it.
  let next: UInt64

  func execute(_ instruction: Instruction) throws(Interruption) {
    switch instruction.operation {
    case .syscall: try call()
    case .sysret: try callReturn(to64: instruction.rexW)
    default:
      // Not in long mode on AMD.
      guard !context.isLongMode else { throw .exception(.invalidOpcode) }
      let selector = UInt16(truncatingIfNeeded: context.modelSpecific(MSR.systemEnterCS)) & ~3
      guard context.isProtected, selector != 0 else { throw .exception(.general) }
      if instruction.operation == .sysenter { enter(selector) } else { try exit(selector) }
    }
  }

  private func setSegments(_ segments: SystemCallSegments, privilege: UInt8) {
    context.setSegment(.cs, segments.code)
    context.setSegment(.ss, segments.stack)
    context.cpl = privilege
  }

  private func call() throws(Interruption) {
    guard context.efer.contains(.systemCallExtensions), context.isProtected else { throw .exception(.invalidOpcode) }
    let star = context.modelSpecific(MSR.star)
    guard context.isLongMode else {
      context.setGeneral(.rcx, next, size: 4)
      setSegments(.legacyCall(star: star), privilege: 0)
      context.flags.subtract([.virtual8086, .resume, .interrupt])
      context.rip = star & 0xffff_ffff
      return
    }
    let flags = context.flags.subtracting(.resume)
    let mask = RFLAGS(rawValue: context.modelSpecific(MSR.systemCallFlagMask))
    let target = context.modelSpecific(context.is64 ? MSR.lstar : MSR.cstar)
    context[.rcx] = next
    context[.r11] = flags.rawValue
    setSegments(.call(star: star), privilege: 0)
    context.flags = flags.subtracting(mask)
    context.rip = target
    context.isTrapping = context.flags.contains(.trap)
  }

  private func callReturn(to64: Bool) throws(Interruption) {
    guard context.efer.contains(.systemCallExtensions) else { throw .exception(.invalidOpcode) }
    guard context.isProtected, context.cpl == 0 else { throw .exception(.general) }
    let wasIn64 = context.is64
    setSegments(.return(star: context.modelSpecific(MSR.star), to64: to64), privilege: 3)
    context.rip = context.general(.rcx, size: to64 ? 8 : 4)
    if wasIn64 {
      context.flags = RFLAGS(rawValue: context[.r11]).intersection(.returnable).union(.alwaysOne)
    } else {
      context.flags.remove(.virtual8086)
      context.flags.insert(.interrupt)
    }
    context.isTrapping = context.flags.contains(.trap)
  }

  private func enter(_ selector: UInt16) {
    setSegments(.enter(selector), privilege: 0)
    context.flags.subtract([.virtual8086, .resume, .interrupt])
    context.setGeneral(.rsp, context.modelSpecific(MSR.systemEnterESP), size: 4)
    context.rip = context.modelSpecific(MSR.systemEnterEIP) & 0xffff_ffff
  }

  private func exit(_ selector: UInt16) throws(Interruption) {
    guard context.cpl == 0 else { throw .exception(.general) }
    setSegments(.exit(selector), privilege: 3)
    context.setGeneral(.rsp, context[.rcx], size: 4)
    context.rip = context.general(.rdx, size: 4)
  }
}
