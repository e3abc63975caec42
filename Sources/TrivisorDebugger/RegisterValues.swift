// Registers of a target description in and out of a processor's state.

import TrivisorVMM
import TrivisorX86

extension MachineState {
  /// Whether the next instruction is 64-bit code.
  var runs64BitCode: Bool {
    EFER(rawValue: system.efer).contains(.longModeActive)
      && SegmentAttributes(rawValue: system.cs.attributes).contains(.long)
  }

  /// Where the next instruction is in linear memory. A debugger knows no segments: that is the program counter for it.
  var linearRIP: UInt64 {
    runs64BitCode ? general.rip : (system.cs.base &+ general.rip) & UInt64(UInt32.max)
  }

  /// A register's value in the order of memory.
  func value(of register: TargetRegister) -> [UInt8] {
    func bytes(_ value: UInt64) -> [UInt8] {
      (0..<register.byteCount).map { UInt8(truncatingIfNeeded: $0 < 8 ? value >> UInt64(8 * $0) : 0) }
    }
    let area = ExtendedAreaView(extended)
    switch register.place {
    case .general(let path): return bytes(general[keyPath: path])
    case .instructionPointer: return bytes(linearRIP)
    case .selector(let path): return bytes(UInt64(system[keyPath: path].selector))
    case .base(let path): return bytes(system[keyPath: path].base)
    case .control(let path): return bytes(system[keyPath: path])
    case .modelSpecific(let index): return bytes(self[modelSpecific: index] ?? 0)
    case .x87(let number): return area.x87(number)
    case .x87Control(let part): return bytes(UInt64(area.control(part)))
    case .vector(let number): return area.vector(number)
    case .vectorUpper(let number): return area.vectorUpper(number)
    case .vectorControl: return bytes(UInt64(area.vectorControl))
    }
  }

  /// Replaces a register's value.
  /// - Parameter bytes: as many as the register has, in the order of memory.
  /// - Returns: whether this one can be replaced.
  mutating func setValue(of register: TargetRegister, _ bytes: [UInt8]) -> Bool {
    guard bytes.count == register.byteCount else { return false }
    let number = bytes.prefix(8).reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
    switch register.place {
    case .general(let path):
      if path == \GeneralRegisters.rflags {
        general.rflags = number & RFLAGS.defined.rawValue | RFLAGS.alwaysOne.rawValue
      } else {
        general[keyPath: path] = number
      }
    case .instructionPointer:
      let target = runs64BitCode ? number : (number &- system.cs.base) & UInt64(UInt32.max)
      // Who is led elsewhere does not wait any more.
      if target != general.rip, activity == .halted { activity = .running }
      general.rip = target
    case .selector(let path):
      // The hidden part would have to come out of the guest's tables.
      return UInt64(system[keyPath: path].selector) == number
    case .base(let path):
      guard LinearAddress.isCanonical(number) else { return false }
      system[keyPath: path].base = number
    case .control(let path): system[keyPath: path] = number
    case .modelSpecific(let index):
      guard self[modelSpecific: index] != nil else { return number == 0 }
      self[modelSpecific: index] = number
    case .x87, .x87Control, .vector, .vectorUpper, .vectorControl:
      var area = ExtendedAreaView(extended)
      guard area.set(register.place, bytes, number) else { return false }
      extended.area = area.bytes
    }
    return true
  }
}

/// x87, SSE and AVX registers in an XSAVE area of the standard format (AMD64 APM vol. 2, 11.5.2 and 11.5.6).
struct ExtendedAreaView {
  /// With all that is accessed here; a component whose bit in the header is clear has its initial values.
  private(set) var bytes: [UInt8]

  private static let header = 512
  private static let upperHalves = 576
  private static let size = upperHalves + 256
  private static let (x87Bit, sseBit, avxBit) = (UInt8(1), UInt8(2), UInt8(4))
  private static let initialX87Control: UInt64 = 0x37f
  private static let initialVectorControl: UInt64 = 0x1f80

  init(_ extended: ExtendedState) {
    bytes = extended.area
    let wasEmpty = bytes.isEmpty
    if bytes.count < Self.size { bytes += Array(repeating: 0, count: Self.size - bytes.count) }
    let present = wasEmpty ? 0 : bytes[Self.header]
    if present & Self.x87Bit == 0 {
      clear(0..<24)
      clear(32..<160)
      store(Self.initialX87Control, at: 0, count: 2)
    }
    if present & Self.sseBit == 0 {
      clear(160..<416)
      if wasEmpty || present & Self.avxBit == 0 { store(Self.initialVectorControl, at: 24, count: 4) }
    }
    if present & Self.avxBit == 0 { clear(Self.upperHalves..<Self.size) }
  }

