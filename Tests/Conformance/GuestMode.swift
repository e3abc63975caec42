import TrivisorVMM

/// The mode in which a case's guest is entered, with everything set up for it: tables, handlers, stack.
public enum GuestMode: String, Sendable, CaseIterable {
  /// 16-bit, segments at 0, vectors at 0.
  case real
  /// 32-bit, flat, CPL 0, no paging.
  case protected
  /// 32-bit, flat, CPL 3, no paging.
  case protectedUser
  /// 64-bit, CPL 0.
  case long
  /// 64-bit, CPL 3.
  case longUser
  /// 32-bit under long mode, CPL 0.
  case compatibility
  /// 32-bit under long mode, CPL 3.
  case compatibilityUser

  var isLong: Bool {
    switch self {
    case .real, .protected, .protectedUser: false
    case .long, .longUser, .compatibility, .compatibilityUser: true
    }
  }

  private var isUser: Bool { self == .longUser || self == .protectedUser || self == .compatibilityUser }

  /// The guest of Handlers.S that reports exceptions in this mode.
  var handlers: String {
    switch self {
    case .real: "handlers_real"
    case .protected, .protectedUser: "handlers_protected"
    case .long, .longUser, .compatibility, .compatibilityUser: "handlers_long"
    }
  }

  /// The tables of this mode.
  func writeTables(_ tables: TableWriter) throws {
    if self == .real {
      try tables.writeRealModeVectors()
    }
    try tables.writeDescriptors()
    try tables.writeTaskState(isLong: isLong)
    try tables.writeLongModePages()
    if isLong { try tables.writeLongModeGates() }
    if self == .protected || self == .protectedUser { try tables.writeProtectedModeGates() }
  }

  /// The registers of this mode.
  func enter(_ state: inout MachineState) {
    state.general.rip = Layout.guest
    state.general.rsp = isUser ? Layout.userStack : Layout.stack
    state.general.rdx = 0
    guard self != .real else {
      state.system.cs = .real(0, code: true)
      return
    }
    state.system.gdt = DescriptorTable(base: Layout.gdt, limit: Layout.gdtLimit)
    state.system.idt = DescriptorTable(base: Layout.idt, limit: isLong ? 0xfff : 0x7ff)
    state.system.task = Segment(
      selector: Layout.tssSelector, base: Layout.tss, limit: Layout.tssLimit, attributes: 0x8b)
    state.system.cr0 = 0x31
    let data =
      isUser
      ? Segment(selector: Layout.userData, base: 0, limit: .max, attributes: 0xc0f3)
      : Segment.flatData(selector: Layout.data0)
    for segment in [\SystemRegisters.ds, \.es, \.fs, \.gs, \.ss] { state.system[keyPath: segment] = data }
    state.system.cs =
      switch self {
      case .real, .protected, .compatibility: .flatCode32(selector: Layout.code32)
      case .protectedUser, .compatibilityUser:
        Segment(selector: Layout.userCode32, base: 0, limit: .max, attributes: 0xc0fb)
      case .long: .flatCode64(selector: Layout.code64)
      case .longUser: Segment(selector: Layout.userCode64, base: 0, limit: .max, attributes: 0xa0fb)
      }
    // OSFXSR, OSXMMEXCPT and DE; PAE with paging.
    state.system.cr4 = 0x608
    if isLong {
      state.system.cr4 |= 0x20
      state.system.cr0 |= 0x8000_0000
      state.system.cr3 = Layout.level4
      // SCE, LME, LMA, NXE.
      state.system.efer = 0xd01
    }
  }
}
