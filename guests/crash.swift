// Guests that go wrong, one way a variant: what a monitor must survive, end in bounded time and report.

import CPlatform

@main
enum Crash {
  static func main() {
    if Arguments.contains("triple-fault") {
      Console.print("Crash: an invalid instruction, and no table of traps.")
      Platform.forgetTraps()
      executeInvalidInstruction()
    } else if Arguments.contains("loop") {
      Console.print("Crash: an endless loop with interrupts off.")
      Platform.disableInterrupts()
      while true {}
    } else if Arguments.contains("halt") {
      Console.print("Crash: halted with interrupts off.")
      Platform.halt()
    } else if Arguments.contains("jump") {
      Console.print("Crash: a jump to nowhere, and no table of traps.")
      Platform.forgetTraps()
      jumpToNowhere()
    } else if Arguments.contains("jump-reported") {
      Console.print("Crash: a jump to nowhere, reported by the guest itself.")
      jumpToNowhere()
    } else if Arguments.contains("stack-overflow") {
      overflowStack()
    } else {
      listVariants()
      Platform.exit(2)
    }
    Console.print("Still here: the crash did not happen.")
    Platform.exit(1)
  }

  static func listVariants() {
    Console.print("Name a crash on the command line:")
    Console.print("  triple-fault    an invalid instruction without a table of traps")
    Console.print("  loop            an endless loop with interrupts off")
    Console.print("  halt            halt with interrupts off")
    Console.print("  jump            a jump to unmapped memory without a table of traps")
    Console.print("  jump-reported   the same with one: the guest prints the trap and exits with 1")
    Console.print("  stack-overflow  recursion into an unmapped page, where no trap can be delivered either")
  }

  /// Two gigabytes up, where no platform maps anything.
  static var nowhere: UInt { 0x8000_0000 }

  static func jumpToNowhere() {
    unsafeBitCast(nowhere, to: (@convention(c) () -> Void).self)()
  }

  // A stack of four pages in the window. The page below it is not mapped, so that running out of stack is a page fault,
  // whose frame finds no stack either: a double fault, and for the same reason a triple fault.
  static func overflowStack() {
    let start = Platform.windowStart + 0x1000
    guard let space = Platform.makeAddressSpace() else { Platform.exit(1) }
    for page in 0..<4 as Range<UInt64> {
      guard let frame = Platform.allocateFrame(),
        Platform.map(start + page * 4096, to: frame, .kernelOnly, in: space)
      else { Platform.exit(1) }
    }
    Platform.activate(space)
    Console.print("Crash: recursion without end on a stack of four pages.")
    Platform.call(onStack: start + 4 * 4096) { _ = Crash.deeper(0) }
  }

  // Optimized, this would be a loop.
  @_optimize(none)
  static func deeper(_ depth: UInt64) -> UInt64 {
    var here = depth
    return withUnsafeMutablePointer(to: &here) { below in
      deeper(below.pointee &+ 1) &+ below.pointee
    }
  }
}
