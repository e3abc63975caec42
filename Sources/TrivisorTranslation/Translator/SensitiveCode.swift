// Sensitive instructions that are met so often that a call-out would cost more than all the rest: they work on the state
// block. Everything unusual about them is left to the call-out.

import TrivisorInstructionSet
import TrivisorX86

enum SensitiveCode {
  /// - Returns: whether the instruction was written; if not, nothing was, and a call-out carries it out.
  /// - Throws: `Refusal`, naming what stands in the way.
  static func emit(_ instruction: Instruction, _ block: inout BlockEmitter) throws(Refusal) -> Bool {
    let mode = block.mode
    guard !mode.isSingleStepping, !block.tracesSensitive, instruction.encoding == .legacy else { return false }
    switch instruction.operation {
    case .cli where mode.isKernel: block.code.storeConstant64(0, .state(StateLayout.interruptFlag))
    case .sti where mode.isKernel: enableInterrupts(instruction, &block)
    case .pushf where block.is64 && instruction.operandSize == 8: StackCode.push(size: 8, .pushFlags, &block)
    case .popf: return HelperCode.popFlags(instruction, &block)
    case .rdtsc where block.is64 && !mode.restrictsTimestamp: timestamp(&block)
    case .rdtscp where block.is64 && !mode.restrictsTimestamp:
      timestamp(&block)
      block.code.load(Host.rcx, .state(StateLayout.timestampAuxiliary))
    case .swapgs where block.is64 && mode.isKernel:
      block.code.load(Host.t1, .state(StateLayout.gsBase))
      block.code.load(Host.t2, .state(StateLayout.kernelGSBase))
      block.code.store(Host.t1, .state(StateLayout.kernelGSBase))
      block.code.store(Host.t2, .state(StateLayout.gsBase))
    case .movFromSegment where !instruction.hasModRMMemory:
      guard let segment = SegmentRegister(rawValue: instruction.reg) else { return false }
      block.code.load(Host.t1, .state(StateLayout.selector(segment)))
      set(instruction.registerOfRM, size: Int(instruction.operandSize), &block)
    case .movFromControl where block.is64 && mode.isKernel:
      let number = Int(instruction.reg)
      guard instruction.rex & 4 == 0, !instruction.prefixes.contains(.lock), [0, 2, 3, 4].contains(number) else {
        return false
      }
      block.code.load(Host.t1, .state(StateLayout.control(number)))
      set(instruction.registerOfRM, size: 8, &block)
    case .rdfsbase, .rdgsbase, .wrfsbase, .wrgsbase:
      guard block.is64 else { return false }
      segmentBase(instruction, &block)
    case .rdpkru where block.is64: readKeys(instruction, &block)
    case .xsave, .xsaveopt, .xrstor: return try HelperCode.extendedState(instruction, &block)
    default: return false
    }
    return true
  }

  /// Writes T1, of which no more than `size` bytes are not 0, as the processor writes a register.
  private static func set(_ register: GeneralRegister, size: Int, _ block: inout BlockEmitter) {
    if let home = Host.home(register) {
      block.code.store(Host.t1, .register(home), size: size)
    } else {
      block.code.store(Host.t1, .state(StateLayout.general(register.rawValue)), size: size == 2 ? 2 : 8)
    }
  }

  /// RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE: undefined unless CR4 says otherwise.
  private static func segmentBase(_ instruction: Instruction, _ block: inout BlockEmitter) {
    let size = Int(instruction.operandSize)
    let isFS = instruction.operation == .rdfsbase || instruction.operation == .wrfsbase
    let base = Place.state(isFS ? StateLayout.fsBase : StateLayout.gsBase)
    block.requireSavedFlags()
    block.code.test(.state(StateLayout.control(4)), immediate: Int32(CR4.fsgsbase.rawValue))
    let undefined = block.code.jump32(condition: Emitter.Condition.equal)
    var notCanonical: PatchPoint?
    if instruction.operation == .rdfsbase || instruction.operation == .rdgsbase {
      block.code.load(Host.t1, base, size: size)
      set(instruction.registerOfRM, size: size, &block)
    } else {
      let source = block.fetch(instruction.registerOfRM, into: Host.t1)
      block.code.store(source, .register(Host.t1), size: size)
      if size == 8 {
        block.code.move(Host.t2, Host.t1)
        block.code.shift(.sar, Host.t2, by: 47, w: true)
        block.code.arithmetic(.add, .register(Host.t2), short: 1, w: true)
        block.code.arithmetic(.cmp, .register(Host.t2), short: 1, w: true)
        notCanonical = block.code.jump32(condition: Emitter.Condition.above)
      }
      block.code.store(Host.t1, base)
    }
    block.flags = .rax
    block.postpone(.callOut(undefined, notCanonical, instruction, rip: block.rip))
  }

