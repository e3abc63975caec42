import Testing
import TrivisorVMM

@testable import TrivisorDebugger

@Suite struct SessionTests {
  @Test("It begins stopped, and says what it can")
  func beginning() {
    let debugger = Conversation()
    #expect(debugger.ask("?") == "T05thread:1;")
    let features = debugger.ask("qSupported:multiprocess+;swbreak+;hwbreak+;xmlRegisters=i386")
    #expect(features.contains("PacketSize=10000") && features.contains("qXfer:features:read+"))
    #expect(features.contains("QStartNoAckMode+"))
    #expect(debugger.ask("qfThreadInfo") == "m1,2")
    #expect(debugger.ask("qsThreadInfo") == "l")
    #expect(debugger.ask("vMustReplyEmpty") == "")
    #expect(debugger.ask("qAttached") == "1")
  }

  @Test("Packets are acknowledged until both agree that they need not be")
  func acknowledgements() {
    let debugger = Conversation()
    debugger.session.receive(.packet(Array("?".utf8)))
    #expect(debugger.session.takeOutput().first == UInt8(ascii: "+"))
    debugger.session.receive(.spoiled)
    #expect(debugger.session.takeOutput() == [UInt8(ascii: "-")])
    debugger.session.receive(.rejected)
    #expect(debugger.session.takeOutput() == Packet.framed(Array("T05thread:1;".utf8)))
    #expect(debugger.ask("QStartNoAckMode") == "OK")
    debugger.session.receive(.packet(Array("?".utf8)))
    #expect(debugger.session.takeOutput().first == UInt8(ascii: "$"))
    debugger.session.receive(.spoiled)
    #expect(debugger.session.takeOutput() == [])
  }

