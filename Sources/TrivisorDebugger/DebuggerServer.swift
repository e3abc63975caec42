// The thread that has the debugger's connection:
//
//     a debugger comes ─┐
//     its packets      ─┼─▶ poll ─▶ DebuggerSession ─▶ answers
//     news, the end    ─┘
//
// One debugger at a time. It comes and goes while the guest runs; when it goes, or its connection breaks, the guest goes on.

import Glibc
import Synchronization
import SystemPackage
import TrivisorCLinux
import TrivisorVMM

/// Lets a debugger at a machine, and at the one that follows it after a reset.
public final class DebuggerServer: Sendable {
  private struct State {
    var machine: (any DebuggedMachine)?
    /// Machines so far.
    var lives = 0
    /// The machine has ended, and with which exit code of the guest's.
    var end: UInt8??
    var isClosing = false
    var hasThread = false
    /// A debugger is there: machines begin held.
    var hasDebugger = false
  }

  private let address: DebuggerAddress
  private let socket: DebuggerSocket
  private let wake: Int32
  private let state = Monitor(State())

  /// Opens the place; whoever comes waits for a machine.
  /// - Throws: `DebuggerFailure` when the host refuses it.
  public init(_ address: DebuggerAddress) throws(DebuggerFailure) {
    self.address = address
    socket = try DebuggerSocket(address.place)
    wake = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
    guard wake >= 0 else { throw DebuggerFailure("eventfd failed: \(Errno(rawValue: errno))") }
  }

  deinit { Glibc.close(wake) }

  /// What GDB's `target remote` takes.
  public var name: String { socket.name }

  /// Whether the guest's first instruction waits for the debugger.
  public var waits: Bool { address.waits }

  /// A machine whose processors have not run yet.
  public func attach(_ machine: any DebuggedMachine) {
    let (isFirst, isHeld) = state.with { state in
      state.machine = machine
      state.end = nil
      state.lives += 1
      defer { state.hasThread = true }
      return (!state.hasThread, state.hasDebugger || (address.waits && state.lives == 1))
    }
    if isHeld {
      machine.attach(whenNews: notify)
      machine.hold()
    }
    notify()
    if isFirst, !DetachedThread.start({ self.serve() }) {
      state.with { $0.hasThread = false }
      machine.detach()
    }
  }

  /// The machine's processors are gone.
  /// - Parameter status: the guest's own exit code, if it gave one.
  public func machineEnded(status: UInt8?) {
    state.with { state in
      state.machine = nil
      state.end = .some(status)
    }
    notify()
  }

  /// Tells the debugger that it is over, as long as that takes no longer than a second.
  public func close() {
    guard
      state.with({ state in
        state.isClosing = true
        return state.hasThread
      })
    else { return }
    notify()
    _ = state.wait(milliseconds: 1000) { $0.hasThread ? nil : true }
  }

  private var notify: @Sendable () -> Void {
    let wake = wake
    // It lives as long as the process's only server does.
    return { [weak self] in if self != nil { eventfd_write(wake, 1) } }
  }

  // MARK: The thread

  private func serve() {
    while !state.with({ $0.isClosing }) {
      guard waitFor(socket.raw) else { continue }
      let client = socket.accept()
      guard client >= 0 else { continue }
      converse(client)
      Glibc.close(client)
    }
    state.with { $0.hasThread = false }
  }

  /// Sleeps until there is something to read, or to look at.
  /// - Returns: whether there is something to read.
  private func waitFor(_ descriptor: Int32) -> Bool {
    var descriptors = [
      pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0), pollfd(fd: wake, events: Int16(POLLIN), revents: 0),
    ]
    poll(&descriptors, UInt(descriptors.count), -1)
    if descriptors[1].revents != 0 {
      var count: eventfd_t = 0
      eventfd_read(wake, &count)
    }
    return descriptors[0].revents != 0
  }

  private func converse(_ client: Int32) {
    guard let machine = nextMachine() else { return }
    state.with { $0.hasDebugger = true }
    defer { state.with { $0.hasDebugger = false } }
    machine.attach(whenNews: notify)
    machine.hold()
    let session = DebuggerSession(machine, architecture: address.architecture)
    var reader = PacketReader()
    var buffer = [UInt8](repeating: 0, count: Packet.maximumLength)
    while session.wish == .goOn {
      let isReadable = waitFor(client)
      let (current, end) = state.with { ($0.machine, $0.end) }
      if let current, current !== session.machine {
        session.adopt(current)
      } else if let end {
        session.noticeEnd(status: end)
      } else {
        session.noticeNews()
      }
      if isReadable {
        let count = recv(client, &buffer, buffer.count, 0)
        if count < 0, errno == EINTR { continue }
        // It has gone.
        guard count > 0 else { break }
        for byte in buffer[..<count] {
          guard let input = reader.take(byte) else { continue }
          session.receive(input)
          guard session.wish == .goOn else { break }
        }
      }
      guard Self.send(session.takeOutput(), to: client), !state.with({ $0.isClosing }) else { break }
    }
    // The end may have come, and the wish to close with it, since they were last asked for.
    if session.wish == .goOn, let end = state.with({ $0.end }) { session.noticeEnd(status: end) }
    _ = Self.send(session.takeOutput(), to: client)
    session.machine.detach()
  }

  /// The machine that there is, or that comes; `nil` when none will.
  private func nextMachine() -> (any DebuggedMachine)? {
    state.wait { state -> (any DebuggedMachine)?? in
      if let machine = state.machine { return .some(machine) }
      return state.isClosing ? .some(nil) : nil
    }
  }

  private static func send(_ bytes: [UInt8], to client: Int32) -> Bool {
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes { buffer in
        Glibc.send(client, buffer.baseAddress.map { $0 + done }, bytes.count - done, Int32(MSG_NOSIGNAL))
      }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { return false }
      done += count
    }
    return true
  }
}
