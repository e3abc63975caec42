// A virtio memory balloon (virtio 1.2, 5.5): memory that a guest can do without goes back to the host.
//
//     inflate queue     numbers of pages that the driver will not touch any more   ──▶ given back
//     deflate queue     those that it takes again: whatever is touched is there, as zeros
//     statistics queue  a buffer that the driver fills whenever it gets it back: the device keeps it until somebody asks
//     reporting queue   ranges that happen to be free, each until the driver gets the request back ──▶ given back
//
// The numbers of queues depend on what is offered. The specification counts the reporting queue as 4; Linux, and the devices
// that it grew up with, leave out the queue 3 of a feature that is not there. Both are served.
//
// The contents of pages that are given back are gone, so whoever keeps something made of them is told (`MemoryWatch`).

import TrivisorCLinux
import Glibc
import SystemPackage
import TrivisorVMM

/// A balloon, and what a guest tells of its memory.
public final class VirtioBalloon: VirtioDevice {
  private enum Feature {
    static let statistics = VirtioFeatures.bit(1)
    static let deflatesWithoutMemory = VirtioFeatures.bit(2)
    static let reporting = VirtioFeatures.bit(5)
  }

  private enum Queue {
    static let inflate = 0
    static let deflate = 1
    static let statistics = 2
    static let reporting = 3...4
  }

  private enum Register {
    static let pages: UInt64 = 0
    static let actual: UInt64 = 4
    static let end: UInt64 = 8
  }

  /// The unit of the balloon's size, in bytes, whatever the guest's pages are.
  static let pageSize: UInt64 = 4096
  /// Page numbers of a request: a hundred times as many as drivers give.
  private static let numberLimit = 1 << 15
  /// Of a statistics buffer: more than there are tags.
  private static let statisticsLimit = 64

  private struct State {
    var host: VirtioHost?
    /// Pages that the balloon should have, and those that the driver says it has.
    var wanted: UInt32
    var actual: UInt32 = 0
    var statistics = BalloonReport.Statistics()
    /// Somebody wants new ones; the driver has been asked for them.
    var wantsStatistics = false
    var awaitsStatistics = false
    /// Of the statistics, how often they came.
    var generation = 0
    var inflatedBytes: UInt64 = 0
    var reportedBytes: UInt64 = 0
  }

  private let memory: GuestMemory
  private let state: Monitor<State>
  /// Rings in the interval in which statistics are wanted; negative without.
  private let timer: Int32

  /// - Parameters:
  ///   - memory: from which pages are taken.
  ///   - size: in bytes, what is to be taken at first; cut to whole pages and to what there is.
  ///   - statisticsInterval: in seconds; without one, statistics are asked for when somebody wants them.
  /// - Throws: `DeviceFailure` when the host gives no timer.
  public init(_ memory: GuestMemory, size: UInt64, statisticsInterval: Int? = nil) throws(DeviceFailure) {
    self.memory = memory
    state = Monitor(State(wanted: Self.pages(size, memory)))
    guard let statisticsInterval else {
      timer = -1
      return
    }
    timer = timerfd_create(CLOCK_MONOTONIC, Int32(TFD_CLOEXEC) | Int32(TFD_NONBLOCK))
    var time = itimerspec()
    time.it_value.tv_sec = max(statisticsInterval, 1)
    time.it_interval = time.it_value
    guard timer >= 0, timerfd_settime(timer, 0, &time, nil) == 0 else {
      let error = errno
      if timer >= 0 { close(timer) }
      throw DeviceFailure(call: "timerfd_create", Errno(rawValue: error))
    }
  }

  deinit { if timer >= 0 { close(timer) } }

  private static func pages(_ size: UInt64, _ memory: GuestMemory) -> UInt32 {
    UInt32(clamping: min(size, memory.size) / pageSize)
  }

