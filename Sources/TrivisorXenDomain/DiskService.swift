import TrivisorBoot
import TrivisorVMM

/// Our ends of a domain's disks at work: agreeing with front ends on a ring and a port, and carrying out requests. Used with the
/// domain's lock held.
struct DiskService {
  let domain: Domain

  /// The domain has changed its store: front ends may have gone on.
  func attend() {
    for index in domain.disks.indices { attend(index) }
  }

  private func attend(_ index: Int) {
    let front = domain.disks[index].frontPath(domain.store.home)
    guard let text = domain.store.text("\(front)/state"), let number = Int(text),
      let state = BlockBackEnd.State(rawValue: number)
    else { return }
    switch (state, domain.disks[index].state) {
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
    domain.disks[index].state = state
    domain.store.set("\(domain.disks[index].backPath(Int(Domain.ownNumber)))/state", "\(state.rawValue)")
  }

  private func close(_ index: Int) {
    if let ring = domain.disks[index].ring, case .disk(index) = domain.events.channels[ring.port].binding {
      domain.events.channels.bind(
        ring.port, .unbound(remote: 0), processor: domain.events.channels[ring.port].processor)
    }
    disconnect(index)
    set(index, .closed)
  }

  /// Holds neither ring nor port any more.
  func disconnect(_ index: Int) {
    guard domain.disks.indices.contains(index), let ring = domain.disks[index].ring else { return }
    domain.grants.endUse(ring.reference, readOnly: false, times: 1)
    domain.memory.tables.put(ring.frame)
    domain.disks[index].ring = nil
  }

  /// Takes the ring and the port that the front end names, if it may have both.
  private func connect(_ index: Int, _ front: String) {
    guard let reference = domain.store.text("\(front)/ring-ref").flatMap({ UInt32($0) }),
      let port = domain.store.text("\(front)/event-channel").flatMap({ UInt32($0) }),
      domain.events.channels[port].binding == .unbound(remote: 0),
      let frame = try? domain.grants.use(reference, readOnly: false, times: 1, by: 0)
    else { return }
    guard (try? domain.memory.tables.getWritable(frame)) != nil else {
      return domain.grants.endUse(reference, readOnly: false, times: 1)
    }
    let isWide = domain.store.text("\(front)/protocol").map { $0 == "x86_64-abi" } ?? (domain.layout == .bits64)
    domain.disks[index].ring = .init(reference: reference, frame: frame, port: port, isWide: isWide, consumer: 0)
    domain.events.channels.bind(port, .disk(index), processor: domain.events.channels[port].processor)
    set(index, .connected)
    serve(index)
  }

  /// Requests that are carried out before others have their turn.
  private static let requestsAtOnce = 64

  /// Carries out what is in a disk's ring.
  func serve(_ index: Int) {
    guard domain.disks.indices.contains(index), let connection = domain.disks[index].ring,
      let page = domain.memory.frames.bytes(connection.frame)
    else { return }
    let ring = BlockRing(page: page, isWide: connection.isWide)
    var consumer = connection.consumer
    var left = Self.requestsAtOnce
    repeat {
      let start = consumer
      // A front end that claims more than fits has lost the rest.
      let count = min(ring.producer &- consumer, BlockRing.count)
      for _ in 0..<count {
        let request = ring.request(consumer)
        ring.answer(consumer, to: request, perform(request, domain.disks[index].storage))
        consumer &+= 1
        left -= 1
      }
      domain.disks[index].ring?.consumer = consumer
      if count > 0, ring.publish(from: start, to: consumer) { domain.events.raise(connection.port) }
      ring.listen(consumer)
    } while left > 0 && ring.producer != consumer
    if ring.producer != consumer { domain.processors[0].doorbell.ring() }
  }

  /// What was left, and what a front end asks for that tells nobody.
  func lookAround() {
    for index in domain.disks.indices {
      guard let connection = domain.disks[index].ring, let page = domain.memory.frames.bytes(connection.frame),
        BlockRing(page: page, isWide: connection.isWide).producer != connection.consumer
      else { continue }
      serve(index)
    }
  }

  private func perform(_ request: BlockRing.Request, _ storage: any BlockStorage) -> BlockRing.Status {
    switch request.operation {
    case BlockRing.Operation.read: return transfer(request, storage, writes: false)
    case BlockRing.Operation.write: return transfer(request, storage, writes: true)
    case BlockRing.Operation.writeBarrier:
      guard storage.synchronize(), request.segmentCount == 0 || transfer(request, storage, writes: true) == .okay else {
        return .error
      }
      return storage.synchronize() ? .okay : .error
    case BlockRing.Operation.flush:
      guard request.segmentCount == 0 || transfer(request, storage, writes: true) == .okay else { return .error }
      return storage.synchronize() ? .okay : .error
    case BlockRing.Operation.discard:
      guard !storage.isReadOnly else { return .notSupported }
      return storage.forget(request.sector, count: request.sectorCount) ? .okay : .error
    default: return .notSupported
    }
  }

  private func transfer(_ request: BlockRing.Request, _ storage: any BlockStorage, writes: Bool) -> BlockRing.Status {
    guard request.segmentCount > 0, request.segmentCount <= BlockRing.segmentLimit else { return .error }
    var sector = request.sector
    for segment in request.segments {
      // Of the eight sectors of a page.
      guard segment.first <= segment.last, segment.last < 8,
        let frame = try? domain.grants.grantedToUs(segment.reference, readOnly: writes),
        writes || domain.memory.tables.isWritable(frame),
        let page = domain.memory.frames.bytes(frame)
      else { return .error }
      let count = Int(segment.last - segment.first) + 1
      let bytes = UnsafeMutableRawBufferPointer(
        start: page + Int(segment.first) * BlockBackEnd.sectorSize, count: count * BlockBackEnd.sectorSize)
      guard writes ? storage.write(sector, from: UnsafeRawBufferPointer(bytes)) : storage.read(sector, into: bytes)
      else { return .error }
      if !writes, let start = bytes.baseAddress { domain.memory.frames.didStore(at: start, count: bytes.count) }
      let next = sector.addingReportingOverflow(UInt64(count))
      guard !next.overflow else { return .error }
      sector = next.partialValue
    }
    return .okay
  }
}
