import TrivisorDevices
import TrivisorVMM

/// A console, with a terminal's size or with messages on its port; somebody types.
final class ConsoleSubject: FuzzSubject {
  private static let controlTransmit = 3
  /// VIRTIO_CONSOLE_F_SIZE and VIRTIO_CONSOLE_F_MULTIPORT (virtio 1.2, 5.3.3).
  private static let sizeFeature = VirtioFeatures.bit(0)
  private static let portsFeature = VirtioFeatures.bit(1)

  private let console: VirtioConsole
  private let isTerminal: Bool
  let memory: GuestMemory

  init(isTerminal: Bool) throws {
    self.isTerminal = isTerminal
    console = VirtioConsole(sink: MemorySink(limit: 1024), size: isTerminal ? .init(columns: 80, rows: 25) : nil)
    memory = try GuestMemory(size: RandomGuest.memorySize)
  }

  var device: any VirtioDevice { console }
  var features: VirtioFeatures { isTerminal ? Self.sizeFeature : Self.portsFeature }

  func request(queue: Int, _ random: inout FuzzRandom) -> FuzzRequest? {
    guard queue == Self.controlTransmit else { return nil }
    // Port, event, value (5.3.6.2).
    var message = FuzzBytes()
    message.put(UInt32(random.chance(8) ? random.number(below: 3) : 0))
    message.put(UInt16(random.pick([0, 3, 6, 0, 3, 6, random.number(below: 9)])))
    message.put(UInt16(random.number(below: 3)))
    return FuzzRequest(bytes: message.bytes, isWhole: !random.chance(8))
  }

  func hostStep(_ random: inout FuzzRandom) {
    if random.chance(4) {
      _ = console.receive([UInt8](repeating: 0x78, count: random.number(below: 300)))
    }
    if random.chance(40) {
      console.resize(
        to: .init(columns: UInt16(random.number(below: 0x1_0000)), rows: UInt16(random.number(below: 0x1_0000))))
    }
  }
}
