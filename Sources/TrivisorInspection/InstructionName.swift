import TrivisorInstructionSet

/// What an instruction is called here: the mnemonic, without operand sizes, and with what it moves from or to where that
/// makes the difference.
enum InstructionName {
  static func of(_ instruction: Instruction) -> String {
    let number = instruction.reg | (instruction.rex & 4) << 1
    return switch instruction.operation {
    case .movFromControl: "mov from cr\(number)"
    case .movToControl: "mov to cr\(number)"
    case .movFromDebug: "mov from dr"
    case .movToDebug: "mov to dr"
    case .movFromSegment: "mov from segment register"
    case .movToSegment: "mov to segment register"
    case .pushSegment: "push segment register"
    case .popSegment: "pop segment register"
    case .lds, .les, .lfs, .lgs, .lss: "load far pointer"
    case .ins: "ins"
    case .outs: "outs"
    case .callf: "far call"
    case .jmpf: "far jmp"
    case .retf: "far ret"
    case .iret: "iret"
    default: instruction.mnemonic
    }
  }
}
