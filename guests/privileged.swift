// What each privileged and each sensitive instruction does, in user mode and in kernel mode.
//
// Popek and Goldberg's condition for a machine that can be virtualized by running the guest directly: every sensitive
// instruction traps when it is executed without privilege. On x86 some do not: POPF keeps the interrupt flag as it was,
// SGDT and SMSW show the kernel's state to anybody, and so on. The table shows for the machine below which is which.
// Under a monitor that does its work, it is the same as on the bare machine; where a monitor lets an instruction
// through, the line says `ran, another value`.
//
// A `*` marks results that depend on the processor model. On the command line: `only=user` or `only=kernel`; `common`
// leaves out the instructions, last in the table, that monitors were seen to refuse in kernel mode; `row=N` leaves out
// all but one, counted from 0.

import CInstructions
import CPlatform

@main
enum Privileged {
  static func main() {
    let onlyUser = Arguments.contains("only=user")
    let onlyKernel = Arguments.contains("only=kernel")
    let common = Arguments.contains("common")
    var rows = 0..<instructionRowCount()
    if let row = Arguments.number("row=") { rows = rows.clamped(to: row..<(row &+ 1)) }

    guard let process = UserProcess(argument: 0, dataPages: 1, stackPages: 1, interruptible: true),
      let page = Platform.allocateFrame()?.bytes,
      let userPage = UnsafeMutableRawPointer(bitPattern: UInt(UserProcess.dataStart))
    else {
      Console.print("No memory for the tables.")
      Platform.exit(1)
    }
    Platform.stopTimer()
    var known = Platform.markState()
    known.userReturn = userAddress(instructionsReturn())
    // Into user mode and back once, so that the ways between the modes are set up whatever is left out below.
    process.frame.pointee.rip = known.userReturn
    guard case .systemCall = process.run() else {
      Platform.report(process.frame)
      Platform.exit(1)
    }
    if !onlyKernel {
      let state = userPage.assumingMemoryBound(to: KnownState.self)
      state.pointee = known
      state.pointee.codeSelector = Platform.userCodeSelector
      state.pointee.stackSelector = Platform.userDataSelector
      for index in rows { runInUserMode(instructionRow(index), process) }
    }
    if !onlyUser {
      let state = page.assumingMemoryBound(to: KnownState.self)
      state.pointee = known
      Platform.trapHandler = { Privileged.handleTrap($0) }
      for index in rows {
        let row = instructionRow(index)
        if !common || row.flags & rowIsRare == 0 { runInKernelMode(row, state) }
      }
    }
    if rows.count == instructionRowCount(), !onlyUser { Platform.showReplacements() }
    Console.print("Through.")
    Platform.exit(0)
  }

  // MARK: User mode

  static func runInUserMode(_ row: InstructionRow, _ process: UserProcess) {
    start("user  ", row, varies: row.flags & rowVariesInUserMode != 0)
    let frame = process.frame
    let stack = UserProcess.stackEnd &- 8
    frame.pointee.rip = userAddress(row.user)
    frame.pointee.cs = Platform.userCodeSelector
    frame.pointee.ss = Platform.userDataSelector
    frame.pointee.rflags = 0x202
    frame.pointee.rsp = stack
    frame.pointee.rdi = UserProcess.dataStart
    UnsafeMutablePointer<UInt64>(bitPattern: UInt(stack))?.pointee = userAddress(instructionsReturn())
    switch process.run() {
    case .systemCall(let result, _, _): printResult(result)
    default: printTrap(frame)
    }
  }

  static func userAddress(_ address: UInt64) -> UInt64 {
    Platform.windowStart &+ address &- userProgramStart()
  }

  // MARK: Kernel mode

  nonisolated(unsafe) static var trap = TrapFrame()

  static func runInKernelMode(_ row: InstructionRow, _ state: UnsafeMutablePointer<KnownState>) {
    guard row.kernel != 0 else { return }
    start("kernel", row, varies: row.flags & rowVariesInKernelMode != 0)
    if row.flags & rowNeedsTimer != 0 { Platform.startTimer(frequency: 200) }
    let result = attempt(row.kernel, state)
    if row.flags & rowNeedsTimer != 0 { Platform.stopTimer() }
    if result == attemptTrapped {
      withUnsafeMutablePointer(to: &trap) { printTrap($0) }
    } else {
      printResult(result)
    }
  }

  /// Abandons what trapped. The timer is only meant to wake the processor.
  static func handleTrap(_ frame: UnsafeMutablePointer<TrapFrame>) {
    if frame.pointee.vector == trapVectorTimer { return }
    trap = frame.pointee
    frame.pointee.rip = attemptTrapPoint()
    frame.pointee.rsp = attemptStack()
    frame.pointee.rflags = 0x2
  }

  // MARK: Lines

  static func start(_ mode: StaticString, _ row: InstructionRow, varies: Bool) {
    Console.write("\(mode) \(varies ? "*" : " " as StaticString) ")
    var length = 0
    while row.name[length] != 0 {
      Platform.write(UInt8(bitPattern: row.name[length]))
      length &+= 1
    }
    while length < 12 {
      Platform.write(UInt8(ascii: " "))
      length &+= 1
    }
  }

  static func printResult(_ result: UInt64) {
    switch result {
    case resultNoEffect: Console.print("ran, no effect")
    case resultRightEffect: Console.print("ran, right effect")
    case resultOwnValue: Console.print("ran, the guest's own value")
    case resultOtherValue: Console.print("ran, another value")
    case resultRan: Console.print("ran")
    default: Console.print("ran, result \(result)")
    }
  }

  static func printTrap(_ frame: UnsafeMutablePointer<TrapFrame>) {
    let frame = frame.pointee
    switch frame.vector {
    case trapVectorBreakpoint: Console.print("trapped: breakpoint")
    case trapVectorInvalidOpcode: Console.print("trapped: invalid opcode")
    case trapVectorGeneralProtection:
      Console.print("trapped: general protection, error code \(hexadecimal: frame.errorCode)")
    case trapVectorPageFault: Console.print("trapped: page fault, error code \(hexadecimal: frame.errorCode)")
    default: Console.print("trapped: vector \(frame.vector), error code \(hexadecimal: frame.errorCode)")
    }
  }
}
