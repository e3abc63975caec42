import Testing
import TrivisorSpoiledStates
import TrivisorVMM

@testable import TrivisorDevices

/// A guest that does anything to configuration space and regions, with a preference for what is nearly right.
private struct RandomConfigurer {
  static let playground: UInt64 = 0x4_0000
  static let memorySize: UInt64 = 2 << 20

  let driver: VirtioPCIDriver
  var generator: SeededGenerator
  private(set) var served = 0

  init(_ driver: VirtioPCIDriver, seed: UInt64) {
    self.driver = driver
    generator = SeededGenerator(seed: seed)
  }

  private mutating func pick<Value>(_ values: [Value]) -> Value {
    values[Int.random(in: 0..<values.count, using: &generator)]
  }
  private mutating func number(below limit: UInt64) -> UInt64 { UInt64.random(in: 0..<limit, using: &generator) }
  private mutating func chance(_ one: Int) -> Bool { Int.random(in: 0..<one, using: &generator) == 0 }

  private mutating func value() -> UInt64 {
    switch number(below: 5) {
    case 0: number(below: 256)
    case 1: pick([0, .max, 0xffff_ffff, 0xffff, 1 << 31, 1 << 15])
    case 2: VirtioPCIDriver.window + number(below: VirtioPCIDriver.windowSize)
    default: generator.next()
    }
  }

  /// A register of either function, by either way, at any width and any alignment.
  private mutating func configure() {
    let width = pick(AccessWidth.allCases)
    let interesting = [0x04, 0x06, 0x10, 0x14, 0x18, 0x34, 0x3c, 0x40, 0x42, 0x9c, 0xa0, 0xa4, 0xa8, 0xac]
    let offset = chance(2) ? UInt64(pick(interesting)) : number(below: 0x1000)
    let device = chance(10) ? number(below: 32) : 1 + number(below: 2)
    if chance(3) {
      _ = driver.bus.writePort(
        0xcf8, UInt32(truncatingIfNeeded: 0x8000_0000 | device << 11 | offset & 0xfc), width: .doubleword)
      let port = UInt16(0xcfc + number(below: 4))
      if chance(2) {
        _ = driver.bus.readPort(port, width: width)
      } else {
        _ = driver.bus.writePort(port, UInt32(truncatingIfNeeded: value()), width: width)
      }
    } else {
      let place = GuestPhysicalAddress(VirtioPCIDriver.extended + device << 15 + offset)
      if chance(2) {
        #expect(driver.bus.readMemory(place, width: width) <= width.allOnes)
      } else {
        _ = driver.bus.writeMemory(place, value() & width.allOnes, width: width)
      }
    }
  }

  /// A place in the window, where regions may be.
  private mutating func touch() {
    let width = pick(AccessWidth.allCases)
    let register = pick([0x10, 0x14])
    let base = driver.configuration(register, device: 1 + Int(number(below: 2))) & ~0xf
    let offset = chance(2) ? number(below: 0x40) : number(below: 0x5000)
    let place = GuestPhysicalAddress(chance(8) ? value() | 1 << 31 : base + offset)
    if chance(2) {
      #expect(driver.bus.readMemory(place, width: width) <= width.allOnes)
    } else {
      _ = driver.bus.writeMemory(place, value() & width.allOnes, width: width)
    }
  }

  /// What a sound driver does, from wherever the function is.
  mutating func serve() {
    driver.setConfiguration(0x10, VirtioPCIDriver.window + 0x10_0000)
    driver.setConfiguration(0x14, VirtioPCIDriver.window + 0x20_0000)
    driver.enable()
    let queue = RingPlace.standard()
    do { try driver.memory.clear(GuestPhysicalAddress(0), count: Self.playground) } catch { Issue.record("\(error)") }
    driver.open([queue], vector: 0)
    let piece = RequestPiece(address: 0x2_0000, length: 64, isWritable: true)
    if driver.request(queue, [piece]) == 64 { served += 1 }
  }

  mutating func step() {
    for _ in 0...number(below: 6) { if chance(2) { configure() } else { touch() } }
    driver.device.processQueues()
  }
}

@Suite("Random accesses to PCI", .timeLimit(.minutes(15)))
struct PCIFuzzTests {
  /// Whatever the guest does to configuration space and regions: no trap, no endless work, and the function serves who sets it up anew.
  @Test("no access of any width to configuration or regions traps", arguments: 1...6 as ClosedRange<UInt64>)
  func configuration(seed: UInt64) throws {
    let driver = try VirtioPCIDriver(
      VirtioEntropy(), VirtioConsole(sink: MemorySink(limit: 4096)), memorySize: RandomConfigurer.memorySize)
    var guest = RandomConfigurer(driver, seed: seed)
    let rounds = 100
    for _ in 0..<rounds {
      for _ in 0..<50 { guest.step() }
      guest.serve()
    }
    #expect(guest.served == rounds)
    let rest = Int(RandomConfigurer.memorySize - RandomConfigurer.playground)
    #expect(driver.bytes(at: RandomConfigurer.playground, count: rest).allSatisfy { $0 == 0 })
  }
}
