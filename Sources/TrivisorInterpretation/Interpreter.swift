// Carries out ordinary instructions of 64-bit code one by one: those for integers, branches and the stack, in memory that is asked for page
// by page. All else is left to the processor: `run` returns in front of it, and of an instruction that is not carried out nothing has happened.
//
// It is for code that a processor can execute by itself but for accesses that trap, where they come so often that trapping costs more than
// interpreting what lies between them. So there is no harm in returning early, and nothing here is guessed: an instruction that is not known,
// a page that is not given, an access that crosses pages, a LOCK prefix end the run.
//
//     RIP ─▶ decoded before? ─▶ operands ─▶ action ─▶ flags ─▶ next RIP
//              │ no                │ page not known
//              ▼                   ▼
//           decoder             InterpretedMemory
//
// What is known of code and pages is forgotten when a run begins: between two runs anything may have changed. Within one, stores of the
// code's own don't reach pages that it was decoded from: the run ends in front of them. Stores of others to code come late, as they may on a
// processor that executes nothing that serializes.

import TrivisorInstructionSet

/// Interprets code for a while. Used on one thread at a time.
package final class Interpreter {
  /// General registers by number, and a zero for the base or index that an address does not have.
  let general: UnsafeMutablePointer<UInt64>
  /// The next instruction.
  @exclusivity(unchecked) package var rip: UInt64 = 0
  /// RFLAGS. Only the arithmetic ones change.
  @exclusivity(unchecked) package var flags: UInt64 = 0
  /// What FS and GS add to addresses.
  @exclusivity(unchecked) package var segmentBases: (fs: UInt64, gs: UInt64) = (0, 0)

  /// What came of a run.
  package struct Outcome: Sendable, Equatable {
    /// How many instructions were carried out.
    package var instructionCount = 0
    /// How many of their accesses were to pages that are sought.
    package var soughtCount = 0

    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    package init(instructionCount: Int = 0, soughtCount: Int = 0) {
      self.instructionCount = instructionCount
      self.soughtCount = soughtCount
    }
  }

  private struct KnownPage {
    /// The address without its last 12 bits.
    var number = UInt64.max
    var host: UnsafeMutableRawPointer
    var isWritable = false
    var isSought = false
  }

  private static let instructionSlots = 1024
  private static let pageSlots = 64
  /// More pages of code than this are no loop.
  private static let codePageLimit = 16
  private static let pageSize = 4096
  /// No instruction is there.
  private static let nowhere = UInt64.max
  static let stackPointer = 4
  static let basePointer = 5

  private unowned let memory: any InterpretedMemory
  /// Instructions that were decoded in this run, by address, and where they are.
  private let instructions: UnsafeMutablePointer<PlainInstruction>
  private let places: UnsafeMutablePointer<UInt64>
  private let pages: UnsafeMutablePointer<KnownPage>
  private var codePages: [UnsafeMutableRawPointer] = []
  private let decoder = Decoder(mode: .bits64)
  @exclusivity(unchecked) private var outcome = Outcome()

  /// - Parameter memory: the code's; outlives this.
  package init(in memory: any InterpretedMemory) {
    self.memory = memory
    let registerCount = Int(PlainInstruction.none) + 1
    general = .allocate(capacity: registerCount)
    general.initialize(repeating: 0, count: registerCount)
    instructions = .allocate(capacity: Self.instructionSlots)
    instructions.initialize(repeating: PlainInstruction(action: .nothing), count: Self.instructionSlots)
    places = .allocate(capacity: Self.instructionSlots)
    places.initialize(repeating: Self.nowhere, count: Self.instructionSlots)
    pages = .allocate(capacity: Self.pageSlots)
    pages.initialize(repeating: KnownPage(host: UnsafeMutableRawPointer(general)), count: Self.pageSlots)
    codePages.reserveCapacity(Self.codePageLimit)
  }

  deinit {
    general.deallocate()
    instructions.deallocate()
    places.deallocate()
    pages.deallocate()
  }

  /// A general register by its number in encodings, 0 to 15.
  package subscript(general number: Int) -> UInt64 {
    get { general[number & 15] }
    set { general[number & 15] = newValue }
  }

  /// Carries out instructions.
  /// - Parameters:
  ///   - limit: at most so many.
  ///   - patience: at most so many behind the last one that used a page that is sought.
  package func run(limit: Int, patience: Int) -> Outcome {
    codePages.removeAll(keepingCapacity: true)
    places.update(repeating: Self.nowhere, count: Self.instructionSlots)
    for slot in 0..<Self.pageSlots { pages[slot].number = .max }
    outcome = Outcome()
    var (known, end) = (0, min(limit, patience))
    while outcome.instructionCount < end {
      let slot = Int(truncatingIfNeeded: rip ^ rip >> 10) & (Self.instructionSlots - 1)
      if places[slot] != rip {
        guard let instruction = decode() else { break }
        instructions[slot] = instruction
        places[slot] = rip
      }
      guard carryOut(instructions + slot) else { break }
      outcome.instructionCount &+= 1
      if outcome.soughtCount != known {
        known = outcome.soughtCount
        end = min(limit, outcome.instructionCount &+ patience)
      }
    }
    return outcome
  }

  // MARK: Code

  private func decode() -> PlainInstruction? {
    guard let page = memory.page(at: rip, for: .execute) else { return nil }
    if !codePages.contains(page.host) {
      guard codePages.count < Self.codePageLimit else { return nil }
      codePages.append(page.host)
      for slot in 0..<Self.pageSlots where pages[slot].host == page.host { pages[slot].isWritable = false }
    }
    let offset = Int(rip & 4095)
    let bytes = UnsafeRawBufferPointer(
      start: page.host + offset, count: min(Decoder.maximumLength, Self.pageSize - offset))
    var instruction = Instruction(mode: .bits64)
    // What goes on in the next page is left to the processor.
    guard case .decoded = decoder.decode(bytes, into: &instruction) else { return nil }
    return PlainInstruction(instruction, at: rip)
  }

  // MARK: Memory

  @inline(__always)
  func address(of instruction: UnsafePointer<PlainInstruction>) -> UInt64 {
    let index = general[Int(instruction.pointee.index)] &<< UInt64(instruction.pointee.scale)
    let offset = general[Int(instruction.pointee.base)] &+ index &+ instruction.pointee.displacement
    return switch instruction.pointee.segment {
    case .zero: offset
    case .fs: offset &+ segmentBases.fs
    case .gs: offset &+ segmentBases.gs
    }
  }

  /// Where bytes are that may be used so; they lie in one page.
  @inline(__always)
  func place(_ address: UInt64, size: UInt8, forWriting: Bool) -> UnsafeMutableRawPointer? {
    let slot = pages + (Int(truncatingIfNeeded: address &>> 12) & (Self.pageSlots - 1))
    let offset = Int(address & 4095)
    guard offset + Int(size) <= Self.pageSize else { return nil }
    if slot.pointee.number != address &>> 12 || forWriting && !slot.pointee.isWritable {
      guard find(address, forWriting: forWriting, slot) else { return nil }
    }
    if slot.pointee.isSought { outcome.soughtCount &+= 1 }
    return slot.pointee.host + offset
  }

  @inline(never)
  private func find(_ address: UInt64, forWriting: Bool, _ slot: UnsafeMutablePointer<KnownPage>) -> Bool {
    guard let page = memory.page(at: address, for: forWriting ? .write : .read),
      !forWriting || !codePages.contains(page.host)
    else { return false }
    slot.pointee = KnownPage(
      number: address >> 12, host: page.host, isWritable: forWriting, isSought: page.isSought)
    return true
  }

  @inline(__always)
  func load(_ place: UnsafeMutableRawPointer, size: UInt8) -> UInt64 {
    switch size {
    case 8: place.loadUnaligned(as: UInt64.self)
    case 4: UInt64(place.loadUnaligned(as: UInt32.self))
    case 2: UInt64(place.loadUnaligned(as: UInt16.self))
    default: UInt64(place.load(as: UInt8.self))
    }
  }

  @inline(__always)
  func store(_ value: UInt64, to place: UnsafeMutableRawPointer, size: UInt8) {
    switch size {
    case 8: place.storeBytes(of: value, as: UInt64.self)
    case 4: place.storeBytes(of: UInt32(truncatingIfNeeded: value), as: UInt32.self)
    case 2: place.storeBytes(of: UInt16(truncatingIfNeeded: value), as: UInt16.self)
    default: place.storeBytes(of: UInt8(truncatingIfNeeded: value), as: UInt8.self)
    }
  }
}
