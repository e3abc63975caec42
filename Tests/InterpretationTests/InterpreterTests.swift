import Glibc
import Testing
import TrivisorInterpretation

/// Memory of this process, at its own addresses.
private final class OwnMemory: InterpretedMemory {
  let memory: CodeAndData
  /// Pages of the data that are read-only, that are not there, or that are sought; by number.
  var readOnly: Set<UInt64> = []
  var missing: Set<UInt64> = []
  var sought: Set<UInt64> = []
  private(set) var asked: [(number: UInt64, use: PageUse)] = []

  init(_ memory: CodeAndData) { self.memory = memory }

  func page(at address: UInt64, for use: PageUse) -> InterpretedPage? {
    let isCode = address >> 12 == memory.codeAddress >> 12
    let number = (address &- memory.dataAddress) >> 12
    asked.append((number, use))
    guard isCode || number < UInt64(CodeAndData.dataSize) >> 12, !missing.contains(number),
      use != .write || !readOnly.contains(number), let host = UnsafeMutableRawPointer(bitPattern: UInt(address & ~4095))
    else { return nil }
    return InterpretedPage(host: host, isSought: sought.contains(number))
  }
}

/// The same sequence for the same seed (xorshift64*).
private struct Numbers: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state ^= state >> 12
    state ^= state << 25
    state ^= state >> 27
    return state &* 2_685_821_657_736_338_717
  }
}

@Suite("the interpreter of plain instructions")
struct InterpreterTests {
  private let memory: CodeAndData
  private let own: OwnMemory
  private let interpreter: Interpreter
  private static let arithmetic: UInt64 = 0x8d5

  init() throws {
    memory = try CodeAndData()
    own = OwnMemory(memory)
    interpreter = Interpreter(in: own)
  }

  private func load(_ state: PlainState, at offset: Int = 0) {
    for number in 0..<16 { interpreter[general: number] = state.general[number] }
    interpreter.flags = state.flags
    interpreter.rip = memory.codeAddress + UInt64(offset)
  }

  private var state: PlainState {
    PlainState(general: (0..<16).map { interpreter[general: $0] }, flags: interpreter.flags)
  }

  private func randomState(_ random: inout Numbers) -> PlainState {
    var state = PlainState()
    for number in 0..<16 {
      let few: [UInt64] = [0, 1, 0x7f, 0x80, 0x7fff_ffff, 0x8000_0000, .max, 1 << 63]
      state.general[number] =
        Bool.random(using: &random)
        ? random.next() >> UInt64.random(in: 0..<64, using: &random) : few.randomElement(using: &random) ?? 0
    }
    for base in InstructionMaker.bases + [4] {
      state.general[Int(base)] = memory.dataAddress + 0x8000 + UInt64.random(in: 0..<512, using: &random)
    }
    state.general[Int(InstructionMaker.index)] = UInt64.random(in: 0..<64, using: &random)
    state.flags = 0x202 | random.next() & Self.arithmetic
    return state
  }

  @Test("does what this host's processor does: registers, memory, defined flags, the next address")
  func differential() throws {
    var random = Numbers(state: 0x9e37_79b9_7f4a_7c15)
    var contents = memory.bytes()
    for position in contents.indices { contents[position] = UInt8(truncatingIfNeeded: random.next()) }
    #if DEBUG
    let rounds = 60
    #else
    let rounds = 2000
    #endif
    for kind in InstructionMaker.kinds {
      var carriedOut = 0
      for _ in 0..<rounds {
        let (bytes, size) = InstructionMaker.make(kind, using: &random)
        let before = randomState(&random)
        memory.set(contents)
        let native = memory.run(bytes, from: before)
        let nativeContents = memory.bytes()
        memory.set(contents)
        load(before)
        let outcome = interpreter.run(limit: 1, patience: 1)
        guard outcome.instructionCount == 1 else {
          // Left to the processor: nothing has happened.
          #expect(state == before)
          #expect(interpreter.rip == memory.codeAddress)
          #expect(memory.bytes() == contents)
          continue
        }
        carriedOut += 1
        let undefined = InstructionMaker.undefinedFlags(kind, size, bytes, count: before.general[1])
        let what = "\(kind.name): \(bytes.map { String($0, radix: 16) }) from \(before)"
        #expect(state.general == native.general, "\(what)")
        let compared = Self.arithmetic & ~undefined
        #expect(state.flags & compared == native.flags & compared, "\(what)")
        #expect(state.flags & ~Self.arithmetic == before.flags & ~Self.arithmetic, "\(what)")
        #expect(memory.bytes() == nativeContents, "\(what)")
        #expect(interpreter.rip == memory.codeAddress + UInt64(bytes.count), "\(what)")
      }
      // Operands that cross pages are few.
      #expect(carriedOut * 10 >= rounds * 6, "\(kind.name) \(kind.opcode): \(carriedOut) of \(rounds)")
    }
  }

