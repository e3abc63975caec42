import TrivisorDevices
import Synchronization
import TrivisorVMM

/// Remembers the level of each line and how often each rose.
final class RecordingController: InterruptController {
  struct Lines: Sendable {
    var levels: [Int: Bool] = [:]
    var rises: [Int: Int] = [:]
    var messages: [InterruptMessage] = []
  }

  private let lines = Mutex(Lines())

  func setLine(_ line: Int, asserted: Bool) {
    lines.withLock { lines in
      if asserted, lines.levels[line] != true { lines.rises[line, default: 0] += 1 }
      lines.levels[line] = asserted
    }
  }

  func deliver(_ message: InterruptMessage) { lines.withLock { $0.messages.append(message) } }

  var messages: [InterruptMessage] { lines.withLock { $0.messages } }
  func level(_ line: Int) -> Bool { lines.withLock { $0.levels[line] ?? false } }
  func rises(_ line: Int) -> Int { lines.withLock { $0.rises[line] ?? 0 } }
}

/// A line and what it does.
func recordedLine(_ number: Int) -> (InterruptLine, RecordingController) {
  let router = InterruptRouter()
  let controller = RecordingController()
  router.connect(controller)
  return (InterruptLine(number, router: router), controller)
}

extension Bus {
  /// The usual access in these tests.
  func inb(_ port: UInt16) -> UInt8 { UInt8(truncatingIfNeeded: readPort(port, width: .byte)) }

  @discardableResult
  func outb(_ port: UInt16, _ value: UInt8) -> DeviceEffect { writePort(port, UInt32(value), width: .byte) }
}
