import VMM

/// The domain's end of a console (Xen's public header io/console.h): 1 KiB of input, 2 KiB of output, four positions.
///
/// The other end is COM1, as on a real Xen whose own console is a serial line: what the domain says goes to the port, and
/// what comes in there is the domain's input.
struct ConsoleRing {
  private static let port: UInt16 = 0x3f8
  private static let inputSize: UInt32 = 1024
  private static let outputSize: UInt32 = 2048
  private static let outputStart = 1024
  private static let inputConsumer = 3072, inputProducer = 3076, outputConsumer = 3080, outputProducer = 3084

  let page: UnsafeMutableRawPointer
  let bus: Bus

  /// Lets the port tell when input arrives: received data, with OUT2 connecting the interrupt.
  func listen() {
    _ = bus.writePort(Self.port + 4, 0xb, width: .byte)
    _ = bus.writePort(Self.port + 1, 1, width: .byte)
  }

  /// Takes what the domain has written.
  func drain() {
    let producer = word(Self.outputProducer)
    var consumer = word(Self.outputConsumer)
    // A domain that claims more than fits has lost the rest.
    var left = min(producer &- consumer, Self.outputSize)
    while left > 0 {
      let byte = (page + Self.outputStart + Int(consumer % Self.outputSize)).load(as: UInt8.self)
      _ = bus.writePort(Self.port, UInt32(byte), width: .byte)
      consumer &+= 1
      left -= 1
    }
    set(Self.outputConsumer, producer)
  }

  /// Hands over what has come in at the port.
  /// - Returns: whether there was anything.
  func fill() -> Bool {
    var producer = word(Self.inputProducer)
    let before = producer
    while producer &- word(Self.inputConsumer) < Self.inputSize,
      bus.readPort(Self.port + 5, width: .byte) & 1 != 0
    {
      let byte = UInt8(truncatingIfNeeded: bus.readPort(Self.port, width: .byte))
      (page + Int(producer % Self.inputSize)).storeBytes(of: byte, as: UInt8.self)
      producer &+= 1
    }
    set(Self.inputProducer, producer)
    return producer != before
  }

  private func word(_ offset: Int) -> UInt32 { (page + offset).load(as: UInt32.self) }
  private func set(_ offset: Int, _ value: UInt32) { (page + offset).storeBytes(of: value, as: UInt32.self) }
}
