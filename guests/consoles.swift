// A domain's two ways to be heard, and what is true of each: console_io, the hypervisor's own console, and the ring in the page that
// the domain shares with its console's keeper. By the first it speaks unless told `ring`: a first domain of real Xen has no ring, and
// other domains of a Xen that is built for use have no console_io; so each half speaks by the way that it is about, and the same
// image says the same here as there.

import CPlatform
import CXen

@main
enum Consoles {
  static func main() {
    if Arguments.contains("ring") {
      RingHalf.run()
    } else if Arguments.isEmpty {
      CallHalf.run()
    } else {
      Platform.exit(2)
    }
  }
}

/// console_io. Its lines are put together in a page of its own, and are one call each.
enum CallHalf {
  nonisolated(unsafe) private static var page: UInt64 = 0
  nonisolated(unsafe) private static var length: UInt64 = 0

  private enum Command {
    static let write: UInt64 = 0
    static let read: UInt64 = 1
  }

  private static func put(_ byte: UInt8) {
    xen_store8(page &+ length, byte)
    length &+= 1
  }

  private static func put(_ text: StaticString) {
    for index in 0..<text.utf8CodeUnitCount { put(text.utf8Start[index]) }
  }

  private static func put(decimal value: UInt64) {
    if value >= 10 { put(decimal: value / 10) }
    put(UInt8(ascii: "0") &+ UInt8(truncatingIfNeeded: value % 10))
  }

  private static func call(_ command: UInt64, _ count: UInt64, _ buffer: UInt64) -> UInt64 {
    xen_hypercall(xenConsoleIO, command, count, buffer, 0)
  }

  private static func endLine() {
    put("\r\n")
    _ = call(Command.write, length, page)
    length = 0
  }

  private static func say(_ text: StaticString) {
    put(text)
    endLine()
  }

  /// An error as a negative number.
  private static func say(_ what: StaticString, _ result: UInt64) {
    put(what)
    put(": ")
    if Int64(bitPattern: result) < 0 { put("-") }
    put(decimal: Int64(bitPattern: result) < 0 ? 0 &- result : result)
    endLine()
  }

  /// - Parameter end: a line's.
  private static func fill(_ start: UInt64, _ count: UInt64, end: Bool) {
    for index in 0..<count as Range<UInt64> {
      xen_store8(start &+ index, UInt8(ascii: "a") &+ UInt8(truncatingIfNeeded: index % 26))
    }
    if end {
      xen_store8(start &+ count &- 2, UInt8(ascii: "\r"))
      xen_store8(start &+ count &- 1, UInt8(ascii: "\n"))
    }
  }

  static func run() {
    guard let own = Platform.allocateFrame(), let first = Platform.allocateFrame(),
      let second = Platform.allocateFrame(), second.address == first.address &+ 4096
    else { Platform.exit(1) }
    page = own.address
    say("By console_io:")
    say("nothing", call(Command.write, 0, page))
    say("nothing from nowhere", call(Command.write, 0, 0x10))
    fill(first.address, 40, end: true)
    say("forty bytes", call(Command.write, 40, first.address))
    say("as many, and more bits in the count and the command", call(1 << 32, 40 | 1 << 32, first.address))
    let middle = second.address &- 150
    fill(middle, 300, end: true)
    say("three hundred bytes on two pages", call(Command.write, 300, middle))
    // What a terminal would act on goes through as it is.
    for byte in [9, 27, 91, 109, 8, 127, 13, 10] as InlineNumbers { put(UInt8(truncatingIfNeeded: byte)) }
    let count = length
    length = 0
    say("bytes that are no letters", call(Command.write, count, page))
    fill(middle, 150, end: false)
    _ = xen_hypercall(xenUpdateVirtualAddressMapping, second.address, 0, 2, 0)
    let half = call(Command.write, 300, middle)
    endLine()
    say("three hundred bytes, of which half are there", half)
    say("bytes from nowhere", call(Command.write, 3, 0x10))
    say("command 2", call(2, 3, page))
    say("command -1", call(0xffff_ffff, 3, page))
    say("read nothing", call(Command.read, 0, page))
    say("read nothing to nowhere", call(Command.read, 0, 0x10))
    say("read what nobody has typed", call(Command.read, 100, page))
    say("read what nobody has typed to nowhere", call(Command.read, 100, 0x10))
    say("read two gigabytes less one", call(Command.read, 0x7fff_ffff, page))
    say("read two gigabytes", call(Command.read, 0x8000_0000, page))
    say("Through.")
    Platform.exit(0)
  }
}