  /// Balloon.
  public let deviceID = VirtioDeviceID.balloon
  /// Statistics, deflation when the guest has no memory left, reports of free pages.
  public let features: VirtioFeatures = [Feature.statistics, Feature.deflatesWithoutMemory, Feature.reporting]
  /// Inflate, deflate, statistics, and twice reporting.
  public let queueSizes: [UInt16] = [128, 128, 16, 64, 64]
  /// The timer.
  public var threads: [VirtioThread] {
    [VirtioThread(queueSizes.indices, eventDescriptor: timer >= 0 ? timer : nil)]
  }

  /// Pages wanted, and the driver's number.
  public func configuration(at offset: UInt64) -> UInt8 {
    guard offset < Register.end else { return 0 }
    let (wanted, actual) = state.with { ($0.wanted, $0.actual) }
    return UInt8(truncatingIfNeeded: (UInt64(actual) << 32 | UInt64(wanted)) >> (8 * offset))
  }

  /// The driver's number.
  public func writeConfiguration(_ value: UInt64, at offset: UInt64, width: AccessWidth) {
    guard offset == Register.actual, width == .doubleword else { return }
    state.with { $0.actual = UInt32(truncatingIfNeeded: value) }
  }

  /// Keeps the way to the driver.
  public func attach(to host: VirtioHost) { state.with { $0.host = host } }

  /// Nothing to prepare.
  public func start(features: VirtioFeatures) {}

  /// A driver that is gone has no pages in the balloon.
  public func reset() {
    state.with { state in
      state.actual = 0
      state.statistics = BalloonReport.Statistics()
      state.awaitsStatistics = false
    }
  }

  // MARK: The host's side

  /// What is wanted from now on, in bytes; the driver follows as it can.
  public func resize(to size: UInt64) {
    let wanted = Self.pages(size, memory)
    let host = state.with { state in
      state.wanted = wanted
      return state.host
    }
    host?.configurationChanged()
  }

  /// How it is now.
  /// - Parameter milliseconds: how long to wait for the guest's newest statistics; zero for those that are there.
  public func report(waiting milliseconds: Int = 0) -> BalloonReport {
    if milliseconds > 0 {
      let (before, host) = state.with { state in
        state.wantsStatistics = true
        return (state.generation, state.host)
      }
      host?.wake()
      _ = state.wait(milliseconds: milliseconds) { $0.generation == before ? nil : () }
    }
    return state.with { state in
      BalloonReport(
        wantedBytes: UInt64(state.wanted) * Self.pageSize, actualBytes: UInt64(state.actual) * Self.pageSize,
        inflatedBytes: state.inflatedBytes, reportedBytes: state.reportedBytes, statistics: state.statistics)
    }
  }

  // MARK: Queues

  /// Takes pages, and keeps the buffer for statistics.
  public func process(_ queue: VirtioQueue) {
    switch queue.index {
    case Queue.inflate:
      takeTimer()
      queue.drain(inflate)
    case Queue.deflate: queue.drain { _ in .completed(written: 0) }
    case Queue.statistics: queue.drain(takeStatistics)
    case Queue.reporting: queue.drain(giveBackRanges)
    default: break
    }
  }

  private func takeTimer() {
    guard timer >= 0 else { return }
    var count: UInt64 = 0
    if read(timer, &count, 8) == 8 { state.with { $0.wantsStatistics = true } }
  }

  private func inflate(_ chain: inout DescriptorChain) -> VirtioQueue.Disposition {
    let stride = MemoryLayout<UInt32>.size
    guard chain.readable.byteCount % stride == 0, chain.readable.byteCount / stride <= Self.numberLimit else {
      return .malformed
    }
    var run: (first: UInt64, end: UInt64)?
    var bytes: UInt64 = 0
    var number: UInt32 = 0
    while withUnsafeMutableBytes(of: &number, { chain.readable.read(into: $0) }) {
      let page = UInt64(number)
      // Linux takes pages from the lowest, or from the highest on.
      if let current = run, page == current.end {
        run = (current.first, page + 1)
      } else if let current = run, page + 1 == current.first {
        run = (page, current.end)
      } else {
        bytes += giveBack(run)
        run = (page, page + 1)
      }
    }
    bytes += giveBack(run)
    state.with { $0.inflatedBytes &+= bytes }
    return .completed(written: 0)
  }

