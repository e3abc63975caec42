// Speaking and ending by Xen's means. A domain's console is a ring in a page that it shares with whoever has the terminal;
// the first domain of a real Xen has no such ring and asks the hypervisor itself to print.

import CXen

private let longestText = 1024

/// The console page (io/console.h): 1 KiB of input, 2 KiB of output, and the four positions.
private enum ConsolePage {
  static let outputStart: UInt64 = 1024
  static let outputSize: UInt32 = 2048
  static let outputConsumer: UInt64 = 3080
  static let outputProducer: UInt64 = 3084
}

extension Platform {
  static func write(_ byte: UInt8) {
    if isInitialDomain {
      // Line by line: a hypercall for each byte would take its time.
      xen_store8(xen_console_page_address() &+ lineLength, byte)
      lineLength &+= 1
      if byte == UInt8(ascii: "\n") || lineLength == 1024 { flushLine() }
      return
    }
    mapSharedPages()
    let page = xen_console_page_address()
    let producer = xen_load32(page + ConsolePage.outputProducer)
    while producer &- xen_load32(page + ConsolePage.outputConsumer) >= ConsolePage.outputSize { yield() }
    let place = UInt64(producer & (ConsolePage.outputSize &- 1))
    xen_store8(page &+ ConsolePage.outputStart &+ place, byte)
    xen_store32(page + ConsolePage.outputProducer, producer &+ 1)
    // Whoever reads is told line by line, and when the ring is full.
    let pending = producer &+ 1 &- xen_load32(page + ConsolePage.outputConsumer)
    if byte == UInt8(ascii: "\n") || pending == ConsolePage.outputSize {
      send(xen_start(UInt64(XEN_START_CONSOLE_PORT)))
    }
  }

  nonisolated(unsafe) private static var lineLength: UInt64 = 0

  private static func flushLine() {
    _ = xen_hypercall(xenConsoleIO, 0, lineLength, xen_console_page_address(), 0)
    lineLength = 0
  }

  /// The code goes to a key of the domain's own in xenstore, because SCHEDOP_shutdown has only a reason.
  static func exit(_ code: UInt8) -> Never {
    if isInitialDomain { flushLine() } else { XenStore.write(exitCode: code) }
    shutDown(isInitialDomain ? xenShutdownReboot : xenShutdownPowerOff)
  }

  /// Nothing can wake a processor that blocks with every event masked.
  static func halt() -> Never {
    maskAllEvents()
    while true { _ = xen_hypercall(xenSchedulerOperation, xenSchedulerBlock, 0, 0, 0) }
  }

  /// Nothing but what is unmasked later comes through.
  static func maskAllEvents() {
    mapSharedInfo()
    for word in 0..<64 as Range<UInt64> {
      xen_store64(xen_shared_page_address() + UInt64(XEN_SHARED_MASK) + 8 * word, .max)
    }
  }

  static var commandLine: UnsafeBufferPointer<UInt8> {
    guard let start = UnsafePointer<UInt8>(bitPattern: UInt(xen_command_line())) else {
      return UnsafeBufferPointer(start: nil, count: 0)
    }
    var count = 0
    while count < longestText, start[count] != 0 { count &+= 1 }
    return UnsafeBufferPointer(start: start, count: count)
  }

  static func shutDown(_ reason: UInt64) -> Never {
    var reason = UInt32(truncatingIfNeeded: reason)
    while true {
      _ = withUnsafeMutablePointer(to: &reason) {
        xen_hypercall(xenSchedulerOperation, xenSchedulerShutdown, UInt64(UInt(bitPattern: $0)), 0, 0)
      }
    }
  }

  static func yield() { _ = xen_hypercall(xenSchedulerOperation, xenSchedulerYield, 0, 0, 0) }

  static func send(_ port: UInt64) {
    var port = UInt32(truncatingIfNeeded: port)
    _ = withUnsafeMutablePointer(to: &port) {
      xen_hypercall(xenEventChannelOperation, xenEventChannelSend, UInt64(UInt(bitPattern: $0)), 0, 0)
    }
  }

  private static var isInitialDomain: Bool { xen_start(UInt64(XEN_START_FLAGS)) & xenFlagInitialDomain != 0 }

  /// The hypervisor tells the pages' machine frames; where they are seen is the domain's choice: in place of three
  /// pages of its image.
  static func mapSharedPages() {
    guard !sharedPagesAreMapped else { return }
    sharedPagesAreMapped = true
    mapSharedInfo()
    map(xen_store_page_address(), machineAddress: xen_start(UInt64(XEN_START_STORE_FRAME)) << 12)
    map(xen_console_page_address(), machineAddress: xen_start(UInt64(XEN_START_CONSOLE_FRAME)) << 12)
  }

  nonisolated(unsafe) private static var sharedPagesAreMapped = false

  /// shared_info alone: what the first domain has, too.
  static func mapSharedInfo() {
    guard !sharedInfoIsMapped else { return }
    sharedInfoIsMapped = true
    map(xen_shared_page_address(), machineAddress: xen_start(UInt64(XEN_START_SHARED_INFO)))
  }

  nonisolated(unsafe) private static var sharedInfoIsMapped = false

  /// Present, writable, user, accessed, dirty; the old translation is dropped (UVMF_INVLPG | UVMF_LOCAL).
  private static func map(_ address: UInt64, machineAddress: UInt64) {
    _ = xen_hypercall(xenUpdateVirtualAddressMapping, address, machineAddress | 0x67, 2, 0)
  }
}

/// Where `main` returns to.
@c(xen_exit)
func exitAfterMain(_ code: UInt32) -> Never {
  Platform.exit(UInt8(truncatingIfNeeded: code))
}
