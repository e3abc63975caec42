import TrivisorDeviceFuzz
import Glibc
import Synchronization
import Testing
import TrivisorSpoiledStates
import TrivisorVMM

@testable import TrivisorDevices

@Suite("Virtio over PCI")
struct VirtioPCITests {
  private typealias Common = VirtioPCIDriver.Common
  private let queue = RingPlace.standard()
  private let piece = RequestPiece(address: 0x2_0000, length: 100, isWritable: true)

  private func driver() throws -> VirtioPCIDriver {
    let driver = try VirtioPCIDriver(VirtioEntropy())
    driver.enable()
    return driver
  }

  @Test("ports and memory lead to the same configuration, and there is nothing where no function is")
  func configuration() throws {
    let driver = try driver()
    for offset in stride(from: 0, to: 0x100, by: 4) {
      #expect(driver.configuration(offset) == driver.portConfiguration(offset))
    }
    #expect(driver.configuration(0) == 0x1044_1af4)
    #expect(driver.configuration(8) == 0xff00_0001)
    #expect(driver.configuration(0x2c) == 0x1044_1af4)
    #expect(driver.configuration(0x3d, width: .byte) == 1)
    #expect(driver.configuration(0, width: .quadword) >> 32 == driver.configuration(4))
    #expect(driver.portConfiguration(0x0a, width: .word) == driver.configuration(0x08) >> 16)
    // The host bridge, by its class; no function behind it, no other device, no other bus, nothing behind 256 bytes.
    #expect(driver.configuration(8, device: 0) >> 8 == 0x06_0000)
    #expect(driver.configuration(0, device: 2) == 0xffff_ffff)
    #expect(driver.configuration(0x100) == 0xffff_ffff)
    #expect(driver.bus.readMemory(GuestPhysicalAddress(VirtioPCIDriver.extended + 0x9000), width: .word) == 0xffff)
    _ = driver.bus.writePort(0xcf8, 0x8001_0800, width: .doubleword)
    #expect(driver.bus.readPort(0xcfc, width: .doubleword) == 0xffff_ffff)
    _ = driver.bus.writePort(0xcf8, 0x0000_0800, width: .doubleword)
    #expect(driver.bus.readPort(0xcfc, width: .doubleword) == 0xffff_ffff)
    // What can't be written stays.
    driver.setConfiguration(0, 0)
    driver.setConfiguration(0x2c, 0)
    #expect(driver.configuration(0) == 0x1044_1af4)
    #expect(driver.configuration(0x2c) == 0x1044_1af4)
    driver.setConfiguration(0x3c, 0x0b, width: .byte)
    #expect(driver.configuration(0x3c, width: .byte) == 0x0b)
  }

  @Test("the capabilities name every structure, all of them within a region")
  func capabilities() throws {
    let driver = try driver()
    let found = driver.capabilities()
    #expect(Set(found.types.keys) == [0x09, 0x11])
    #expect(Set(found.structures.keys) == [1, 2, 3, 4, 5])
    for structure: UInt64 in 1...4 {
      let place = try #require(found.structures[structure])
      #expect(driver.configuration(place + 4, width: .byte) == 0)
      #expect(driver.configuration(place + 8) + driver.configuration(place + 12) <= 0x4000)
      #expect(driver.configuration(place + 2, width: .byte) == (structure == 2 ? 20 : 16))
    }
    // One vector for each queue and one for the configuration.
    let messages = try #require(found.types[0x11])
    #expect(driver.configuration(messages + 2, width: .word) == 1)
    #expect(driver.configuration(messages + 4) & 7 == 1)
  }

