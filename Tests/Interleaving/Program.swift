// What one processor does: rounds of calls, stores to code, operations on data among code, and what serializes.
//
// R14 is where its notes go, R13 counts rounds.

/// A processor's code and what its notes mean.
struct Program {
  /// What a note says of a function's, a word's or an instruction's value.
  enum Subject {
    case function(Int)
    /// A plain word on a page of code, that the processor owns.
    case word
    /// The word of the instruction behind the one that stored it.
    case ownCode
    /// A function when all is over.
    case last(Int)
  }

  private(set) var code: Code
  private(set) var subjects: [Subject] = []
  private(set) var text: [String] = []
  /// By page, how often it adds one in a round; the last one is the counter on two pages.
  private(set) var additions = [UInt32](repeating: 0, count: 5)
  let rounds: UInt32
  let isUser: Bool
  let processor: Int
  private let functions: [Function]
  private let count: Int
  private var moves = 0

  init(
    _ processor: Int, of count: Int, functions: [Function], isUser: Bool, rounds: UInt32, _ random: inout RandomNumbers
  ) {
    self.processor = processor
    self.count = count
    self.functions = functions
    self.isUser = isUser
    self.rounds = rounds
    code = Code(at: Layout.program(processor))
    begin()
    code.add([0x41, 0xbd], rounds)
    let start = code.address
    for _ in 0..<(4 + random.below(24)) { addStep(&random) }
    code.add(0x41, 0xff, 0xcd)  // dec r13d
    code.add([0x0f, 0x85], to: start)
    end(&random)
  }

  private var others: [Int] { (0..<count).filter { $0 != processor } }

  /// At CPL 0: the local APIC is on; waits for the others.
  private mutating func begin() {
    code.setEAX(0x1ff)
    code.writeModelSpecific(0x80f)
    code.add(0xfb)  // sti
    code.lockIncrement(Layout.started)
    wait(for: Layout.started)
    guard isUser else { return }
    code.add(0x48, 0x89, 0xe1, 0x6a, 0x1b, 0x51)  // mov rcx, rsp; push 0x1b; push rcx
    code.add([0x68], 0x3202)  // push: IOPL 3, IF
    code.add(0x6a, 0x23)  // push 0x23
    code.add([0x48, 0x8d, 0x05], 3)
    code.add(0x50, 0x48, 0xcf)
  }

  private mutating func wait(for place: UInt32) {
    let count = UInt8(count)
    code.wait { code in
      code.loadEAX(place)
      code.add(0x83, 0xf8, count)  // cmp eax, count
    }
  }

  private mutating func end(_ random: inout RandomNumbers) {
    code.lockIncrement(Layout.finished)
    wait(for: Layout.finished)
    code.cpuid()
    for function in functions {
      note(.last(function.number), "last \(function.number)", floor: { _ in }) {
        $0.add([0xe8], to: function.address)
      }
    }
    code.add(0xe6, Layout.endPort)  // out
    code.add(0xeb, 0xfe)
  }

  private mutating func addStep(_ random: inout RandomNumbers) {
    let function = functions[random.below(functions.count)]
    let isOwn = function.owner == processor
    switch random.below(16) {
    case 0...4: addCall(function, &random)
    case 5...8:
      if function.kind == .moving {
        if isOwn { move(function, &random) }
      } else if isOwn {
        store(function, &random)
        if random.chance(40) { addCall(function, &random) }
      } else {
        addCall(function, &random)
      }
    case 9:
      let page = random.below(4)
      text.append("add one on page \(page)")
      additions[page] += 1
      switch random.below(3) {
      case 0: code.lockIncrement(Layout.counter(page: page))
      case 1:
        code.setEAX(1)
        code.add([0xf0, 0x0f, 0xc1, 0x04, 0x25], Layout.counter(page: page))  // lock xadd
      default:
        let start = code.address
        code.loadEAX(Layout.counter(page: page))
        code.add(0x8d, 0x48, 1)  // lea ecx, [rax + 1]
        code.add([0xf0, 0x0f, 0xb1, 0x0c, 0x25], Layout.counter(page: page))  // lock cmpxchg
        code.add([0x0f, 0x85], to: start)
      }
    case 10:
      text.append("add one on two pages")
      additions[4] += 1
      code.add([0xf0, 0x48, 0x83, 0x04, 0x25], Layout.splitCounter)
      code.add(1)
    case 11:
      let place = Layout.word(processor, page: random.below(4))
      code.incrementOwn(Layout.wordVersion)
      code.loadOwnEAX(Layout.wordVersion)
      if random.chance(50) { code.storeEAX(place) } else { code.add([0x87, 0x04, 0x25], place) }
      note(.word, "own word", exact: Layout.wordVersion) { $0.loadEAX(place) }
    case 12:
      code.incrementOwn(Layout.codeVersion)
      note(.ownCode, "own code", exact: Layout.codeVersion) { code in
        code.loadOwnEAX(Layout.codeVersion)
        code.add([0x89, 0x05], 1)  // mov [rip + 1], eax
        code.setEAX(0)
      }
    case 13:
      text.append("serialize")
      if random.chance(50) { code.cpuid() } else { code.interruptReturn() }
    case 14 where !isUser:
      switch random.below(3) {
      case 0:
        text.append("load CR3")
        code.add(0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8)
      case 1:
        text.append("INVLPG")
        code.add([0x0f, 0x01, 0x3c, 0x25], Layout.moving)
      default:
        text.append("interrupt")
        interruptOthers()
      }
    default: addCall(function, &random)
    }
  }

