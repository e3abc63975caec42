// One debugger's conversation about one machine: packets in, packets out. What waits is not here: the server reads and writes
// the connection, and tells the session when the machine has news.
//
// It is GDB's remote protocol in its all-stop form ("GDB: The GNU Project Debugger", appendix E). Threads are processors, from
// 1 on. What comes from the connection may be anything: a packet that makes no sense is answered by an error or, as the
// protocol wants it for packets that are not known, by an empty packet.

import TrivisorVMM

/// Answers a debugger's packets.
final class DebuggerSession {
  /// What the server is to do about the connection.
  enum Wish: Equatable {
    case goOn
    /// The debugger has let go, or has ended the machine.
    case close
  }

  private(set) var machine: any DebuggedMachine
  let registers: RegisterSet
  /// What was asked for last, as `c` and `s` without a thread mean, and as `g` and `m` mean.
  var selected = 0
  /// The processor that the last stop was of.
  var stopped = 0
  /// The processors stand.
  private(set) var isStopped = true
  /// Neither side acknowledges packets any more.
  private(set) var isReliable = false
  /// Addresses that `m` and `M` get are guest physical.
  var usesPhysicalAddresses = false
  var breakpoints: Set<UInt64> = []
  var hardwareBreakpoints: Set<UInt64> = []
  var watchpoints: Set<Watchpoint> = []
  /// The debugger knows `swbreak`, and corrects no program counter where it is told.
  var knowsBreakReasons = false
  /// What has happened and was not told yet, since only one stop is told at a time.
  private var untold: [ProcessorThreads.DebuggerNews] = []
  private var lastStop: [UInt8] = Array("S05".utf8)
  private var output: [UInt8] = []
  private var lastPacket: [UInt8] = []
  private(set) var wish = Wish.goOn

  /// The processors stand when it begins.
  init(_ machine: any DebuggedMachine, architecture: RegisterSet.Architecture? = nil) {
    self.machine = machine
    let hasAVX = (machine.cpuidLeaf(1, 0)?.ecx).map { $0 >> 28 & 1 != 0 } ?? true
    registers = RegisterSet(architecture ?? (machine.is32Bit ? .i386 : .x86_64), hasAVX: hasAVX)
    lastStop = stopText(signal: Self.trapSignal, processor: 0)
  }

  /// SIGINT, SIGTRAP, SIGSEGV, SIGABRT, in GDB's numbers.
  static let interruptSignal: UInt8 = 2, trapSignal: UInt8 = 5, abortSignal: UInt8 = 6, faultSignal: UInt8 = 11

  /// What is to be sent; empty afterwards.
  func takeOutput() -> [UInt8] {
    defer { output = [] }
    return output
  }

  func receive(_ input: PacketInput) {
    switch input {
    case .rejected:
      if !isReliable { output += lastPacket }
    case .spoiled:
      if !isReliable { output.append(UInt8(ascii: "-")) }
    case .interrupt:
      guard !isStopped else { return }
      machine.hold()
      // What came at the same time is told instead, and nothing is lost.
      if tellNews() { return }
      stop(stopText(signal: Self.interruptSignal, processor: selected))
    case .packet(let data):
      if !isReliable { output.append(UInt8(ascii: "+")) }
      answer(data[...])
    }
  }

  /// The machine has news: if the processors run for the debugger, it is told.
  func noticeNews() {
    guard !isStopped else { return }
    _ = tellNews()
  }

  /// Another machine has taken the place of the one before, after a reset; its processors stand before their first
  /// instruction.
  func adopt(_ machine: any DebuggedMachine) {
    self.machine = machine
    untold = []
    let text = stopText(signal: Self.trapSignal, processor: 0)
    if isStopped { lastStop = text } else { stop(text) }
  }

  /// The machine is over.
  /// - Parameter status: the guest's own exit code, if it gave one.
  func noticeEnd(status: UInt8?) {
    let text = status.map { [UInt8(ascii: "W")] + HexText.digits(of: $0) } ?? Array("X06".utf8)
    if !isStopped { send(text) }
    isStopped = true
    wish = .close
  }

  func send(_ data: [UInt8]) {
    lastPacket = Packet.framed(data)
    output += lastPacket
  }

  func send(_ text: String) { send(Array(text.utf8)) }

  // MARK: Stops

