/// A processor's registers for a person, in the form that kernels print them.
package enum RegistersText {
  /// Several lines without a newline at the end.
  package static func of(_ state: MachineState, instruction: [UInt8]) -> String {
    let system = state.system
    let registers = Dictionary(uniqueKeysWithValues: state.namedRegisters)
    func row(_ names: [String]) -> String {
      names.map { name in
        let padding = String(repeating: " ", count: max(3 - name.count, 0))
        return "\(name)\(padding) \(hexadecimal(registers[name] ?? 0, digits: 16))"
      }.joined(separator: "  ")
    }
    var lines = [
      row(["rip", "rflags", "rsp"]), row(["rax", "rbx", "rcx", "rdx"]), row(["rsi", "rdi", "rbp", "r8"]),
      row(["r9", "r10", "r11", "r12"]), row(["r13", "r14", "r15"]), row(["cr0", "cr2", "cr3", "cr4"]),
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

extension MachineState {
  /// Those that kernels print, by the manuals' names in small letters.
  package var namedRegisters: [(String, UInt64)] {
    [
      ("rip", general.rip), ("rflags", general.rflags), ("rsp", general.rsp), ("rax", general.rax),
      ("rbx", general.rbx), ("rcx", general.rcx), ("rdx", general.rdx), ("rsi", general.rsi), ("rdi", general.rdi),
      ("rbp", general.rbp), ("r8", general.r8), ("r9", general.r9), ("r10", general.r10), ("r11", general.r11),
      ("r12", general.r12), ("r13", general.r13), ("r14", general.r14), ("r15", general.r15), ("cr0", system.cr0),
      ("cr2", system.cr2), ("cr3", system.cr3), ("cr4", system.cr4), ("efer", system.efer),
    ]
  }
}

extension CrashReport: CustomStringConvertible {
  /// What happened, and the processor's registers where they could be read.
  public var description: String {
    guard let state else { return summary }
    return summary + "\n" + RegistersText.of(state, instruction: instruction)
  }
}
