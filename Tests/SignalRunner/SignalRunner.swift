// An embedder with signals of its own: a process that runs translated code while signals come from everywhere. Its argument
// says what is tried; it prints what went wrong and ends with 1, or with 0. `SignalTests` starts it.

import Glibc
import TrivisorRewritingTechnique
import Synchronization
import TrivisorVMM

/// Signals that have arrived at this process's own handlers, by number; and at which stacks.
private let arrivals = (0..<65).map { _ in Counter() }
private let faults = Counter()
private nonisolated(unsafe) var repaired: UnsafeMutableRawPointer?

private final class Counter: Sendable {
  let value = Atomic<Int>(0)
}

/// As an embedder's: no SA_ONSTACK, no SA_SIGINFO.
private func note(_ number: Int32) { arrivals[Int(number)].value.add(1, ordering: .relaxed) }

/// One that can say whether it was a fault or sent, and makes the page of the fault readable.
private func noteFault(_ number: Int32, _ info: UnsafeMutablePointer<siginfo_t>?, _ context: UnsafeMutableRawPointer?) {
  arrivals[Int(number)].value.add(1, ordering: .relaxed)
  guard let info, info.pointee.si_code > 0, let repaired else { return }
  faults.value.add(1, ordering: .relaxed)
  mprotect(repaired, 4096, PROT_READ)
}

@main
struct SignalRunner {
  private static let five = [SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP]

  static func main() throws {
    // Made here: a handler that came first would make it, and one that interrupts that handler would wait for it for ever.
    _ = (arrivals.count, faults.value.load(ordering: .relaxed))
    let arguments = CommandLine.arguments
    let isRight =
      switch arguments.dropFirst().first {
      case "handlers": try handlers()
      case "foreign": try foreignFault()
      case "fork": try forkedChild()
      case "default": try byDefault(Int32(arguments.last ?? "") ?? 0)
      default: false
      }
    exit(isRight ? 0 : 1)
  }

  // MARK: Guests

  /// 64-bit code at 0x10000 that counts in RBX for ever and never touches its stack.
  private static let loop: [UInt8] = [
    0x48, 0xff, 0xc3,  // 1: inc %rbx
    0xeb, 0xfb,  // jmp 1b
  ]

  private static func makeProbe(_ memory: GuestMemory, code: [UInt8]) throws -> CodeProbe {
    try memory.copy(code, to: GuestPhysicalAddress(0x1_0000))
    // Identity, in pages of 2 MiB.
    try memory.write(UInt64(0x2003), at: GuestPhysicalAddress(0x1000))
    try memory.write(UInt64(0x3003), at: GuestPhysicalAddress(0x2000))
    try memory.write(UInt64(0x83), at: GuestPhysicalAddress(0x3000))
    var configuration = MachineConfiguration()
    configuration.memorySize = memory.size
    let probe = try CodeProbe(configuration, memory: memory, bus: Bus(ports: [], memory: []))
    try probe.begin { state in
      state.system.cs = .flatCode64(selector: 8)
      state.system.ss = .flatData(selector: 16)
      state.system.cr0 = 0x8000_0031
      state.system.cr3 = 0x1000
      state.system.cr4 = 0x620
      state.system.efer = 0xd01
      state.general.rip = 0x1_0000
    }
    return probe
  }

  /// Runs `body` on another thread.
  private static func onThread(_ body: @escaping @Sendable () -> Void) -> pthread_t {
    let box = Unmanaged.passRetained(ThreadBody(body))
    var thread = pthread_t()
    pthread_create(
      &thread, nil,
      { argument in
        if let argument { Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().body() }
        return nil
      }, box.toOpaque())
    return thread
  }

