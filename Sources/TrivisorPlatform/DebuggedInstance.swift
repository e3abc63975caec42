import Synchronization
import TrivisorDebugger
import TrivisorVMM

/// One life of a machine, for a debugger.
final class DebuggedInstance: DebuggedMachine {
  private let instance: MachineInstance
  let is32Bit: Bool
  let technique: String

  init(_ instance: MachineInstance, technique: TechniqueName, is32Bit: Bool) {
    self.instance = instance
    self.technique = technique.rawValue
    self.is32Bit = is32Bit
  }

  private var threads: ProcessorThreads { instance.threads }

  var processorCount: Int { instance.machine.processorCount }

  func state(of processor: Int) throws(TechniqueFailure) -> MachineState {
    try threads.perform(on: processor) { (processor) throws(TechniqueFailure) in try processor.readState() }
  }

  func setState(_ state: MachineState, of processor: Int) throws(TechniqueFailure) {
    try threads.perform(on: processor) { (processor) throws(TechniqueFailure) in try processor.writeState(state) }
  }

  func walk(_ linear: UInt64, processor: Int) throws(TechniqueFailure) -> PageWalk {
    try threads.perform(on: processor) { (processor) throws(TechniqueFailure) in try processor.walk(linear) }
  }

  func cpuidLeaf(_ function: UInt32, _ index: UInt32) -> CPUIDLeaf? {
    let leaf = try? threads.perform(on: 0) { (processor) throws(TechniqueFailure) in
      processor.cpuidLeaf(function, index)
    }
    return leaf.flatMap { $0 }
  }

  func statistics() -> [(name: String, value: UInt64)] {
    var (counters, details): (Counters, [String: UInt64]) = (Counters(), [:])
    for index in 0..<processorCount {
      let counted = try? threads.perform(on: index) { (processor) throws(TechniqueFailure) in
        (processor.counters, processor.details)
      }
      guard let counted else { continue }
      counters = counters + counted.0
      details.merge(counted.1, uniquingKeysWith: &+)
    }
    return CountedEvent.allCases.filter { counters[$0] > 0 }.map { ($0.title, counters[$0]) }
      + details.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }

  func read(at physical: UInt64, count: Int) -> [UInt8] {
    let address = GuestPhysicalAddress(physical)
    if let bytes = try? instance.memory.bytes(at: address, count: count) { return bytes }
    guard let region = instance.memory.regions.first(where: { $0.base.rawValue <= physical && physical < $0.end })
    else {
      return []
    }
    return (try? instance.memory.bytes(at: address, count: min(count, Int(region.end - physical)))) ?? []
  }

  func write(_ bytes: [UInt8], at physical: UInt64) -> Bool {
    let address = GuestPhysicalAddress(physical)
    guard let host = instance.memory.host(address, count: UInt64(bytes.count)),
      instance.partition.mayBeWritten(address, count: UInt64(bytes.count))
    else { return false }
    guard (try? instance.memory.copy(bytes, to: address)) != nil else { return false }
    // Whoever has made something of what was there must know.
    instance.memory.watch.stored(at: host, count: bytes.count)
    return true
  }

  func attach(whenNews: @escaping @Sendable () -> Void) { threads.attachDebugger(whenNews) }

  func detach() {
    hold()
    threads.attachDebugger(nil)
  }

  func hold() {
    threads.hold()
    // What a technique has put into guest memory for a debugger is not there while that looks.
    for index in 0..<processorCount { try? follow(.none, on: index) }
  }

  private func follow(_ orders: DebuggerOrders, on index: Int) throws(TechniqueFailure) {
    try threads.perform(on: index) { (processor) throws(TechniqueFailure) in try processor.follow(orders) }
  }

  func check(_ orders: DebuggerOrders) throws(TechniqueFailure) {
    try follow(orders, on: 0)
    try follow(.none, on: 0)
  }

  func release(_ orders: [Int: DebuggerOrders]) throws(TechniqueFailure) {
    for (index, orders) in orders { try follow(orders, on: index) }
    threads.release(Set(orders.keys))
  }

  func takeNews() -> ProcessorThreads.DebuggerNews? { threads.takeNews() }

  func kill() {
    instance.requestStop(.request)
    // At once: the connection ends next, and a guest that goes on then may come to its own end before the wish is heard.
    threads.stop(.cancelled)
  }
}