  /// RDPKRU: undefined unless CR4.PKE is set, and #GP unless ECX is 0.
  private static func readKeys(_ instruction: Instruction, _ block: inout BlockEmitter) {
    block.requireSavedFlags()
    block.code.test(.state(StateLayout.control(4)), immediate: Int32(CR4.protectionKeys.rawValue))
    let undefined = block.code.jump32(condition: Emitter.Condition.equal)
    block.code.test(Host.rcx, .register(Host.rcx))
    let refused = block.code.jump32(condition: Emitter.Condition.notEqual)
    block.code.load(Host.guestRAX, .state(StateLayout.pkru))
    block.code.loadConstant(Host.rdx, 0)
    block.flags = .rax
    block.postpone(.callOut(undefined, refused, instruction, rip: block.rip))
  }

  /// STI. If the chips have something, Swift does it; and if something comes now, the poll of the next block finds it, which
  /// is behind at least one more instruction.
  private static func enableInterrupts(_ instruction: Instruction, _ block: inout BlockEmitter) {
    block.requireSavedFlags()
    block.code.arithmetic(.cmp, .state(StateLayout.eventPending), short: 0, w: true)
    let pending = block.code.jump32(condition: Emitter.Condition.notEqual)
    block.postpone(.callOut(pending, nil, instruction, rip: block.rip))
    block.code.storeConstant64(Int32(RFLAGS.interrupt.rawValue), .state(StateLayout.interruptFlag))
    block.flags = .rax
    block.isInShadow = true
  }

  /// PUSHFQ: the arithmetic flags as LAHF and SETO left them, and the rest; RF and VM are pushed as 0.
  static func pushFlags(on place: Place, _ block: inout BlockEmitter) {
    let overflowBit: UInt8 = 11
    block.requireSavedFlags()
    block.code.lea(Host.t1, place)
    block.code.store(Host.rax, .state(StateLayout.scratch))
    block.code.zeroExtendByte(Host.t2, Host.rax)
    block.code.shift(.shl, Host.t2, by: overflowBit)
    block.code.moveHighByteOfRAX()
    block.code.arithmetic(.or, .register(Host.t2), Host.rax)
    block.code.arithmetic(.or, Host.t2, .state(StateLayout.systemFlags))
    block.code.arithmetic(.or, Host.t2, .state(StateLayout.interruptFlag))
    let hidden = RFLAGS([.resume, .virtual8086])
    block.code.arithmetic(.and, .register(Host.t2), immediate: ~Int32(hidden.rawValue))
    block.faulting { $0.code.store(Host.t2, .memory(base: Host.t1)) }
    block.code.load(Host.rax, .state(StateLayout.scratch))
    block.flags = .rax
    StackCode.moveStackPointer(by: -8, &block)
  }

  /// RDTSC, without touching flags.
  private static func timestamp(_ block: inout BlockEmitter) {
    block.requireHostFlags()
    block.code.rdtsc()
    block.code.rotateRight(Host.rdx, Host.rdx, by: 32)
    block.code.load(Host.t1, .state(StateLayout.timestampOffset))
    block.code.lea(Host.rdx, .memory(base: Host.rdx, index: Host.rax))
    block.code.lea(Host.rdx, .memory(base: Host.rdx, index: Host.t1))
    block.code.store(Host.rdx, .register(Host.guestRAX), w: false)
    block.code.rotateRight(Host.rdx, Host.rdx, by: 32)
    block.code.store(Host.rdx, .register(Host.rdx), w: false)
    block.flags = .host
  }

  /// CLD and STD: the guest's direction flag is never in the host's.
  static func direction(_ instruction: Instruction, _ block: inout BlockEmitter) {
    block.requireSavedFlags()
    let bit = Int32(RFLAGS.direction.rawValue)
    let isClear = instruction.operation == .cld
    block.code.arithmetic(
      isClear ? .and : .or, .state(StateLayout.systemFlags), immediate: isClear ? ~bit : bit, w: true)
    block.flags = .rax
  }
}
