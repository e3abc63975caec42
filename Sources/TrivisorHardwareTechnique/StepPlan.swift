// One step by the trap flag, and how it is hidden from the guest (`KVMProcessor+Debugger`).

import CKVM
import TrivisorVMM
import TrivisorX86

/// What an instruction does with flags, and where it can lead.
struct StepPlan {
  private let kind: SteppedInstruction.Kind
  /// Linear addresses at which the step ends otherwise than behind the instruction.
  let ends: Set<UInt64>
  private let before: GuestView
  private let operandSize: Int
  private let isHalted: Bool
  private let flagMask: RFLAGS

  /// Those that it asks for.
  static let registers = [
    MSR.lstar, MSR.cstar, MSR.systemCallFlagMask, MSR.systemEnterEIP,
  ]

  private static let vectorCount = 32, allVectorCount = 256

  /// - Parameter isHalted: the step begins with whatever wakes the processor.
  init(_ view: GuestView, isHalted: Bool, modelSpecific registers: [ModelSpecificRegister]) {
    func modelSpecific(_ index: UInt32) -> UInt64 { registers.first { $0.index == index }?.value ?? 0 }
    before = view
    self.isHalted = isHalted
    let start = view.linearRIP
    let instruction = SteppedInstruction(code: view.system.cs, is64Bit: view.is64Bit) { view.byte(start &+ UInt64($0)) }
    (kind, operandSize) = (instruction.kind, instruction.operandSize)
    flagMask = RFLAGS(rawValue: modelSpecific(MSR.systemCallFlagMask))
    var ends: Set<UInt64> = []
    for vector in 0..<(isHalted ? Self.allVectorCount : Self.vectorCount) {
      if let handler = view.handler(vector) { ends.insert(handler) }
    }
    let target: UInt64? =
      switch kind {
      case .interrupt(let vector): view.handler(vector)
      case .systemCall: modelSpecific(view.is64Bit ? MSR.lstar : MSR.cstar)
      case .systemReturn: view.general.rcx
      case .systemEnter: modelSpecific(MSR.systemEnterEIP)
      case .systemExit: view.general.rdx
      // Segments of what it returns to are flat, or its handler's page is found by nobody.
      case .interruptReturn: view.load(view.stack(), count: operandSize)
      default: nil
      }
    if let target { ends.insert(target) }
    self.ends = ends
  }

  /// Takes the trap flag out of what the guest has of it, after KVM's stepping is off, which has cleared it in RFLAGS.
  /// - Parameter isComplete: the step has come to its end.
  /// - Returns: whether the guest's own trap flag asks for #DB behind the instruction.
  func takeBack(on processor: KVMProcessor, isComplete: Bool) throws(TechniqueFailure) -> Bool {
    let after = try GuestView(processor)
    var flags = after.flags
    let own = before.flags.contains(.trap)
    var owesTrap = false
    func set(_ flag: Bool) { if flag { flags.insert(.trap) } else { flags.remove(.trap) } }
    if !isComplete {
      set(own)
    } else if let frame = frameOfHandler(after) {
      // The second byte of RFLAGS holds TF as its first bit.
      let place = frame &+ 1
      if let byte = after.byte(place) { after.store(own ? byte | 1 : byte & ~1, at: place) }
      set(false)
    } else {
      owesTrap = own
      switch kind {
      case .pushFlags:
        set(own)
        let place = after.stack() &+ 1
        if let byte = after.byte(place) { after.store(own ? byte | 1 : byte & ~1, at: place) }
      case .popFlags:
        set((before.load(before.stack(), count: 2) ?? 0) & RFLAGS.trap.rawValue != 0)
      case .interruptReturn:
        let place = before.stack(UInt64(2 * operandSize))
        set((before.load(place, count: 2) ?? 0) & RFLAGS.trap.rawValue != 0)
      case .systemCall:
        var regs = kvm_regs()
        _ = try kvm("KVM_GET_REGS", kvm_get_regs(processor.descriptor.raw, &regs))
        // R11 gets RFLAGS in long mode (AMD64 APM vol. 3, "SYSCALL").
        if before.isLongMode {
          regs.r11 = own ? regs.r11 | RFLAGS.trap.rawValue : regs.r11 & ~RFLAGS.trap.rawValue
          _ = try kvm("KVM_SET_REGS", kvm_set_regs(processor.descriptor.raw, &regs))
        }
        owesTrap = own && before.isLongMode && !flagMask.contains(.trap)
        set(owesTrap)
      case .systemReturn:
        owesTrap = before.general.r11 & RFLAGS.trap.rawValue != 0
        set(owesTrap)
      case .systemEnter, .interrupt:
        owesTrap = false
        set(false)
      default: set(own)
      }
    }
    var regs = kvm_regs()
    _ = try kvm("KVM_GET_REGS", kvm_get_regs(processor.descriptor.raw, &regs))
    if regs.rflags != flags.rawValue {
      regs.rflags = flags.rawValue
      _ = try kvm("KVM_SET_REGS", kvm_set_regs(processor.descriptor.raw, &regs))
    }
    return owesTrap
  }

  /// Where RFLAGS are in the frame of the exception or interrupt at whose handler the step has ended.
  private func frameOfHandler(_ after: GuestView) -> UInt64? {
    let vectors = 0..<(isHalted ? Self.allVectorCount : Self.vectorCount)
    var vector = vectors.first { after.handler($0) == after.linearRIP }
    if case .interrupt(let number) = kind, after.handler(number) == after.linearRIP { vector = number }
    guard let vector else { return nil }
    let isReal = !CR0(rawValue: after.system.cr0).contains(.protectedMode)
    let hasCode = !isReal && (ExceptionVector(rawValue: UInt8(truncatingIfNeeded: vector))?.hasErrorCode ?? false)
    let size: UInt64 = isReal ? 2 : after.isLongMode ? 8 : 4
    return after.stack(size * (hasCode ? 3 : 2))
  }
}
