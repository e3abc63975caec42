import TrivisorSandbox
import TrivisorVMM
import TrivisorXenDomain

/// Xen's flat segments and the host's that are in their place: natively run code has the host's selectors.
enum HostSelectors {
  /// Linux's (arch/x86/include/asm/segment.h): __USER_CS, __USER32_CS, __USER_DS.
  private static let code64: UInt16 = 0x33
  private static let code32: UInt16 = 0x23
  private static let data: UInt16 = 0x2b

  private static func code(_ selector: UInt16, _ layout: SharedLayout) -> UInt16 {
    switch (layout, UInt64(selector)) {
    case (.bits64, Selectors.code64): code64
    case (.bits64, Selectors.code32): code32
    case (.bits32, Selectors.kernelCode32): SandboxProcess.codeSelector32
    default: selector
    }
  }

  private static func stack(_ selector: UInt16, _ layout: SharedLayout) -> UInt16 {
    switch (layout, UInt64(selector)) {
    case (.bits64, Selectors.data64): data
    case (.bits32, Selectors.kernelData32): SandboxProcess.dataSelector32
    default: selector
    }
  }

  private static func xenCode(_ selector: UInt16, _ layout: SharedLayout) -> UInt16 {
    switch (layout, selector) {
    case (.bits64, code64): UInt16(Selectors.code64)
    case (.bits64, code32): UInt16(Selectors.code32)
    case (.bits32, SandboxProcess.codeSelector32): UInt16(Selectors.kernelCode32)
    default: selector
    }
  }

  private static func xenStack(_ selector: UInt16, _ layout: SharedLayout) -> UInt16 {
    switch (layout, selector) {
    case (.bits64, data): UInt16(Selectors.data64)
    case (.bits32, SandboxProcess.dataSelector32): UInt16(Selectors.kernelData32)
    default: selector
    }
  }

  static func copy(_ from: DomainRegisters, to: inout UserRegisters, _ layout: SharedLayout) {
    (to.rax, to.rbx, to.rcx, to.rdx) = (from.rax, from.rbx, from.rcx, from.rdx)
    (to.rsi, to.rdi, to.rsp, to.rbp) = (from.rsi, from.rdi, from.rsp, from.rbp)
    (to.r8, to.r9, to.r10, to.r11) = (from.r8, from.r9, from.r10, from.r11)
    (to.r12, to.r13, to.r14, to.r15) = (from.r12, from.r13, from.r14, from.r15)
    (to.rip, to.rflags, to.fsBase, to.gsBase) = (from.rip, from.rflags, from.fsBase, from.gsBase)
    to.cs = code(from.segments.cs.selector, layout)
    to.ss = stack(from.segments.ss.selector, layout)
  }

  static func copy(_ from: UserRegisters, to: inout DomainRegisters, _ layout: SharedLayout) {
    (to.rax, to.rbx, to.rcx, to.rdx) = (from.rax, from.rbx, from.rcx, from.rdx)
    (to.rsi, to.rdi, to.rsp, to.rbp) = (from.rsi, from.rdi, from.rsp, from.rbp)
    (to.r8, to.r9, to.r10, to.r11) = (from.r8, from.r9, from.r10, from.r11)
    (to.r12, to.r13, to.r14, to.r15) = (from.r12, from.r13, from.r14, from.r15)
    (to.rip, to.rflags, to.fsBase, to.gsBase) = (from.rip, from.rflags, from.fsBase, from.gsBase)
    to.segments.cs = Selectors.segment(xenCode(from.cs, layout), layout, isCode: true)
    to.segments.ss = Selectors.segment(xenStack(from.ss, layout), layout, isCode: false)
  }
}