/// The ring. What is found is told by it, too.
enum RingHalf {
  private enum Offset {
    static let output: UInt64 = 1024
    static let inputConsumer: UInt64 = 3072
    static let inputProducer: UInt64 = 3076
    static let outputConsumer: UInt64 = 3080
    static let outputProducer: UInt64 = 3084
  }

  private static let size: UInt32 = 2048

  private static var page: UInt64 { xen_console_page_address() }
  private static var port: UInt64 { xen_start(UInt64(XEN_START_CONSOLE_PORT)) & 0xffff_ffff }

  private static func position(_ offset: UInt64) -> UInt32 { xen_load32(page &+ offset) }

  private static var isPending: Bool {
    let word = xen_shared_page_address() &+ UInt64(XEN_SHARED_PENDING) &+ port / 64 * 8
    return xen_load64(word) >> (port % 64) & 1 != 0
  }

  private static func forget() {
    let word = xen_shared_page_address() &+ UInt64(XEN_SHARED_PENDING) &+ port / 64 * 8
    xen_store64(word, xen_load64(word) & ~(1 << (port % 64)))
  }

  /// Until the other end has taken all, or for half a second.
  private static func wait() -> Bool {
    let end = Platform.systemTime() &+ 500_000_000
    while position(Offset.outputConsumer) != position(Offset.outputProducer) {
      guard Platform.systemTime() < end else { return false }
      Platform.yield()
    }
    return true
  }

  /// Until everything that was said is taken and answered.
  private static func settle() {
    _ = wait()
    let end = Platform.systemTime() &+ 50_000_000
    while Platform.systemTime() < end { Platform.yield() }
    forget()
  }

  private static func waitForEvent() -> Bool {
    let end = Platform.systemTime() &+ 500_000_000
    while !isPending {
      guard Platform.systemTime() < end else { return false }
      Platform.yield()
    }
    return true
  }

  private static func judge(_ what: StaticString, _ isSo: Bool) {
    Console.print("\(what): \(isSo ? "yes" : "no" as StaticString)")
  }

  static func run() {
    Platform.mapSharedPages()
    Platform.maskAllEvents()
    let beginnings = position(Offset.inputConsumer) | position(Offset.inputProducer)
    let others = position(Offset.outputConsumer) | position(Offset.outputProducer)
    Console.print("By the ring:")
    judge("all positions were 0", beginnings | others == 0)
    judge("what is written is taken", wait())
    settle()
    Console.print("one line more")
    judge("its taker answers by an event", waitForEvent())
    settle()
    Platform.send(port)
    judge("where there is nothing, none is the answer", !waitForEvent())
    _ = wait()
    // As much as fits, at a place where the ring's end is in the middle.
    var producer = position(Offset.outputProducer)
    for index in 0..<size {
      let letter = UInt8(ascii: "a") &+ UInt8(truncatingIfNeeded: index % 26)
      let byte = index == size - 2 ? UInt8(ascii: "\r") : index == size - 1 ? UInt8(ascii: "\n") : letter
      xen_store8(page &+ Offset.output &+ UInt64((producer &+ index) % size), byte)
    }
    xen_store32(page &+ Offset.outputProducer, producer &+ size)
    Platform.send(port)
    let isTaken = wait()
    judge("as much as fits is taken", isTaken)
    _ = wait()
    producer = position(Offset.outputProducer)
    xen_store32(page &+ Offset.outputProducer, producer &+ size &+ 1)
    Platform.send(port)
    let isLeft = !wait()
    let isUnmoved = position(Offset.outputConsumer) == producer
    xen_store32(page &+ Offset.outputProducer, producer)
    judge("more than fits is left", isLeft && isUnmoved)
    _ = wait()
    // Both positions are the domain's to set when nothing is on its way; they are numbers without an end.
    xen_store32(page &+ Offset.outputConsumer, 0xffff_fff0)
    xen_store32(page &+ Offset.outputProducer, 0xffff_fff0)
    Console.print("positions go on behind their largest number")
    judge("they did", wait() && position(Offset.outputProducer) < size)
    judge("nobody has typed", position(Offset.inputProducer) == 0)
    Console.print("Through.")
    _ = wait()
    Platform.exit(0)
  }
}
