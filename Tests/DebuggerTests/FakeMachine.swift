import TrivisorVMM

@testable import TrivisorDebugger

/// A machine that does what a test says: two processors, 64 KiB of RAM, no paging.
final class FakeMachine: DebuggedMachine, @unchecked Sendable {
  // Unchecked: tests use it on one thread.
  let processorCount = 2
  var is32Bit = false
  let technique = "fake"
  var states = [MachineState(), MachineState()]
  var memory = [UInt8](repeating: 0, count: 0x10000)
  var news: [ProcessorThreads.DebuggerNews] = []
  var released: [[Int: DebuggerOrders]] = []
  var (isHeld, isAttached, isKilled) = (true, true, false)
  /// What can't be had.
  var refuses: (DebuggerOrders) -> Bool = { _ in false }

  init() {
    for index in states.indices {
      states[index].system.cs = .real(0, code: true)
      states[index].general.rip = 0x1000
      states[index].system.cr0 = 1
    }
  }

  func state(of processor: Int) -> MachineState { states[processor] }
  func setState(_ state: MachineState, of processor: Int) { states[processor] = state }

  func walk(_ linear: UInt64, processor: Int) -> PageWalk {
    PageWalk(linear, states[processor].system) { place in
      let bytes = self.read(at: place, count: 8)
      return bytes.count < 8 ? nil : bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
  }

  func cpuidLeaf(_ function: UInt32, _ index: UInt32) -> CPUIDLeaf? {
    CPUIDLeaf(function, eax: function == 0 ? 1 : 0, ecx: 1 << 28)
  }

  func statistics() -> [(name: String, value: UInt64)] { [("exits", 7)] }

  func read(at physical: UInt64, count: Int) -> [UInt8] {
    guard physical < UInt64(memory.count) else { return [] }
    return Array(memory[Int(physical)...].prefix(count))
  }

  func write(_ bytes: [UInt8], at physical: UInt64) -> Bool {
    guard physical <= UInt64(memory.count), UInt64(bytes.count) <= UInt64(memory.count) - physical else { return false }
    memory.replaceSubrange(Int(physical)..<Int(physical) + bytes.count, with: bytes)
    return true
  }

  func attach(whenNews: @escaping @Sendable () -> Void) { isAttached = true }
  func detach() { (isAttached, isHeld) = (false, false) }
  func hold() { isHeld = true }

  func check(_ orders: DebuggerOrders) throws(TechniqueFailure) {
    if refuses(orders) { throw TechniqueFailure(call: "debugging", reason: "the test says no") }
  }

  func release(_ orders: [Int: DebuggerOrders]) throws(TechniqueFailure) {
    for order in orders.values { try check(order) }
    released.append(orders)
    isHeld = false
  }

  func takeNews() -> ProcessorThreads.DebuggerNews? { news.isEmpty ? nil : news.removeFirst() }
  func kill() { isKilled = true }
}

/// A debugger's side of a conversation.
struct Conversation {
  let machine = FakeMachine()
  let session: DebuggerSession

  init(is32Bit: Bool = false) {
    machine.is32Bit = is32Bit
    session = DebuggerSession(machine)
  }

  /// What comes back, packet by packet.
  func answers() -> [String] {
    var reader = PacketReader()
    return session.takeOutput().compactMap { byte -> String? in
      guard case .packet(let data)? = reader.take(byte) else { return nil }
      return String(decoding: data, as: UTF8.self)
    }
  }

  func ask(_ packet: String) -> String { ask(Array(packet.utf8)) }

  func ask(_ packet: [UInt8]) -> String {
    session.receive(.packet(packet))
    return answers().joined(separator: "|")
  }

  /// What a `monitor` command prints.
  func monitor(_ command: String) -> String {
    let answer = ask(Array("qRcmd,".utf8) + HexText.digits(of: Array(command.utf8)))
    return answer.split(separator: "|").compactMap { part in
      part.hasPrefix("O") && part != "OK" ? HexText.bytes(Array(part.dropFirst().utf8)) : nil
    }.map { String(decoding: $0, as: UTF8.self) }.joined()
  }
}