  /// What is no memory is not given back, and does no harm.
  private func giveBack(_ run: (first: UInt64, end: UInt64)?) -> UInt64 {
    guard let run else { return 0 }
    let count = (run.end - run.first) * Self.pageSize
    guard let place = memory.host(GuestPhysicalAddress(run.first * Self.pageSize), count: count) else { return 0 }
    return giveBack(place, Int(count)) ? count : 0
  }

  private func giveBack(_ place: UnsafeMutableRawPointer, _ count: Int) -> Bool {
    guard memory.giveBack(place, count: count) else { return false }
    memory.watch.stored(at: place, count: count)
    return true
  }

  private func giveBackRanges(_ chain: inout DescriptorChain) -> VirtioQueue.Disposition {
    let size = Int(Self.pageSize)
    var bytes: UInt64 = 0
    let (pieces, count) = chain.writable.vectors
    for piece in UnsafeBufferPointer(start: pieces, count: Int(count)) {
      // Of a range that is not of whole pages, only those within.
      guard let base = piece.iov_base else { continue }
      let start = base.alignedUp(toMultipleOf: size)
      let end = (base + piece.iov_len).alignedDown(toMultipleOf: size)
      if start < end, giveBack(start, end - start) { bytes += UInt64(end - start) }
    }
    state.with { $0.reportedBytes &+= bytes }
    return .completed(written: 0)
  }

  private func takeStatistics(_ chain: inout DescriptorChain) -> VirtioQueue.Disposition {
    var statistics = BalloonReport.Statistics()
    var count = 0
    withUnsafeTemporaryAllocation(byteCount: BalloonReport.Statistics.entrySize, alignment: 8) { entry in
      while count < Self.statisticsLimit, chain.readable.read(into: entry) {
        statistics.take(UnsafeRawBufferPointer(entry))
        count += 1
      }
    }
    return state.with { state in
      if state.awaitsStatistics {
        state.awaitsStatistics = false
        state.generation += 1
      }
      state.statistics = statistics
      guard state.wantsStatistics else { return .later }
      state.wantsStatistics = false
      state.awaitsStatistics = true
      return .completed(written: 0)
    }
  }
}

// MARK: Saved form

extension VirtioBalloon {
  /// How much is in it. Which pages these are, only the driver knows; they read as zeros.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1
    var wanted: UInt32
    var actual: UInt32
  }

  /// What the configuration space says.
  public func save() -> VirtioDeviceState {
    let (wanted, actual) = state.with { ($0.wanted, $0.actual) }
    return .balloon(Saved(wanted: wanted, actual: actual))
  }

  /// - Throws: `RestoreFailure` for another device's, or a size that the memory does not have.
  public func restore(_ saved: VirtioDeviceState, features: VirtioFeatures?) throws(RestoreFailure) -> Bool {
    guard case .balloon(let balloon) = saved else { throw RestoreFailure("balloon", "it is another device's") }
    try restoring(
      "balloon", requires: UInt64(balloon.wanted) * Self.pageSize <= memory.size,
      "it is to have \(balloon.wanted) pages, more than there are")
    state.with { state in
      (state.wanted, state.actual) = (balloon.wanted, balloon.actual)
      state.statistics = BalloonReport.Statistics()
      state.awaitsStatistics = false
    }
    return false
  }
}

extension UnsafeMutableRawPointer {
  fileprivate func alignedDown(toMultipleOf size: Int) -> UnsafeMutableRawPointer {
    self - Int(bitPattern: self) % size
  }
}