  private mutating func interruptOthers() {
    // All but itself, fixed.
    code.setEAX(0xc_4000 | UInt32(Layout.vector))
    code.writeModelSpecific(0x830)
  }

  // MARK: Notes

  private mutating func note(
    _ subject: Subject, _ what: String, floor: (inout Code) -> Void, ceiling: Bool = false,
    _ value: (inout Code) -> Void
  ) {
    text.append("note \(subjects.count): \(what)")
    code.add([0x41, 0xc7, 0x06], UInt32(subjects.count))  // mov dword [r14], …
    subjects.append(subject)
    code.add(0x31, 0xc0)
    floor(&code)
    code.add(0x41, 0x89, 0x46, 4)  // mov [r14 + 4], eax
    if !ceiling {
      code.add(0x83, 0xc8, 0xff)  // or eax, -1
    }
    code.add(0x41, 0x89, 0x46, 12)
    value(&code)
    code.add(0x41, 0x89, 0x46, 8, 0x49, 0x83, 0xc6, 16)
  }

  private mutating func note(_ subject: Subject, _ what: String, exact: UInt32, _ value: (inout Code) -> Void) {
    note(subject, what, floor: { $0.loadOwnEAX(exact) }, ceiling: true, value)
  }

  private mutating func addCall(_ function: Function, _ random: inout RandomNumbers) {
    let way = random.below(5)
    let serializes = random.below(3)
    func call(_ code: inout Code) {
      let alias = function.kind == .moving ? function.address : Function.alias(function.address)
      switch way {
      case 0, 1: code.add([0xe8], to: function.address)
      case 2:
        code.setEAX(alias)
        code.add(0xff, 0xd0)
      case 3: code.add([0x65, 0xff, 0x14, 0x25], Layout.pointer(function.number))
      default: code.add([0xe8], to: alias)
      }
    }
    if function.owner == processor {
      note(
        .function(function.number), "call own \(function.number) by way \(way)",
        exact: Layout.version(function.number), call)
    } else if serializes == 0 {
      note(.function(function.number), "call \(function.number) by way \(way)", floor: { _ in }, call)
    } else {
      note(
        .function(function.number), "look at \(function.number)'s flag, serialize, call by way \(way)",
        floor: { $0.loadEAX(Layout.flag(function.number)) }
      ) { code in
        if serializes == 1 { code.cpuid() } else { code.interruptReturn() }
        call(&code)
      }
    }
  }

  // MARK: Stores to code

  private mutating func store(_ function: Function, _ random: inout RandomNumbers) {
    let place = random.chance(50) ? function.place : Function.alias(function.place)
    let way = random.below(7)
    text.append("store to \(function.number) by way \(way)\(place == function.place ? "" : ", elsewhere")")
    code.incrementOwn(Layout.version(function.number))
    code.loadOwnEAX(Layout.version(function.number))
    function.addWord(to: &code)
    let wide: [UInt8] = function.kind == .whole ? [0x48] : []
    switch way {
    case 0: code.add(wide + [0x89, 0x04, 0x25], place)
    case 1:
      code.setEDI(place)
      code.add(wide + [0x89, 0x07])
    case 2: code.add(wide + [0x87, 0x04, 0x25], place)  // xchg
    case 3:
      code.add(wide + [0x89, 0xc1])  // mov rcx, rax
      code.add(wide + [0x8b, 0x04, 0x25], place)
      code.add([0xf0] + wide + [0x0f, 0xb1, 0x0c, 0x25], place)  // lock cmpxchg
    case 4:
      code.setEDI(place)
      code.add(wide + [0xab])  // stos
    case 5:
      code.setEDI(place)
      code.setECX(1)
      code.add([0xf3] + wide + [0xab])
    default:
      code.add([0x65] + wide + [0x89, 0x04, 0x25], Layout.temporary)
      code.setEDI(place)
      code.add([0xbe], Layout.own(processor) + Layout.temporary)
      code.add(wide + [0xa5])  // movs
    }
    if !isUser, random.chance(20) { interruptOthers() }
    if random.chance(70) { publish(function.number) }
  }

  private mutating func publish(_ function: Int) {
    code.loadOwnEAX(Layout.version(function))
    code.storeEAX(Layout.flag(function))
  }

  /// Puts another page where the moving one is, tells everybody, and uses the old one for something else.
  private mutating func move(_ function: Function, _ random: inout RandomNumbers) {
    guard !isUser, (moves + 1) * Int(rounds) < Layout.poolCount else { return }
    moves += 1
    text.append("move \(function.number)")
    let version = Layout.version(function.number)
    code.incrementOwn(version)
    code.loadOwnEAX(version)
    code.add(0xc1, 0xe0, 12)  // shl eax, 12
    code.add([0x05], Layout.pool | 7)
    code.storeEAX(Layout.level1 + Layout.moving >> 12 * 8)
    code.add([0x0f, 0x01, 0x3c, 0x25], Layout.moving)  // invlpg
    code.loadOwnEAX(version)
    code.add([0x87, 0x04, 0x25], Layout.moves)  // xchg
    interruptOthers()
    for other in others {
      code.wait { code in
        code.loadEAX(Layout.acknowledged(other))
        code.add([0x65, 0x3b, 0x04, 0x25], version)  // cmp eax, gs:…
      }
    }
    code.loadOwnEAX(version)
    code.add(0xc1, 0xe0, 12)
    code.add([0x05], Layout.pool - 4096 + Layout.movingOffset + 1)
    code.add(0xc7, 0x00)  // mov dword [rax], …
    code.add32(0x00de_ad00)
    publish(function.number)
  }
}

extension Code {
  mutating func add(_ more: [UInt8]) { for byte in more { add(byte) } }
}
