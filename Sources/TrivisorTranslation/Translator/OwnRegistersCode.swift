// Instructions that cannot do with other registers than their own: two halves of one register, RAX as an operand that is
// named and one that is not, implicit registers without a home.
//
// The registers that live elsewhere are brought home for the one instruction. Host R10, R11 and R15 then hold the guest's,
// RAX the guest's RAX, and a register that the instruction does not use holds the address. If the instruction faults, its
// range says so, and Swift sorts the registers out (`TranslatedProcessor.takeSignal`).

import TrivisorInstructionSet

enum OwnRegistersCode {
  private static let homeless: [GeneralRegister] = [.r10, .r15, .r11]

  /// Writes the operation with every register where the guest has it.
  static func emit(_ instruction: Instruction, _ shape: OperationShape, _ place: Place?, _ block: inout BlockEmitter) {
    block.requireHostFlags()
    var rm = Place.register(shape.rm.number)
    var spare: UInt8?
    if let place {
      let candidates: [GeneralRegister] = [.rbx, .rbp, .rsi, .rdi, .r8, .r9, .r12]
      let free = candidates.first { !shape.registers.contains($0) } ?? .rbx
      block.code.lea(Host.t1, place)
      block.code.store(free.rawValue, .state(StateLayout.secondScratch))
      block.code.move(free.rawValue, Host.t1)
      spare = free.rawValue
      rm = .memory(base: free.rawValue)
    }
    block.code.move(Host.rax, Host.guestRAX)
    for register in homeless {
      block.code.load(register.rawValue, .state(StateLayout.general(register.rawValue)))
    }
    block.flags = .host
    block.faulting(ownRegisters: true, spare: spare) {
      $0.encode(instruction, shape, reg: shape.reg.number, vvvv: shape.vvvv.number, rm)
    }
    for register in homeless where shape.registers.contains(register) {
      block.code.store(register.rawValue, .state(StateLayout.general(register.rawValue)))
    }
    block.code.move(Host.guestRAX, Host.rax)
    if let spare { block.code.load(spare, .state(StateLayout.secondScratch)) }
  }
}