  private mutating func clear(_ range: Range<Int>) {
    for position in range { bytes[position] = 0 }
  }

  private func load(_ position: Int, count: Int) -> UInt64 {
    bytes[position..<position + count].reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }

  private mutating func store(_ value: UInt64, at position: Int, count: Int) {
    for byte in 0..<count { bytes[position + byte] = UInt8(truncatingIfNeeded: value >> UInt64(8 * byte)) }
  }

  func x87(_ number: Int) -> [UInt8] { Array(bytes[32 + 16 * number..<42 + 16 * number]) }
  func vector(_ number: Int) -> [UInt8] { Array(bytes[160 + 16 * number..<176 + 16 * number]) }
  func vectorUpper(_ number: Int) -> [UInt8] {
    Array(bytes[Self.upperHalves + 16 * number..<Self.upperHalves + 16 * number + 16])
  }
  var vectorControl: UInt32 { UInt32(truncatingIfNeeded: load(24, count: 4)) }

  func control(_ part: TargetRegister.X87Control) -> UInt32 {
    let value =
      switch part {
      case .fctrl: load(0, count: 2)
      case .fstat: load(2, count: 2)
      case .ftag: UInt64(fullTags)
      case .fop: load(6, count: 2)
      case .fioff: load(8, count: 4)
      case .fiseg: load(12, count: 2)
      case .fooff: load(16, count: 4)
      case .foseg: load(20, count: 2)
      }
    return UInt32(truncatingIfNeeded: value)
  }

  /// FXSAVE keeps a bit for each register, whether it is empty; FSAVE, and GDB, have two that say more (AMD64 APM vol. 2,
  /// 11.4.4.1).
  private var fullTags: UInt16 {
    let (top, inUse) = (Int(bytes[3] >> 3 & 7), bytes[4])
    var tags: UInt16 = 0
    for physical in 0..<8 {
      var tag: UInt16 = 3
      if inUse >> UInt8(physical) & 1 != 0 {
        let value = 32 + 16 * ((physical - top) & 7)
        let (mantissa, exponent) = (load(value, count: 8), load(value + 8, count: 2) & 0x7fff)
        if exponent == 0 {
          tag = mantissa == 0 ? 1 : 2
        } else {
          tag = exponent == 0x7fff || mantissa >> 63 == 0 ? 2 : 0
        }
      }
      tags |= tag << UInt16(2 * physical)
    }
    return tags
  }

  /// - Returns: whether this one can be replaced.
  mutating func set(_ place: TargetRegister.Place, _ value: [UInt8], _ number: UInt64) -> Bool {
    func put(_ view: inout ExtendedAreaView, _ position: Int) {
      view.bytes.replaceSubrange(position..<position + value.count, with: value)
    }
    switch place {
    case .x87(let register):
      put(&self, 32 + 16 * register)
      bytes[Self.header] |= Self.x87Bit
    case .vector(let register):
      put(&self, 160 + 16 * register)
      bytes[Self.header] |= Self.sseBit
    case .vectorUpper(let register):
      put(&self, Self.upperHalves + 16 * register)
      bytes[Self.header] |= Self.avxBit
    case .vectorControl:
      // Bits that no processor has.
      guard number >> 16 == 0 else { return false }
      store(number, at: 24, count: 4)
      bytes[Self.header] |= Self.sseBit
    case .x87Control(let part):
      switch part {
      case .fctrl: store(number, at: 0, count: 2)
      case .fstat: store(number, at: 2, count: 2)
      case .ftag:
        bytes[4] = (0..<8).reduce(0) { $0 | (number >> UInt64(2 * $1) & 3 == 3 ? 0 : 1 << UInt8($1)) }
      case .fop: store(number & 0x7ff, at: 6, count: 2)
      case .fioff: store(number, at: 8, count: 4)
      case .fiseg: store(number, at: 12, count: 2)
      case .fooff: store(number, at: 16, count: 4)
      case .foseg: store(number, at: 20, count: 2)
      }
      bytes[Self.header] |= Self.x87Bit
    default: return false
    }
    return true
  }
}
