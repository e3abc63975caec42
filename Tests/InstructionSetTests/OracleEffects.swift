import TrivisorCZydis
import TrivisorInstructionSet

/// What an instruction does, in a form that both decoders can be brought to.
struct OracleEffects: Equatable {
  struct Use: Equatable {
    var read: UInt32 = 0
    var written: UInt32 = 0

    mutating func add(_ number: UInt8, _ actions: UInt8) {
      if actions & 5 != 0 { read |= 1 << UInt32(number) }
      if actions & 10 != 0 { written |= 1 << UInt32(number) }
    }
  }

  struct Memory: Equatable, CustomStringConvertible {
    var segment: UInt8
    var base: Int
    var index: Int
    var scale: UInt8
    var displacement: Int64
    var size: UInt16
    var access: UInt8

    var description: String {
      "[seg \(segment) base \(base) index \(index)*\(scale) + \(displacement)] size \(size) access \(access)"
    }
    /// For an order that both sides share.
    var rank: Int { Int(segment) << 20 | (base + 1) << 10 | (access & 10 != 0 ? 1 : 0) }
  }

  var general = Use()
  var vector = Use()
  var mmx = Use()
  var x87 = Use()
  var segments = Use()
  var memory: [Memory] = []
  var tested: UInt32 = 0
  var modified: UInt32 = 0
  var cleared: UInt32 = 0
  var set: UInt32 = 0
  var undefined: UInt32 = 0

  init(_ effects: Effects) {
    func use(_ use: RegisterUse) -> Use {
      Use(read: UInt32(use.read.rawValue), written: UInt32(use.written.rawValue))
    }
    general = use(effects.general)
    vector = use(effects.vector)
    mmx = use(effects.mmx)
    x87 = use(effects.x87)
    segments = use(effects.segments)
    tested = effects.flags.tested.rawValue
    modified = effects.flags.modified.rawValue
    cleared = effects.flags.cleared.rawValue
    set = effects.flags.set.rawValue
    undefined = effects.flags.undefined.rawValue
    for operand in [effects.memory.0, effects.memory.1] {
      guard let operand else { continue }
      let index = operand.vectorIndex.map { Int($0) + 100 } ?? operand.index.map { Int($0.rawValue) } ?? -1
      memory.append(
        Memory(
          segment: operand.segment.rawValue,
          base: operand.isRIPRelative ? 16 : operand.base.map { Int($0.rawValue) } ?? -1,
          index: index, scale: index < 0 ? 0 : operand.scale, displacement: operand.displacement, size: operand.size,
          access: operand.size == 0 ? 0 : operand.access.rawValue))
    }
    memory.sort { $0.rank < $1.rank }
  }

  init(_ operands: UnsafeBufferPointer<ZydisDecodedOperand>, _ instruction: ZydisDecodedInstruction) {
    for operand in operands {
      if operand.type == ZYDIS_OPERAND_TYPE_REGISTER {
        switch OracleRegister(operand.reg.value) {
        case .general(let number, _, _): general.add(number, operand.actions)
        case .vector(let number): vector.add(number, operand.actions)
        case .mmx(let number): mmx.add(number, operand.actions)
        case .x87(let number): x87.add(number, operand.actions)
        case .segment(let number): segments.add(number, operand.actions)
        case .control, .debug, .ip, .other: break
        }
      } else if operand.type == ZYDIS_OPERAND_TYPE_MEMORY {
        add(operand)
      }
    }
    memory.sort { $0.rank < $1.rank }
    if let flags = instruction.cpu_flags?.pointee {
      tested = flags.tested
      modified = flags.modified
      cleared = flags.set_0
      set = flags.set_1
      undefined = flags.undefined
    }
  }

  private mutating func add(_ operand: ZydisDecodedOperand) {
    func number(_ register: ZydisRegister) -> Int {
      switch OracleRegister(register) {
      case .general(let number, _, _): Int(number)
      case .vector(let number): Int(number) + 100
      case .ip: 16
      default: -1
      }
    }
    let base = number(operand.mem.base)
    let index = number(operand.mem.index)
    for register in [base, index] {
      if register >= 0, register < 16 { general.add(UInt8(register), 1) }
      if register >= 100 { vector.add(UInt8(register - 100), 1) }
    }
    let isAddressOnly = operand.mem.type == ZYDIS_MEMOP_TYPE_AGEN
    var segment: UInt8 = 0
    if case .segment(let number) = OracleRegister(operand.mem.segment) { segment = number }
    memory.append(
      Memory(
        segment: segment, base: base, index: index, scale: operand.mem.scale,
        displacement: operand.mem.disp.has_displacement != 0 ? operand.mem.disp.value : 0,
        size: isAddressOnly ? 0 : UInt16(operand.size / 8), access: isAddressOnly ? 0 : operand.actions))
  }

  func differences(from other: OracleEffects) -> [(String, String, String)] {
    var result: [(String, String, String)] = []
    func check<Value: Equatable>(_ what: String, _ path: (OracleEffects) -> Value) {
      if path(self) != path(other) { result.append((what, "\(path(self))", "\(path(other))")) }
    }
    check("general") { $0.general }
    check("vector") { $0.vector }
    check("mmx") { $0.mmx }
    check("x87") { $0.x87 }
    check("segments") { $0.segments }
    check("memory") { $0.memory }
    check("flags tested") { $0.tested }
    check("flags modified") { String($0.modified, radix: 16) }
    check("flags cleared") { String($0.cleared, radix: 16) }
    check("flags set") { String($0.set, radix: 16) }
    check("flags undefined") { String($0.undefined, radix: 16) }
    return result
  }
}
