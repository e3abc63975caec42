import Synchronization
import TrivisorVMM

/// The part of a virtio PCI function that its interrupts depend on: its configuration space, its MSI-X table, the vectors that the
/// driver chose, and the reasons of its pin.
///
/// Under one lock, which the device's thread takes to interrupt; nothing of the device is called under it.
final class VirtioPCIInterrupts: VirtioNotifier {
  /// Bits of the ISR status (virtio 1.2, 4.1.4.5).
  enum Reason {
    static let used: UInt8 = 1 << 0
    static let configuration: UInt8 = 1 << 1
    static let all = used | configuration
  }

  /// VIRTIO_MSI_NO_VECTOR (virtio 1.2, 4.1.5.1.2.2).
  static let noVector: UInt16 = 0xffff

  struct State: Sendable {
    var space: PCIConfigurationSpace
    var table: MSIXTable
    var reasons: UInt8 = 0
    var configurationVector = noVector
    var queueVectors: [UInt16]
  }

  let state: Mutex<State>
  private let address: PCIAddress
  private let pin: UInt8
  private let pins: PCIInterruptPins
  private let router: InterruptRouter

  init(
    _ address: PCIAddress, space: PCIConfigurationSpace, table: MSIXTable, queueCount: Int, pins: PCIInterruptPins,
    router: InterruptRouter
  ) {
    self.address = address
    pin = space.bytes[PCIRegister.interruptPin]
    self.pins = pins
    self.router = router
    state = Mutex(
      State(space: space, table: table, queueVectors: Array(repeating: Self.noVector, count: queueCount)))
  }

  func notifyUsed(queue: Int) {
    raise(Reason.used) { $0.queueVectors.indices.contains(queue) ? $0.queueVectors[queue] : Self.noVector }
  }

  func notifyConfigurationChange() { raise(Reason.configuration) { $0.configurationVector } }

  private func raise(_ reason: UInt8, vector: (State) -> UInt16) {
    let message = state.withLock { state -> InterruptMessage? in
      guard !state.table.isEnabled else {
        let message = state.table.trigger(Int(vector(state)))
        // A message is a write to memory.
        return state.space.command.contains(.busMaster) ? message : nil
      }
      state.reasons |= reason
      drivePin(&state)
      return nil
    }
    if let message { router.deliver(message) }
  }

  /// Messages that waited, now that they are not masked any more.
  func send(_ messages: [InterruptMessage]) {
    for message in messages { router.deliver(message) }
  }

  /// Makes pin and status register what the rest says.
  func drivePin(_ state: inout State) {
    let isInterrupting = state.reasons != 0 && !state.table.isEnabled
    state.space.set(
      UInt32(PCIStatus.capabilitiesList | (isInterrupting ? PCIStatus.interrupt : 0)), at: PCIRegister.status, count: 2)
    pins.set(
      address, pin: pin, asserted: isInterrupting && !state.space.command.contains(.interruptDisable))
  }

  /// The ISR status; reading it clears it and releases the pin.
  func takeReasons() -> UInt8 {
    state.withLock { state in
      let reasons = state.reasons
      state.reasons = 0
      drivePin(&state)
      return reasons
    }
  }

  /// The driver has reset the device.
  func reset() {
    state.withLock { state in
      state.reasons = 0
      state.configurationVector = Self.noVector
      for queue in state.queueVectors.indices { state.queueVectors[queue] = Self.noVector }
      drivePin(&state)
    }
  }
}
