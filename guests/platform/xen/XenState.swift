import CPlatform
import CXen

extension Platform: StatePlatform {
  /// What a paravirtual guest may take for its own: it has no descriptor tables, no task register, and a machine status
  /// and EFER as its hypervisor tells them.
  static func markState() -> KnownState {
    // As every paravirtual kernel does, so that CLI and STI in code that it forgot do not end it; they have no effect.
    var level: UInt32 = 1
    _ = withUnsafeMutablePointer(to: &level) {
      xen_hypercall(xenPhysicalDevice, xenSetIOPrivilege, UInt64(UInt(bitPattern: $0)), 0, 0)
    }
    return KnownState(
      gdtBase: 0, gdtLimit: 0, idtBase: 0, idtLimit: 0, taskRegister: 0, machineStatus: 0x33, efer: 0xd01, tscAux: 0,
      codeSelector: xenCodeSelector, stackSelector: xenDataSelector, userReturn: 0)
  }
}
