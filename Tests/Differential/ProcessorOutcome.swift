import TrivisorVMM

/// What a run ended with, as far as two of them are compared.
package struct ProcessorOutcome: Equatable, Sendable {
  /// The exception that ended it, and what it pushed. `address` is a page fault's CR2, else 0.
  package var vector: UInt64 = 6
  package var errorCode: UInt64 = 0
  package var address: UInt64 = 0
  package var rip: UInt64 = 0
  package var flags: UInt64 = 0x202
  /// By number.
  package var general = [UInt64](repeating: 0, count: 16)
  package var fsBase: UInt64 = 0
  package var gsBase: UInt64 = 0
  /// ES, CS, SS, DS, FS, GS, where they are compared.
  package var selectors: [UInt16] = []
  package var mxcsr: UInt32 = 0x1f80
  /// FCW, FSW and the abridged tag word.
  package var x87Control: UInt16 = 0x37f
  package var x87Status: UInt16 = 0
  package var x87Tags: UInt16 = 0
  /// ST(0) to ST(7), ten bytes each.
  package var x87Registers = [[UInt8]](repeating: [UInt8](repeating: 0, count: 10), count: 8)
  /// Four words of each of 16 registers.
  package var vectors = [UInt64](repeating: 0, count: 64)

  package init() {}

  /// The x87 state in FXSAVE's format, but for its pointers.
  package mutating func readFloating(from area: UnsafeRawPointer) {
    x87Control = area.load(as: UInt16.self)
    x87Status = area.load(fromByteOffset: 2, as: UInt16.self)
    x87Tags = area.load(fromByteOffset: 4, as: UInt16.self) & 0xff
    for register in 0..<8 {
      x87Registers[register] = (0..<10).map { area.load(fromByteOffset: 32 + 16 * register + $0, as: UInt8.self) }
    }
  }

  /// In which parts another outcome is not the same.
  package func differingParts(from other: ProcessorOutcome) -> Set<OutcomePart> {
    var parts: Set<OutcomePart> = []
    func compare(_ part: OutcomePart, _ isSame: Bool) { if !isSame { parts.insert(part) } }
    compare(.vector, vector == other.vector)
    compare(.errorCode, errorCode == other.errorCode)
    compare(.address, address == other.address)
    compare(.rip, rip == other.rip)
    compare(.flags, flags == other.flags)
    for number in 0..<16 { compare(.general(number), general[number] == other.general[number]) }
    compare(.segmentBases, fsBase == other.fsBase && gsBase == other.gsBase)
    compare(.selectors, selectors == other.selectors)
    compare(.mxcsr, mxcsr == other.mxcsr)
    compare(.x87Control, x87Control == other.x87Control)
    compare(.x87Status, x87Status == other.x87Status)
    compare(.x87Tags, x87Tags == other.x87Tags)
    compare(.x87Registers, x87Registers == other.x87Registers)
    for number in 0..<16 {
      let words = 4 * number..<4 * number + 4
      compare(.vectorRegister(number), vectors[words] == other.vectors[words])
    }
    return parts
  }

  /// One part, for people.
  package func describe(_ part: OutcomePart) -> String {
    switch part {
    case .vector: "vector \(vector)"
    case .errorCode: "error code \(hexadecimal(errorCode))"
    case .address: "CR2 \(hexadecimal(address))"
    case .rip: "RIP \(hexadecimal(rip))"
    case .flags: "RFLAGS \(hexadecimal(flags))"
    case .general(let number): "\(Self.names[number]) \(hexadecimal(general[number]))"
    case .segmentBases: "FS and GS bases \(hexadecimal(fsBase)), \(hexadecimal(gsBase))"
    case .selectors: "selectors \(selectors.map { hexadecimal(UInt64($0)) })"
    case .mxcsr: "MXCSR \(hexadecimal(UInt64(mxcsr)))"
    case .x87Control: "FCW \(hexadecimal(UInt64(x87Control)))"
    case .x87Status: "FSW \(hexadecimal(UInt64(x87Status)))"
    case .x87Tags: "FTW \(hexadecimal(UInt64(x87Tags)))"
    case .x87Registers: "ST \(x87Registers)"
    case .vectorRegister(let number):
      "YMM\(number) \(vectors[4 * number..<4 * number + 4].map { hexadecimal($0) })"
    case .memory: "memory"
    }
  }

  static let names = [
    "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15",
  ]
}

/// What can differ between two outcomes.
package enum OutcomePart: Hashable, Sendable {
  case vector, errorCode, address, rip, flags
  case general(Int)
  case segmentBases, selectors, mxcsr, x87Control, x87Status, x87Tags, x87Registers
  case vectorRegister(Int)
  case memory
}

/// A byte that is not the same natively and for the guest.
package struct MemoryDifference: Equatable, Sendable {
  package let address: UInt64
  package let native: UInt8
  package let model: UInt8

  package init(address: UInt64, native: UInt8, model: UInt8) {
    self.address = address
    self.native = native
    self.model = model
  }
}
