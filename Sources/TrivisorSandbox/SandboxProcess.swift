// A process of the host that runs guest code, and nothing else.
//
//     monitor                                         sandboxed process
//     ───────                                         ─────────────────
//     SandboxThread.run ── turn = 0 ─ futex ────────▶ handler: rt_sigreturn ──▶ guest code
//          ▲                                                                       │ trap
//          └────────────── turn = 1 ─ futex ────────── handler (stub.S) ◀── signal ┘
//     SandboxProcess.apply ── table, eventfd ───────▶ mapper: mmap, munmap ── eventfd ──▶ (returns)
//
// The process is executed from an image of one page, so it never had anything of the monitor in its address space. Guest
// threads have no descriptors, and every system call of theirs is a trap; the mapper has descriptors, and does what stands
// in a table that only the monitor can write. See CStub/stub.S for the other side.
//
// Everything in the frames can be changed by guest code at any time. So what is read from there is copied first, and only
// the copy is judged; whatever it says, the worst is a wrong register of the guest's own.
//
// Ending: each process has a thread here, its keeper, that made it (the kernel kills the process when the keeper dies,
// however the monitor ends) and waits for its end, on which it wakes all that wait for a trap.

import TrivisorCLinux
import TrivisorCStub
import Glibc
import Synchronization
import SystemPackage
import TrivisorVMM

/// A sandboxed process with one mapper and a number of guest threads.
public final class SandboxProcess: Sendable {
  private struct Life {
    /// `nil` until it has been made and after it was reaped.
    var process: pid_t?
    /// How making it failed, a negative errno.
    var failure: Int32?
    /// What waitpid said.
    var status: Int32?
    /// Why it was destroyed, where there is more to say than that it was killed.
    var reason: SandboxEnded?
  }

  /// How many guest threads it has.
  public let threadCount: Int

  let shared: SharedFrames
  private let life = Monitor(Life())
  private let request: Int32
  private let done: Int32
  /// The processor of the host that the mapper is on; -1 before it is put on one.
  private let mapperProcessor = Mutex<Int32>(-1)

  /// Starts the process; its threads wait for their first registers.
  /// - Parameters:
  ///   - memory: what it can map.
  ///   - threadCount: 1–255.
  ///   - spin: how often a stopped thread looks for its turn before it sleeps; 0 where both sides share a processor.
  ///   - segmentBase: where address 0 of 32-bit code is, if it is to have segments (`codeSelector32`).
  ///   - window: what it can read at an address of the upper half.
  /// - Throws: `TechniqueFailure` naming the host call.
  public init(
    memory: GuestMemory, threadCount: Int, spin: UInt32 = 0, segmentBase: UInt32? = nil, window: UpperWindow? = nil
  ) throws(TechniqueFailure) {
    self.threadCount = threadCount
    shared = try SharedFrames(threadCount: threadCount, spin: spin, segmentBase: segmentBase, window: window)
    request = eventfd(0, Int32(EFD_CLOEXEC))
    done = eventfd(0, Int32(EFD_CLOEXEC))
    guard request >= 0, done >= 0 else {
      throw TechniqueFailure(
        call: "eventfd", reason: Errno(rawValue: errno).description, remedy: HostRemedy.of(Errno(rawValue: errno)))
    }
    let keeper = Keeper(
      life: life, shared: shared, memory: memory, request: request, done: done)
    try keeper.start()
    let failure: Int32 = life.wait { life in
      life.process != nil || life.failure != nil || life.status != nil ? life.failure ?? 0 : nil
    }
    if failure != 0 {
      let remedy = HostRemedy.of(Errno(rawValue: -failure))
      throw TechniqueFailure(
        call: "starting a sandboxed process", reason: Errno(rawValue: -failure).description,
        remedy: remedy.isEmpty
          ? "raise the limits of processes and files (ulimit -u, -n), and allow memory files to be executed" : remedy)
    }
    for index in 0..<threadCount {
      // The first stop is the stub's own; nothing of the guest has run.
      guard waitForStop(index, nanoseconds: 10_000_000_000) else {
        let end = ending
        destroy()
        throw TechniqueFailure(
          call: "starting a sandboxed process", reason: end?.description ?? "it does not get ready",
          remedy: "Linux 5.11 or later with seccomp filters is needed")
      }
    }
  }

