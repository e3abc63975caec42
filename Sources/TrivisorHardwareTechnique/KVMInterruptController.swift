import CKVM
import TrivisorVMM

/// The 8259 pair, the I/O APIC and the local APICs in the host's kernel.
final class KVMInterruptController: InterruptController {
  private let machine: OwnedDescriptor

  init(machine: OwnedDescriptor) { self.machine = machine }

  func setLine(_ line: Int, asserted: Bool) {
    guard let number = UInt32(exactly: line) else { return }
    var level = kvm_irq_level()
    level.irq = number
    level.level = asserted ? 1 : 0
    // Fails only for a line that does not exist: then nothing is connected, as on a board.
    _ = kvm_irq_line(machine.raw, &level)
  }

  func deliver(_ message: InterruptMessage) {
    var msi = kvm_msi()
    msi.address_lo = UInt32(truncatingIfNeeded: message.address)
    msi.address_hi = UInt32(truncatingIfNeeded: message.address >> 32)
    msi.data = message.data
    _ = kvm_signal_msi(machine.raw, &msi)
  }
}
