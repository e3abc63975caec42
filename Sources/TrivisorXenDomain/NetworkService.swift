import TrivisorBoot
import TrivisorVMM

/// Our ends of a domain's network interfaces at work: agreeing with front ends on rings and a port. Used with the domain's lock held.
struct NetworkService {
  let domain: Domain

  /// The domain has changed its store: front ends may have gone on.
  func attend() {
    for index in domain.networks.indices { attend(index) }
  }

  private func attend(_ index: Int) {
    let front = domain.networks[index].frontPath(domain.store.home)
    guard let text = domain.store.text("\(front)/state"), let number = Int(text),
      let state = BlockBackEnd.State(rawValue: number)
    else { return }
    switch (state, domain.networks[index].state) {
    case (.initialised, .waiting), (.connected, .waiting): connect(index, front)
    case (.closing, .connected), (.closing, .waiting): set(index, .closing)
    case (.closed, .connected), (.closed, .closing), (.closed, .waiting): close(index)
    // It begins anew.
    case (.initialising, .closed), (.initialising, .closing), (.initialising, .connected):
      close(index)
      set(index, .waiting)
    default: break
    }
  }

  private func set(_ index: Int, _ state: BlockBackEnd.State) {
    domain.networks[index].state = state
    domain.store.set("\(domain.networks[index].backPath(Int(Domain.ownNumber)))/state", "\(state.rawValue)")
  }

  private func close(_ index: Int) {
    if let port = domain.networks[index].connection?.port, case .network(index) = domain.events.channels[port].binding {
      domain.events.channels.bind(port, .unbound(remote: 0), processor: domain.events.channels[port].processor)
    }
    disconnect(index)
    set(index, .closed)
  }

  /// Holds neither rings nor port any more.
  func disconnect(_ index: Int) {
    guard domain.networks.indices.contains(index), let connection = domain.networks[index].connection else { return }
    for ring in [connection.transmit, connection.receive] {
      domain.grants.endUse(ring.reference, readOnly: false, times: 1)
      domain.memory.tables.put(ring.frame)
    }
    domain.networks[index].connection = nil
    domain.networks[index].link.setWantsFrames(false)
  }

  /// Takes the rings and the port that the front end names, if it may have all.
  private func connect(_ index: Int, _ front: String) {
    func number(_ name: String) -> UInt32? { domain.store.text("\(front)/\(name)").flatMap { UInt32($0) } }
    // Pages that change their owner are no more among what Xen does.
    guard number("request-rx-copy") == 1, let port = number("event-channel"),
      domain.events.channels[port].binding == .unbound(remote: 0), let transmit = number("tx-ring-ref"),
      let receive = number("rx-ring-ref"), let sending = take(ring: transmit)
    else { return }
    guard let receiving = take(ring: receive) else {
      domain.grants.endUse(transmit, readOnly: false, times: 1)
      return domain.memory.tables.put(sending.frame)
    }
    domain.networks[index].connection = .init(
      transmit: sending, receive: receiving, port: port, takesPieces: number("feature-sg") == 1,
      takesBlankChecksums: number("feature-no-csum-offload") != 1)
    domain.networks[index].link.setGuestOffloads(number("feature-no-csum-offload") == 1 ? [] : .checksums)
    domain.events.channels.bind(port, .network(index), processor: domain.events.channels[port].processor)
    set(index, .connected)
    serve(index)
  }

  private func take(ring reference: UInt32) -> NetworkBackEnd.Ring? {
    guard let frame = try? domain.grants.use(reference, readOnly: false, times: 1, by: 0) else { return nil }
    guard (try? domain.memory.tables.getWritable(frame)) != nil else {
      domain.grants.endUse(reference, readOnly: false, times: 1)
      return nil
    }
    return .init(reference: reference, frame: frame)
  }
}
