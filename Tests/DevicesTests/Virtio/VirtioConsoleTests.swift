import Glibc
import Testing
import TrivisorVMM

@testable import TrivisorDevices

@Suite("Virtio console")
struct VirtioConsoleTests {
  private let sink = MemorySink()
  private let receive = RingPlace.standard(0)
  private let transmit = RingPlace.standard(1)

  @Test("output reaches the sink in order, whatever its pieces")
  func output() throws {
    let driver = try VirtioDriver(VirtioConsole(sink: sink))
    driver.open([receive, transmit])
    driver.store(Array("hello, world\n".utf8), at: 0x4_0000)
    let length = driver.request(
      transmit, [.init(address: 0x4_0000, length: 7), .init(address: 0x4_0007, length: 6)])
    #expect(length == 0)
    #expect(sink.text == "hello, world\n")
    #expect(driver.interrupts == 1)
  }

  @Test("input waits for a driver and for its buffers, and nothing is lost")
  func input() throws {
    let console = VirtioConsole(sink: sink)
    let driver = try VirtioDriver(console)
    let calls = Counter()
    console.whenRoomForInput { calls.increment() }
    #expect(!console.isListening)
    #expect(console.receive([0x61]) == 0)
    driver.open([receive, transmit])
    #expect(console.isListening)
    #expect(calls.value == 1)
    #expect(console.receive(Array("some input".utf8)) == 10)
    driver.device.processQueues()
    #expect(driver.usedIndex(receive) == 0)
    driver.describe(receive, 0, address: 0x4_0000, length: 4, flags: 2)
    driver.describe(receive, 1, address: 0x4_0100, length: 64, flags: 2)
    driver.describe(receive, 2, address: 0x4_0200, length: 64, flags: 2)
    for head: UInt16 in 0..<3 { driver.publish(receive, head: head) }
    driver.run()
    #expect(driver.usedIndex(receive) == 2)
    #expect(driver.usedEntry(receive, 0) == (0, 4))
    #expect(driver.usedEntry(receive, 1) == (1, 6))
    #expect(driver.bytes(at: 0x4_0000, count: 4) + driver.bytes(at: 0x4_0100, count: 6) == Array("some input".utf8))
    // The third buffer waits for more.
    #expect(console.receive([0x21]) == 1)
    driver.device.processQueues()
    #expect(driver.usedEntry(receive, 2) == (2, 1))
    #expect(calls.value == 1)
  }

  @Test("more input than is kept is refused until the guest has taken it")
  func flowControl() throws {
    let console = VirtioConsole(sink: sink)
    let driver = try VirtioDriver(console)
    let calls = Counter()
    console.whenRoomForInput { calls.increment() }
    driver.open([receive, transmit])
    let input = (0..<5000).map { UInt8(truncatingIfNeeded: $0) }
    let taken = console.receive(input)
    #expect(taken == 4096)
    #expect(console.receive([1]) == 0)
    driver.describe(receive, 0, address: 0x4_0000, length: 5000, flags: 2)
    driver.publish(receive, head: 0)
    driver.run()
    #expect(driver.bytes(at: 0x4_0000, count: 4096) == Array(input[..<4096]))
    #expect(calls.value == 1)
    #expect(console.receive(Array(input[4096...])) == 904)
  }

  @Test("the terminal's size is told, and its changes")
  func size() throws {
    let console = VirtioConsole(sink: sink, size: .init(columns: 80, rows: 24))
    let driver = try VirtioDriver(console)
    driver.open([receive, transmit], features: .bit(0))
    #expect(driver.status == 15)
    #expect(driver.read(0x100) == 24 << 16 | 80)
    let generation = driver.read(0xfc)
    console.resize(to: .init(columns: 132, rows: 50))
    #expect(driver.read(0x100) == 50 << 16 | 132)
    #expect(driver.read(0xfc) != generation)
    #expect(driver.read(VirtioDriver.Register.interruptStatus) == 2)
  }

  @Test("a driver that tells when its port is open gets no input before")
  func messages() throws {
    let console = VirtioConsole(sink: sink)
    let driver = try VirtioDriver(console)
    let calls = Counter()
    console.whenRoomForInput { calls.increment() }
    #expect(console.receive([0x61]) == 0)
    let (answers, messages) = (RingPlace.standard(2), RingPlace.standard(3))
    driver.open([receive, transmit, answers, messages], features: .bit(1))
    #expect(driver.status == 15)
    #expect(driver.read(0x104) == 1)
    #expect(!console.isListening)
    for head: UInt16 in 0..<4 {
      driver.describe(answers, Int(head), address: 0x8_0000 + 16 * UInt64(head), length: 16, flags: 2)
      driver.publish(answers, head: head)
    }
    func tell(port: UInt32, event: UInt16, value: UInt16) -> UInt32? {
      driver.store(port, at: 0x9_0000)
      driver.store(event, at: 0x9_0004)
      driver.store(value, at: 0x9_0006)
      return driver.request(messages, [.init(address: 0x9_0000, length: 8)])
    }
    // DEVICE_READY brings DEVICE_ADD, PORT_READY brings CONSOLE_PORT.
    #expect(tell(port: 0, event: 0, value: 1) == 0)
    driver.run(2)
    #expect(driver.usedEntry(answers, 0) == (0, 8))
    #expect(driver.load(UInt64.self, at: 0x8_0000) == 1 << 32)
    #expect(tell(port: 0, event: 3, value: 1) == 0)
    driver.run(2)
    #expect(driver.load(UInt64.self, at: 0x8_0010) == 1 << 48 | 4 << 32)
    // Another port's, an unknown one, and too many: nothing.
    #expect(tell(port: 7, event: 6, value: 1) == 0)
    #expect(tell(port: 0, event: 99, value: 1) == 0)
    for _ in 0..<100 { #expect(tell(port: 0, event: 0, value: 1) == 0) }
    #expect(!console.isListening)
    #expect(console.receive([0x61]) == 0)
    #expect(calls.value == 0)
    #expect(tell(port: 0, event: 6, value: 1) == 0)
    #expect(console.isListening)
    #expect(calls.value == 1)
    #expect(console.receive([0x61]) == 1)
    // Half a message is none.
    #expect(driver.request(messages, [.init(address: 0x9_0000, length: 4)]) == nil)
    #expect(driver.device.fault == .malformedRequest)
  }

  @Test("typing and printing at once, on the device's thread", .timeLimit(.minutes(15)))
  func worker() throws {
    let console = VirtioConsole(sink: sink)
    let driver = try VirtioDriver(console, usesWorker: true)
    driver.open([receive, transmit], features: .eventIndex)
    let length = 20_000
    let input = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    let typing = OwnThread {
      var next = 0
      while next < length {
        let taken = console.receive(Array(input[next..<min(next + 100, length)]))
        next += taken
        if taken == 0 { sched_yield() }
      }
    }
    var echoed = 0
    var seen: UInt16 = 0
    driver.describe(receive, 0, address: 0x4_0000, length: 64, flags: 2)
    driver.publish(receive, head: 0)
    driver.kick(0)
    while echoed < length {
      while driver.usedIndex(receive) == seen { sched_yield() }
      let count = driver.usedEntry(receive, seen).length
      seen &+= 1
      driver.describe(transmit, 0, address: 0x4_0000, length: count, flags: 0)
      driver.publish(transmit, head: 0)
      driver.kick(1)
      while driver.usedIndex(transmit) != seen { sched_yield() }
      echoed += Int(count)
      driver.publish(receive, head: 0)
      driver.kick(0)
    }
    typing.join()
    driver.device.stop()
    #expect(sink.bytes == input)
  }
}