  @Test("The target description comes in pieces, and is one whole", arguments: [false, true])
  func description(_ is32Bit: Bool) {
    let debugger = Conversation(is32Bit: is32Bit)
    var text = ""
    while true {
      let part = debugger.ask("qXfer:features:read:target.xml:\(String(text.utf8.count, radix: 16)),200")
      text += part.dropFirst()
      if part.first != "m" { break }
    }
    #expect(text == debugger.session.registers.description)
    #expect(text.hasSuffix("</target>"))
    #expect(text.contains("<architecture>\(is32Bit ? "i386" : "i386:x86-64")</architecture>"))
    for name in ["core", "sse", "avx"] { #expect(text.contains("org.gnu.gdb.i386.\(name)")) }
    #expect(debugger.ask("qXfer:features:read:other.xml:0,200") == "E00")
    #expect(debugger.ask("qXfer:features:read:target.xml:ffffffff,200") == "E01")
  }

  @Test("Each register comes back as it was set", arguments: [false, true])
  func registers(_ is32Bit: Bool) throws {
    let debugger = Conversation(is32Bit: is32Bit)
    for (number, register) in debugger.session.registers.registers.enumerated() {
      var bytes = (0..<register.byteCount).map { UInt8(truncatingIfNeeded: number &* 7 &+ $0 &* 13 &+ 1) }
      switch register.place {
      // The hidden parts of segments stay, and so do their selectors.
      case .selector: continue
      case .modelSpecific: debugger.machine.states[0][modelSpecific: 0xc000_0102] = 0
      case .x87Control(let part): bytes = part == .ftag ? [0xff, 0xff, 0, 0] : [bytes[0], bytes[1] & 7, 0, 0]
      case .vectorControl: bytes = [0x80, 0x1f, 0, 0]
      case .base: bytes = [1, 2, 3, 4, 0, 0, 0, 0]
      // What can be without paging.
      case .control:
        let values: [String: UInt8] = ["cr0": 0x11, "cr4": 0x20, "cr8": 5, "efer": 0]
        bytes = [values[register.name] ?? 0x40] + Array(repeating: 0, count: register.byteCount - 1)
      case .instructionPointer: bytes = [0x34, 0x12] + Array(repeating: 0, count: register.byteCount - 2)
      case .general(let path) where path == \GeneralRegisters.rflags: bytes = [0x02, 0x03, 0, 0]
      default: break
      }
      let hex = String(decoding: HexText.digits(of: bytes), as: UTF8.self)
      #expect(debugger.ask("P\(String(number, radix: 16))=\(hex)") == "OK", "\(register.name)")
      #expect(debugger.ask("p\(String(number, radix: 16))") == hex, "\(register.name)")
    }
    let all = debugger.ask("g")
    #expect(debugger.ask("G" + all) == "OK")
    #expect(debugger.ask("g") == all)
    #expect(all.utf8.count == 2 * debugger.session.registers.registers.map(\.byteCount).reduce(0, +))
  }

  @Test("What no processor can be in is refused, and nothing changes")
  func impossible() {
    let debugger = Conversation()
    let numbers = Dictionary(
      uniqueKeysWithValues: debugger.session.registers.registers.enumerated().map { ($1.name, String($0, radix: 16)) })
    for (name, value) in [
      ("cr0", "00000080" + "00000000"), ("efer", "0005000000000000"), ("cr8", "1000000000000000"),
      ("fs_base", "0000000000000080"), ("cr4", "ffffffffffffffff"), ("mxcsr", "ffffffff"), ("cs", "33000000"),
    ] {
      let before = debugger.machine.states[0]
      #expect(debugger.ask("P\(numbers[name] ?? "")=\(value)") == "E01", "\(name)")
      #expect(debugger.machine.states[0] == before)
    }
  }

  @Test("x87 and vector registers of a processor that has not used them have their initial values")
  func initialState() {
    let debugger = Conversation()
    func value(_ name: String) -> [UInt8] {
      let register = debugger.session.registers.registers.first { $0.name == name }
      return register.map { debugger.machine.states[0].value(of: $0) } ?? []
    }
    #expect(value("fctrl") == [0x7f, 3, 0, 0])
    #expect(value("ftag") == [0xff, 0xff, 0, 0])
    #expect(value("mxcsr") == [0x80, 0x1f, 0, 0])
    // What lies in the area means nothing where the header says that it is not in use.
    debugger.machine.states[0].extended.area = Array(repeating: 0xee, count: 512) + Array(repeating: 0, count: 320)
    #expect(value("xmm3") == Array(repeating: 0, count: 16))
    #expect(value("fctrl") == [0x7f, 3, 0, 0])
  }

  @Test("The program counter is a linear address, whatever CS is")
  func programCounter() {
    let debugger = Conversation(is32Bit: true)
    debugger.machine.states[0].system.cs = .real(0x07c0, code: true)
    debugger.machine.states[0].general.rip = 5
    #expect(debugger.ask("p8") == "057c0000")
    #expect(debugger.ask("P8=107c0000") == "OK")
    #expect(debugger.machine.states[0].general.rip == 0x10)
  }

  @Test("Memory is read as far as it goes, and written whole or not at all")
  func memory() {
    let debugger = Conversation()
    debugger.machine.memory.replaceSubrange(0xfffc..., with: [1, 2, 3, 4])
    #expect(debugger.ask("mfffc,4") == "01020304")
    #expect(debugger.ask("mfffc,10") == "01020304")
    #expect(debugger.ask("m10000,4") == "E14")
    #expect(debugger.ask("mffe,4") == "00000000")
    #expect(debugger.ask("Mffe,4:a1b2c3d4") == "OK")
    #expect(debugger.ask("mffe,4") == "a1b2c3d4")
    #expect(debugger.ask(Array("X20,3:".utf8) + [0x23, 0x24, 0x7d]) == "OK")
    #expect(debugger.ask("m20,3") == "23247d")
    #expect(debugger.ask("X20,0:") == "OK")
    #expect(debugger.ask("Mffff,2:0102") == "E14")
    #expect(debugger.ask("M20,2:010203") == "E01")
    #expect(debugger.ask("m0,ffffffff") == "E01")
    #expect(debugger.ask("mffffffffffffffff,4") == "E14")
  }

  @Test("Breakpoints and watchpoints go with each resumption, and those that can't be had are refused at once")
  func breakpoints() {
    let debugger = Conversation()
    #expect(debugger.ask("Z0,1234,1") == "OK")
    #expect(debugger.ask("Z1,2345,1") == "OK")
    #expect(debugger.ask("Z2,3456,4") == "OK")
    #expect(debugger.ask("Z4,4567,8") == "OK")
    #expect(debugger.ask("z4,4567,8") == "OK")
    #expect(debugger.ask("Z5,1,1") == "")
    #expect(debugger.ask("Z2,1,0") == "E16")
    #expect(debugger.ask("Z2,1,ffffffffffff") == "E16")
    debugger.machine.refuses = { $0.breakpoints.contains(0x9999) }
    #expect(debugger.ask("Z0,9999,1") == "E16")
    #expect(debugger.ask("vCont;c") == "")
    let orders = debugger.machine.released.first?[0]
    #expect(orders?.breakpoints == [0x1234])
    #expect(orders?.hardwareBreakpoints == [0x2345])
    #expect(orders?.watchpoints == [Watchpoint(address: 0x3456, length: 4, use: .write)])
  }

  @Test("Breakpoints are not without end")
  func manyBreakpoints() {
    let debugger = Conversation()
    for number in 0..<4096 { #expect(debugger.ask("Z0,\(String(number, radix: 16)),1") == "OK") }
    #expect(debugger.ask("Z0,9999,1") == "E16")
    #expect(debugger.ask("Z0,1,1") == "OK")
  }

  @Test("Actions of a resumption count for the threads that they name, the first one first")
  func actions() {
    func orders(_ packet: String) -> [Int: Bool]? {
      let debugger = Conversation()
      _ = debugger.ask(packet)
      return debugger.machine.released.first?.mapValues(\.steps)
    }
    #expect(orders("vCont;c") == [0: false, 1: false])
    #expect(orders("vCont;s:2;c") == [0: false, 1: true])
    #expect(orders("vCont;s:1") == [0: true])
    #expect(orders("vCont;C05:2") == [1: false])
    #expect(orders("vCont;s:-1") == [0: true, 1: true])
    #expect(orders("vCont;c:1;s:1") == [0: false])
    #expect(orders("s") == [0: true, 1: false])
    #expect(orders("c") == [0: false, 1: false])
    #expect(orders("vCont;x") == nil)
    #expect(orders("vCont;s:3") == nil)
    #expect(orders("vCont;") == nil)
  }

  @Test("Stops are told with their reasons; of several at the same time one after the other")
  func stops() {
    let debugger = Conversation()
    _ = debugger.ask("qSupported:swbreak+")
    _ = debugger.ask("Z0,1000,1")
    #expect(debugger.ask("vCont;c") == "")
    debugger.machine.news = [
      .stopped(processor: 1, .breakpoint(isHardware: false)), .stopped(processor: 0, .breakpoint(isHardware: false)),
    ]
    debugger.session.noticeNews()
    #expect(debugger.answers() == ["T05thread:2;swbreak:;"])
    #expect(debugger.machine.isHeld)
    #expect(debugger.ask("qC") == "QC2")
    // The other one is still at its breakpoint.
    #expect(debugger.ask("vCont;c") == "T05thread:1;swbreak:;")
    #expect(debugger.machine.released.count == 1)
    #expect(debugger.ask("vCont;c") == "")
    debugger.machine.news = [.stopped(processor: 0, .watchpoint(Watchpoint(address: 0x20, length: 4, use: .access)))]
    debugger.session.noticeNews()
    #expect(debugger.answers() == ["T05thread:1;awatch:20;"])
  }

  @Test("A breakpoint that is gone by the time is not told any more")
  func staleStops() {
    let debugger = Conversation()
    _ = debugger.ask("Z0,1000,1")
    _ = debugger.ask("vCont;c")
    debugger.machine.news = [
      .stopped(processor: 1, .step), .stopped(processor: 0, .breakpoint(isHardware: false)),
    ]
    debugger.session.noticeNews()
    _ = debugger.answers()
    _ = debugger.ask("z0,1000,1")
    #expect(debugger.ask("vCont;c") == "")
    #expect(debugger.machine.released.count == 2)
  }

  @Test("Ctrl-C stops what runs, and nothing else")
  func interrupt() {
    let debugger = Conversation()
    debugger.session.receive(.interrupt)
    #expect(debugger.answers() == [])
    _ = debugger.ask("vCont;c")
    debugger.session.receive(.interrupt)
    #expect(debugger.answers() == ["T02thread:1;"])
    #expect(debugger.machine.isHeld)
  }

  @Test("What would end the guest is told first, and what ended it is told last")
  func endings() {
    let debugger = Conversation()
    _ = debugger.ask("vCont;c")
    debugger.machine.news = [.ending(processor: 1, .tripleFault)]
    debugger.session.noticeNews()
    let answers = debugger.answers()
    #expect(answers.count == 2 && answers[0].hasPrefix("O") && answers[1] == "T0bthread:2;")
    _ = debugger.ask("vCont;c")
    debugger.session.noticeEnd(status: 3)
    #expect(debugger.answers() == ["W03"])
    #expect(debugger.session.wish == .close)
  }

  @Test("Detach lets go, kill ends")
  func leaving() {
    let debugger = Conversation()
    #expect(debugger.ask("D") == "OK")
    #expect(debugger.session.wish == .close)
    let other = Conversation()
    _ = other.ask("k")
    #expect(other.machine.isKilled && other.session.wish == .close)
  }

  @Test("The user's commands")
  func monitor() {
    let debugger = Conversation()
    debugger.machine.memory.replaceSubrange(0x100..<0x103, with: Array("abc".utf8))
    #expect(
      debugger.monitor("physical 0x100 3") == "0x000000100  61 62 63" + String(repeating: " ", count: 40) + "abc\n")
    #expect(debugger.monitor("physical 0x100 99999").contains("at most 4096"))
    #expect(debugger.monitor("physical 0x10000").contains("no RAM"))
    #expect(debugger.monitor("physical").contains("give an address"))
    #expect(debugger.monitor("walk 0x1234") == "0x1234 is guest physical 0x1234: paging is off\n")
    #expect(debugger.monitor("walk 12z").contains("give a linear address"))
    #expect(debugger.monitor("cpuid 1").hasPrefix("0x00000001.0: EAX 0x00000000"))
    #expect(debugger.monitor("cpuid 99999999999").contains("give a leaf"))
    #expect(debugger.monitor("registers").contains("CR0 0x1 "))
    #expect(debugger.monitor("statistics").contains("7  exits"))
    #expect(debugger.monitor("memory physical") == "addresses are guest physical\n")
    #expect(debugger.monitor("memory virtual").contains("either physical or linear"))
    #expect(debugger.monitor("nonsense").contains("monitor help"))
    #expect(debugger.monitor("").contains("walk ADDRESS"))
  }

  @Test("A walk shows each table on the way")
  func walk() {
    let debugger = Conversation()
    func put(_ value: UInt64, at place: Int) {
      for byte in 0..<8 { debugger.machine.memory[place + byte] = UInt8(truncatingIfNeeded: value >> UInt64(8 * byte)) }
    }
    put(0x2067, at: 0x1ff8)
    put(0x3063, at: 0x2000 + 8 * 510)
    put(0x8000_0000_0000_01e3, at: 0x3008)
    debugger.machine.states[0].system.cr0 = 0x8000_0001
    debugger.machine.states[0].system.cr3 = 0x1000
    debugger.machine.states[0].system.cr4 = 0x20
    debugger.machine.states[0].system.efer = 0x500
    let text = debugger.monitor("walk 0xffffffff80200010")
    #expect(text.contains("PML4E at 0x1ff8: 0x0000000000002067 P RW US A D\n"))
    #expect(text.contains("P RW A D PS G NX"))
    #expect(text.hasSuffix("0xffffffff80200010 is guest physical 0x10: a page of 2048 KiB\n"))
    #expect(debugger.monitor("walk 0xffffffff80400010").hasSuffix("is nowhere\n"))
    #expect(debugger.monitor("walk 0x800000000000").hasSuffix("is nowhere\n"))
  }

  @Test("Whatever comes, each packet has its answer and nothing breaks", arguments: 0..<8)
  func hostile(_ seed: Int) {
    var generator = SplitMix(state: UInt64(seed))
    let debugger = Conversation()
    let letters = Array("?gGpPmMXZzHTcsCSDkvqQR!0123456789abcdef,;:=-#*".utf8)
    let heads = [
      "vCont;", "qXfer:features:read:target.xml:", "qRcmd,", "qThreadExtraInfo,", "qSupported:", "Z2,", "X", "H", "P",
      "qRcmd,7068", "qRcmd,77616c6b20", "G", "m", "M0,",
    ]
    for _ in 0..<4000 {
      var packet = Bool.random(using: &generator) ? Array((heads.randomElement(using: &generator) ?? "").utf8) : []
      for _ in 0..<Int.random(in: 0...40, using: &generator) {
        packet.append(
          Int.random(in: 0..<20, using: &generator) == 0
            ? UInt8.random(in: 0...255, using: &generator) : letters.randomElement(using: &generator) ?? 0)
      }
      debugger.session.receive(.packet(packet))
      _ = debugger.session.takeOutput()
      debugger.session.receive(.interrupt)
      _ = debugger.session.takeOutput()
    }
    #expect(debugger.machine.memory.count == 0x10000)
  }
}

/// Numbers that are the same each time (Steele, Lea and Flood, "Fast splittable pseudorandom number generators").
private struct SplitMix: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var value = state
    value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
    value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
    return value ^ value >> 31
  }
}
