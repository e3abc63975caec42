import TrivisorCSingleStep
import TrivisorInstructionSet

/// Finds where translated code may be after a number of instructions of the host, whichever way it takes.
///
/// Both ways are followed at a conditional jump. What may lead anywhere, or is many instructions in one, ends a way before it: there
/// the code is stepped on, and the walk begins anew. A way that leaves translated code ends without a place.
struct CodeWalk {
  /// So many instructions are looked at; the ways that are left end where they are.
  private static let limit = 600
  private static let maximumLength = 15

  private let places: UnsafeMutableBufferPointer<css_place>
  private var found = 0
  private var ways: [css_place] = []
  private let code: ClosedRange<UInt64>
  private var instruction = Instruction(mode: .bits64)
  private static let decoder = Decoder(mode: .bits64)

  /// - Parameter places: to be filled.
  init(_ places: UnsafeMutableBufferPointer<css_place>) {
    self.places = places
    let base = css_code_base()
    code = base...(base + css_code_size() - UInt64(Self.maximumLength))
  }

  /// - Returns: as `css_walk`.
  mutating func run(from start: UInt64, _ count: UInt32) -> Int32 {
    ways.append(css_place(address: start, remaining: count))
    var looked = 0
    while var way = ways.popLast() {
      while code.contains(way.address) {
        guard way.remaining != 0, looked < Self.limit, found + ways.count < places.count - 1 else {
          add(way.address, 0)
          break
        }
        looked += 1
        guard advance(&way) else {
          guard looked > 1 else { return Int32(CSS_STEP) }
          add(way.address, way.remaining)
          break
        }
      }
    }
    return Int32(found)
  }

  private mutating func add(_ address: UInt64, _ remaining: UInt32) {
    guard found < places.count, !places[..<found].contains(where: { $0.address == address }) else { return }
    places[found] = css_place(address: address, remaining: remaining)
    found += 1
  }

  /// Goes one instruction on; at a conditional jump, the other way is one more.
  /// - Returns: whether it is known where that leads.
  private mutating func advance(_ way: inout css_place) -> Bool {
    guard let bytes = UnsafeRawPointer(bitPattern: UInt(way.address)) else { return false }
    let status = Self.decoder.decode(
      UnsafeRawBufferPointer(start: bytes, count: Self.maximumLength), into: &instruction)
    guard case .decoded = status, !instruction.isRepeated else { return false }
    let next = way.address + UInt64(instruction.length)
    var target = next
    if let offset = instruction.branchOffset { target = next &+ UInt64(bitPattern: offset) }
    way.remaining -= 1
    switch instruction.operation {
    case .jmp:
      if instruction.branchOffset == nil { target = wordsTarget(next) ?? 0 }
      if target == 0 || css_is_helper(target) != 0 {
        way.remaining += 1
        return false
      }
      way.address = target
    case .jcc, .jcxz, .loop, .loope, .loopne:
      ways.append(css_place(address: target, remaining: way.remaining))
      way.address = next
    case .call, .callf, .jmpf, .ret, .retf, .iret, .int3, .ud2:
      way.remaining += 1
      return false
    default: way.address = next
    }
    return true
  }

  /// Where a jump leads through a word of the code, which is not changed before the jump, or of the state.
  private func wordsTarget(_ next: UInt64) -> UInt64? {
    guard let operand = instruction.memoryOperand, operand.index == nil, operand.base == nil else { return nil }
    if operand.isRIPRelative, operand.segment != .fs, operand.segment != .gs {
      let place = next &+ UInt64(bitPattern: operand.displacement)
      guard code.contains(place) else { return nil }
      return UnsafePointer<UInt64>(bitPattern: UInt(place))?.pointee
    }
    guard operand.segment == .gs else { return nil }
    // A word that leads into translated code may be another one by then.
    let target = css_state_word(operand.displacement)
    return code.contains(target) ? nil : target
  }
}
