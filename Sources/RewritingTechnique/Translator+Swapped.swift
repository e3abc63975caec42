// Instructions that cannot do with other registers than their own: two halves of one register, RAX as an operand that is
// named and one that is not, implicit registers without a home.
//
// The registers that live elsewhere are brought home for the one instruction. Host R10, R11 and R15 then hold the guest's,
// RAX the guest's RAX, and a register that the instruction does not use holds the address. If the instruction faults, its
// range says so, and Swift sorts the registers out (`RewritingProcessor.takeSignal`).

import InstructionSet

extension Translator {
  private static let homeless: [GeneralRegister] = [.r10, .r15, .r11]

  /// Writes the operation with every register where the guest has it.
  func emitWithOwnRegisters(_ instruction: Instruction, _ shape: OperationShape, _ place: Place?) {
    requireHostFlags()
    var rm = Place.register(number(shape.rm))
    var spare: UInt8?
    if let place {
      let candidates: [GeneralRegister] = [.rbx, .rbp, .rsi, .rdi, .r8, .r9, .r12]
      let free = candidates.first { !shape.registers.contains($0) } ?? .rbx
      emitter.lea(Host.t1, place)
      emitter.store(free.rawValue, .state(StateLayout.secondScratch))
      emitter.move(free.rawValue, Host.t1)
      spare = free.rawValue
      rm = .memory(base: free.rawValue)
    }
    emitter.move(Host.rax, Host.guestRAX)
    for register in Self.homeless {
      emitter.load(register.rawValue, .state(StateLayout.general(register.rawValue)))
    }
    flags = .host
    faulting(ownRegisters: true, spare: spare) {
      encode(instruction, shape, reg: number(shape.reg), vvvv: number(shape.vvvv), rm)
    }
    for register in Self.homeless where shape.registers.contains(register) {
      emitter.store(register.rawValue, .state(StateLayout.general(register.rawValue)))
    }
    emitter.move(Host.guestRAX, Host.rax)
    if let spare { emitter.load(spare, .state(StateLayout.secondScratch)) }
  }

  /// A register's number in an encoding.
  private func number(_ slot: RegisterSlot) -> UInt8 {
    switch slot {
    case .fixed(let number): number
    case .general(let register, _): register.rawValue
    case .highByte(let register, _): register.rawValue + 4
    }
  }
}
