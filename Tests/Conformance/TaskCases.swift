// Hardware's task switches (Tasks.S).

import TrivisorVMM

extension ConformanceSuite {
  private typealias Case = ConformanceCase

  /// What `report_tasks` reports: TR, both busy bytes, CR0.TS, RFLAGS.NT.
  private static func tasks(current: UInt16, own: UInt64, other: UInt64, switched: Bool = true, nested: Bool = false)
    -> [UInt64]
  {
    [UInt64(current), own, other, switched ? 8 : 0, nested ? 0x4000 : 0]
  }

  private static let own = Layout.tssSelector, other = TaskImage.selector
  private static let available: UInt64 = 0x89, busy: UInt64 = 0x8b

  private static func task(
    _ name: String, _ summary: String, _ results: [UInt64], guest: String? = nil, code: String? = nil,
    _ change: @escaping @Sendable (inout TaskImage) -> Void = { _ in }
  ) -> Case {
    var made = Case(name, .protected, summary, guest: guest).reporting(results)
    if let code { made = made.accompanied(by: code) }
    return made.prepared { _, tables in
      var image = TaskImage()
      change(&image)
      try image.write(tables)
    }
  }

  /// Vectors that go through task gates.
  private static func gated(_ name: String, _ summary: String, _ vectors: [UInt64], _ results: [UInt64]) -> Case {
    Case(name, .protected, summary).reporting(results).accompanied(
      by: String(name.map { $0 == "-" ? "_" : $0 }) + "_code"
    )
    .prepared { _, tables in
      try TaskImage().write(tables)
      for vector in vectors { try tables.write(UInt64(other) << 16 | 0x85 << 40, at: Layout.idt + 8 * vector) }
    }
  }

  /// A fault in the new task, before its first instruction.
  private static func selectors(
    _ name: String, _ summary: String, _ fault: [UInt64], _ change: @escaping @Sendable (inout TaskImage) -> Void
  ) -> Case {
    task(
      name, summary, fault + [UInt64(other)], guest: "task_selectors", code: "task_selectors_code", change)
  }

  static let taskCases: [ConformanceCase] = [
    task(
      "task-jump", "a jump to a task, and back: registers, busy bits, CR0.TS",
      [0x1111_1111, 0x1_8000, 0x18] + tasks(current: other, own: available, other: busy)
        + [0, 0x2222_2222, Layout.stack, 0x10, 0x2222_2222] + tasks(current: own, own: busy, other: available),
      code: "task_jump_code"),
    task(
      "task-call", "a call of a task nests it; IRET comes back, and the next call goes on behind that IRET",
      tasks(current: other, own: busy, other: busy, nested: true) + [UInt64(own)]
        + tasks(current: own, own: busy, other: available) + [2]
        + tasks(current: other, own: busy, other: busy, nested: true) + [UInt64(own), 3],
      code: "task_call_code"),
    gated(
      "task-gate", "INT n and faults through task gates; the error code is on the new task's stack", [0x21, 11],
      [0] + tasks(current: other, own: busy, other: busy, nested: true)
        + tasks(current: own, own: busy, other: available) + [0x50, 0, 0x1_0000]),
    gated("task-interrupt", "an interrupt through a task gate", [0x51], [5, 0x200, 4]),
    Case("task-16", .protected, "a task-state segment of 16 bits")
      .reporting([0x1111, 0x8000] + tasks(current: other, own: available, other: 0x83))
      .accompanied(by: "task_16_code").prepared { _, tables in
        var image = TaskImage()
        image.esp = 0x8000
        try image.write16(tables)
      },
    task(
      "task-refused", "#GP for tasks that are busy, #NP for one that is not present, #TS for a way back to no busy one",
      Case.frame32(13, error: UInt64(other)) + Case.frame32(13, error: UInt64(own))
        + Case.frame32(11, error: UInt64(other)) + Case.frame32(10, error: UInt64(other), flags: 0x4000)
        + Case.frame32(10, error: UInt64(other) | 4, flags: 0x4000)),
    selectors(
      "task-data-segment", "#TS for a data segment beyond the table, in the new task",
      Case.frame32(10, error: 0xff8, stack: 0x1_8000)
    ) { $0.fs = 0xff8 },
    selectors(
      "task-data-segment-absent", "#NP for one that is not present",
      Case.frame32(11, error: 0x50, stack: 0x1_8000)
    ) { $0.gs = 0x50 },
    task("task-user", "a task at CPL 3", [0x33, 0x1_8000], code: "task_user_code") {
      ($0.cs, $0.ss, $0.ds, $0.es) = (Layout.userCode32, Layout.userData, Layout.userData, Layout.userData)
    },
    task(
      "task-trap", "the T bit is #DB with DR6.BT; a switch clears the local breakpoints",
      Case.frame32(1, stack: 0x1_8000) + [0x8000, 0x6aa], code: "task_trap_code"
    ) { $0.traps = true },
  ]
}
