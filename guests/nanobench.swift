// What a kernel's dealings with the processor cost, one by one, in cycles: the table of Adams and Agesen, "A Comparison of Software
// and Hardware Techniques for x86 Virtualization" (2006), for each technique and for processors of today.
//
// Each operation is done in rounds; the first is not counted, and of the others the quickest is: what comes in between on a
// busy host only ever adds. With `syscall` on the command line the user programs enter the kernel by SYSCALL instead of a
// software interrupt; with `check` no figures are printed, so that the output is the same each time.

#if KERNEL

import CPlatform

@main
enum Nanobench {
  nonisolated(unsafe) static var systemCalls = SystemCallInstruction.interrupt
  nonisolated(unsafe) static var isCheck = false

  static let rounds: UInt64 = 4
  static let operations: UInt64 = 200
  static let faultingPages: UInt64 = 64

  static func main() {
    systemCalls = Arguments.contains("syscall") ? .syscall : .interrupt
    isCheck = Arguments.contains("check")
    Console.print("The cost of one operation:")
    systemCall()
    portRead()
    controlRegisterWrite()
    callAndReturn()
    pageFault()
    divideByZero()
    pageTableUpdate()
    interrupt()
    contextSwitch()
    Platform.exit(0)
  }

  // MARK: Operations

  /// From user mode to the kernel and back, all registers saved and loaded.
  static func systemCall() {
    let process = makeProcess(.callKernel)
    Platform.activate(process.space)
    measure("system call", operations) {
      repeatedly(operations) {
        Platform.enterUser(process.frame)
        check(process, vector: trapVectorSystemCall)
      }
    }
  }

  /// A register of a device, by an instruction for it.
  static func portRead() {
    guard Platform.hasPorts else { return skip("port read") }
    measure("port read", operations) { repeatedly(operations) { Platform.readPort() } }
  }

  /// CR0, with TS changed.
  static func controlRegisterWrite() {
    measure("control-register write", operations) {
      var number: UInt64 = 0
      while number < operations {
        Platform.writeControlRegister(taskSwitched: number & 1 == 0)
        number &+= 1
      }
      Platform.writeControlRegister(taskSwitched: false)
    }
  }

  /// A near call and its return, in user mode: 1,000 times 1,000, timed by the user program.
  static func callAndReturn() {
    let process = makeProcess(.callFunctions)
    Platform.activate(process.space)
    var best = UInt64.max
    repeatedly(rounds) {
      Platform.enterUser(process.frame)
      check(process, vector: trapVectorSystemCall)
      best = min(best, process.frame.pointee.rdi)
    }
    report("call and return", best, CallLoop.count)
  }

  /// A page that is touched for the first time: the fault, the mapping, the way back.
  static func pageFault() {
    let process = makeProcess(.touchPages)
    Platform.activate(process.space)
    guard let frame = Platform.allocateFrame() else { fail("no memory for a page") }
    measure("page fault", faultingPages) {
      repeatedly(faultingPages) {
        Platform.enterUser(process.frame)
        check(process, vector: trapVectorPageFault)
        if !Platform.map(Platform.faultAddress & ~4095, to: frame, .readWrite, in: process.space) {
          fail("no memory for a page table")
        }
      }
    } between: {
      var page: UInt64 = 0
      while page < faultingPages {
        Platform.unmap(TouchedPages.start &+ page &* 4096, in: process.space)
        page &+= 1
      }
    }
  }

  /// An exception that user code raises by an instruction, and that the kernel skips.
  static func divideByZero() {
    let process = makeProcess(.divide)
    Platform.activate(process.space)
    measure("divide by zero", operations) {
      repeatedly(operations) {
        Platform.enterUser(process.frame)
        check(process, vector: trapVectorDivideError)
        process.frame.pointee.rip &+= DivideInstruction.length
      }
    }
  }

  /// Another frame for a page, and the old translation forgotten.
  static func pageTableUpdate() {
    let process = makeProcess(.callKernel)
    guard let first = Platform.allocateFrame(), let second = Platform.allocateFrame() else {
      fail("no memory for pages")
    }
    Platform.activate(process.space)
    measure("page-table update", operations) {
      var number: UInt64 = 0
      while number < operations {
        _ = Platform.map(TouchedPages.start, to: number & 1 == 0 ? first : second, .readWrite, in: process.space)
        number &+= 1
      }
    }
  }

  /// An interrupt that the kernel sends to itself, taken and ended.
  static func interrupt() {
    guard Platform.prepareInterrupts() else { return skip("interrupt") }
    measure("interrupt", operations) { repeatedly(operations) { Platform.interruptSelf() } }
  }

  /// A system call of one process, and the way back into another one in another address space.
  static func contextSwitch() {
    let processes = (makeProcess(.callKernel), makeProcess(.callKernel))
    measure("context switch", operations) {
      repeatedly(operations / 2) {
        Platform.activate(processes.0.space)
        Platform.enterUser(processes.0.frame)
        Platform.activate(processes.1.space)
        Platform.enterUser(processes.1.frame)
      }
    }
  }

  // MARK: Measuring

  static func measure(
    _ name: StaticString, _ count: UInt64, _ round: () -> Void, between: () -> Void = {}
  ) {
    var best = UInt64.max
    var number: UInt64 = 0
    while number < rounds {
      let start = Platform.timestamp
      round()
      let end = Platform.timestamp
      if number > 0 { best = min(best, end &- start) }
      between()
      number &+= 1
    }
    report(name, best, count)
  }

  static func repeatedly(_ count: UInt64, _ body: () -> Void) {
    var number: UInt64 = 0
    while number < count {
      body()
      number &+= 1
    }
  }

  static func report(_ name: StaticString, _ cycles: UInt64, _ count: UInt64) {
    if isCheck {
      Console.print("  \(name): done")
    } else {
      Console.print("  \(name): \((cycles &+ count / 2) / count) cycles")
    }
  }

  static func skip(_ name: StaticString) { Console.print("  \(name): not here") }

  static func makeProcess(_ program: Program) -> UserProcess {
    guard
      let process = UserProcess(argument: program.rawValue, dataPages: 1, stackPages: 1, systemCalls: systemCalls)
    else { fail("no memory for a process") }
    return process
  }

  static func check(_ process: UserProcess, vector: UInt64) {
    if process.frame.pointee.vector != vector {
      Platform.report(process.frame)
      fail("a process did something else")
    }
  }

  static func fail(_ what: StaticString) -> Never {
    Console.print("FAILED: \(what).")
    Platform.exit(1)
  }
}

#else

import CUser

@c(user_main)
func runProgram(_ argument: UInt64) {
  while true {
    switch Program(rawValue: argument) {
    case .callKernel:
      _ = systemCall(0, 0, 0)
    case .callFunctions:
      let start = readTimestamp()
      callAndReturn(CallLoop.count)
      _ = systemCall(0, readTimestamp() &- start, 0)
    case .touchPages:
      for page in 0..<UInt64(64) { writeWord(TouchedPages.start &+ page &* 4096, page) }
    case .divide:
      divideByZero()
    default:
      _ = systemCall(0, 0, 0)
    }
  }
}

#endif

/// What a process does, over and over, told by its argument.
enum Program: UInt64 {
  case callKernel, callFunctions, touchPages, divide
}

/// Addresses that nobody maps in advance.
enum TouchedPages {
  static var start: UInt64 { 0x4080_0000 }
}

enum CallLoop {
  static var count: UInt64 { 100_000 }
}

/// DIV ECX.
enum DivideInstruction {
  static var length: UInt64 { 2 }
}