  deinit {
    destroy()
    close(request)
    close(done)
  }

  /// Kills the process. Threads that wait for a trap get `SandboxEnded`. Returns at once.
  /// - Parameter reason: what to tell them, if they are to know more than that.
  public func destroy(_ reason: SandboxEnded? = nil) {
    life.with { life in
      guard let process = life.process else { return }
      life.reason = life.reason ?? reason
      kill(process, SIGKILL)
    }
  }

  /// Waits until a process that was destroyed is no more.
  func waitForEnd() { life.wait { $0.status != nil ? () : nil } }

  /// Whether the process is no more.
  public var hasEnded: Bool { shared.hasEnded.load(ordering: .acquiring) }

  /// How it ended; `nil` while it lives.
  public var ending: SandboxEnded? {
    life.with { life in
      guard let status = life.status else { return nil }
      if let reason = life.reason { return reason }
      let signal = status & 0x7f
      return SandboxEnded(
        signal == 0
          ? "the sandboxed process ended with status \(status >> 8 & 0xff)"
          : "the sandboxed process was killed by signal \(signal)")
    }
  }

  /// Interrupts a guest thread; harmless when it isn't running.
  /// - Returns: `false` if the process lives and the thread does not: then the host has ended it.
  @discardableResult
  public func kick(_ index: Int) -> Bool {
    guard let thread = shared.threadID(index) else { return true }
    return life.with { life in
      guard let process = life.process, life.status == nil else { return true }
      shared.noteKick(index)
      return cstub_kick(process, thread) == 0 || errno != ESRCH
    }
  }

  /// Puts a guest thread on the processor of the host that the calling thread should stay on, and that thread, too: a
  /// hand-over between processors costs many times more.
  public func pinWithCaller(_ index: Int, processor: Int32) {
    _ = cstub_pin(0, processor)
    if let thread = shared.threadID(index) { _ = cstub_pin(thread, processor) }
  }

  /// Lets the calling thread run on all processors of the host that this process may use.
  public static func unpinCaller() { _ = cstub_unpin() }

  /// The processor of the host that the calling thread is on.
  public static var currentProcessor: Int32 { max(0, cstub_current_cpu()) }

  /// The host's processor that comes `number` places after `first` among those that the calling thread may use.
  public static func hostProcessor(after first: Int32, _ number: Int) -> Int32 {
    cstub_processor_after(first, UInt32(number))
  }

  /// Whether this host lets user code read and write its FS and GS base, which the stub does.
  public static var hasBaseInstructions: Bool { cstub_has_fsgsbase() != 0 }

