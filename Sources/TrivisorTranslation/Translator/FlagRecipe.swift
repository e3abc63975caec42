// Flags that nobody will read, and that are therefore nowhere.
//
// A memory check destroys the host's flags. Most flags are overwritten before anything reads them, but until then the guest
// may still see them: in the frame of a page fault. So they need not be kept if they can be made again in that rare case.
// After `add %rbx, %rcx`, for instance, they can, as long as neither register changes: RCX − RBX was there before.

import TrivisorInstructionSet
import TrivisorX86

/// How the arithmetic flags come out of registers that still hold what the instruction that set them left.
struct FlagRecipe {
  enum Operation: UInt8 {
    /// The left register is a sum to which the right operand was added.
    case sum
    /// The left register is a difference from which the right operand was taken.
    case difference
    case comparison
    /// Of the AND of both.
    case test
    /// The left register is the result of AND, OR or XOR.
    case result
  }

  let operation: Operation
  /// 64 bits, or else 32.
  let isWide: Bool
  let left: GeneralRegister
  /// `nil` for an immediate, and where there is no right operand.
  let right: GeneralRegister?
  var immediate: Int32
  /// `immediate` is the instruction's.
  let usesImmediate: Bool

  /// - Returns: `nil` if the instruction's flags can't be made again from registers.
  init?(_ instruction: Instruction) {
    switch instruction.operation {
    case .add: operation = .sum
    case .sub: operation = .difference
    case .cmp: operation = .comparison
    case .test: operation = .test
    case .or, .and, .xor: operation = .result
    default: return nil
    }
    guard instruction.encoding == .legacy, instruction.classification == .innocuous, !instruction.hasModRMMemory,
      let first = instruction.operand(at: 0), first.size == 8 || first.size == 4,
      case .general(let left) = first.kind, let second = instruction.operand(at: 1)
    else { return nil }
    self.left = left
    isWide = first.size == 8
    switch second.kind {
    case .general(let register):
      right = operation == .result ? nil : register
      immediate = 0
      usesImmediate = false
      // What was there before is lost.
      if register == left, operation == .sum || operation == .difference { return nil }
    case .immediate(let value):
      right = nil
      immediate = Int32(truncatingIfNeeded: value)
      usesImmediate = true
    default: return nil
    }
  }

  /// What must not change as long as the recipe is to be good.
  var registers: RegisterSet {
    let left = RegisterSet(number: left.rawValue)
    return right.map { left.union(RegisterSet(number: $0.rawValue)) } ?? left
  }

  /// Writes code that makes the flags again in the host's flags. RAX is free, because they are not there.
  func emit(into code: inout Emitter) {
    func place(_ register: GeneralRegister) -> Place {
      Host.home(register).map { Place.register($0) } ?? .state(StateLayout.general(register.rawValue))
    }
    func apply(_ operation: Emitter.Arithmetic) {
      if let right {
        code.arithmetic(operation, Host.rax, place(right), w: isWide)
      } else {
        code.arithmetic(operation, .register(Host.rax), immediate: immediate, w: isWide)
      }
    }
    code.load(Host.rax, place(left), w: isWide)
    switch operation {
    case .sum:
      apply(.sub)
      apply(.add)
    case .difference:
      apply(.add)
      apply(.cmp)
    case .comparison: apply(.cmp)
    case .test:
      if let right {
        code.test(Host.rax, place(right), w: isWide)
      } else {
        code.test(.register(Host.rax), immediate: immediate, w: isWide)
      }
    case .result: code.test(Host.rax, .register(Host.rax), w: isWide)
    }
  }

  /// The six flags at their places in RFLAGS.
  func flags(_ general: UnsafePointer<UInt64>) -> RFLAGS {
    let mask: UInt64 = isWide ? .max : 0xffff_ffff
    let sign: UInt64 = isWide ? 1 << 63 : 1 << 31
    let l = general[Int(left.rawValue)] & mask
    let r = (right.map { general[Int($0.rawValue)] } ?? UInt64(bitPattern: Int64(immediate))) & mask
    let result: UInt64
    var flags: RFLAGS = []
    switch operation {
    case .sum:
      result = l
      let before = (l &- r) & mask
      if result < r { flags.insert(.carry) }
      if (before ^ result) & (r ^ result) & sign != 0 { flags.insert(.overflow) }
      // AF stands where it comes from: the carry out of bit 3 is bit 4's difference.
      flags.formUnion(RFLAGS(rawValue: before ^ r ^ result).intersection(.auxiliary))
    case .difference, .comparison:
      let before = operation == .comparison ? l : (l &+ r) & mask
      result = (before &- r) & mask
      if before < r { flags.insert(.carry) }
      if (before ^ r) & (before ^ result) & sign != 0 { flags.insert(.overflow) }
      // AF stands where it comes from: the carry out of bit 3 is bit 4's difference.
      flags.formUnion(RFLAGS(rawValue: before ^ r ^ result).intersection(.auxiliary))
    case .test: result = l & r
    case .result: result = l
    }
    if result == 0 { flags.insert(.zero) }
    if result & sign != 0 { flags.insert(.sign) }
    // PF is about the low byte only.
    if (result & 0xff).nonzeroBitCount & 1 == 0 { flags.insert(.parity) }
    return flags
  }
}
