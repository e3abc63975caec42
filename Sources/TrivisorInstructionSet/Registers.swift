/// The sixteen general registers by their number in encodings.
public enum GeneralRegister: UInt8, Sendable, BitwiseCopyable, CaseIterable {
  case rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
}

/// The segment registers by their number in ModRM.reg.
public enum SegmentRegister: UInt8, Sendable, BitwiseCopyable, CaseIterable {
  case es, cs, ss, ds, fs, gs
}

/// A set of registers of one kind, a bit for each number.
public struct RegisterSet: OptionSet, Sendable, Hashable, BitwiseCopyable {
  /// Bit n stands for register n.
  public let rawValue: UInt16

  /// The registers of these bits.
  public init(rawValue: UInt16) {
    self.rawValue = rawValue
  }

  /// The set of the one register with this number, which is taken modulo 16.
  public init(number: UInt8) {
    rawValue = 1 << UInt16(number & 15)
  }

  /// For sets of general registers.
  public func contains(_ register: GeneralRegister) -> Bool {
    contains(RegisterSet(number: register.rawValue))
  }

  /// For sets of segment registers.
  public func contains(_ register: SegmentRegister) -> Bool {
    contains(RegisterSet(number: register.rawValue))
  }

  /// How many registers there are.
  public var count: Int { rawValue.nonzeroBitCount }
}

/// What an instruction does with the registers of one kind.
public struct RegisterUse: Sendable, Hashable, BitwiseCopyable {
  /// Every register that may be read, those that form an address among them.
  public internal(set) var read: RegisterSet = []

  /// Every register that may change.
  public internal(set) var written: RegisterSet = []

  /// Those of `written` of which nothing is left: all bits are replaced whatever happens, short of a fault. A write of
  /// 8 or 16 bits, a write under a condition, and one that merges into a vector register are not among them.
  public internal(set) var overwritten: RegisterSet = []
}