  @Test("conditional jumps go where SETcc says", arguments: 0..<16 as Range<UInt8>)
  func jumps(condition: UInt8) throws {
    var random = Numbers(state: 7 + UInt64(condition))
    for _ in 0..<200 {
      let before = randomState(&random)
      // SETcc AL
      let isMet = memory.run([0x0f, 0x90 + condition, 0xc0], from: before).general[0] & 0xff == 1
      // Jcc over a byte; Jcc with 32 bits
      let encodings: [([UInt8], Int)] = [([0x70 + condition, 1], 3), ([0x0f, 0x80 + condition, 1, 0, 0, 0], 7)]
      for (bytes, target) in encodings {
        memory.place(bytes)
        load(before)
        #expect(interpreter.run(limit: 1, patience: 1).instructionCount == 1)
        #expect(interpreter.rip == memory.codeAddress + UInt64(isMet ? target : bytes.count))
        #expect(state == before)
      }
    }
  }

  @Test("a loop with a function, which looks up a table")
  func loop() throws {
    // again: call look_up; add rax, rdx; inc rcx; cmp rcx, 100; jne again; hlt
    // look_up: push rbx; mov rbx, rcx; mov rdx, [rsi + rbx * 8]; pop rbx; ret
    let code: [UInt8] = [
      0xe8, 0x0d, 0, 0, 0, 0x48, 0x01, 0xd0, 0x48, 0xff, 0xc1, 0x48, 0x83, 0xf9, 100, 0x75, 0xef, 0xf4,
      0x53, 0x48, 0x89, 0xcb, 0x48, 0x8b, 0x14, 0xde, 0x5b, 0xc3,
    ]
    memory.place(code)
    let table = memory.data.assumingMemoryBound(to: UInt64.self)
    for entry in 0..<100 { table[entry] = UInt64(entry * entry) }
    own.sought = [0]
    var state = PlainState()
    state.general[4] = memory.dataAddress + 0x8000
    state.general[6] = memory.dataAddress
    load(state)
    let outcome = interpreter.run(limit: 10_000, patience: 20)
    #expect(outcome == Interpreter.Outcome(instructionCount: 1000, soughtCount: 100))
    #expect(interpreter[general: 0] == (0..<100).reduce(0) { $0 + $1 * $1 })
    #expect(interpreter[general: 4] == state.general[4])
    #expect(interpreter.rip == memory.codeAddress + 17)
    // No more than it is asked for, and no longer than it has patience.
    load(state)
    #expect(interpreter.run(limit: 7, patience: 20) == .init(instructionCount: 7, soughtCount: 1))
    own.sought = []
    load(state)
    #expect(interpreter.run(limit: 10_000, patience: 20) == .init(instructionCount: 20, soughtCount: 0))
  }

  @Test(
    "what is left to the processor",
    arguments: [
      [0xf4], [0x0f, 0x05], [0xcd, 0x82], [0xcc], [0x0f, 0xa2], [0x9c], [0x9d], [0xfa], [0xec], [0x0f, 0x31],
      // LOCK; string instructions; x87, SSE; XCHG with memory; a 32-bit address; INT3 behind PAUSE
      [0xf0, 0x48, 0x01, 0x03], [0xf3, 0x48, 0xab], [0xa4], [0xd9, 0xee], [0x0f, 0x28, 0x03], [0x48, 0x87, 0x03],
      [0x67, 0x8b, 0x03], [0xf3, 0x90], [0x0f, 0xae, 0xf0], [0x8e, 0xd8], [0x8c, 0xd8], [0x0f, 0x0b], [0xf7, 0xf1],
      [0xc2, 8, 0], [0x66, 0xc3], [0x66, 0x50], [0xff, 0x1b], [0x06], [0x48, 0xcf], [0x0f, 0x20, 0xc0],
    ] as [[UInt8]])
  func refused(bytes: [UInt8]) {
    memory.place(bytes)
    var before = PlainState()
    before.general[3] = memory.dataAddress
    before.general[4] = memory.dataAddress + 0x8000
    load(before)
    #expect(interpreter.run(limit: 1, patience: 1).instructionCount == 0)
    #expect(state == before)
    #expect(interpreter.rip == memory.codeAddress)
  }

