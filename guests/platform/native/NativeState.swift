import CNative
import CPlatform

extension Platform: StatePlatform {
  /// A kernel with privilege replaces nothing.
  static func showReplacements() {}

  static func markState() -> KnownState {
    // CR0.TS is clear where nobody set it; TSC_AUX is a processor number in most kernels.
    native_set_task_switched()
    let tscAux: UInt64 = 0x1234
    if native_cpuid(0x8000_0001, 0).edx & 1 << 27 != 0 { native_wrmsr(0xc000_0103, tscAux) }
    if native_cpuid(1, 0).ecx & 1 << 26 != 0 { native_enable_xsave() }
    let tables = native_tables()
    return KnownState(
      gdtBase: tables.gdtBase, gdtLimit: tables.gdtLimit, idtBase: tables.idtBase, idtLimit: tables.idtLimit,
      taskRegister: 0x30, machineStatus: 0x3b, efer: native_rdmsr(0xc000_0080), tscAux: tscAux,
      codeSelector: 0x08, stackSelector: 0x10, userReturn: 0)
  }
}
