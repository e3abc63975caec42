// A kernel with user processes: page tables, system calls, demand paging, pre-emption, and what happens to a process
// that reaches for what is not its own. The kernel checks each claim before it prints it.
//
// With `syscall` on the command line the processes enter the kernel by SYSCALL instead of a software interrupt.

#if KERNEL

import CPlatform

@main
enum Ring3 {
  nonisolated(unsafe) static var systemCalls = SystemCallInstruction.interrupt

  static func main() {
    systemCalls = Arguments.contains("syscall") ? .syscall : .interrupt
    privateMemory()
    demandPaging()
    preemption()
    badAccesses()
    Console.print("All as expected.")
    Platform.exit(0)
  }

  static func makeProcess(_ program: Program, interruptible: Bool = false) -> UserProcess {
    guard
      let process = UserProcess(
        argument: program.rawValue, dataPages: 1, stackPages: 1, interruptible: interruptible, systemCalls: systemCalls)
    else { fail("no memory for a process") }
    return process
  }

  static func fail(_ what: StaticString) -> Never {
    Console.print("FAILED: \(what).")
    Platform.exit(1)
  }

  static func fail(_ what: StaticString, _ process: UserProcess) -> Never {
    Platform.report(process.frame)
    fail(what)
  }

  /// Lets a process run to its next system call, which must be `call`, and returns its argument.
  static func expect(_ call: SystemCall, from process: UserProcess) -> UInt64 {
    guard case .systemCall(let number, let argument, _) = process.run(), number == call.rawValue else {
      fail("a process did something else than its system call", process)
    }
    return argument
  }

  // MARK: The story

  static func privateMemory() {
    Console.print("Two processes with page tables of their own:")
    let processes = (makeProcess(.remember), makeProcess(.remember))
    // Each stores the number that the kernel hands it, at the same address, and goes on when the other has stored.
    handOver(1111, to: processes.0)
    handOver(2222, to: processes.1)
    let first = expect(.done, from: processes.0)
    let second = expect(.done, from: processes.1)
    Console.print("  the same address holds \(first) in one and \(second) in the other")
    if first != 1111 || second != 2222 { fail("memory is not private") }
  }

  static func handOver(_ number: UInt64, to process: UserProcess) {
    _ = expect(.ready, from: process)
    process.frame.pointee.rax = number
    _ = expect(.ready, from: process)
  }

  static func demandPaging() {
    Console.print("A process that touches pages nobody has mapped:")
    let process = makeProcess(.touch)
    var faults: UInt64 = 0
    while true {
      switch process.run() {
      case .pageFault(let address, let errorCode):
        // A write from user mode to a page that is not present.
        guard errorCode == 6, address >= Heap.start, address < Heap.start &+ Heap.pages &* 4096 else {
          fail("an unexpected page fault", process)
        }
        faults &+= 1
        if !process.mapZeros(from: address & ~4095, count: 1) { fail("no memory for a page") }
      case .systemCall(SystemCall.done.rawValue, let sum, _):
        Console.print("  \(faults) page faults, each handled by mapping a page; the sum it stored and read is \(sum)")
        if faults != Heap.pages || sum != Heap.pages * (Heap.pages + 1) / 2 { fail("pages were lost") }
        return
      default:
        fail("the process trapped", process)
      }
    }
  }

  static func preemption() {
    Console.print("Two processes that count in endless loops, and a timer:")
    let processes = (makeProcess(.count, interruptible: true), makeProcess(.count, interruptible: true))
    var progress = (first: UInt64(0), second: UInt64(0))
    var advances = (first: 0, second: 0)
    Platform.startTimer(frequency: 200)
    // A process has had its turn when its counter, which the kernel reads in the process's memory, has moved.
    for _ in 0..<1000 where advances.first < 3 || advances.second < 3 {
      if takesTurn(processes.0, &progress.first) { advances.first += 1 }
      if takesTurn(processes.1, &progress.second) { advances.second += 1 }
    }
    Platform.stopTimer()
    if advances.first < 3 || advances.second < 3 { fail("a process did not get on") }
    Console.print("  each was interrupted and resumed, and each counted on")
  }