  @Test("of an access that can't be, nothing has happened; and a page is asked for each way of using it")
  func faults() {
    own.missing = [1]
    own.readOnly = [2]
    var before = PlainState()
    func refuses(_ bytes: [UInt8], _ register: Int, _ offset: UInt64) {
      memory.place(bytes)
      before.general[register] = memory.dataAddress + offset
      load(before)
      #expect(interpreter.run(limit: 1, patience: 1).instructionCount == 0, "\(bytes)")
      #expect(state == before, "\(bytes)")
    }
    before.general[4] = memory.dataAddress + 0x8000
    // MOV RAX, [RBX]; ADD [RBX], EAX; across two pages; far away
    refuses([0x48, 0x8b, 0x03], 3, 0x1000)
    refuses([0x01, 0x03], 3, 0x2000)
    refuses([0x48, 0x8b, 0x03], 3, 0x3ffc)
    refuses([0x48, 0x8b, 0x03], 3, 1 << 50)
    // PUSH RAX, CALL, RET, POP, LEAVE on a stack that is not there; RET and JMP to an address that no process has
    for bytes in [[0x50], [0xe8, 0, 0, 0, 0], [0xff, 0xd0]] as [[UInt8]] { refuses(bytes, 4, 0x2008) }
    for bytes in [[0xc3], [0x58]] as [[UInt8]] { refuses(bytes, 4, 0x1000) }
    refuses([0xc9], 5, 0x1000)
    memory.data.storeBytes(of: 1 << 47, toByteOffset: 0x4000, as: UInt64.self)
    refuses([0xc3], 4, 0x4000)
    refuses([0xff, 0x23], 3, 0x4000)
    // Loads, then a store
    memory.place([0x48, 0x8b, 0x03, 0x48, 0x8b, 0x03, 0x89, 0x03, 0x89, 0x03])
    before.general[3] = memory.dataAddress + 0x5000
    before.general[4] = memory.dataAddress + 0x8000
    load(before)
    let count = own.asked.count
    #expect(interpreter.run(limit: 4, patience: 4).instructionCount == 4)
    #expect(own.asked[count...].filter { $0.number == 5 }.map(\.use) == [.read, .write])
  }

  @Test("code that it was decoded from is not stored to, and what changed between two runs is seen")
  func changedCode() {
    // MOV [RIP + 0], EAX: into what follows it
    memory.place([0x89, 0x05, 0, 0, 0, 0, 0xff, 0xc1])
    load(PlainState())
    #expect(interpreter.run(limit: 2, patience: 2).instructionCount == 0)
    // INC ECX, DEC ECX
    for (byte, result) in [(0xc1 as UInt8, 1 as UInt64), (0xc9, 0xffff_ffff)] {
      memory.place([0xff, byte])
      load(PlainState())
      #expect(interpreter.run(limit: 1, patience: 1).instructionCount == 1)
      #expect(interpreter[general: 1] == result)
    }
  }

  @Test("FS and GS add their bases, other segments nothing")
  func segments() {
    memory.data.storeBytes(of: 0x1122, toByteOffset: 0x3010, as: UInt64.self)
    interpreter.segmentBases = (memory.dataAddress + 0x3000, memory.dataAddress + 0x2ff0)
    // MOV RAX, FS:[RBX]; GS:[RBX + 0x10]; ES:[RBX + RCX]
    for (bytes, base) in [
      ([0x64, 0x48, 0x8b, 0x03], 0x10), ([0x65, 0x48, 0x8b, 0x43, 0x10], 0x10),
      ([0x26, 0x48, 0x8b, 0x04, 0x0b], 0x3010),
    ] as [([UInt8], UInt64)] {
      memory.place(bytes)
      var before = PlainState()
      before.general[3] = base
      before.general[1] = memory.dataAddress
      load(before)
      #expect(interpreter.run(limit: 1, patience: 1).instructionCount == 1)
      #expect(interpreter[general: 0] == 0x1122)
    }
  }

  @Test("whatever the code is, it reaches what it may and nothing else")
  func random() {
    var random = Numbers(state: 11)
    (own.missing, own.readOnly, own.sought) = ([0, 15], [5, 6], [6])
    let forbidden = [0, 15, 5, 6]
    let contents = memory.bytes().indices.map { _ in UInt8(truncatingIfNeeded: random.next()) }
    memory.set(contents)
    var instructionCount = 0
    for round in 0..<3000 {
      // Among the random bytes whole instructions, or few would be carried out.
      var code: [UInt8] = []
      while code.count < 400 {
        if round % 2 == 0, let kind = InstructionMaker.kinds.randomElement(using: &random) {
          code += InstructionMaker.make(kind, using: &random).bytes
        } else {
          code.append(UInt8(truncatingIfNeeded: random.next()))
        }
      }
      memory.place(code)
      var before = randomState(&random)
      for number in 0..<16 where Bool.random(using: &random) {
        // Near an edge of some page.
        let edge = UInt64.random(in: 0...16, using: &random) << 12
        before.general[number] = memory.dataAddress + edge &+ UInt64.random(in: 0..<32, using: &random) &- 16
      }
      load(before)
      let outcome = interpreter.run(limit: 300, patience: 300)
      #expect(outcome.instructionCount <= 300)
      #expect(interpreter.rip >> 47 == 0)
      instructionCount += outcome.instructionCount
      for page in forbidden {
        let isSame = memcmp(memory.data + page * 4096, Array(contents[page * 4096..<(page + 1) * 4096]), 4096) == 0
        #expect(isSame, "page \(page) in round \(round)")
      }
    }
    #expect(instructionCount > 10_000)
  }
}
