import TrivisorBoot
import TrivisorDevices
import Testing
import TrivisorVMM

@testable import TrivisorXenDomain

/// The other interface of event channels, and what a domain has asked for when it is saved.
struct EventQueueTests {
  private static let widths = [true, false]

  @Test("event queues: control blocks, words, order by priority, and back to two levels", arguments: widths)
  func eventQueues(is64Bit: Bool) throws {
    let harness = try DomainHarness(is64Bit: is64Bit)
    let domain = harness.domain
    let place = harness.address(0)
    func control(_ frame: UInt64, _ offset: UInt32, _ processor: UInt32) throws -> Int64 {
      try harness.store(frame, place)
      try harness.store(offset, place + 8)
      try harness.store(processor, place + 12)
      return harness.call(32, 11, place)
    }
    func operate(_ command: UInt64, _ first: UInt32, _ second: UInt32 = 0) throws -> Int64 {
      try harness.store(first, place)
      try harness.store(second, place + 4)
      return harness.call(32, command, place)
    }
    #expect(try control(.max - 1, 0, 0) == -22)
    try harness.store(harness.frame(20), place)
    #expect(harness.call(32, 12, place) == -95)
    #expect(try operate(13, 1, 3) == -38)
    #expect(try control(harness.frame(20), 4, 0) == -22)
    #expect(try control(harness.frame(20), 4032, 0) == -22)
    #expect(try control(harness.frame(20), 0, 9) == -2)
    #expect(try control(harness.frame(20), 64, 0) == 0)
    #expect(try harness.load(UInt8.self, place + 16) == 17)
    #expect(try control(harness.frame(20), 64, 0) == -22)
    // Three ports of its own; one is raised before there are words for any.
    var ports: [UInt32] = []
    for _ in 0..<3 {
      try harness.store(UInt32(0), place)
      #expect(harness.call(32, 7, place) == 0)
      ports.append(try harness.load(UInt32.self, place + 4))
    }
    #expect(try operate(4, ports[0]) == 0)
    try harness.store(harness.frame(21), place)
    #expect(harness.call(32, 12, place) == 0)
    let controlBlock = harness.address(20) + 64
    let words = harness.address(21)
    func word(_ port: UInt32) throws -> UInt32 { try harness.load(UInt32.self, words + UInt64(port) * 4) }
    #expect(try word(ports[0]) >> 28 == 0b1010)
    #expect(try harness.load(UInt32.self, controlBlock) == 1 << 7)
    #expect(try harness.load(UInt32.self, controlBlock + 8 + 4 * 7) == ports[0])
    #expect(harness.processor.hasPendingUpcall)
    // The next one of the same priority is linked behind it; one of another is the first of its own queue.
    #expect(try operate(4, ports[1]) == 0)
    #expect(try word(ports[0]) & 0x1_ffff == ports[1])
    #expect(try operate(13, ports[2], 16) == -22)
    #expect(try operate(13, ports[2], 2) == 0)
    #expect(try operate(4, ports[2]) == 0)
    #expect(try harness.load(UInt32.self, controlBlock) == 1 << 7 | 1 << 2)
    #expect(try harness.load(UInt32.self, controlBlock + 8 + 4 * 2) == ports[2])
    // Masked ones wait.
    try harness.store(UInt32(1 << 30), words + UInt64(ports[1]) * 4)
    #expect(try operate(4, ports[1]) == 0)
    #expect(try word(ports[1]) >> 28 == 0b1100)
    #expect(try operate(9, ports[1]) == 0)
    #expect(try word(ports[1]) >> 28 == 0b1010)
    // Neither page becomes anything else meanwhile.
    #expect(domain.memory.tables.use(harness.frame(20)) == .writable)
    let saved = domain.save()
    let restored = try Domain(
      saved, memory: harness.memory, console: harness.sink,
      doorbells: [DomainHarness.Doorbell(), DomainHarness.Doorbell()],
      reference: TimeReference())
    #expect(restored.save().eventQueues == saved.eventQueues)
    try harness.store(UInt16(0x7ff0), place)
    #expect(harness.call(32, 10, place) == 0)
    #expect(domain.events.queues == nil)
  }

  @Test("what a domain has asked for is saved with it", arguments: widths)
  func saved(is64Bit: Bool) throws {
    let harness = try DomainHarness(is64Bit: is64Bit)
    let place = harness.address(0)
    try harness.store(UInt32(2), place)
    #expect(harness.call(20, 8, place, 1) == 0)
    let entry = try #require(harness.domain.grants.entry(9))
    entry.storeBytes(of: 1 << 16 | 1, as: UInt32.self)
    entry.storeBytes(of: harness.frame(20), toByteOffset: 8, as: UInt64.self)
    try harness.store(UInt64(0), place)
    try harness.store(UInt32(1), place + 8)
    try harness.store(UInt32(9), place + 12)
    try harness.store(UInt16(1), place + 16)
    #expect(harness.call(20, 0, place, 1) == 0)
    #expect(try harness.load(Int16.self, place + 18) == 0)
    try harness.storeWord(harness.frame(5), place)
    #expect(harness.call(33, 28, place) == 0)
    try harness.store(UInt16(7), place)
    try harness.storeWord(0x1234, place + 8)
    #expect(harness.call(30, 0, place) == 0)
    let saved = harness.domain.save()
    let restored = try Domain(
      saved, memory: harness.memory, console: harness.sink,
      doorbells: [DomainHarness.Doorbell(), DomainHarness.Doorbell()],
      reference: TimeReference())
    let again = restored.save()
    #expect(again.grants == saved.grants)
    #expect(again.endOfInterruptPage == harness.frame(5))
    #expect(restored.processors[0].systemCall32Callback.address == 0x1234)
    for frame in XenMachine.firstFrame..<(XenMachine.firstFrame + XenMachine.domainFrameCount(harness.memory)) {
      #expect(restored.memory.tables.use(frame) == harness.domain.memory.tables.use(frame))
    }
    var worse = saved
    worse.grants.frameCount = 1000
    #expect(throws: RestoreFailure.self) {
      try Domain(
        worse, memory: harness.memory, console: harness.sink,
        doorbells: [DomainHarness.Doorbell(), DomainHarness.Doorbell()], reference: TimeReference())
    }
  }
}