  /// Whether the process counted before the timer ended its turn.
  static func takesTurn(_ process: UserProcess, _ progress: inout UInt64) -> Bool {
    guard case .timer = process.run() else { fail("something else than the timer", process) }
    // Its address space is still the active one.
    guard let counter = UnsafePointer<UInt64>(bitPattern: UInt(Counter.address)) else { return false }
    defer { progress = counter.pointee }
    return counter.pointee > progress
  }

  static func badAccesses() {
    Console.print("Processes that reach too far, and what ends them:")
    // Error codes: 1 = present, 2 = write, 4 = user mode (AMD64 APM vol. 2, 8.4.2).
    expectPageFault(.readKernel, 5, "reads the kernel's memory")
    expectPageFault(.writeKernel, 7, "writes the kernel's memory")
    expectPageFault(.writeCode, 7, "writes its own code")
    expectPageFault(.readNowhere, 4, "reads where nothing is mapped")
    let process = makeProcess(.divide)
    guard case .exception(trapVectorDivideError) = process.run() else { fail("no divide error", process) }
    Console.print("  one divides by zero: divide error")
    let other = makeProcess(.invalid)
    guard case .exception(trapVectorInvalidOpcode) = other.run() else { fail("no invalid opcode", other) }
    Console.print("  one executes an invalid instruction: invalid opcode")
    let survivor = makeProcess(.remember)
    _ = expect(.ready, from: survivor)
    Console.print("  the kernel and a process after them are well")
  }

  static func expectPageFault(_ program: Program, _ errorCode: UInt64, _ what: StaticString) {
    let process = makeProcess(program)
    guard case .pageFault(_, errorCode) = process.run() else { fail(what, process) }
    Console.print("  one \(what): page fault, error code \(errorCode)")
  }
}

#else

import CUser

@c(user_main)
func runProgram(_ argument: UInt64) {
  switch Program(rawValue: argument) {
  case .remember:
    writeWord(Counter.address, systemCall(SystemCall.ready.rawValue, 0, 0))
    _ = systemCall(SystemCall.ready.rawValue, 0, 0)
    _ = systemCall(SystemCall.done.rawValue, readWord(Counter.address), 0)
  case .touch:
    for page in 0..<Heap.pages { writeWord(Heap.start + page * 4096 + page * 8, page + 1) }
    var sum: UInt64 = 0
    for page in 0..<Heap.pages { sum &+= readWord(Heap.start + page * 4096 + page * 8) }
    _ = systemCall(SystemCall.done.rawValue, sum, 0)
  case .count:
    while true { writeWord(Counter.address, readWord(Counter.address) &+ 1) }
  case .readKernel:
    _ = systemCall(SystemCall.done.rawValue, readWord(Kernel.address), 0)
  case .writeKernel:
    writeWord(Kernel.address, 0)
  case .writeCode:
    writeWord(0x4000_0000, 0)
  case .readNowhere:
    _ = systemCall(SystemCall.done.rawValue, readWord(0x8000_0000), 0)
  case .divide:
    divideByZero()
  case .invalid:
    executeInvalidInstruction()
  default:
    break
  }
}

#endif

/// What a process does, told by its argument.
enum Program: UInt64 {
  case remember, touch, count, readKernel, writeKernel, writeCode, readNowhere, divide, invalid
}

enum SystemCall: UInt64 {
  case ready, done
}

/// Where the kernel begins.
enum Kernel {
  #if XEN
  static var address: UInt64 { 0x40_0000 }
  #else
  static var address: UInt64 { 0x10_0000 }
  #endif
}

/// Addresses that nobody maps in advance.
enum Heap {
  static var start: UInt64 { 0x4080_0000 }
  static var pages: UInt64 { 12 }
}

/// A word in each process's data page.
enum Counter {
  static var address: UInt64 { 0x4010_0800 }
}
