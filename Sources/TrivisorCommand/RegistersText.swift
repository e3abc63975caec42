import TrivisorVMM

/// A processor's registers for the terminal, in the form that kernels print them.
enum RegistersText {
  /// Several lines without a newline at the end.
  static func of(_ state: MachineState, instruction: [UInt8]) -> String {
    let general = state.general
    let system = state.system
    func row(_ registers: [(String, UInt64)]) -> String {
      registers.map { "\($0) \(hexadecimal($1, digits: 16))" }.joined(separator: "  ")
    }
    var lines = [
      row([("rip", general.rip), ("rflags", general.rflags), ("rsp", general.rsp)]),
      row([("rax", general.rax), ("rbx", general.rbx), ("rcx", general.rcx), ("rdx", general.rdx)]),
      row([("rsi", general.rsi), ("rdi", general.rdi), ("rbp", general.rbp), ("r8 ", general.r8)]),
      row([("r9 ", general.r9), ("r10", general.r10), ("r11", general.r11), ("r12", general.r12)]),
      row([("r13", general.r13), ("r14", general.r14), ("r15", general.r15)]),
      row([("cr0", system.cr0), ("cr2", system.cr2), ("cr3", system.cr3), ("cr4", system.cr4)]),
      "cs \(hexadecimal(UInt64(system.cs.selector))) base \(hexadecimal(system.cs.base))"
        + "  ss \(hexadecimal(UInt64(system.ss.selector)))  efer \(hexadecimal(system.efer))",
    ]
    if !instruction.isEmpty {
      let bytes = instruction.map { hexadecimal(UInt64($0), digits: 2).dropFirst(2) }.joined(separator: " ")
      lines.append("code at rip: \(bytes)")
    }
    return "registers of the processor:\n  " + lines.joined(separator: "\n  ")
  }
}
