// Virtual-8086 mode (Virtual8086.S).

import TrivisorVMM

extension ConformanceSuite {
  private typealias Case = ConformanceCase

  private static let virtualFlag: UInt64 = 0x2_0000
  /// CS, and the guest's first byte in it.
  private static let code: UInt64 = 0x7ff

  /// The TSS with a permission bitmap for ports 0 to 0x3ff, in front of it the redirection bitmap; both all 0.
  private static func extendTask(_ state: inout MachineState, _ tables: TableWriter) throws {
    let (bitmap, size): (UInt64, UInt64) = (0x88, 0x80)
    state.system.task.limit = UInt32(bitmap + size)
    try tables.memory.write(UInt16(bitmap), at: GuestPhysicalAddress(Layout.tss + 0x66))
    try tables.memory.write(UInt8.max, at: GuestPhysicalAddress(Layout.tss + bitmap + size))
    let descriptor = TableWriter.descriptor(base: UInt32(Layout.tss), limit: UInt32(bitmap + size), attributes: 0x8b)
    try tables.write(descriptor, at: Layout.gdt + UInt64(Layout.tssSelector))
  }

  /// A frame of virtual-8086 code.
  private static func frame(
    _ vector: UInt64, error: UInt64 = 0, flags: UInt64 = 0, stack: UInt64 = 0x1000
  ) -> [UInt64] {
    [0xfa00 + vector, error, 0, code, virtualFlag | flags, stack, 0x100, Layout.rsp0 - 16]
  }

  private static func virtual(_ name: String, _ summary: String, _ results: [UInt64]) -> Case {
    Case(name, .protected, summary).reporting(results).prepared { state, tables in
      try extendTask(&state, tables)
    }
  }

  static let virtual8086Cases: [ConformanceCase] = [
    virtual(
      "virtual-segments", "segments are sixteen times their selector; IRET takes all of them from its frame",
      [0x2000, 0x3000, 0x5555, 0x6666, 0x100, 0xabcd, 0x1234, code - 0x100, 0xabcd]),
    virtual(
      "virtual-refused", "#GP for privileged instructions, #UD for those about descriptors",
      [13, 13, 13, 13, 13, 6, 6, 6, 6, 6, 6].flatMap { frame($0) }),
    virtual(
      "virtual-flags-refused", "#GP for CLI, STI, PUSHF, POPF, INT n and IRET with IOPL 2",
      (0..<6).flatMap { _ in frame(13, flags: 0x2000) }),
    virtual(
      "virtual-flags", "with IOPL 3 they work as in real mode; INT n goes by the IDT",
      [0x3200, 0x3000, 0x3200, 0x3000] + frame(13, error: 0x21 * 8 + 2, flags: 0x3000)),
    virtual(
      "virtual-exceptions", "exceptions push all segment registers and change to the inner stack",
      frame(3) + frame(4) + frame(1) + frame(6) + frame(0) + frame(13) + frame(12)),
    virtual("virtual-ports", "the permission bitmap decides whatever IOPL is", []).prepared { state, tables in
      try extendTask(&state, tables)
      // Port 0xb8.
      try tables.memory.write(UInt8(1), at: GuestPhysicalAddress(Layout.tss + 0x88 + 0xb8 / 8))
    }.reporting(frame(13, flags: 0x3000) + [0xa1] + frame(13, flags: 0x3000)),
    virtual(
      "virtual-extensions", "with CR4.VME, CLI, STI, PUSHF, POPF and IRET work on VIF",
      [0x3200, 0x3000] + frame(6) + frame(13) + frame(13, stack: 0xffe) + [0x3000]),
    virtual("virtual-redirection", "INT n by the redirection bitmap: the program's vectors, or #GP", [])
      .prepared { state, tables in
        try extendTask(&state, tables)
        // Vector 0x61.
        try tables.memory.write(UInt8(2), at: GuestPhysicalAddress(Layout.tss + 0x68 + 0x61 / 8))
      }.reporting([0x3000, 0, code, 0x3200, 0x3200] + frame(13)),
    virtual(
      "virtual-pending", "VIP makes what sets VIF a #GP", frame(13) + frame(13, stack: 0xffe)),
    Case("virtual-interrupts", .protectedUser, "with CR4.PVI, CLI and STI at CPL 3 work on VIF")
      .reporting([0, 0x8_0000])
      .prepared { state, _ in state.system.cr4 |= 2 },
    virtual("virtual-task", "a task switch to virtual-8086 mode", [0x1234, 0x2345, 0x2000])
      .accompanied(by: "virtual_task_code").prepared { state, tables in
        try extendTask(&state, tables)
        var task = TaskImage()
        (task.eip, task.flags, task.esp) = (0, 0x2_0002, 0x2000)
        (task.cs, task.ds, task.es, task.ss) = (0x900, 0x1234, 0x2345, 0x100)
        // Its own bitmap allows what the other one does.
        try task.write(tables, permissionMap: true)
      },
  ]
}