  private final class ThreadBody: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }

  private static func complain(_ text: String) -> Bool {
    print(text)
    return false
  }

  // MARK: What is tried

  /// Handlers on the thread's own stack, and all five faults from outside, wherever the guest's RSP points.
  private static func handlers() throws -> Bool {
    for number in [SIGALRM, SIGCHLD] + five { signal(number, note) }
    let memory = try GuestMemory(size: 2 << 20)
    let probe = try makeProbe(memory, code: loop)
    var local = 0
    let ownStack = withUnsafeMutablePointer(to: &local) { UInt64(UInt(bitPattern: $0)) }
    // Nothing, what isn't canonical, the guest's own, this thread's stack, the state block and the guest's memory.
    let pointers: [UInt64] = [
      0x1008, 0xffff_8000_0000_0000, 0x8000_0000_0000, 0x8000, ownStack &- 4096,
      UInt64(UInt(bitPattern: probe.general)) + 0x4000, UInt64(UInt(bitPattern: memory.regions[0].host)) + 0x8000,
    ]
    for pointer in pointers {
      let stop = probe.stopHandle
      let target = Target(pthread_self())
      let thread = onThread {
        for round in 0..<40 {
          usleep(500)
          pthread_kill(target.thread, round % 2 == 0 ? SIGALRM : SIGCHLD)
          pthread_kill(target.thread, five[round % 5])
        }
        usleep(500)
        stop.requestStop()
      }
      probe.general[4] = pointer
      probe.general[3] = 0
      probe.rip = 0x1_0000
      let ending = probe.run()
      pthread_join(thread, nil)
      guard ending == .stopped else { return complain("RSP \(pointer): the guest ended with \(ending)") }
      guard probe.general[4] == pointer, probe.general[3] > 0 else {
        return complain("RSP \(pointer): RSP is \(probe.general[4]), RBX \(probe.general[3])")
      }
    }
    for number in five where arrivals[Int(number)].value.load(ordering: .relaxed) < pointers.count {
      return complain("signal \(number) came \(arrivals[Int(number)].value.load(ordering: .relaxed)) times")
    }
    // The thread blocks these two, and has them when it is its own again.
    let thread = pthread_self()
    pthread_kill(thread, SIGALRM)
    return arrivals[Int(SIGALRM)].value.load(ordering: .relaxed) == 0 || complain("a blocked signal came")
  }

  private struct Target: @unchecked Sendable {
    let thread: pthread_t
    init(_ thread: pthread_t) { self.thread = thread }
  }

  /// A fault of this process goes to its own handler, which mends it; the guest's go on to be the guest's.
  private static func foreignFault() throws -> Bool {
    var action = sigaction()
    action.__sigaction_handler.sa_sigaction = noteFault
    action.sa_flags = SA_SIGINFO
    sigaction(SIGSEGV, &action, nil)
    let memory = try GuestMemory(size: 2 << 20)
    // div %rcx
    let probe = try makeProbe(memory, code: [0x48, 0xf7, 0xf1])
    guard let page = mmap(nil, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), page != MAP_FAILED else {
      return complain("mmap failed")
    }
    repaired = page
    for round in 1...3 {
      mprotect(page, 4096, PROT_NONE)
      // The kernel reports this one as a fault of this thread's.
      guard page.load(as: UInt8.self) == 0 else { return complain("the page is not empty") }
      guard faults.value.load(ordering: .relaxed) == round else { return complain("its handler was not called") }
      probe.general[1] = 0
      probe.rip = 0x1_0000
      let ending = probe.run()
      guard ending == .exception(vector: 0, errorCode: nil, address: nil) else {
        return complain("the guest ended with \(ending)")
      }
    }
    return true
  }

  /// A child has neither the guest's memory nor the state block.
  private static func forkedChild() throws -> Bool {
    let memory = try GuestMemory(size: 2 << 20)
    let probe = try makeProbe(memory, code: loop)
    let places = [memory.regions[0].host, UnsafeMutableRawPointer(probe.general)]
    let child = fork()
    if child == 0 {
      var resident: UInt8 = 0
      let areGone = places.allSatisfy { mincore($0, 4096, &resident) != 0 && errno == ENOMEM }
      _exit(areGone ? 0 : 1)
    }
    var status: Int32 = 0
    waitpid(child, &status, 0)
    return status == 0 || complain("the child has what is the guest's")
  }

  /// A signal that nobody handles ends the process, guest or no guest.
  private static func byDefault(_ number: Int32) throws -> Bool {
    var limit = rlimit(rlim_cur: 0, rlim_max: 0)
    setrlimit(__rlimit_resource_t(4), &limit)
    signal(number, SIG_DFL)
    let memory = try GuestMemory(size: 2 << 20)
    let probe = try makeProbe(memory, code: loop)
    let target = Target(pthread_self())
    _ = onThread {
      usleep(20_000)
      pthread_kill(target.thread, number)
    }
    return complain("the guest ended with \(probe.run())")
  }
}
