// A console beside the first, as Xen's front ends know it (Xen's public header io/console.h): a node in the store on either side, by
// which both agree on a ring and a port. Linux calls it hvc1.
//
//     front: device/console/1              back: /local/domain/0/backend/console/DOMAIN/1
//     1 initialising                       2 waits
//     3 ring-ref, port                ──▶  4 connected
//     5 closing, 6 closed             ──▶  the same, and nothing is held any more

import TrivisorBoot
import TrivisorVMM

/// The hypervisor's end of a domain's second console. Used with the domain's lock held.
struct ConsoleBackEnd {
  /// What both sides have agreed on.
  struct Ring: Equatable {
    let reference: UInt32
    let frame: UInt64
    let port: UInt32
  }

  private(set) var owner: SecondConsole
  var state = BlockBackEnd.State.waiting
  var ring: Ring?
  var console: XenConsole?

  init(_ owner: SecondConsole) { self.owner = owner }

  static let number = 1
  func frontPath(_ home: String) -> String { "\(home)/device/console/\(Self.number)" }
  func backPath(_ domain: Int) -> String { "/local/domain/0/backend/console/\(domain)/\(Self.number)" }

  /// What the store says of it from the beginning.
  func publish(in store: inout XenStore, domain: Int) {
    let (front, back) = (frontPath(store.home), backPath(domain))
    for (name, value) in [
      ("backend", back), ("backend-id", "0"), ("state", "\(BlockBackEnd.State.initialising.rawValue)"),
      ("protocol", "vt100"), ("type", "xenconsoled"), ("output", "pty"), ("limit", "1048576"),
    ] {
      store.set("\(front)/\(name)", value)
    }
    for (name, value) in [
      ("frontend", front), ("frontend-id", "\(domain)"), ("online", "1"), ("protocol", "vt100"),
      ("state", "\(state.rawValue)"),
    ] {
      store.set("\(back)/\(name)", value)
    }
  }
}

/// What is at the other end of a domain's second console.
public struct SecondConsole {
  let sink: any SerialSink
  let whenConnected: (XenConsole) -> Void

  /// - Parameters:
  ///   - sink: gets what the domain writes.
  ///   - whenConnected: told whom to give what the domain is to read, each time that the domain has connected.
  public init(sink: any SerialSink, whenConnected: @escaping (XenConsole) -> Void) {
    self.sink = sink
    self.whenConnected = whenConnected
  }
}