  /// - Returns: whether there was something to tell.
  private func tellNews() -> Bool {
    while let news = machine.takeNews() { untold.append(news) }
    guard !untold.isEmpty else { return false }
    machine.hold()
    while let news = machine.takeNews() { untold.append(news) }
    let first = untold.removeFirst()
    switch first {
    case .stopped(let processor, let reason): stop(stopText(processor: processor, reason))
    case .ending(let processor, let reason):
      say(Self.sentence(reason))
      stop(
        stopText(
          signal: reason == .halted || reason == .reset ? Self.abortSignal : Self.faultSignal, processor: processor))
    }
    return true
  }

  private static func sentence(_ reason: StopReason) -> String {
    switch reason {
    case .tripleFault: "the guest has met a triple fault; its processor may be as after a reset"
    case .halted: "the guest has halted for good: every processor stands at HLT with interrupts off"
    case .reset: "the guest has reset its machine"
    case .crashed(let report): "the guest crashed: \(report.summary)"
    default: "the guest has ended"
    }
  }

  /// Text for the user; only while an answer to a resumption is due.
  private func say(_ sentence: String) {
    send([UInt8(ascii: "O")] + HexText.digits(of: Array("trivisor: \(sentence); continue to end the run\n".utf8)))
  }

  private func stop(_ text: [UInt8]) {
    isStopped = true
    lastStop = text
    send(text)
  }

  private func stopText(signal: UInt8, processor: Int, _ reason: String = "") -> [UInt8] {
    stopped = processor
    selected = processor
    return [UInt8(ascii: "T")] + HexText.digits(of: signal)
      + Array("thread:\(HexText.text(UInt64(processor + 1)));\(reason)".utf8)
  }

  private func stopText(processor: Int, _ reason: DebuggerStop) -> [UInt8] {
    let text =
      switch reason {
      case .breakpoint(let isHardware): knowsBreakReasons ? (isHardware ? "hwbreak:;" : "swbreak:;") : ""
      case .watchpoint(let point):
        switch point.use {
        case .write: "watch:\(HexText.text(point.address));"
        case .read: "rwatch:\(HexText.text(point.address));"
        case .access: "awatch:\(HexText.text(point.address));"
        }
      case .step: ""
      }
    return stopText(signal: Self.trapSignal, processor: processor, text)
  }

  /// Lets processors run.
  /// - Parameter steps: of those that are to run, which are to stop behind their next instruction.
  func resume(_ processors: [Int], stepping steps: Set<Int>) {
    // A stop that happened together with the one that was told, if it is still one.
    untold.removeAll { news in
      guard case .stopped(let processor, let reason) = news else { return false }
      guard processors.contains(processor) else { return true }
      switch reason {
      case .breakpoint:
        let place = (try? machine.state(of: processor))?.linearRIP
        return place.map { !breakpoints.contains($0) && !hardwareBreakpoints.contains($0) } ?? true
      case .watchpoint(let point): return !watchpoints.contains(point)
      case .step: return true
      }
    }
    if !untold.isEmpty {
      _ = tellNews()
      return
    }
    var orders: [Int: DebuggerOrders] = [:]
    for processor in processors {
      orders[processor] = DebuggerOrders(
        breakpoints: breakpoints, hardwareBreakpoints: hardwareBreakpoints,
        watchpoints: watchpoints.sorted { ($0.address, $0.length) < ($1.address, $1.length) },
        steps: steps.contains(processor))
    }
    isStopped = false
    do throws(TechniqueFailure) {
      try machine.release(orders)
    } catch {
      isStopped = true
      send([UInt8(ascii: "O")] + HexText.digits(of: Array("trivisor: \(error.description)\n".utf8)))
      stop(stopText(signal: 0, processor: selected))
    }
  }

  // MARK: Packets

