// A virtio console with one port (virtio 1.2, 5.3).
//
// Queue 0 takes the guest's empty buffers, which input fills; queue 1 brings output. Input waits in a buffer of our own
// until the guest has room for it, and with the host when that is full.
//
// A driver is ready before its console is, and throws away what comes meanwhile. Only a console with several possible
// ports (here one) has messages by which the driver tells that a port is open (5.3.6.2), in queues 2 and 3:
//
//     driver ──DEVICE_READY──▶           driver ──PORT_READY──▶            driver ──PORT_OPEN──▶  input flows
//            ◀──DEVICE_ADD────                  ◀──CONSOLE_PORT──
//
// Such a console can't tell its size, because drivers disagree with the specification on the order of the message's
// fields. So where there is a terminal, which has a size and where nobody types before the guest prints, there is the
// plain console; and for pipes, the other.

import TrivisorCLinux
import Glibc
import Synchronization
import TrivisorVMM

/// A console.
public final class VirtioConsole: VirtioDevice, ConsoleInput {
  private static let sizeFeature = VirtioFeatures.bit(0)
  private static let portsFeature = VirtioFeatures.bit(1)

  private enum Queue {
    static let receive = 0
    static let transmit = 1
    static let controlReceive = 2
    static let controlTransmit = 3
  }

  /// A message between driver and device, and its events.
  private struct Control {
    static let deviceReady: UInt16 = 0
    static let deviceAdd: UInt16 = 1
    static let portReady: UInt16 = 3
    static let consolePort: UInt16 = 4
    static let portOpen: UInt16 = 6

    var port: UInt32 = 0
    var event: UInt16 = 0
    var value: UInt16 = 0
  }

  /// Answers that wait for a buffer of the driver's; more than a driver asks for at a time.
  private static let answerLimit = 16

  /// Columns and rows of the terminal behind it.
  public struct Size: Sendable, Equatable {
    /// Characters in a line.
    public var columns: UInt16
    /// Lines.
    public var rows: UInt16

    /// Takes both.
    public init(columns: UInt16, rows: UInt16) {
      self.columns = columns
      self.rows = rows
    }
  }

  private struct State: ~Copyable {
    var pending = InputBuffer()
    /// A driver is there and will keep what it gets.
    var isOpen = false
    var answers: [Control] = []
    /// The host has bytes that were not taken.
    var hasRefusedInput = false
    var whenRoomForInput: (@Sendable () -> Void)?
    var host: VirtioHost?

    /// The host's callback, if it is due.
    mutating func takeRoomHook() -> (@Sendable () -> Void)? {
      guard hasRefusedInput, isOpen, pending.count == 0 else { return nil }
      hasRefusedInput = false
      return whenRoomForInput
    }
  }

  private let sink: any SerialSink
  private let state = Mutex(State())
  /// Columns in the low half, rows in the high half.
  private let size: Atomic<UInt32>
  private let hasSize: Bool

  /// - Parameters:
  ///   - sink: gets what the guest prints.
  ///   - size: the terminal's, if it is one; without, input waits for an open port.
  public init(sink: any SerialSink, size: Size? = nil) {
    self.sink = sink
    self.size = Atomic(Self.encode(size ?? Size(columns: 0, rows: 0)))
    hasSize = size != nil
  }

  private static func encode(_ size: Size) -> UInt32 { UInt32(size.columns) | UInt32(size.rows) << 16 }

  /// Console.
  public let deviceID = VirtioDeviceID.console
  /// Receive and transmit, and the same for messages.
  public let queueSizes: [UInt16] = [64, 64, 16, 16]
  /// The size if there is one, else messages.
  public var features: VirtioFeatures { hasSize ? [Self.sizeFeature] : [Self.portsFeature] }

  /// Columns and rows; the number of ports, one.
  public func configuration(at offset: UInt64) -> UInt8 {
    if offset == 4 { return 1 }
    return offset < 4 ? UInt8(truncatingIfNeeded: size.load(ordering: .acquiring) >> UInt32(8 * offset)) : 0
  }

  /// The terminal's size changed; the guest is told if there was one from the beginning.
  public func resize(to newSize: Size) {
    guard hasSize else { return }
    size.store(Self.encode(newSize), ordering: .releasing)
    state.withLock { $0.host }?.configurationChanged()
  }

  /// Keeps the way to the driver.
  public func attach(to host: VirtioHost) { state.withLock { $0.host = host } }

  /// From now on input is taken, unless the driver will tell when it is.
  public func start(features: VirtioFeatures) {
    let hook = state.withLock { state in
      state.isOpen = !features.contains(Self.portsFeature)
      return state.takeRoomHook()
    }
    hook?()
  }

  /// What was typed for the driver that is gone is for the next one.
  public func reset() {
    state.withLock { state in
      state.isOpen = false
      state.answers = []
    }
  }

  // MARK: Input

  /// Whether a driver is there and takes input.
  public var isListening: Bool { state.withLock { $0.isOpen } }

  /// See `ConsoleInput`.
  public func whenRoomForInput(_ hook: @escaping @Sendable () -> Void) {
    state.withLock { $0.whenRoomForInput = hook }
  }

  /// See `ConsoleInput`.
  public func receive(_ bytes: UnsafeRawBufferPointer) -> Int {
    let (taken, host) = state.withLock { state in
      let taken = state.isOpen ? state.pending.append(bytes) : 0
      state.hasRefusedInput = taken < bytes.count
      return (taken, state.host)
    }
    if taken > 0 { host?.wake() }
    return taken
  }

  // MARK: Queues

  /// Moves input to the guest, output from it, or messages.
  public func process(_ queue: VirtioQueue) {
    switch queue.index {
    case Queue.receive: processInput(queue)
    case Queue.transmit: queue.drain(processOutput)
    case Queue.controlReceive: queue.drain(processAnswer)
    case Queue.controlTransmit: processMessages(queue)
    default: break
    }
  }

