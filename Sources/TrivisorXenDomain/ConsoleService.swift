import TrivisorBoot
import TrivisorVMM

/// Our end of a domain's second console at work. Used with the domain's lock held.
struct ConsoleService {
  let domain: Domain

  /// The domain has changed its store: the front end may have gone on.
  func attend() {
    guard let back = domain.secondConsole, let text = domain.store.text("\(back.frontPath(domain.store.home))/state"),
      let number = Int(text), let state = BlockBackEnd.State(rawValue: number)
    else { return }
    switch (state, back.state) {
    case (.initialised, .waiting), (.connected, .waiting): connect(back)
    case (.closing, .connected), (.closing, .waiting): set(.closing)
    case (.closed, .connected), (.closed, .closing), (.closed, .waiting): close(.closed)
    // It begins anew.
    case (.initialising, .closed), (.initialising, .closing), (.initialising, .connected): close(.waiting)
    default: break
    }
  }

  private func set(_ state: BlockBackEnd.State) {
    domain.secondConsole?.state = state
    guard let back = domain.secondConsole else { return }
    domain.store.set("\(back.backPath(Int(Domain.ownNumber)))/state", "\(state.rawValue)")
  }

  private func close(_ state: BlockBackEnd.State) {
    if let ring = domain.secondConsole?.ring, domain.events.channels[ring.port].binding == .secondConsole {
      domain.events.channels.bind(
        ring.port, .unbound(remote: 0), processor: domain.events.channels[ring.port].processor)
    }
    disconnect()
    set(state)
  }

  /// Holds neither ring nor port any more.
  func disconnect() {
    guard let ring = domain.secondConsole?.ring else { return }
    domain.secondConsole?.console?.drain()
    domain.grants.endUse(ring.reference, readOnly: false, times: 1)
    domain.memory.tables.put(ring.frame)
    domain.secondConsole?.ring = nil
    domain.secondConsole?.console = nil
  }

  /// Takes the ring and the port that the front end names, if it may have both.
  private func connect(_ back: ConsoleBackEnd) {
    let front = back.frontPath(domain.store.home)
    guard let reference = domain.store.text("\(front)/ring-ref").flatMap({ UInt32($0) }),
      let port = domain.store.text("\(front)/port").flatMap({ UInt32($0) }),
      domain.events.channels[port].binding == .unbound(remote: 0),
      let frame = try? domain.grants.use(reference, readOnly: false, times: 1, by: 0)
    else { return }
    guard (try? domain.memory.tables.getWritable(frame)) != nil, let page = domain.memory.frames.bytes(frame) else {
      return domain.grants.endUse(reference, readOnly: false, times: 1)
    }
    let console = XenConsole(ConsoleRing(page: page), sink: back.owner.sink)
    console.usesRing = true
    if let first = domain.processors.first { console.connect(first.doorbell) }
    domain.secondConsole?.ring = .init(reference: reference, frame: frame, port: port)
    domain.secondConsole?.console = console
    domain.events.channels.bind(port, .secondConsole, processor: domain.events.channels[port].processor)
    set(.connected)
    back.owner.whenConnected(console)
    serve(port, console)
  }

  /// Takes what the domain has written, and tells it of what has come.
  private func serve(_ port: UInt32, _ console: XenConsole) {
    let hasMoved = console.drain()
    console.offerRoom()
    if console.takeInput() || hasMoved { domain.events.raise(port) }
  }

  /// The same when the domain has notified us.
  func serve() {
    guard let port = domain.secondConsole?.ring?.port, let console = domain.secondConsole?.console else { return }
    serve(port, console)
  }

  /// What came from outside.
  func lookAround() {
    guard let port = domain.secondConsole?.ring?.port, let console = domain.secondConsole?.console else { return }
    console.offerRoom()
    if console.takeInput() { domain.events.raise(port) }
  }
}
