import CXen

/// One request of xenstore's protocol (io/xs_wire.h): writing the exit code.
enum XenStore {
  private static let requestProducer: UInt64 = 2052
  private static let responseConsumer: UInt64 = 2056
  private static let responseProducer: UInt64 = 2060

  static func write(exitCode: UInt8) {
    Platform.mapSharedPages()
    // Type XS_WRITE, request 0, transaction 0, length; then the path with its zero, then the value.
    let path: StaticString = "trivisor/exit-code"
    let digits: UInt32 = exitCode < 10 ? 1 : exitCode < 100 ? 2 : 3
    let length = UInt32(truncatingIfNeeded: path.utf8CodeUnitCount) + 1 + digits
    put(word: 11)
    put(word: 0)
    put(word: 0)
    put(word: length)
    for i in 0...path.utf8CodeUnitCount { put(i < path.utf8CodeUnitCount ? path.utf8Start[i] : 0) }
    if digits > 2 { put(UInt8(ascii: "0") &+ exitCode / 100) }
    if digits > 1 { put(UInt8(ascii: "0") &+ exitCode / 10 % 10) }
    put(UInt8(ascii: "0") &+ exitCode % 10)
    Platform.send(xen_start(UInt64(XEN_START_STORE_PORT)))
    // The answer is awaited: a domain that shuts down before takes its request with it.
    let page = xen_store_page_address()
    while xen_load32(page + responseProducer) == xen_load32(page + responseConsumer) { Platform.yield() }
  }

  private static func put(word: UInt32) {
    for shift in 0..<4 as Range<UInt32> { put(UInt8(truncatingIfNeeded: word >> (8 &* shift))) }
  }

  private static func put(_ byte: UInt8) {
    let page = xen_store_page_address()
    let producer = xen_load32(page + requestProducer)
    xen_store8(page &+ UInt64(producer & 1023), byte)
    xen_store32(page + requestProducer, producer &+ 1)
  }
}