  private func processInput(_ queue: VirtioQueue) {
    queue.drain { chain in
      state.withLock { state in
        if state.pending.count == 0 || !state.isOpen { return .later }
        let written = state.pending.move(to: &chain.writable)
        return .completed(written: UInt32(written))
      }
    }
    state.withLock { $0.takeRoomHook() }?()
  }

  private func processOutput(_ chain: inout DescriptorChain) -> VirtioQueue.Disposition {
    let (pieces, count) = chain.readable.vectors
    for piece in UnsafeBufferPointer(start: pieces, count: Int(count)) {
      sink.write(UnsafeRawBufferPointer(start: piece.iov_base, count: piece.iov_len))
    }
    return .completed(written: 0)
  }

  private func processAnswer(_ chain: inout DescriptorChain) -> VirtioQueue.Disposition {
    state.withLock { state in
      guard let answer = state.answers.first else { return .later }
      state.answers.removeFirst()
      let written = withUnsafeBytes(of: answer) { chain.writable.write($0) }
      return .completed(written: UInt32(written))
    }
  }

  private func processMessages(_ queue: VirtioQueue) {
    queue.drain { chain in
      var message = Control()
      guard withUnsafeMutableBytes(of: &message, { chain.readable.read(into: $0) }) else { return .malformed }
      let (host, hook) = state.withLock { state in
        Self.take(message, &state)
        return (state.host, state.takeRoomHook())
      }
      // Answers, and input that waited, go through other queues.
      host?.wake()
      hook?()
      return .completed(written: 0)
    }
  }

  /// What is no message of this console's is ignored, as drivers ignore ours that they don't know.
  private static func take(_ message: Control, _ state: inout State) {
    switch message.event {
    case Control.deviceReady where message.value == 1: answer(Control(event: Control.deviceAdd), &state)
    case Control.portReady where message.port == 0 && message.value == 1:
      answer(Control(event: Control.consolePort, value: 1), &state)
    case Control.portOpen where message.port == 0: state.isOpen = message.value == 1
    default: break
    }
  }

  private static func answer(_ answer: Control, _ state: inout State) {
    if state.answers.count < answerLimit { state.answers.append(answer) }
  }
}

/// Input on its way to the guest, first in, first out.
private struct InputBuffer: ~Copyable, @unchecked Sendable {
  // Unchecked: the storage is this value's alone.
  static let capacity = 4096

  private let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: capacity, alignment: 1)
  private var start = 0
  private(set) var count = 0

  deinit { storage.deallocate() }

  /// - Returns: how many bytes fit.
  mutating func append(_ bytes: UnsafeRawBufferPointer) -> Int {
    let taken = min(bytes.count, Self.capacity - count)
    for index in 0..<taken { storage[(start + count + index) % Self.capacity] = bytes[index] }
    count += taken
    return taken
  }

  /// What it holds, first to last.
  var list: [UInt8] { (0..<count).map { storage[(start + $0) % Self.capacity] } }

  mutating func removeAll() { count = 0 }

  /// - Returns: how many bytes were moved.
  mutating func move(to buffers: inout BufferList) -> Int {
    var moved = 0
    while count > 0, buffers.byteCount > 0 {
      let contiguous = min(count, Self.capacity - start)
      let done = buffers.write(UnsafeRawBufferPointer(rebasing: storage[start..<(start + contiguous)]))
      start = (start + done) % Self.capacity
      count -= done
      moved += done
    }
    return moved
  }
}

extension VirtioConsole {
  /// What was typed and has not reached the guest, and how far the driver has come.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1

    struct Answer: Codable, Sendable, Equatable {
      var port: UInt32
      var event: UInt16
      var value: UInt16
    }

    var columns: UInt16
    var rows: UInt16
    var hasSize: Bool
    var isOpen: Bool
    var pending: [UInt8]
    var answers: [Answer]
  }

  /// What the guest printed is the sink's, and what was not taken from the host stays there.
  public func save() -> VirtioDeviceState {
    let size = size.load(ordering: .acquiring)
    return state.withLock { state in
      .console(
        Saved(
          columns: UInt16(truncatingIfNeeded: size), rows: UInt16(truncatingIfNeeded: size >> 16), hasSize: hasSize,
          isOpen: state.isOpen, pending: state.pending.list,
          answers: state.answers.map { Saved.Answer(port: $0.port, event: $0.event, value: $0.value) }))
    }
  }

  /// The size stays that of the terminal at hand.
  /// - Throws: `RestoreFailure` for another device's, or more than it keeps.
  public func restore(_ saved: VirtioDeviceState, features: VirtioFeatures?) throws(RestoreFailure) -> Bool {
    guard case .console(let console) = saved else { throw RestoreFailure("console", "it is another device's") }
    try restoring(
      "console", requires: console.hasSize == hasSize, "only one of both has a size: there are two kinds of drivers")
    try restoring(
      "console",
      requires: console.pending.count <= InputBuffer.capacity && console.answers.count <= Self.answerLimit,
      "it has \(console.pending.count) bytes of input and \(console.answers.count) messages")
    let current = size.load(ordering: .acquiring)
    let differs = Self.encode(Size(columns: console.columns, rows: console.rows)) != current
    let hook = state.withLock { state in
      state.isOpen = console.isOpen
      state.pending.removeAll()
      _ = console.pending.withUnsafeBytes { state.pending.append($0) }
      state.answers = console.answers.map { Control(port: $0.port, event: $0.event, value: $0.value) }
      return state.takeRoomHook()
    }
    hook?()
    return differs && hasSize
  }
}