  /// Whether this host's kernel writes a signal's frame although PKRU denies it (Linux 6.12). Elsewhere it kills a process
  /// in which guest code denies itself key 0.
  public static let hostWritesFramesWithoutKey: Bool = {
    var names = utsname()
    guard uname(&names) == 0 else { return false }
    let release = withUnsafeBytes(of: &names.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    let numbers = release.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
    guard numbers.count == 2 else { return false }
    return (numbers[0], numbers[1]) >= (6, 12)
  }()

  /// Whether a process may have pages that are writable and executable, as kernels have in their first moments
  /// (prctl(2), PR_SET_MDWE).
  public static var mayHaveWritableCode: Bool { cstub_may_gain_execution() != 0 }

  /// Whether this host's kernel makes system calls of guest code traps (seccomp filters).
  public static var hostTrapsSystemCalls: Bool { cstub_has_trapping_filters() != 0 }

  /// Whether a process may be made with a `segmentBase`.
  public static var hostHasSegments: Bool { cstub_has_segments() != 0 }

  /// Selectors of the segments for 32-bit code and data, where a process was made with a `segmentBase`.
  public static let codeSelector32 = UInt16(CSTUB_CODE_SELECTOR_32)
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public static let dataSelector32 = UInt16(CSTUB_DATA_SELECTOR_32)

  /// Carries out changes in order. Guest threads may run meanwhile.
  /// - Throws: `MappingFailure` when the host refuses one, the rest is then not done; `SandboxEnded`.
  public func apply(_ changes: [MappingChange]) throws(MappingFailure) {
    let failure: MappingFailure? = mapperProcessor.withLock { processor in
      if hasEnded { return .ended }
      // As with guest threads: a hand-over on one processor costs least. Sleeping, the mapper moves at no cost.
      let current = Self.currentProcessor
      if processor != current {
        processor = current
        life.with { life in
          if let process = life.process { _ = cstub_pin(process, current) }
        }
      }
      var rest = changes[...]
      while !rest.isEmpty {
        let batch = rest.prefix(SharedFrames.requestLimit)
        rest = rest.dropFirst(batch.count)
        var position = batch.startIndex
        while position < batch.endIndex {
          let change = batch[position]
          position += 1
          let end = change.address.addingReportingOverflow(change.size)
          guard !end.overflow, end.partialValue <= MappingChange.addressLimit, change.size > 0 else {
            return .refused(.invalidArgument)
          }
        }
        shared.setRequests(batch)
        eventfd_write(request, 1)
        guard let result = waitForMapper() else { return .ended }
        if result != 1 { return .refused(Errno(rawValue: Int32(truncatingIfNeeded: result &- 1))) }
      }
      return nil
    }
    if let failure { throw failure }
  }

  /// What the mapper answered; `nil` when the process has ended, which its keeper tells by the same descriptor.
  private func waitForMapper() -> UInt64? {
    var value: eventfd_t = 0
    while eventfd_read(done, &value) != 0 {
      guard errno == EINTR else { return nil }
    }
    return value < Self.endMark ? value : nil
  }

  /// More than any answer of the mapper's.
  fileprivate static let endMark: eventfd_t = 1 << 32

  /// Whether the thread has stopped; `false` after the time, or when the process has ended.
  func waitForStop(_ index: Int, nanoseconds: UInt64, spin: Int = 0) -> Bool {
    shared.waitForStop(index, nanoseconds: nanoseconds, spin: spin)
  }

  /// Makes the process, waits for its end, tells it.
  private final class Keeper: Sendable {
    private let life: Monitor<Life>
    private let shared: SharedFrames
    private let memory: GuestMemory
    private let request: Int32
    private let done: Int32

    init(life: Monitor<Life>, shared: SharedFrames, memory: GuestMemory, request: Int32, done: Int32) {
      self.life = life
      self.shared = shared
      self.memory = memory
      // Its own, so that they stay open as long as it needs them.
      self.request = dup(request)
      self.done = dup(done)
    }

    deinit {
      close(request)
      close(done)
    }

    func start() throws(TechniqueFailure) {
      let box = Unmanaged.passRetained(self)
      var thread = pthread_t()
      let error = pthread_create(
        &thread, nil,
        { argument in
          if let argument { Unmanaged<Keeper>.fromOpaque(argument).takeRetainedValue().keep() }
          return nil
        }, box.toOpaque())
      guard error == 0 else {
        box.release()
        throw TechniqueFailure(
          call: "pthread_create", reason: Errno(rawValue: error).description,
          remedy: "raise the limit of processes (ulimit -u)")
      }
      pthread_detach(thread)
    }

    private func keep() {
      var all = sigset_t()
      sigfillset(&all)
      pthread_sigmask(SIG_SETMASK, &all, nil)
      let process = cstub_spawn(memory.fileDescriptor, shared.fileDescriptor, request, done)
      guard process > 0 else { return life.with { $0.failure = process } }
      life.with { $0.process = process }
      _ = cstub_wait(process)
      // Reaped with the lock held: until then the ID is this process's, and nobody signals another.
      life.with { life in
        life.status = cstub_reap(process)
        life.process = nil
        shared.hasEnded.store(true, ordering: .releasing)
      }
      eventfd_write(done, SandboxProcess.endMark)
      shared.wakeAll()
    }
  }
}

/// A change of mappings that was not made.
public enum MappingFailure: Error, Sendable, Equatable {
  /// The host said no: ENOMEM when there are too many mappings (`vm.max_map_count`).
  case refused(Errno)
  /// The process is no more.
  case ended
}
