import TrivisorCLinux
import TrivisorCStub
import Glibc
import Synchronization
import SystemPackage
import TrivisorVMM

/// The memory that the monitor shares with one sandboxed process: the configuration, which only the monitor writes, and
/// an area for each thread, which both write.
final class SharedFrames: @unchecked Sendable {
  // Unchecked: an area is used by the thread that runs its guest thread; words that others touch are atomic.
  static let requestLimit = Int(CSTUB_REQUEST_LIMIT)
  /// SS_AUTODISARM (Linux, include/uapi/linux/signal.h).
  static let autodisarm: UInt32 = 1 << 31

  let fileDescriptor: Int32
  private let base: UnsafeMutableRawPointer
  private let size: Int
  private let threadCount: Int
  /// Read once, before guest code could write there.
  private var threadIDs: [pid_t]
  /// Where the host's kernel leads to from a SYSENTER whose stack it can't read, cut to 32 bits: somewhere in the vDSO that the
  /// process had. `nil` where SYSENTER is no instruction, or the kernel has no system calls of 32-bit programs.
  private(set) var landingPad: UInt32?
  private let kicks: [Kick]
  /// Whether the process is no more.
  let hasEnded = Atomic<Bool>(false)

  /// When a thread was first interrupted without having stopped since; 0 for not at all.
  private final class Kick: Sendable {
    let time = Atomic<UInt64>(0)
  }

