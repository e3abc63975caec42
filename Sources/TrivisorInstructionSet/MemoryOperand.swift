/// A memory access: its address, width and direction.
///
/// The offset is base + index × scale + displacement, cut to `addressSize` bytes; the segment's base is added after
/// that. With `isRIPRelative` the base is the address of the next instruction.
public struct MemoryOperand: Sendable, Hashable, BitwiseCopyable {
  /// Where in the instruction the address comes from.
  public enum Source: UInt8, Sendable, BitwiseCopyable {
    /// ModRM, the only one that re-encoding can change.
    case modRM
    /// An absolute offset in the instruction, MOV opcodes A0 to A3.
    case direct
    /// The stack, by PUSH, POP, CALL, RET and their like. What is pushed lies below the pointer: subtract `size`.
    case stack
    /// DS:rSI or ES:rDI of a string instruction.
    case string
    /// DS:rDI of MASKMOVQ and MASKMOVDQU, byte by byte as the mask says.
    case maskedString
    /// XLAT: the index is AL alone.
    case table
    /// A gather: an element for each lane of the vector index that the mask selects.
    case gather
  }

  /// Where the address comes from.
  public internal(set) var source: Source
  /// What happens to the memory; nothing if only the address is used.
  public internal(set) var access: Access
  /// The base register.
  public internal(set) var base: GeneralRegister?
  /// The index register.
  public internal(set) var index: GeneralRegister?
  /// A gather's index.
  public internal(set) var vectorIndex: UInt8?
  /// Width of a gather's indices, in bytes.
  public internal(set) var vectorIndexSize: UInt8 = 0
  /// 1, 2, 4 or 8; 1 without an index.
  public internal(set) var scale: UInt8 = 1
  /// The base is RIP.
  public internal(set) var isRIPRelative = false
  /// The segment, by override or by default.
  public internal(set) var segment: SegmentRegister
  /// Width of the address calculation in bytes: 2, 4 or 8.
  public internal(set) var addressSize: UInt8
  /// In bytes, of one element with a gather and of one step with a repeated string instruction. 0 if only the address
  /// is used (LEA, INVLPG, prefetches, cache-line operations) or if the width depends on state (XSAVE's area).
  public internal(set) var size: UInt16
  /// The address must be a multiple of `size`, or there is #GP(0), which comes before any page fault: legacy SSE with
  /// 16 bytes (AMD64 APM vol. 1, 4.3.2, "Data Alignment"; MXCSR.MM lifts it for some), aligned moves, CMPXCHG16B.
  public internal(set) var mustBeAligned = false
  /// Sign-extended.
  public package(set) var displacement: Int64 = 0

  init(_ source: Source, _ access: Access, segment: SegmentRegister, addressSize: UInt8, size: UInt16) {
    self.source = source
    self.access = access
    self.segment = segment
    self.addressSize = addressSize
    self.size = size
  }
}

extension Instruction {
  /// The memory that ModRM names, whatever the instruction does with it.
  public var memoryOperand: MemoryOperand? {
    hasModRMMemory ? modRMMemory(memorySpecification) : nil
  }

  /// The ModRM memory operand that `specification` describes. Call only if there is one.
  func modRMMemory(_ specification: OperandSpecification) -> MemoryOperand {
    var memory = MemoryOperand(
      .modRM, specification.access, segment: .ds, addressSize: addressSize, size: width(of: specification))
    memory.displacement = displacement
    memory.mustBeAligned = attributes.contains(.aligned)
    if addressSize == 2 {
      // AMD64 APM vol. 3, table A-34: BX+SI, BX+DI, BP+SI, BP+DI, SI, DI, BP or nothing, BX.
      switch rm {
      case 0, 1, 7: memory.base = .rbx
      case 2, 3: memory.base = .rbp
      case 4: memory.base = .rsi
      case 5: memory.base = .rdi
      default: memory.base = mod == 0 ? nil : .rbp
      }
      if rm < 4 { memory.index = rm & 1 == 0 ? .rsi : .rdi }
    } else if rm == 4 {
      let base = sib & 7
      if base != 5 || mod != 0 { memory.base = GeneralRegister(rawValue: base | rexB) }
      let index = sib >> 3 & 7 | rex << 2 & 8
      if specification.method == .gather {
        memory.source = .gather
        memory.vectorIndex = index
        memory.vectorIndexSize = specification.number
        memory.scale = 1 << (sib >> 6)
      } else if index != 4 {
        memory.index = GeneralRegister(rawValue: index)
        memory.scale = 1 << (sib >> 6)
      }
    } else if rm == 5, mod == 0 {
      memory.isRIPRelative = mode == .bits64
    } else {
      memory.base = GeneralRegister(rawValue: rm | rexB)
    }
    if memory.base == .rsp || memory.base == .rbp { memory.segment = .ss }
    if let segmentOverride { memory.segment = segmentOverride }
    return memory
  }

  /// REX.B where it counts, as bit 3 of a register number.
  var rexB: UInt8 { rex << 3 & 8 }
  /// REX.R likewise.
  var rexR: UInt8 { rex << 1 & 8 }
}

extension OperandSpecification {
  var canBeModRMMemory: Bool {
    switch method {
    case .modRMGeneral, .modRMMemory, .modRMVector, .modRMMMX, .gather: true
    default: false
    }
  }
}
