// What translated code leaves to Swift: instructions that are privileged, or that would silently give the host's answer, and
// those that are too rare for code of their own.
//
// Each either completes, with RIP behind it or where it leads, or throws and has changed nothing but what the manuals say.

import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

struct SensitiveInstruction<Context: SystemContext> {
  private let context: Context
  private let instruction: Instruction
  private let next: UInt64

  // In one piece with the caller, which holds the context already.
  @inline(__always)
  init(_ instruction: Instruction, in context: Context) {
    self.context = context
    self.instruction = instruction
    next = context.nextRIP(instruction)
  }

  /// - Returns: `false` if it is none of those that are written here.
  @inline(__always)
  func execute() throws(Interruption) -> Bool {
    try checkPrivilege()
    switch instruction.operation {
    case .movs, .stos, .lods, .cmps, .scas, .ins, .outs:
      try StringInstruction(instruction, next: next, in: context).execute()
    case .in, .out: try PortInstruction(context: context).execute(instruction, next: next)
    case .maskmovq, .maskmovdqu, .vmaskmovps, .vmaskmovpd, .vpmaskmovd, .vpmaskmovq, .vgatherdps, .vgatherdpd,
      .vgatherqps, .vgatherqpd, .vpgatherdd, .vpgatherdq, .vpgatherqd, .vpgatherqq:
      try MaskedAccess(instruction, next: next, in: context).execute()
    case .fxsave, .fxrstor, .xsave, .xsaveopt, .xrstor:
      try ExtendedStateInstruction(instruction, next: next, in: context).execute()
    case .fldenv, .frstor: try X87EnvironmentLoad(context: context).execute(instruction, next: next)
    case .fnstenv, .fnsave: try X87EnvironmentStore(context: context).execute(instruction, next: next)
    case .cli, .sti, .cld, .std, .clac, .stac, .pushf, .popf:
      try FlagInstruction(context: context).execute(instruction, next: next)
    case .pusha, .popa, .enter, .pop, .pushSegment, .popSegment:
      try StackInstruction(instruction, next: next, in: context).execute()
    case .daa, .das, .aaa, .aas, .aam, .aad:
      try DecimalAdjustment(context: context).execute(instruction)
      context.rip = next
    case .salc:
      context.setGeneral(.rax, context.arithmeticFlags.contains(.carry) ? 0xff : 0, size: 1)
      context.rip = next
    case .bound: try checkBounds()
    case .xlat: try translate()
    case .lar, .lsl, .verr, .verw, .arpl: try SelectorQuery(context: context).execute(instruction, next: next)
    case .lds, .les, .lfs, .lgs, .lss, .movToSegment, .movFromSegment, .sldt, .str, .lldt, .ltr:
      try moveSegment()
    case .jmpf, .callf: try transfer()
    case .retf:
      let released = UInt64(bitPattern: instruction.immediate) & 0xffff
      try farReturn(isInterruptReturn: false).execute(released: instruction.immediateSize == 0 ? 0 : released)
    case .iret: try farReturn(isInterruptReturn: true).execute()
    case .syscall, .sysret, .sysenter, .sysexit:
      try FastSystemCall(context: context, next: next).execute(instruction)
    case .int, .int1, .int3, .into: try interrupt()
    case .hlt:
      context.rip = next
      // A single step ends the halt at once.
      if context.isTrapping { break }
      context.halt()
      throw .stop(.stopRequested)
    default: return try executeSystem()
    }
    return true
  }

