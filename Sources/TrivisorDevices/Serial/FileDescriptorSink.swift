// Serial output to a terminal, a pipe, a socket or a file.
//
// A guest writes its console byte by byte, and a system call a byte would cost more than the guest's own work. So bytes
// are gathered, and a thread of the sink's own writes them a millisecond later at the latest:
//
//     processors ──append──▶ ring ──▶ writer thread: wait for the first byte, sleep 1 ms, write what is there
//                              └────▶ a processor that finds the ring full, `finish()`: write at once
//
// Nobody waits in write(2), where only a signal could end the wait: the descriptor is made non-blocking, and waiting is
// done in poll(2) together with an eventfd that `abandon()` rings. O_NONBLOCK belongs to the open file and not to the
// descriptor, so setting it on our standard output would set it for the shell that gave it to us; the file is opened a
// second time instead, through /proc.
//
// Lock order: `output` (who writes) before `pending` (the ring).

import TrivisorCLinux
import Glibc
import Synchronization
import SystemPackage
import TrivisorVMM

/// Writes serial output to a file descriptor.
public final class FileDescriptorSink: SerialSink {
  private let stream: OutputStream

  /// - Parameters:
  ///   - fileDescriptor: stays the caller's, and must stay open as long as the sink is used.
  ///   - whenBroken: called once if the output can't be delivered any more (EPIPE: nobody reads; EIO: the terminal is
  ///     gone; ENOSPC: the disk is full); on any thread, with no lock held. Later output is dropped.
  ///
  /// A reader that closes must not kill the process, so SIGPIPE is ignored from now on.
  public init(_ fileDescriptor: Int32, whenBroken: @escaping @Sendable (Errno) -> Void) {
    signal(SIGPIPE, SIG_IGN)
    stream = OutputStream(fileDescriptor, whenBroken: whenBroken)
  }

  deinit { stream.abandon() }

  /// Takes `bytes`; waits only if the host lags more than the ring's size behind.
  public func write(_ bytes: UnsafeRawBufferPointer) { stream.write(bytes) }

  /// Returns when everything is written, or can't be, or `abandon()` was called. Later output is written at once.
  public func finish() { stream.finish() }

  /// Ends every wait; nothing is written any more.
  public func abandon() { stream.abandon() }

  /// Closes what was opened a second time: a pipe's reader waits for the end of every one that writes.
  public func close() { stream.close() }
}

/// What the sink and its thread share.
private final class OutputStream: Sendable {
  private static let capacity = 8192
  /// Long enough to gather a line, too short to be seen.
  private static let gatheringMicroseconds: UInt32 = 1000

  private enum Writer {
    case none, running, unwanted
  }

  /// The ring and the life of the thread.
  private struct Pending {
    let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: OutputStream.capacity, alignment: 1)
    var head = 0
    var count = 0
    /// Abandoned or broken: everything is dropped.
    var isClosed = false
    var writer = Writer.none
  }

  /// The right to write, and the room to copy to for that.
  private struct Output {
    let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: OutputStream.capacity, alignment: 1)
  }

  private let pending = Monitor(Pending())
  private let output = Monitor(Output())
  private let channel: OutputChannel
  private let whenBroken: @Sendable (Errno) -> Void

  init(_ fileDescriptor: Int32, whenBroken: @escaping @Sendable (Errno) -> Void) {
    channel = OutputChannel(fileDescriptor)
    self.whenBroken = whenBroken
  }

  deinit {
    pending.with { $0.storage.deallocate() }
    output.with { $0.scratch.deallocate() }
  }

  func write(_ bytes: UnsafeRawBufferPointer) {
    var rest = bytes
    while true {
      let (appended, writesNow) = pending.with { pending -> (Int, Bool) in
        if pending.isClosed { return (rest.count, false) }
        let count = min(rest.count, Self.capacity - pending.count)
        for index in 0..<count {
          pending.storage[(pending.head + pending.count + index) % Self.capacity] = rest[index]
        }
        pending.count += count
        if pending.writer == .none { pending.writer = startWriter() ? .running : .unwanted }
        return (count, pending.writer == .unwanted)
      }
      rest = UnsafeRawBufferPointer(rebasing: rest[appended...])
      if rest.isEmpty && !writesNow { return }
      flush()
      if rest.isEmpty { return }
    }
  }

  func finish() {
    pending.with { $0.writer = .unwanted }
    flush()
  }

  func abandon() {
    pending.with { pending in
      pending.isClosed = true
      pending.count = 0
      pending.writer = .unwanted
    }
    channel.cancel()
  }

  func close() {
    pending.with { pending in
      pending.isClosed = true
      pending.count = 0
      pending.writer = .unwanted
    }
    // Behind whoever writes.
    output.with { _ in channel.close() }
  }

  /// Writes what the ring held when this began, and what came meanwhile, up to an empty ring.
  private func flush() {
    let failure = output.with { output -> Errno? in
      while true {
        let chunk = take(into: output.scratch)
        if chunk.isEmpty { return nil }
        if let failure = channel.write(chunk) { return failure }
      }
    }
    guard let failure else { return }
    let isFirst = pending.with { pending in
      defer {
        pending.isClosed = true
        pending.count = 0
      }
      return !pending.isClosed
    }
    if isFirst { whenBroken(failure) }
  }

  private func take(into scratch: UnsafeMutableRawBufferPointer) -> UnsafeRawBufferPointer {
    let count = pending.with { pending in
      let count = pending.count
      for index in 0..<count { scratch[index] = pending.storage[(pending.head + index) % Self.capacity] }
      pending.head = (pending.head + count) % Self.capacity
      pending.count = 0
      return count
    }
    return UnsafeRawBufferPointer(rebasing: scratch[..<count])
  }

  // MARK: The thread

  private func startWriter() -> Bool {
    let reference = Unmanaged.passRetained(self)
    var thread = pthread_t()
    let error = pthread_create(&thread, nil, { OutputStream.body($0) }, reference.toOpaque())
    if error != 0 {
      reference.release()
      return false
    }
    pthread_detach(thread)
    return true
  }

  private static func body(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let argument else { return nil }
    let stream = Unmanaged<OutputStream>.fromOpaque(argument).takeRetainedValue()
    var blocked = sigset_t()
    sigfillset(&blocked)
    pthread_sigmask(SIG_SETMASK, &blocked, nil)
    while stream.waitForBytes() {
      usleep(gatheringMicroseconds)
      stream.flush()
    }
    return nil
  }

  /// Whether there are bytes; `false` when the thread is to end.
  private func waitForBytes() -> Bool {
    pending.wait { pending in
      if pending.writer == .unwanted { return false }
      return pending.count > 0 ? true : nil
    }
  }
}
