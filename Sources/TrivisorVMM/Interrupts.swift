// How a device reaches a processor.
//
// A device holds an `InterruptLine` and says whether it is asserted. Devices exist before a technique is chosen, so the
// line leads to an `InterruptRouter` that the machine connects to the partition's controller once there is one.

import Synchronization

/// What a technique offers to deliver interrupts: KVM's in-kernel chips, or chips in software.
public protocol InterruptController: Sendable {
  /// Drives a global system interrupt: 0–15 are the ISA lines at both 8259s and the I/O APIC, up to 23 the I/O APIC's.
  func setLine(_ line: Int, asserted: Bool)
  /// Delivers a message-signalled interrupt (Intel SDM vol. 3, 12.11): also the way to send an NMI or INIT from outside.
  func deliver(_ message: InterruptMessage)
}

/// An MSI as it goes over the bus (Intel SDM vol. 3, 12.11.1 and 12.11.2).
public struct InterruptMessage: Sendable, Equatable {
  /// `0xfeex_xxxx`: destination APIC ID in bits 19–12.
  public var address: UInt64
  /// Vector in bits 7–0, delivery mode in bits 10–8.
  public var data: UInt32

  /// Any address and data; what is malformed is ignored by the controller, as on a real bus.
  public init(address: UInt64, data: UInt32) {
    self.address = address
    self.data = data
  }

  /// A non-maskable interrupt for one processor.
  public static func nonMaskable(to apicID: UInt8) -> InterruptMessage {
    InterruptMessage(address: 0xfee0_0000 | UInt64(apicID) << 12, data: 0x400)
  }

  /// An edge-triggered interrupt with `vector` for one processor.
  public static func fixed(vector: UInt8, to apicID: UInt8) -> InterruptMessage {
    InterruptMessage(address: 0xfee0_0000 | UInt64(apicID) << 12, data: UInt32(vector))
  }
}

/// Connects lines to a controller that comes later.
public final class InterruptRouter: Sendable {
  private struct Connection {
    var controller: (any InterruptController)?
    /// Lines asserted before the connection, one bit each.
    var asserted: UInt32 = 0
  }

  private let connection = Mutex(Connection())
  /// Of two pulses of one line that overlapped, the second would be no edge.
  private let pulses = Mutex(())

  /// Unconnected: lines are remembered.
  public init() {}

  /// From now on lines drive `controller`; what was asserted before is delivered now.
  public func connect(_ controller: any InterruptController) {
    let asserted = connection.withLock { connection in
      connection.controller = controller
      return connection.asserted
    }
    for line in 0..<32 where asserted & 1 << UInt32(line) != 0 {
      controller.setLine(line, asserted: true)
    }
  }

  fileprivate func pulse(_ line: Int) {
    pulses.withLock { _ in
      set(line, asserted: true)
      set(line, asserted: false)
    }
  }

  /// Delivers a message-signalled interrupt; without a controller there is nobody whom it could reach.
  public func deliver(_ message: InterruptMessage) {
    connection.withLock { $0.controller }?.deliver(message)
  }

  fileprivate func set(_ line: Int, asserted: Bool) {
    let controller = connection.withLock { connection in
      if connection.controller == nil, (0..<32).contains(line) {
        let bit: UInt32 = 1 << UInt32(line)
        connection.asserted = asserted ? connection.asserted | bit : connection.asserted & ~bit
      }
      return connection.controller
    }
    controller?.setLine(line, asserted: asserted)
  }
}

/// One input of the interrupt controller, as the device at its other end sees it.
public struct InterruptLine: Sendable {
  private let router: InterruptRouter
  /// The global system interrupt that it drives.
  public let number: Int

  /// - Parameter number: 0–15 for the ISA lines, up to 23 on the I/O APIC.
  public init(_ number: Int, router: InterruptRouter) {
    self.number = number
    self.router = router
  }

  /// Holds the line at a level until the next call; saying the same twice does nothing more.
  public func set(asserted: Bool) { router.set(number, asserted: asserted) }

  /// Asserts the line and releases it at once: an edge, whichever other devices pulse the same line meanwhile.
  public func pulse() { router.pulse(number) }
}
