// HYPERVISOR_console_io: what a domain writes to the hypervisor's own console, which is seen here as what a domain of Xen's may
// write that has this console for its own (Xen: drivers/char/console.c), and what was typed.

import TrivisorVMM

struct ConsoleCalls: HypercallSubject {
  let call: Hypercall

  /// CONSOLEIO_… (Xen's public header xen.h).
  private enum Command {
    static let write: UInt64 = 0
    static let read: UInt64 = 1
  }

  /// How many bytes Xen copies at once: what lies before the piece that can't be read is seen.
  private static let pieceSize: UInt64 = 127
  /// After so many bytes the call goes on with the rest.
  private static let batchSize = pieceSize * 128

  func perform() throws(XenError) -> UInt64 {
    switch arguments[0] & 0xffff_ffff {
    case Command.write: return try write()
    case Command.read: return try read()
    default: throw .notImplemented
    }
  }

  private func write() throws(XenError) -> UInt64 {
    let (count, buffer) = (arguments[1] & 0xffff_ffff, arguments[2])
    let batch = min(count, Self.batchSize)
    var bytes: [UInt8] = []
    var position: UInt64 = 0
    defer { domain.console.writeDirectly(bytes) }
    while position < batch {
      let piece = min(batch - position, Self.pieceSize)
      bytes += try memory.read(buffer &+ position, count: Int(piece), root: root)
      position += piece
    }
    if batch < count {
      var rest = arguments
      (rest[1], rest[2]) = (count - batch, buffer &+ batch)
      call.goOn(with: rest)
    }
    return 0
  }

  /// What can't be delivered is there for the next call.
  private func read() throws(XenError) -> UInt64 {
    let (count, buffer) = (arguments[1] & 0xffff_ffff, arguments[2])
    guard count <= UInt64(Int32.max) else { throw .tooBig }
    let bytes = domain.console.typed(limit: Int(count))
    try memory.write(bytes, to: buffer, root: root)
    domain.console.dropTyped(bytes.count)
    return UInt64(bytes.count)
  }
}
