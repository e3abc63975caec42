/// Their names in Xen's header, for statistics.
enum HypercallName {
  private static let names: [Int: String] = [
    0: "set_trap_table", 1: "mmu_update", 2: "set_gdt", 3: "stack_switch", 4: "set_callbacks", 5: "fpu_taskswitch",
    7: "platform_op", 8: "set_debugreg", 9: "get_debugreg", 10: "update_descriptor", 12: "memory_op", 13: "multicall",
    14: "update_va_mapping", 15: "set_timer_op", 17: "xen_version", 18: "console_io", 20: "grant_table_op",
    21: "vm_assist", 22: "update_va_mapping_otherdomain", 23: "iret", 24: "vcpu_op", 25: "set_segment_base",
    26: "mmuext_op", 27: "xsm_op", 28: "nmi_op", 29: "sched_op", 30: "callback_op", 31: "xenoprof_op",
    32: "event_channel_op", 33: "physdev_op", 34: "hvm_op", 35: "sysctl", 36: "domctl", 37: "kexec_op", 38: "tmem_op",
    40: "xenpmu_op",
  ]

  static func of(_ number: UInt64) -> String { names[Int(truncatingIfNeeded: number)] ?? "number \(number)" }
}