  private func answer(_ data: ArraySlice<UInt8>) {
    guard let kind = data.first else { return send("") }
    // While the processors run, nothing but Ctrl-C makes sense.
    guard isStopped else { return send("E01") }
    var text = PacketText(data.dropFirst())
    switch kind {
    case UInt8(ascii: "?"): send(lastStop)
    case UInt8(ascii: "g"): sendRegisters()
    case UInt8(ascii: "G"): takeRegisters(text.remainder)
    case UInt8(ascii: "p"): sendRegister(&text)
    case UInt8(ascii: "P"): takeRegister(&text)
    case UInt8(ascii: "m"): sendMemory(&text)
    case UInt8(ascii: "M"): takeMemory(&text, isBinary: false)
    case UInt8(ascii: "X"): takeMemory(&text, isBinary: true)
    case UInt8(ascii: "Z"): changeBreakpoint(&text, inserts: true)
    case UInt8(ascii: "z"): changeBreakpoint(&text, inserts: false)
    case UInt8(ascii: "H"): selectThread(&text)
    case UInt8(ascii: "T"):
      send(thread(&text).map { $0 >= 0 && $0 < machine.processorCount } ?? false ? "OK" : "E01")
    case UInt8(ascii: "c"), UInt8(ascii: "s"): goOn(&text, steps: kind == UInt8(ascii: "s"), hasSignal: false)
    case UInt8(ascii: "C"), UInt8(ascii: "S"): goOn(&text, steps: kind == UInt8(ascii: "S"), hasSignal: true)
    case UInt8(ascii: "D"):
      send("OK")
      wish = .close
    case UInt8(ascii: "k"):
      machine.kill()
      wish = .close
    case UInt8(ascii: "v"): answerLong(&text)
    case UInt8(ascii: "q"), UInt8(ascii: "Q"): answerQuery(PacketText(data))
    default: send("")
    }
  }

  /// A thread's number as a processor's, -1 for all of them; `nil` where there is none.
  func thread(_ text: inout PacketText) -> Int? {
    if text.skip("-1") { return -1 }
    guard let number = text.number(), number <= UInt64(machine.processorCount) else { return nil }
    // 0 is any.
    return number == 0 ? selected : Int(number) - 1
  }

  private func selectThread(_ text: inout PacketText) {
    guard text.skip("g") || text.skip("c"), let number = thread(&text) else { return send("E01") }
    if number >= 0 { selected = number }
    send("OK")
  }

  /// `c`, `s` and their forms with a signal, which no guest can get; an address may follow.
  private func goOn(_ text: inout PacketText, steps: Bool, hasSignal: Bool) {
    if hasSignal {
      guard text.number() != nil else { return send("E01") }
      _ = text.skip(";")
    }
    if !text.isAtEnd {
      guard let address = text.number(), setProgramCounter(address) else { return send("E01") }
    }
    resume(Array(0..<machine.processorCount), stepping: steps ? [selected] : [])
  }

  private func setProgramCounter(_ address: UInt64) -> Bool {
    guard var state = try? machine.state(of: selected),
      let register = registers.registers.first(where: { if case .instructionPointer = $0.place { true } else { false } }
      )
    else { return false }
    let bytes = (0..<register.byteCount).map { UInt8(truncatingIfNeeded: address >> UInt64(8 * $0)) }
    return state.setValue(of: register, bytes) && change(to: state)
  }

  private func answerLong(_ text: inout PacketText) {
    if text.skip("Cont?") {
      send("vCont;c;C;s;S")
    } else if text.skip("Cont;") {
      continueThreads(&text)
    } else if text.skip("Kill") {
      send("OK")
      machine.kill()
      wish = .close
    } else {
      send("")
    }
  }

  /// Of several actions the first that fits a thread counts for it; a thread that none fits stands still.
  private func continueThreads(_ text: inout PacketText) {
    var (running, stepping, known): (Set<Int>, Set<Int>, Set<Int>) = ([], [], [])
    while !text.isAtEnd {
      var action = PacketText(text.part(before: ";"))
      let steps = action.skip("s") || action.skip("S")
      guard steps || action.skip("c") || action.skip("C") else { return send("E01") }
      if !action.isAtEnd, !action.skip(":") {
        guard action.number() != nil else { return send("E01") }
        _ = action.skip(":")
      }
      var threads = Set(0..<machine.processorCount)
      if !action.isAtEnd {
        guard let number = thread(&action) else { return send("E01") }
        if number >= 0 { threads = [number] }
      }
      threads.subtract(known)
      known.formUnion(threads)
      running.formUnion(threads)
      if steps { stepping.formUnion(threads) }
    }
    guard !running.isEmpty else { return send("E01") }
    resume(running.sorted(), stepping: stepping)
  }

  /// No acknowledgements from now on.
  func becomeReliable() {
    send("OK")
    isReliable = true
  }
}