  @Test("regions tell their size, move, and answer only in the window and while memory is enabled")
  func regions() throws {
    let driver = try driver()
    let old = driver.configuration(0x10)
    driver.setConfiguration(4, 0, width: .word)
    for (register, size) in [(0x10, 0x4000), (0x14, 0x1000), (0x18, 0), (0x24, 0), (0x30, 0)] as [(Int, UInt64)] {
      let before = driver.configuration(register)
      driver.setConfiguration(register, 0xffff_ffff)
      #expect(driver.configuration(register) == (size == 0 ? 0 : 0x1_0000_0000 - size))
      driver.setConfiguration(register, before)
    }
    #expect(driver.bus.readMemory(GuestPhysicalAddress(old + Common.queueCount), width: .word) == 0xffff)
    driver.enable()
    #expect(driver.read(Common.queueCount, width: .word) == 1)
    driver.setConfiguration(0x10, 0xdabc_c123)
    #expect(driver.configuration(0x10) == 0xdabc_c000)
    #expect(driver.read(Common.queueCount, width: .word) == 1)
    #expect(driver.bus.readMemory(GuestPhysicalAddress(old + Common.queueCount), width: .word) == 0xffff)
    // Over the other region, and over the window's end.
    for place: UInt64 in [0xdfff_e000, 0xe000_0000, 0x1000, 0xd7ff_c000] {
      driver.setConfiguration(0x10, place)
      if place & ~0x3fff < VirtioPCIDriver.window { #expect(driver.read(Common.queueCount, width: .word) != 1) }
    }
    driver.setConfiguration(0x10, old)
    #expect(driver.read(Common.queueCount, width: .word) == 1)
  }

  @Test("fields of the common configuration answer accesses of their own width")
  func commonConfiguration() throws {
    let driver = try driver()
    driver.write(Common.featuresSelect, 1, width: .doubleword)
    #expect(driver.read(Common.features, width: .doubleword) == 1)
    driver.write(Common.featuresSelect, 2, width: .doubleword)
    #expect(driver.read(Common.features, width: .doubleword) == 0)
    #expect(driver.read(Common.queueSize, width: .word) == 64)
    driver.write(Common.queueSize, 8, width: .word)
    #expect(driver.read(Common.queueSize, width: .word) == 8)
    driver.write(Common.used, 0x1122_3344_5566_7788, width: .quadword)
    driver.write(Common.used + 4, 0x99, width: .doubleword)
    #expect(driver.read(Common.used, width: .quadword) == 0x99_5566_7788)
    #expect(driver.read(Common.used + 4, width: .doubleword) == 0x99)
    driver.write(Common.queueSelect, 1, width: .word)
    #expect(driver.read(Common.queueSize, width: .word) == 0)
    #expect(driver.read(Common.queueVector, width: .word) == 0xffff)
    driver.write(Common.status, 1, width: .word)
    #expect(driver.status() == 0)
    driver.setStatus(1)
    #expect(driver.read(Common.status, width: .word) == 0)
    #expect(driver.status() == 1)
    driver.setStatus(0)
    driver.write(Common.queueSelect, 0, width: .word)
    #expect(driver.read(Common.queueSize, width: .word) == 64)
  }

  @Test("a queue whose size nobody wrote has the largest; it goes back by a reset alone")
  func queueDefaults() throws {
    let driver = try driver()
    driver.open([])
    driver.write(Common.descriptors, queue.descriptors, width: .quadword)
    driver.write(Common.available, queue.available, width: .quadword)
    driver.write(Common.used, queue.used, width: .quadword)
    driver.write(Common.queueEnable, 1, width: .word)
    driver.write(Common.queueEnable, 0, width: .word)
    #expect(driver.read(Common.queueEnable, width: .word) == 1)
    var wide = queue
    wide.size = 64
    #expect(driver.request(wide, [piece]) == 100)
    driver.setStatus(0)
    #expect(driver.read(Common.queueEnable, width: .word) == 0)
  }

  @Test("without MSI-X the pin is asserted until the reasons are read, and not while it is disabled")
  func pin() throws {
    let driver = try driver()
    driver.open([queue])
    #expect(driver.request(queue, [piece]) == 100)
    #expect(driver.controller.level(driver.line))
    #expect(driver.configuration(6, width: .word) & 8 != 0)
    driver.setConfiguration(4, 0x406, width: .word)
    #expect(!driver.controller.level(driver.line))
    #expect(driver.configuration(6, width: .word) & 8 != 0)
    driver.enable()
    #expect(driver.controller.level(driver.line))
    #expect(driver.reasons() == 1)
    #expect(driver.reasons() == 0)
    #expect(!driver.controller.level(driver.line))
    #expect(driver.configuration(6, width: .word) & 8 == 0)
    // A reset drops what nobody has read.
    _ = driver.request(queue, [piece])
    driver.setStatus(0)
    #expect(!driver.controller.level(driver.line))
    #expect(driver.controller.messages.isEmpty)
  }

  @Test("functions that share a line hold it as long as one of them interrupts")
  func sharedLine() throws {
    let driver = try VirtioPCIDriver(
      VirtioEntropy(), VirtioEntropy(), VirtioEntropy(), VirtioEntropy(), VirtioEntropy())
    let rings = [1: queue, 5: RingPlace.standard(1)]
    for (number, place) in rings {
      driver.enable(device: number)
      var ring = place
      ring.index = 0
      driver.open([ring], device: number)
      driver.describe(ring, [piece])
      driver.publish(ring, head: 0)
      driver.devices[number - 1].processQueues()
    }
    #expect(driver.pins.line(of: PCIAddress(device: 5, function: 0), pin: 1) == driver.line)
    #expect(driver.pins.line(of: PCIAddress(device: 2, function: 0), pin: 1) != driver.line)
    #expect(driver.controller.level(driver.line))
    #expect(driver.reasons(device: 1) == 1)
    #expect(driver.controller.level(driver.line))
    #expect(driver.reasons(device: 5) == 1)
    #expect(!driver.controller.level(driver.line))
  }

  @Test("with MSI-X a queue sends its vector's message, and one that is masked waits")
  func messages() throws {
    let driver = try driver()
    driver.enableMessages()
    driver.entry(0, address: 0xfee0_0000, data: 0x40, isMasked: false)
    driver.entry(1, address: 0xfee0_1000, data: 0x41, isMasked: false)
    driver.open([queue], vector: 1)
    #expect(driver.read(Common.queueVector, width: .word) == 1)
    let first = InterruptMessage(address: 0xfee0_1000, data: 0x41)
    _ = driver.request(queue, [piece])
    #expect(driver.controller.messages == [first])
    #expect(driver.reasons() == 0)
    #expect(driver.controller.rises(driver.line) == 0)

    driver.entry(1, address: 0xfee0_1000, data: 0x51, isMasked: true)
    _ = driver.request(queue, [piece])
    #expect(driver.controller.messages.count == 1)
    #expect(driver.pendingMessages == 2)
    driver.entry(1, address: 0xfee0_1000, data: 0x51, isMasked: false)
    #expect(driver.controller.messages.last == InterruptMessage(address: 0xfee0_1000, data: 0x51))
    #expect(driver.pendingMessages == 0)

    driver.enableMessages(isMasked: true)
    _ = driver.request(queue, [piece])
    #expect(driver.pendingMessages == 2)
    driver.enableMessages()
    #expect(driver.controller.messages.count == 3)
    // A vector that is not there is none.
    driver.write(Common.configurationVector, 2, width: .word)
    #expect(driver.read(Common.configurationVector, width: .word) == 0xffff)
    driver.write(Common.configurationVector, 0, width: .word)
    #expect(driver.read(Common.configurationVector, width: .word) == 0)
    driver.setStatus(0)
    #expect(driver.read(Common.configurationVector, width: .word) == 0xffff)
  }

  @Test("a function that is no bus master reads nothing and sends nothing, and makes up for it")
  func busMaster() throws {
    let driver = try driver()
    driver.enableMessages()
    driver.entry(1, address: 0xfee0_0000, data: 0x41, isMasked: false)
    driver.open([queue], vector: 1)
    driver.setConfiguration(4, 2, width: .word)
    #expect(driver.request(queue, [piece]) == nil)
    #expect(driver.controller.messages.isEmpty)
    driver.enable()
    driver.device.processQueues()
    #expect(driver.usedIndex(queue) == 1)
    #expect(driver.controller.messages.count == 1)
  }

  @Test("the window in configuration space reaches the structures")
  func window() throws {
    let driver = try driver()
    let window = try #require(driver.capabilities().structures[5])
    func set(_ offset: UInt64, _ length: UInt64, region: UInt64 = 0) {
      driver.setConfiguration(window + 4, region, width: .byte)
      driver.setConfiguration(window + 8, offset)
      driver.setConfiguration(window + 12, length)
    }
    // Also with memory disabled.
    driver.setConfiguration(4, 0, width: .word)
    set(Common.status, 1)
    driver.setConfiguration(window + 16, 3, width: .byte)
    #expect(driver.configuration(window + 16, width: .byte) == 3)
    set(Common.queueSize, 2)
    #expect(driver.portConfiguration(window + 16, width: .word) == 64)
    // Lengths that are none, and places outside of a region: nothing.
    for (offset, length, region) in [
      (0, 3, 0), (1, 2, 0), (0x4000, 4, 0), (0xffff_fffc, 4, 0), (0, 4, 2), (0, 4, 255), (0, 0, 0),
    ] as [(UInt64, UInt64, UInt64)] {
      set(offset, length, region: region)
      driver.setConfiguration(window + 16, 0xffff_ffff)
      #expect(driver.configuration(window + 16) == 0)
    }
    driver.enable()
    #expect(driver.status() == 3)
  }

  @Test("doorbells are bound where the region is while the driver is ready")
  func doorbells() throws {
    final class Binding: EventBinding {
      let bound = Mutex<[UInt64]>([])
      func bindDoorbell(
        _ eventDescriptor: Int32, to address: GuestPhysicalAddress, width: AccessWidth, value: UInt64?
      ) throws(TechniqueFailure) {
        #expect(width == .word && value == nil)
        bound.withLock { $0.append(address.rawValue) }
      }
      func unbindDoorbell(
        _ eventDescriptor: Int32, from address: GuestPhysicalAddress, width: AccessWidth
      ) throws(TechniqueFailure) {
        bound.withLock { bound in bound.removeAll { $0 == address.rawValue } }
      }
      func bindPulse(_ eventDescriptor: Int32, to line: Int) throws(TechniqueFailure) {}
    }
    let binding = Binding()
    let driver = try VirtioPCIDriver(VirtioConsole(sink: MemorySink()))
    driver.device.bind(binding)
    driver.enable()
    driver.open([.standard(0), .standard(1)])
    #expect(binding.bound.withLock { $0 } == [0xd800_3000, 0xd800_3004])
    driver.setConfiguration(0x10, 0xd900_0000)
    #expect(binding.bound.withLock { $0 } == [0xd900_3000, 0xd900_3004])
    driver.setConfiguration(4, 4, width: .word)
    #expect(binding.bound.withLock { $0.isEmpty })
    driver.enable()
    #expect(binding.bound.withLock { $0.count } == 2)
    driver.setStatus(0)
    #expect(binding.bound.withLock { $0.isEmpty })
  }

  @Test("a device with a thread serves what is notified", .timeLimit(.minutes(15)))
  func worker() throws {
    let driver = try VirtioPCIDriver(VirtioEntropy(), usesWorker: true)
    driver.enable()
    driver.open([queue])
    driver.describe(queue, [piece])
    driver.publish(queue, head: 0)
    driver.notify(0)
    for _ in 0..<5000 where driver.usedIndex(queue) == 0 { usleep(1000) }
    #expect(driver.usedIndex(queue) == 1)
    for _ in 0..<5000 where !driver.controller.level(driver.line) { usleep(1000) }
    driver.device.stop()
  }

  // MARK: Saved form

  @Test("a saved function goes on where it was: its regions, its vectors, what waits")
  func saved() throws {
    let first = try driver()
    first.setConfiguration(0x10, 0xd900_0000)
    first.enableMessages()
    first.entry(1, address: 0xfee0_1000, data: 0x41, isMasked: true)
    first.open([queue], vector: 1)
    _ = first.request(queue, [piece])
    first.describe(queue, [piece])
    first.publish(queue, head: 0)
    let second = try VirtioPCIDriver(VirtioEntropy())
    try second.memory.restore(throughJSON(first.memory.save()))
    try second.device.restore(throughJSON(first.device.save()))
    #expect(try second.device.save() == throughJSON(first.device.save()))
    #expect(second.status() == 15)
    second.device.processQueues()
    #expect(second.usedIndex(queue) == 2)
    #expect(second.pendingMessages == 2)
    second.entry(1, address: 0xfee0_1000, data: 0x41, isMasked: false)
    #expect(second.controller.messages == [InterruptMessage(address: 0xfee0_1000, data: 0x41)])
  }

  @Test("a pin that was asserted is so again")
  func savedPin() throws {
    let first = try driver()
    first.open([queue])
    _ = first.request(queue, [piece])
    let second = try VirtioPCIDriver(VirtioEntropy())
    try second.memory.restore(throughJSON(first.memory.save()))
    try second.device.restore(throughJSON(first.device.save()))
    #expect(second.controller.level(second.line))
    #expect(second.reasons() == 1)
    #expect(!second.controller.level(second.line))
  }

  @Test("nothing in a spoiled state makes a function trap", arguments: 1...4 as ClosedRange<UInt64>)
  func spoiledStates(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let first = try driver()
    first.enableMessages()
    first.entry(1, address: 0xfee0_1000, data: 0x41, isMasked: false)
    first.open([queue], features: .eventIndex, vector: 1)
    _ = first.request(queue, [piece])
    let memory = first.memory.save()
    var (refusals, acceptances) = (0, 0)
    for _ in 0..<60 {
      guard let saved = try spoiled(first.device.save(), using: &generator) else { continue }
      let second = try VirtioPCIDriver(VirtioEntropy())
      try second.memory.restore(memory)
      do throws(RestoreFailure) {
        try second.device.restore(saved)
        acceptances += 1
      } catch {
        refusals += 1
      }
      second.device.processQueues()
      for offset in stride(from: 0, to: 0x100, by: 4) { _ = second.configuration(offset) }
      second.setConfiguration(0x10, VirtioPCIDriver.window)
      second.enable()
      second.open([queue])
      _ = second.request(queue, [piece])
    }
    // Else this would test nothing.
    #expect(refusals > 5)
    #expect(acceptances > 0)
  }
}
