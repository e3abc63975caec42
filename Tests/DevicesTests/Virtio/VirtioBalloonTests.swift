import TrivisorDeviceFuzz
import Glibc
import Synchronization
import Testing
import TrivisorVMM

@testable import TrivisorDevices

@Suite("Virtio balloon")
struct VirtioBalloonTests {
  private static let numbers: UInt64 = 0x8_0000
  private let queues = (0..<5).map { index in
    RingPlace(
      index: index, size: 16, descriptors: 0x1_0000 + 0x4000 * UInt64(index),
      available: 0x1_1000 + 0x4000 * UInt64(index),
      used: 0x1_2000 + 0x4000 * UInt64(index))
  }

  /// A balloon in its own driver's memory; shared memory, or anonymous.
  private func balloon(size: UInt64 = 0) throws -> (VirtioDriver, VirtioBalloon) {
    let memory = try GuestMemory(size: 4 << 20)
    let device = try VirtioBalloon(memory, size: size)
    let driver = try VirtioDriver(device, memory: memory)
    driver.open(queues, features: [.bit(1), .bit(2), .bit(5)])
    return (driver, device)
  }

  private func inflate(_ driver: VirtioDriver, _ pages: [UInt32]) {
    for (index, page) in pages.enumerated() { driver.store(page, at: Self.numbers + 4 * UInt64(index)) }
    _ = driver.request(queues[0], [.init(address: Self.numbers, length: UInt32(4 * pages.count))])
  }

  private func resident(_ memory: GuestMemory, page: UInt64) -> Bool {
    guard let place = memory.host(GuestPhysicalAddress(page * 4096), count: 4096) else { return false }
    var isResident: UInt8 = 0
    return mincore(place, 4096, &isResident) == 0 && isResident & 1 != 0
  }

  @Test("the size wanted is told, and the driver's number taken")
  func size() throws {
    let (driver, device) = try balloon(size: 1 << 20)
    #expect(driver.read(0x100) == 256)
    driver.write(0x104, 200)
    #expect(driver.read(0x104) == 200)
    #expect(device.report().actualBytes == 200 * 4096)
    let interrupts = driver.interrupts
    device.resize(to: 2 << 20)
    #expect(driver.read(0x100) == 512)
    #expect(driver.read(VirtioDriver.Register.interruptStatus) & 2 != 0)
    #expect(driver.interrupts == interrupts + 1)
    // Not more than there is.
    device.resize(to: 1 << 40)
    #expect(driver.read(0x100) == 1024)
  }

  @Test("pages in the balloon go back to the host, and read as zeros; others stay")
  func inflate() throws {
    let (driver, device) = try balloon()
    for page: UInt64 in 600..<620 { driver.store(page | 1 << 32, at: page * 4096) }
    let stored = StoreRecorder()
    driver.memory.watch.set(stored)
    inflate(driver, [600, 601, 602, 610, 609, 608, 615, 0xffff_ffff, 5000])
    let gone: Set<UInt64> = [600, 601, 602, 608, 609, 610, 615]
    for page: UInt64 in 600..<620 {
      #expect(resident(driver.memory, page: page) == !gone.contains(page))
      #expect(driver.load(UInt64.self, at: page * 4096) == (gone.contains(page) ? 0 : page | 1 << 32))
    }
    #expect(device.report().inflatedBytes == 7 * 4096)
    #expect(stored.bytes.load(ordering: .relaxed) >= 7 * 4096)
    driver.store(UInt64(7), at: 600 * 4096)
    #expect(driver.load(UInt64.self, at: 600 * 4096) == 7)
    #expect(driver.request(queues[1], [.init(address: Self.numbers, length: 4)]) == 0)
    #expect(!driver.isBroken)
    _ = driver.request(queues[0], [.init(address: Self.numbers, length: 5)])
    #expect(driver.device.fault == .malformedRequest)
  }

  @Test("ranges reported as free go back, as far as they are whole pages", arguments: [3, 4])
  func reporting(queue: Int) throws {
    let (driver, device) = try balloon()
    for page: UInt64 in 600..<620 { driver.store(page | 1 << 32, at: page * 4096) }
    #expect(
      driver.request(
        queues[queue],
        [
          .init(address: 600 * 4096, length: 2 * 4096, isWritable: true),
          .init(address: 605 * 4096 + 8, length: 3 * 4096, isWritable: true),
        ]) == 0)
    #expect(device.report().reportedBytes == 4 * 4096)
    for page: UInt64 in [600, 601, 606, 607] { #expect(!resident(driver.memory, page: page)) }
    for page: UInt64 in [602, 605, 608] { #expect(driver.load(UInt64.self, at: page * 4096) == page | 1 << 32) }
  }

  @Test("statistics come when somebody asks", .timeLimit(.minutes(15)))
  func statistics() throws {
    let (driver, device) = try balloon()
    func give(_ entries: [(UInt16, UInt64)]) {
      for (index, (tag, value)) in entries.enumerated() {
        driver.store(tag, at: Self.numbers + 10 * UInt64(index))
        driver.store(value, at: Self.numbers + 10 * UInt64(index) + 2)
      }
      driver.describe(queues[2], [.init(address: Self.numbers, length: UInt32(10 * entries.count))])
      driver.publish(queues[2], head: 0)
      driver.run(2)
    }
    give([(4, 1000), (5, 2000), (99, 7)])
    #expect(driver.usedIndex(queues[2]) == 0)
    #expect(device.report().statistics.freeMemory == 1000)
    let asking = OwnThread {
      let report = device.report(waiting: 20_000)
      #expect(report.statistics.freeMemory == 500 && report.statistics.totalMemory == 2000)
    }
    while driver.usedIndex(queues[2]) == 0 {
      driver.run(2)
      usleep(1000)
    }
    give([(4, 500), (5, 2000)])
    asking.join()
    #expect(driver.usedIndex(queues[2]) == 1)
  }

  @Test("saved and restored; another size than the memory has is refused")
  func saved() throws {
    let (first, _) = try balloon(size: 1 << 20)
    first.write(0x104, 77)
    let (second, _) = try balloon()
    try second.device.restore(first.device.save())
    #expect(second.read(0x100) == 256 && second.read(0x104) == 77)
    var saved = first.device.save()
    saved.control.device = .balloon(VirtioBalloon.Saved(wanted: 5000, actual: 0))
    #expect(throws: RestoreFailure.self) { try second.device.restore(saved) }
  }
}

private final class StoreRecorder: MemoryWatcher {
  let bytes = Atomic<Int>(0)
  func deviceStored(at host: UnsafeMutableRawPointer, count: Int) { bytes.add(count, ordering: .relaxed) }
}