  init(
    threadCount: Int, spin: UInt32, segmentBase: UInt32?, window: UpperWindow?
  ) throws(TechniqueFailure) {
    size = Int(CSTUB_CONFIGURATION_SIZE) + (threadCount + 1) * Int(CSTUB_AREA_SIZE)
    self.threadCount = threadCount
    threadIDs = Array(repeating: 0, count: threadCount)
    kicks = (0..<threadCount).map { _ in Kick() }
    guard cstub_minimum_signal_stack() + 1024 <= UInt64(CSTUB_AREA_SIZE) else {
      throw TechniqueFailure(
        call: "sandbox set-up", reason: "this host's signal frames need \(cstub_minimum_signal_stack()) bytes")
    }
    fileDescriptor = cstub_memory_file("trivisor-frames", UInt64(size))
    guard fileDescriptor >= 0 else {
      let error = Errno(rawValue: -fileDescriptor)
      throw TechniqueFailure(
        call: "memory file of a sandbox", reason: error.description, remedy: HostRemedy.of(error))
    }
    guard let mapping = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, fileDescriptor, 0), mapping != MAP_FAILED
    else {
      let error = Errno(rawValue: errno)
      close(fileDescriptor)
      throw TechniqueFailure(
        call: "mmap of a sandbox's frames", reason: error.description, remedy: HostRemedy.of(error))
    }
    base = mapping
    cstub_configure(mapping, UInt32(threadCount), spin)
    if let segmentBase { cstub_configure_segments(mapping, segmentBase) }
    if let window { cstub_configure_window(mapping, window.address, window.size, window.fileOffset) }
    for index in 0..<threadCount {
      // SS_AUTODISARM: the kernel begins at the stack's end whatever RSP is, so guest code that points RSP into the
      // alternate stack makes no frame overflow it.
      let stack = area(index)
      stack.storeBytes(
        of: address(index) + UInt64(CSTUB_AREA_STACK_BOTTOM), toByteOffset: Int(CSTUB_AREA_STACK), as: UInt64.self)
      stack.storeBytes(of: Self.autodisarm, toByteOffset: Int(CSTUB_AREA_STACK_FLAGS), as: UInt32.self)
      stack.storeBytes(
        of: UInt64(CSTUB_AREA_SIZE - CSTUB_AREA_STACK_BOTTOM), toByteOffset: Int(CSTUB_AREA_STACK_SIZE), as: UInt64.self
      )
    }
  }

  deinit {
    munmap(base, size)
    close(fileDescriptor)
  }

  /// A thread's area here.
  func area(_ index: Int) -> UnsafeMutableRawPointer {
    base + Int(CSTUB_CONFIGURATION_SIZE) + (index + 1) * Int(CSTUB_AREA_SIZE)
  }

  /// And in the sandbox.
  func address(_ index: Int) -> UInt64 { cstubFrames + UInt64(index + 1) * UInt64(CSTUB_AREA_SIZE) }

  private func word(_ index: Int, _ offset: Int32) -> UnsafeMutablePointer<UInt32> {
    (area(index) + Int(offset)).assumingMemoryBound(to: UInt32.self)
  }

  func threadID(_ index: Int) -> pid_t? {
    threadIDs.indices.contains(index) && threadIDs[index] > 0 ? threadIDs[index] : nil
  }

  /// Says that a thread is being interrupted.
  func noteKick(_ index: Int) {
    _ = kicks[index].time.compareExchange(expected: 0, desired: monotonicNanoseconds(), ordering: .relaxed)
  }

  /// When that was said first since the thread stopped last.
  func firstKick(_ index: Int) -> UInt64? {
    let time = kicks[index].time.load(ordering: .relaxed)
    return time == 0 ? nil : time
  }

  func forgetKicks(_ index: Int) { kicks[index].time.store(0, ordering: .relaxed) }

  /// Lets the guest run.
  func giveTurn(_ index: Int) {
    cstub_store(word(index, CSTUB_AREA_TURN), 0)
    if cstub_load(word(index, CSTUB_AREA_STUB_SLEEPS)) != 0 { cstub_futex_wake(word(index, CSTUB_AREA_TURN)) }
  }

  func waitForStop(_ index: Int, nanoseconds: UInt64, spin: Int) -> Bool {
    let turn = word(index, CSTUB_AREA_TURN)
    for _ in 0..<spin where cstub_load(turn) != 0 { return true }
    let sleeps = word(index, CSTUB_AREA_MONITOR_SLEEPS)
    let deadline = nanoseconds == .max ? .max : monotonicNanoseconds() &+ nanoseconds
    cstub_store(sleeps, 1)
    defer { cstub_store(sleeps, 0) }
    while cstub_load(turn) == 0 {
      if hasEnded.load(ordering: .acquiring) { return false }
      let now = deadline == .max ? 0 : monotonicNanoseconds()
      if now >= deadline { return false }
      // A second at a time: the guest can overwrite the flag that makes the stub wake us, and then only time helps.
      cstub_futex_wait(turn, 0, min(deadline - now, 1_000_000_000))
    }
    // At the stub's own first stop, before guest code can write there.
    if threadIDs[index] == 0 {
      threadIDs[index] = pid_t(bitPattern: word(index, CSTUB_AREA_TID).pointee)
      if index == 0 { landingPad = firstLandingPad() }
    }
    return true
  }

  /// What the stub's own SYSENTER, its first stop, says of it.
  private func firstLandingPad() -> UInt32? {
    let context = area(0).load(fromByteOffset: Int(CSTUB_AREA_CONTEXT), as: UInt64.self) &- address(0)
    guard context & 7 == 0, context <= UInt64(Int(CSTUB_AREA_SIZE) - SignalContext.size) else { return nil }
    let frame = area(0) + Int(context)
    return SignalFrame(
      rip: frame.load(fromByteOffset: SignalContext.rip, as: UInt64.self),
      cs: frame.load(fromByteOffset: SignalContext.selectors, as: UInt16.self)
    ).foundLandingPad
  }

  func wakeAll() {
    for index in 0..<threadCount { cstub_futex_wake(word(index, CSTUB_AREA_TURN)) }
  }

  func setRequests(_ changes: ArraySlice<MappingChange>) {
    var place = base + Int(CSTUB_CONF_TABLE)
    // Written out: a debug build's iterators allocate.
    var position = changes.startIndex
    while position < changes.endIndex {
      let change = changes[position]
      position += 1
      let entry = place.assumingMemoryBound(to: UInt64.self)
      entry[0] = change.target == nil ? 0 : 1
      entry[1] = change.address
      entry[2] = change.size
      entry[3] = change.target?.access.rawValue ?? 0
      entry[4] = change.target?.fileOffset ?? 0
      place += Int(CSTUB_REQUEST_SIZE)
    }
    cstub_store((base + Int(CSTUB_CONF_REQUESTS)).assumingMemoryBound(to: UInt32.self), UInt32(changes.count))
  }
}
