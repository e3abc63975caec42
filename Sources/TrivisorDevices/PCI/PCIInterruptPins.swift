import Synchronization
import TrivisorVMM

/// The interrupt pins of a bus' functions: several share a line, which is asserted as long as one of them is (PCI 3.0, 2.2.6).
public final class PCIInterruptPins: Sendable {
  private let lines: [InterruptLine]
  /// By line: the numbers of the functions that assert it.
  private let asserting: Mutex<[Set<Int>]>

  /// - Parameter lines: inputs of the I/O APIC, level-triggered; at least one.
  public init(_ lines: [InterruptLine]) {
    self.lines = lines
    asserting = Mutex(Array(repeating: [], count: lines.count))
  }

  /// Which of the lines a pin is wired to: neighbours get different ones.
  /// - Parameter pin: 1 for INTA# to 4.
  private func index(_ address: PCIAddress, pin: UInt8) -> Int { (address.device + Int(pin) + 3) % max(lines.count, 1) }

  /// The global system interrupt that a pin is wired to.
  public func line(of address: PCIAddress, pin: UInt8) -> Int? {
    let index = index(address, pin: pin)
    return lines.indices.contains(index) ? lines[index].number : nil
  }

  func set(_ address: PCIAddress, pin: UInt8, asserted: Bool) {
    let index = index(address, pin: pin)
    guard lines.indices.contains(index) else { return }
    asserting.withLock { asserting in
      if asserted { asserting[index].insert(address.number) } else { asserting[index].remove(address.number) }
      lines[index].set(asserted: !asserting[index].isEmpty)
    }
  }
}
