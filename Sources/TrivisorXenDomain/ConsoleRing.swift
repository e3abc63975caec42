import TrivisorCSharedWords

/// The ring that a domain's console is (Xen's public header io/console.h): 1 KiB of input, 2 KiB of output, four positions.
/// The domain can change all of it at any time.
struct ConsoleRing {
  private enum Size {
    static let input: UInt32 = 1024
    static let output: UInt32 = 2048
  }

  /// In `struct xencons_interface`.
  private enum Offset {
    static let input = 0
    static let output = 1024
    static let inputConsumer = 3072
    static let inputProducer = 3076
    static let outputConsumer = 3080
    static let outputProducer = 3084
  }

  let page: UnsafeMutableRawPointer

  /// Hands over what the domain has written, in one or two pieces. A domain that claims more than fits is not read until it claims
  /// less, as by Xen's own console daemon.
  func drain(_ body: (UnsafeRawBufferPointer) -> Void) {
    let producer = word(Offset.outputProducer)
    var consumer = word(Offset.outputConsumer)
    var left = producer &- consumer
    guard left > 0, left <= Size.output else { return }
    while left > 0 {
      let place = consumer % Size.output
      let count = min(left, Size.output - place)
      body(UnsafeRawBufferPointer(start: page + Offset.output + Int(place), count: Int(count)))
      consumer &+= count
      left -= count
    }
    set(Offset.outputConsumer, producer)
  }

  /// How many bytes of input there is room for.
  var room: Int {
    let used = word(Offset.inputProducer) &- word(Offset.inputConsumer)
    return used < Size.input ? Int(Size.input - used) : 0
  }

  /// Takes input.
  /// - Returns: how many bytes found room.
  func fill(_ bytes: UnsafeRawBufferPointer) -> Int {
    let count = min(room, bytes.count)
    var producer = word(Offset.inputProducer)
    for byte in bytes.prefix(count) {
      (page + Offset.input + Int(producer % Size.input)).storeBytes(of: byte, as: UInt8.self)
      producer &+= 1
    }
    if count > 0 { set(Offset.inputProducer, producer) }
    return count
  }

  /// The input that the domain has not taken.
  func input(limit: Int) -> [UInt8] {
    let consumer = word(Offset.inputConsumer)
    let count = min(word(Offset.inputProducer) &- consumer, Size.input, UInt32(clamping: limit))
    return (0..<count).map { (page + Offset.input + Int((consumer &+ $0) % Size.input)).load(as: UInt8.self) }
  }

  /// The domain has got so many bytes of it in another way.
  func dropInput(_ count: Int) {
    guard count > 0 else { return }
    set(Offset.inputConsumer, word(Offset.inputConsumer) &+ UInt32(truncatingIfNeeded: count))
  }

  private func place(_ offset: Int) -> UnsafeMutablePointer<UInt32> {
    (page + offset).assumingMemoryBound(to: UInt32.self)
  }

  private func word(_ offset: Int) -> UInt32 { shared_load(place(offset)) }
  private func set(_ offset: Int, _ value: UInt32) { shared_store(place(offset), value) }
}