  private func executeSystem() throws(Interruption) -> Bool {
    switch instruction.operation {
    case .movFromControl, .movToControl, .clts, .smsw, .lmsw:
      try ControlRegisterMove(context: context).execute(instruction, next: next)
    case .movFromDebug, .movToDebug: try DebugRegisterMove(context: context).execute(instruction, next: next)
    case .rdmsr:
      let index = UInt32(truncatingIfNeeded: context[.rcx])
      context.wideAccumulator = try ModelSpecificAccess(context: context).read(index)
      context.rip = next
    case .wrmsr:
      let index = UInt32(truncatingIfNeeded: context[.rcx])
      try ModelSpecificAccess(context: context).write(index, context.wideAccumulator)
      context.rip = next
    case .cpuid, .rdtsc, .rdtscp, .rdpmc, .rdrand:
      try Identification(context: context).execute(instruction, next: next)
    case .swapgs, .rdfsbase, .rdgsbase, .wrfsbase, .wrgsbase:
      try SegmentBaseMove(context: context).execute(instruction, next: next)
    case .xgetbv, .xsetbv: try ExtendedControlMove(context: context).execute(instruction, next: next)
    case .rdpkru, .wrpkru: try ProtectionKeyMove(context: context).execute(instruction, next: next)
    case .sgdt, .sidt, .lgdt, .lidt: try TableRegisterMove(context: context).execute(instruction, next: next)
    case .invlpg: try invalidatePage()
    case .invpcid:
      try ContextInvalidation(context: context).execute(instruction, next: next)
    case .rdpid:
      let size = context.is64 ? 8 : 4
      context.setGeneral(instruction.registerOfRM, context.modelSpecific(MSR.timeStampAuxiliary), size: size)
      context.rip = next
    case .invd, .wbinvd: context.rip = next  // Caches are the host's.
    case .vmcall, .vmmcall:
      MonitorCall(context: context).execute()
      context.rip = next
    default: return false
    }
    return true
  }

  /// No access, so that neither a limit nor a non-canonical address is a fault (AMD64 APM vol. 3, "INVLPG").
  private func invalidatePage() throws(Interruption) {
    guard let memory = instruction.memoryOperand else { throw .exception(.invalidOpcode) }
    let offset = context.offset(memory, next)
    let isFlat = context.is64 && memory.segment != .fs && memory.segment != .gs
    let address = isFlat ? offset : offset &+ context.segment(memory.segment).base
    context.invalidate(.page(context.is64 ? address : address & 0xffff_ffff))
    context.rip = next
  }

  @inline(__always)
  private func checkPrivilege() throws(Interruption) {
    // System management mode is what it comes back from.
    if instruction.operation == .rsm { throw .exception(.invalidOpcode) }
    guard context.cpl != 0 else { return }
    switch instruction.operation {
    // There are none of these in virtual-8086 mode.
    case .sldt where !context.usesDescriptors, .str where !context.usesDescriptors,
      .lldt where !context.usesDescriptors,
      .ltr where !context.usesDescriptors:
      throw .exception(.invalidOpcode)
    case .sgdt, .sidt, .sldt, .smsw, .str:
      if context.cr4.contains(.userModeInstructionPrevention) { throw .exception(.general) }
    // IOPL decides, or #UD comes first.
    case .in, .out, .ins, .outs, .cli, .sti, .clac, .stac: break
    default: if instruction.classification == .privileged { throw .exception(.general) }
    }
  }

  private func checkBounds() throws(Interruption) {
    guard let memory = instruction.memoryOperand else { throw .exception(.invalidOpcode) }
    let size = Int(instruction.operandSize)
    let bounds = try context.loadPair(memory, next, size: size, secondSize: size)
    func signed(_ value: UInt64) -> Int64 {
      size == 2 ? Int64(Int16(truncatingIfNeeded: value)) : Int64(Int32(truncatingIfNeeded: value))
    }
    let index = signed(context[instruction.registerOfReg])
    guard signed(bounds.0) <= index, index <= signed(bounds.1) else { throw .exception(.boundRange) }
    context.rip = next
  }

  /// XLAT.
  private func translate() throws(Interruption) {
    guard let memory = instruction.effects.memory.0 else { throw .exception(.invalidOpcode) }
    let offset = (context[.rbx] &+ context.general(.rax, size: 1)).cut(to: Int(memory.addressSize))
    let place = try context.address(memory.segment, offset, size: 1, isWrite: false)
    context.setGeneral(.rax, try context.load(place, size: 1), size: 1)
    context.rip = next
  }

