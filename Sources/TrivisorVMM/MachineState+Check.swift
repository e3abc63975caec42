import TrivisorX86

extension MachineState {
  private static let subject = "processor"

  /// Whether a processor can be in this state at all; what a technique can't give of it is the technique's to refuse.
  /// - Throws: `RestoreFailure` that names the first thing that can't be.
  public func check() throws(RestoreFailure) {
    try checkControl()
    try checkSegments()
    try restoring(
      Self.subject, requires: debug.addresses.count == 4, "it has \(debug.addresses.count) breakpoint addresses, not 4")
    try restoring(
      Self.subject, requires: (debug.dr6 | debug.dr7) >> 32 == 0, "DR6 or DR7 has bits in its upper half")
    try restoring(
      Self.subject, requires: general.rflags >> 22 == 0 && general.rflags & RFLAGS.alwaysOne.rawValue != 0,
      "RFLAGS is \(hexadecimal(general.rflags))")
    let components = extended.xcr0
    try restoring(
      Self.subject, requires: components & 1 != 0 && (components & 4 == 0 || components & 2 != 0),
      "XCR0 is \(hexadecimal(components))")
    try restoring(
      Self.subject, requires: extended.area.isEmpty || (512...Self.largestArea).contains(extended.area.count),
      "its XSAVE area has \(extended.area.count) bytes")
    try restoring(
      Self.subject, requires: modelSpecific.count <= Self.mostRegisters,
      "it has \(modelSpecific.count) model-specific registers")
    try restoring(
      Self.subject, requires: events.heldBreakpoints < 16, "the breakpoints \(events.heldBreakpoints) are pending")
    if let exception = events.exception {
      try restoring(
        Self.subject, requires: exception.vector < 32, "an exception with the vector \(exception.vector) is pending")
    }
  }

  /// Above what any processor has.
  private static let largestArea = 1 << 16, mostRegisters = 4096

  private func checkControl() throws(RestoreFailure) {
    let (cr0, cr4, efer) = (CR0(rawValue: system.cr0), CR4(rawValue: system.cr4), EFER(rawValue: system.efer))
    try restoring(
      Self.subject,
      requires: system.cr0 >> 32 == 0 && (!cr0.contains(.paging) || cr0.contains(.protectedMode))
        && (!cr0.contains(.notWriteThrough) || cr0.contains(.cacheDisable)), "CR0 is \(hexadecimal(system.cr0))")
    try restoring(Self.subject, requires: system.cr4 >> 32 == 0, "CR4 is \(hexadecimal(system.cr4))")
    let isLong = efer.contains(.longModeEnable) && cr0.contains(.paging)
    try restoring(
      Self.subject,
      requires: efer.subtracting(.automaticIBRS).rawValue >> 16 == 0 && efer.contains(.longModeActive) == isLong
        && (!isLong || cr4.contains(.physicalAddressExtension)),
      "EFER is \(hexadecimal(system.efer)) with CR0 \(hexadecimal(system.cr0)) and CR4 \(hexadecimal(system.cr4))")
    try restoring(Self.subject, requires: system.cr3 & CR3.reserved == 0, "CR3 is \(hexadecimal(system.cr3))")
    try restoring(Self.subject, requires: system.cr8 < 16, "CR8 is \(system.cr8)")
    try restoring(
      Self.subject, requires: system.pointerTable.isEmpty || system.pointerTable.count == 4,
      "it has \(system.pointerTable.count) entries of PAE's top table, not 4")
  }

  private func checkSegments() throws(RestoreFailure) {
    let isLong = EFER(rawValue: system.efer).contains(.longModeActive)
    for (name, segment) in [
      ("CS", system.cs), ("DS", system.ds), ("ES", system.es), ("SS", system.ss), ("FS", system.fs), ("GS", system.gs),
      ("LDTR", system.ldt), ("TR", system.task),
    ] {
      try restoring(
        Self.subject, requires: SegmentAttributes(rawValue: segment.attributes).isDisjoint(with: .reserved),
        "\(name) has the attributes \(hexadecimal(UInt64(segment.attributes)))")
      try restoring(
        Self.subject, requires: isLong ? LinearAddress.isCanonical(segment.base) : segment.base >> 32 == 0,
        "\(name) has the base \(hexadecimal(segment.base))")
    }
    for (name, table) in [("GDTR", system.gdt), ("IDTR", system.idt)] {
      try restoring(
        Self.subject, requires: LinearAddress.isCanonical(table.base), "\(name) has the base \(hexadecimal(table.base))"
      )
    }
  }
}
