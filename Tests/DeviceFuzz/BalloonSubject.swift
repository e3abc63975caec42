import TrivisorDevices
import TrivisorVMM

/// A balloon, whose size somebody changes.
final class BalloonSubject: FuzzSubject {
  private static let pageSize: UInt64 = 4096
  private enum Queue {
    static let inflate = 0, deflate = 1, statistics = 2
  }

  private let balloon: VirtioBalloon
  let memory: GuestMemory
  /// VIRTIO_BALLOON_F_STATS_VQ, _DEFLATE_ON_OOM, _PAGE_REPORTING (virtio 1.2, 5.5.3).
  let features: VirtioFeatures = [.bit(1), .bit(2), .bit(5)]

  init() throws {
    memory = try GuestMemory(size: RandomGuest.memorySize)
    balloon = try VirtioBalloon(memory, size: 1 << 20)
  }

  var device: any VirtioDevice { balloon }

  func request(queue: Int, _ random: inout FuzzRandom) -> FuzzRequest? {
    var bytes = FuzzBytes()
    switch queue {
    case Queue.inflate, Queue.deflate:
      let pages = RandomGuest.memorySize / Self.pageSize
      var page = UInt32(random.number(below: pages))
      for _ in 0..<random.number(below: 40) {
        bytes.put(random.chance(30) ? UInt32(truncatingIfNeeded: random.next()) : page)
        // Neighbours, as drivers give them.
        page = random.chance(8) ? UInt32(random.number(below: pages)) : random.chance(2) ? page &+ 1 : page &- 1
      }
    case Queue.statistics:
      for _ in 0..<random.number(below: 12) {
        bytes.put(UInt16(random.chance(8) ? random.number(below: 0x1_0000) : random.number(below: 12)))
        bytes.put(random.next())
      }
    default: return nil
    }
    if random.chance(20) { bytes.put(UInt8(0)) }
    return FuzzRequest(bytes: bytes.bytes, isWhole: !random.chance(8))
  }

  func hostStep(_ random: inout FuzzRandom) {
    guard random.chance(4) else { return }
    balloon.resize(to: random.number(below: 2 * RandomGuest.memorySize))
    // To wait for an answer starts the asking.
    _ = balloon.report(waiting: random.chance(50) ? 1 : 0)
  }

  func check() throws {
    let report = balloon.report()
    try FuzzFinding.require(report.wantedBytes <= memory.size, "more is wanted than there is")
  }
}
