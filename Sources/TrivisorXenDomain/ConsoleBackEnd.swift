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

extension Domain {
  /// The domain has changed its store: the front end may have gone on.
  func attendConsole() {
    guard let back = secondConsole, let text = store.text("\(back.frontPath(store.home))/state"),
      let number = Int(text), let state = BlockBackEnd.State(rawValue: number)
    else { return }
    switch (state, back.state) {
    case (.initialised, .waiting), (.connected, .waiting): connect(back)
    case (.closing, .connected), (.closing, .waiting): setConsole(.closing)
    case (.closed, .connected), (.closed, .closing), (.closed, .waiting): closeConsole(.closed)
    // It begins anew.
    case (.initialising, .closed), (.initialising, .closing), (.initialising, .connected): closeConsole(.waiting)
    default: break
    }
  }

  private func setConsole(_ state: BlockBackEnd.State) {
    secondConsole?.state = state
    guard let back = secondConsole else { return }
    store.set("\(back.backPath(Int(Self.ownNumber)))/state", "\(state.rawValue)")
  }

  private func closeConsole(_ state: BlockBackEnd.State) {
    if let ring = secondConsole?.ring, channels[ring.port].binding == .secondConsole {
      channels.bind(ring.port, .unbound(remote: 0), processor: channels[ring.port].processor)
    }
    disconnectConsole()
    setConsole(state)
  }

  /// Holds neither ring nor port any more.
  func disconnectConsole() {
    guard let ring = secondConsole?.ring else { return }
    secondConsole?.console?.drain()
    endUse(ring.reference, readOnly: false, times: 1)
    tables.put(ring.frame)
    secondConsole?.ring = nil
    secondConsole?.console = nil
  }

  /// Takes the ring and the port that the front end names, if it may have both.
  private func connect(_ back: ConsoleBackEnd) {
    let front = back.frontPath(store.home)
    guard let reference = store.text("\(front)/ring-ref").flatMap({ UInt32($0) }),
      let port = store.text("\(front)/port").flatMap({ UInt32($0) }), channels[port].binding == .unbound(remote: 0),
      let frame = try? use(reference, readOnly: false, times: 1, by: 0)
    else { return }
    guard (try? tables.getWritable(frame)) != nil, let page = frames.bytes(frame) else {
      return endUse(reference, readOnly: false, times: 1)
    }
    let console = XenConsole(ConsoleRing(page: page), sink: back.owner.sink)
    console.usesRing = true
    if let first = processors.first { console.connect(first.doorbell) }
    secondConsole?.ring = .init(reference: reference, frame: frame, port: port)
    secondConsole?.console = console
    channels.bind(port, .secondConsole, processor: channels[port].processor)
    setConsole(.connected)
    back.owner.whenConnected(console)
    serveConsole(port, console)
  }

  /// Takes what the domain has written, and tells it of what has come.
  private func serveConsole(_ port: UInt32, _ console: XenConsole) {
    let hasMoved = console.drain()
    console.offerRoom()
    if console.takeInput() || hasMoved { raise(port) }
  }

  /// The same when the domain has notified us.
  func serveSecondConsole() {
    guard let port = secondConsole?.ring?.port, let console = secondConsole?.console else { return }
    serveConsole(port, console)
  }

  /// What came from outside.
  func lookAtConsole() {
    guard let port = secondConsole?.ring?.port, let console = secondConsole?.console else { return }
    console.offerRoom()
    if console.takeInput() { raise(port) }
  }
}
