import Synchronization
import TrivisorVMM

/// The hypervisor's end of a domain's console: what the domain writes goes to a sink, and what is typed to the domain.
public final class XenConsole: ConsoleInput, @unchecked Sendable {
  // Unchecked: the ring is memory that the domain writes, too; its positions are atomic, and its input side is used with
  // the state's lock held.

  private struct State {
    var whenRoom: (@Sendable () -> Void)?
    var doorbell: (any DomainDoorbell)?
  }

  private let ring: ConsoleRing
  private let sink: any SerialSink
  private let state = Mutex(State())
  private let hasInput = Atomic<Bool>(false)
  /// The host has bytes that were not taken.
  private let hasRefused = Atomic<Bool>(false)
  /// With the domain's lock held: whether the ring was ever used for output, and until then the end of what console_io brought.
  var usesRing = false
  private var direct: [UInt8] = []
  /// What console_io brought after that, in bytes: the domain says it by the ring, too.
  private(set) var unseenCount: UInt64 = 0

  init(_ ring: ConsoleRing, sink: any SerialSink) {
    self.ring = ring
    self.sink = sink
  }

  /// Whom to tell of input.
  func connect(_ doorbell: any DomainDoorbell) { state.withLock { $0.doorbell = doorbell } }

  /// Takes what the domain has written, with the domain's lock held.
  /// - Returns: whether that was anything.
  @discardableResult
  func drain() -> Bool {
    var hasMoved = false
    var first: [UInt8] = []
    ring.drain { bytes in
      hasMoved = true
      if usesRing {
        sink.write(bytes)
      } else {
        first += bytes
      }
    }
    if !usesRing, hasMoved {
      usesRing = true
      // A domain that uses both has said its first piece already, though maybe with other ends of lines.
      let (known, news) = (Self.withoutReturns(direct), Self.withoutReturns(first))
      let said = (0...min(known.count, news.count)).reversed().first { known.suffix($0).elementsEqual(news.prefix($0)) }
      write(Self.dropping(said ?? 0, of: first))
      direct = []
    }
    return hasMoved
  }

  private static let carriageReturn = UInt8(ascii: "\r")

  private static func withoutReturns(_ bytes: [UInt8]) -> [UInt8] { bytes.filter { $0 != carriageReturn } }

  /// Without so many bytes that are no carriage returns, and those between them.
  private static func dropping(_ count: Int, of bytes: [UInt8]) -> ArraySlice<UInt8> {
    var (rest, left) = (bytes[...], count)
    while left > 0, let byte = rest.popFirst() { left -= byte == carriageReturn ? 0 : 1 }
    return rest
  }

  /// As much as the ring holds: more can't be the same as its first piece.
  private static let directLimit = 2048

  /// HYPERVISOR_console_io: seen until the domain uses its ring.
  func writeDirectly(_ bytes: [UInt8]) {
    drain()
    guard !usesRing else { return unseenCount &+= UInt64(bytes.count) }
    direct += bytes
    if direct.count > Self.directLimit { direct.removeFirst(direct.count - Self.directLimit) }
    write(bytes[...])
  }

  private func write(_ bytes: ArraySlice<UInt8>) {
    guard !bytes.isEmpty else { return }
    bytes.withUnsafeBytes { sink.write($0) }
  }

  /// What was typed and the domain asks for by console_io; it stays there until it is dropped.
  func typed(limit: Int) -> [UInt8] { ring.input(limit: limit) }

  /// - Parameter count: of the bytes that the domain got.
  func dropTyped(_ count: Int) {
    ring.dropInput(count)
    offerRoom()
  }

  /// Whether input has come since it was asked last.
  func takeInput() -> Bool { hasInput.exchange(false, ordering: .acquiringAndReleasing) }

  /// Whether `takeInput` would say so.
  var hasUntoldInput: Bool { hasInput.load(ordering: .acquiring) }

  /// The ring has input that the domain is to be told of.
  func noteInput() { hasInput.store(true, ordering: .releasing) }

  /// Tells the host when the domain has made room for what was refused.
  func offerRoom() {
    guard hasRefused.load(ordering: .relaxed), ring.room > 0 else { return }
    let hook = state.withLock { state in
      hasRefused.store(false, ordering: .relaxed)
      return state.whenRoom
    }
    hook?()
  }

  /// Always: whether anybody reads its ring the hypervisor is not told.
  public var isListening: Bool { true }

  /// Puts input into the ring, from any thread.
  public func receive(_ bytes: UnsafeRawBufferPointer) -> Int {
    let (count, doorbell) = state.withLock { state in
      let count = ring.fill(bytes)
      if count < bytes.count { hasRefused.store(true, ordering: .relaxed) }
      return (count, state.doorbell)
    }
    if count > 0 {
      noteInput()
      doorbell?.ring()
    }
    return count
  }

  /// On the thread of processor 0.
  public func whenRoomForInput(_ hook: @escaping @Sendable () -> Void) { state.withLock { $0.whenRoom = hook } }
}