  // MARK: Segments

  private func moveSegment() throws(Interruption) {
    let loads = SegmentLoad(context: context)
    switch instruction.operation {
    case .lds: try loads.loadFarPointer(.ds, instruction, next: next)
    case .les: try loads.loadFarPointer(.es, instruction, next: next)
    case .lfs: try loads.loadFarPointer(.fs, instruction, next: next)
    case .lgs: try loads.loadFarPointer(.gs, instruction, next: next)
    case .lss: try loads.loadFarPointer(.ss, instruction, next: next)
    case .movFromSegment, .movToSegment:
      guard let register = SegmentRegister(rawValue: instruction.reg) else { throw .exception(.invalidOpcode) }
      if instruction.operation == .movFromSegment {
        try context.writeSelector(context.segment(register).selector, instruction, next)
        break
      }
      try loads.load(register, UInt16(truncatingIfNeeded: try context.readRM(instruction, next, size: 2)))
      if register == .ss { context.shadow = .everything }
    default:
      // There are none of these in real and virtual-8086 mode.
      guard context.usesDescriptors else { throw .exception(.invalidOpcode) }
      switch instruction.operation {
      case .sldt: try context.writeSelector(context.localTable.selector, instruction, next)
      case .str: try context.writeSelector(context.task.selector, instruction, next)
      default:
        let selector = UInt16(truncatingIfNeeded: try context.readRM(instruction, next, size: 2))
        try loads.loadSystem(selector, isTask: instruction.operation == .ltr)
      }
    }
    context.rip = next
  }

  // MARK: Transfers

  private func transfer() throws(Interruption) {
    let size = Int(instruction.operandSize)
    let (selector, offset): (UInt16, UInt64)
    if let memory = instruction.memoryOperand {
      let pair = try context.loadPair(memory, next, size: size, secondSize: 2)
      (selector, offset) = (UInt16(truncatingIfNeeded: pair.1), pair.0)
    } else if case .farPointer(let code, let target)? = instruction.operand(at: 0)?.kind {
      (selector, offset) = (code, UInt64(target))
    } else {
      throw .exception(.invalidOpcode)
    }
    let transfer = FarTransfer(context: context, next: next)
    if instruction.operation == .jmpf {
      try transfer.jump(selector, offset)
    } else {
      try transfer.call(selector, offset, size: size)
    }
  }

  private func farReturn(isInterruptReturn: Bool) -> FarReturn<Context> {
    FarReturn(context: context, size: Int(instruction.operandSize), isInterruptReturn: isInterruptReturn, next: next)
  }

  private func interrupt() throws(Interruption) {
    switch instruction.operation {
    case .int1:
      // A trap that goes through any gate, like #DB (AMD64 APM vol. 3, "INT 1").
      context.rip = next
      throw .exception(.debug)
    case .int3: try deliver(.breakpoint)
    case .into:
      guard !context.is64 else { throw .exception(.invalidOpcode) }
      guard context.arithmeticFlags.contains(.overflow) else {
        context.rip = next
        return
      }
      try deliver(.overflow)
    default:
      let vector = UInt8(truncatingIfNeeded: instruction.immediate)
      if context.isVirtual8086 {
        let virtual = Virtual8086Instruction(context: context, size: 2)
        if try virtual.interrupt(vector, next: next) { return }
      }
      try deliver(vector)
    }
  }

  private func deliver(_ vector: ExceptionVector) throws(Interruption) { try deliver(vector.rawValue) }

  private func deliver(_ vector: UInt8) throws(Interruption) {
    try EventDelivery(context: context).deliver(
      GuestEvent(
        vector: vector, errorCode: nil, flags: context.flags.subtracting(.resume), isSoftware: true, returnRIP: next))
    // What MOV SS has held back comes before the handler's first instruction.
    if !context.accessHits.isEmpty { throw .exception(context.debugTrap(context.accessHits)) }
    throw .stop(.stopRequested)
  }
}
