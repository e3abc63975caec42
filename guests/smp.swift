// Several processors that share memory: all are started, all count, and all wait for each other. What one of them
// would lose if atomic operations were not atomic, or see too early if a barrier leaked, shows in the numbers.

import Synchronization

/// How much each processor does.
let additions: UInt64 = 500
let phases: UInt64 = 16

let started = Atomic<UInt64>(0)
let participants = Atomic<UInt64>(0)  // set by the first processor: the others may go
let finished = Atomic<UInt64>(0)

let counter = Atomic<UInt64>(0)
let lock = Atomic<UInt64>(0)
nonisolated(unsafe) var guardedByLock: UInt64 = 0

let arrived = Atomic<UInt64>(0)
let generation = Atomic<UInt64>(0)
let early = Atomic<UInt64>(0)

/// A word for each processor, written without atomic operations, read by the others after a barrier.
nonisolated(unsafe) var slots: UnsafeMutablePointer<UInt64>?

@main
enum SMP {
  static func main() {
    let count = Platform.processorCount
    Console.print("Processors: \(count)")
    guard count <= 256, let page = Platform.allocateFrame() else {
      Console.print("FAILED: more processors than this guest can use.")
      Platform.exit(1)
    }
    slots = page.bytes?.assumingMemoryBound(to: UInt64.self)

    if count > 1 { Platform.startOtherProcessors { SMP.runOther($0) } }
    waitForOthers(count &- 1)
    Console.print("Other processors started: \(started.load(ordering: .acquiring))")
    if started.load(ordering: .acquiring) != count &- 1 {
      Console.print("FAILED: not all started.")
      Platform.exit(1)
    }

    participants.store(count, ordering: .releasing)
    takePart(number: 0)
    while finished.load(ordering: .acquiring) != count { Platform.pause() }

    let total = count &* additions
    Console.print("Atomic additions: \(counter.load(ordering: .acquiring)) of \(total)")
    Console.print("Additions under a lock: \(guardedByLock) of \(total)")
    Console.print("Barriers: \(phases), passed too early: \(early.load(ordering: .acquiring))")
    let isRight = counter.load(ordering: .acquiring) == total && guardedByLock == total
    if !isRight || early.load(ordering: .acquiring) != 0 {
      Console.print("FAILED: something was lost.")
      Platform.exit(1)
    }
    Console.print("All as expected.")
    Platform.exit(0)
  }

  /// Some seconds at most; after a fraction of one, those that have not started are called again.
  static func waitForOthers(_ others: UInt64) {
    let start = Platform.timestamp
    var calledAgain = false
    while started.load(ordering: .acquiring) < others {
      let elapsed = Platform.timestamp &- start
      if elapsed > 1 << 34 { return }
      if elapsed > 1 << 30, !calledAgain {
        calledAgain = true
        Platform.startOtherProcessorsAgain()
      }
      Platform.pause()
    }
  }

  static func runOther(_ number: UInt32) {
    started.add(1, ordering: .acquiringAndReleasing)
    while participants.load(ordering: .acquiring) == 0 { Platform.pause() }
    takePart(number: Int(number))
  }

  static func takePart(number: Int) {
    let count = participants.load(ordering: .acquiring)
    waitAtBarrier(count)
    for _ in 0..<additions {
      counter.add(1, ordering: .relaxed)
      while lock.exchange(1, ordering: .acquiring) != 0 { Platform.pause() }
      guardedByLock &+= 1
      lock.store(0, ordering: .releasing)
    }
    if let slots {
      for phase in 1...phases {
        slots[number] = phase
        waitAtBarrier(count)
        for other in 0..<Int(count) where slots[other] != phase { early.add(1, ordering: .relaxed) }
        waitAtBarrier(count)
      }
    }
    finished.add(1, ordering: .acquiringAndReleasing)
  }

  static func waitAtBarrier(_ count: UInt64) {
    let current = generation.load(ordering: .acquiring)
    if arrived.add(1, ordering: .acquiringAndReleasing).newValue == count {
      arrived.store(0, ordering: .relaxed)
      generation.add(1, ordering: .releasing)
    } else {
      while generation.load(ordering: .acquiring) == current { Platform.pause() }
    }
  }
}
