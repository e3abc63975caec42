import TrivisorInstructionSet

/// What is done with the memory of an access: in the main line on RAM, in the cold part on the bounce buffer.
///
/// Each leaves the flags' home the same both times.
enum AccessBody {
  case operation(PlannedOperation)
  /// BT and its kin, their bit offset in a register.
  case bitString(index: Int, register: GeneralRegister)
  /// Memory to the state block's scratch word, zero-extended.
  case loadScratch(size: Int)
  /// LDMXCSR.
  case loadControl
  /// MOV between memory and RAX by an absolute offset.
  case moveAccumulator(writes: Bool, size: Int)

  // The stack; each moves RSP behind the access.
  case pushRegister(GeneralRegister, size: Int)
  case pushImmediate(Int64, size: Int)
  /// What `loadScratch` has left.
  case pushScratch(size: Int)
  case pushFlags
  /// `isIndirect`: the target is in the scratch word, and must be one.
  case pushReturnAddress(UInt64, size: Int, isIndirect: Bool)
  /// A call beyond CS: the stack is looked at, and not changed.
  case refuseCall(size: Int)
  case pop(GeneralRegister, size: Int)
  /// The scratch word to memory, behind a POP.
  case popScratch(size: Int)
  case leave(size: Int)
  /// RET: the target to T1.
  case popTarget(size: Int, released: Int32)

  func emit(on place: Place, _ block: inout BlockEmitter) {
    switch self {
    case .operation(let operation): OperationCode.emit(operation, on: place, &block)
    case .bitString(let index, let register):
      OperationCode.bitString(block.plan.instructions[index].instruction, offset: register, on: place, &block)
    case .loadScratch(let size):
      block.faulting { $0.code.loadZeroExtended(Host.t2, place, size: size) }
      block.code.store(Host.t2, .state(StateLayout.scratch))
    case .loadControl: OperationCode.loadControl(from: place, &block)
    case .moveAccumulator(let writes, let size):
      block.faulting { $0.code.moveAccumulator(place, isStore: writes, size: size) }
    case .pushRegister(let register, let size): StackCode.push(register, size: size, on: place, &block)
    case .pushImmediate(let value, let size): StackCode.push(value, size: size, on: place, &block)
    case .pushScratch(let size): StackCode.pushScratch(size: size, on: place, &block)
    case .pushFlags: SensitiveCode.pushFlags(on: place, &block)
    case .pushReturnAddress(let address, let size, let isIndirect):
      TransferCode.pushReturnAddress(address, size: size, isIndirect: isIndirect, on: place, &block)
    case .refuseCall(let size):
      block.exit(.raise(.general))
      StackCode.moveStackPointer(by: -Int32(size), &block)
    case .pop(let register, let size): StackCode.pop(register, size: size, on: place, &block)
    case .popScratch(let size): StackCode.popScratch(size: size, on: place, &block)
    case .leave(let size): StackCode.leave(size: size, on: place, &block)
    case .popTarget(let size, let released):
      block.faulting { $0.code.loadZeroExtended(Host.t1, place, size: size) }
      StackCode.moveStackPointer(by: Int32(size) + released, &block)
    }
  }
}
