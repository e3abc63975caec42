import Glibc
import TrivisorCLinux
import TrivisorVMM

/// Frames between a domain's rings and a link.
extension NetworkService {
  /// Pieces that are handled before others have their turn.
  private static let piecesAtOnce: UInt32 = 512

  /// Moves frames in both directions, as many as there are and fit.
  func serve(_ index: Int) {
    guard domain.networks.indices.contains(index), let connection = domain.networks[index].connection else { return }
    domain.networks[index].link.settle()
    let isBehind = transmit(index, connection)
    receive(index)
    if isBehind { domain.processors[0].doorbell.ring() }
    domain.networks[index].waiter.goOn()
  }

  /// What came from outside.
  func lookAround() {
    for index in domain.networks.indices where domain.networks[index].waiter.hasEvent { serve(index) }
  }

  // MARK: From the domain

  /// - Returns: whether there is more than one turn's.
  private func transmit(_ index: Int, _ connection: NetworkBackEnd.Connection) -> Bool {
    guard let page = domain.memory.frames.bytes(connection.transmit.frame) else { return false }
    let ring = NetworkRing(page: page, stride: 12)
    let first = connection.transmit.consumer
    var consumer = first
    var isFull = false
    repeat {
      // A front end that claims more than fits has lost the rest.
      let end = consumer &+ min(ring.producer &- consumer, NetworkRing.count)
      while consumer != end, consumer &- first < Self.piecesAtOnce {
        guard let next = transmitFrame(index, ring, from: consumer, to: end) else {
          isFull = true
          break
        }
        // The rest of a frame has not come yet.
        guard next != consumer else { break }
        consumer = next
      }
      ring.listen(ring.producer)
    } while !isFull && ring.producer != consumer && consumer &- first < Self.piecesAtOnce && hasWhole(ring, consumer)
    domain.networks[index].connection?.transmit.consumer = consumer
    if consumer != first, ring.publish(from: first, to: consumer) { domain.events.raise(connection.port) }
    return consumer &- first >= Self.piecesAtOnce
  }

  /// Whether all pieces of a frame are there, so far as they say so themselves.
  private func hasWhole(_ ring: NetworkRing, _ start: UInt32) -> Bool {
    var number = start
    let end = start &+ min(ring.producer &- start, NetworkRing.count)
    while number != end {
      if ring.piece(number).flags & NetworkRing.Flag.more == 0 { return true }
      number &+= 1
    }
    return false
  }

  /// - Returns: what follows the frame; `from` itself where not all of it is there; `nil` where the link has no room.
  private func transmitFrame(_ index: Int, _ ring: NetworkRing, from: UInt32, to end: UInt32) -> UInt32? {
    let first = ring.piece(from)
    var pieces = [(number: from, piece: first)]
    var extras: [UInt32] = []
    var number = from &+ 1
    if first.flags & NetworkRing.Flag.extra != 0 {
      repeat {
        guard number != end else { return from }
        extras.append(number)
        number &+= 1
      } while ring.extraGoesOn(number &- 1)
    }
    while let last = pieces.last, last.piece.flags & NetworkRing.Flag.more != 0 {
      guard number != end else { return from }
      pieces.append((number, ring.piece(number)))
      number &+= 1
    }
    // No information beside a frame is known here: none was offered.
    var status = NetworkRing.Status.error
    if extras.isEmpty, let count = collect(pieces.map(\.piece), domain.networks[index].room.bytes) {
      var header = NetworkFrameHeader()
      let frame = UnsafeMutableRawBufferPointer(rebasing: domain.networks[index].room.bytes[..<count])
      if first.flags & NetworkRing.Flag.sentChecksumBlank != 0,
        let place = TransportChecksum(UnsafeRawBufferPointer(frame))
      {
        header.flags = NetworkFrameHeader.Flag.needsChecksum
        (header.checksumStart, header.checksumOffset) = (place.start, place.offset)
      }
      guard hand(frame, header, domain.networks[index].link) else { return nil }
      status = NetworkRing.Status.okay
    }
    for extra in extras { ring.answerSent(extra, 0, NetworkRing.Status.empty) }
    for (number, piece) in pieces { ring.answerSent(number, piece.identifier, status) }
    return number
  }

  private func hand(
    _ frame: UnsafeMutableRawBufferPointer, _ header: NetworkFrameHeader, _ link: any NetworkLink
  ) -> Bool {
    withUnsafeTemporaryAllocation(of: iovec.self, capacity: 1) { piece in
      guard let pointer = piece.baseAddress else { return true }
      pointer.initialize(to: iovec(iov_base: frame.baseAddress, iov_len: frame.count))
      var list = BufferList(pointer: pointer, count: 1, byteCount: frame.count)
      return link.send(&list, header)
    }
  }

  /// Copies a frame's pieces out of the domain.
  /// - Returns: how many bytes; `nil` where they are not what they should be.
  private func collect(_ pieces: [NetworkRing.Piece], _ room: UnsafeMutableRawBufferPointer) -> Int? {
    guard pieces.count <= NetworkBackEnd.pieceMaximum, let whole = pieces.first.map({ Int($0.size) }) else {
      return nil
    }
    let others = pieces.dropFirst().reduce(0) { $0 + Int($1.size) }
    // The first piece has what the others have not.
    guard whole >= 14, others < whole else { return nil }
    var done = 0
    for (position, piece) in pieces.enumerated() {
      let count = position == 0 ? whole - others : Int(piece.size)
      guard Int(piece.offset) + count <= 4096, done + count <= room.count,
        let frame = try? domain.grants.grantedToUs(piece.reference, readOnly: true),
        let page = domain.memory.frames.bytes(frame)
      else { return nil }
      UnsafeMutableRawBufferPointer(rebasing: room[done...]).copyMemory(
        from: UnsafeRawBufferPointer(start: page + Int(piece.offset), count: count))
      done += count
    }
    return done
  }

  // MARK: To the domain

  private func receive(_ index: Int) {
    guard let connection = domain.networks[index].connection,
      let page = domain.memory.frames.bytes(connection.receive.frame)
    else { return }
    let ring = NetworkRing(page: page, stride: 8)
    let link = domain.networks[index].link
    let first = connection.receive.consumer
    var consumer = first
    var lacksPages = false
    link.receive { frame, header in
      let needed = UInt32((frame.count + 4095) / 4096)
      // More than it can take at all is lost.
      guard needed == 1 || connection.takesPieces, needed <= UInt32(NetworkBackEnd.pieceMaximum) else { return true }
      if min(ring.producer &- consumer, NetworkRing.count) < needed {
        ring.listen(consumer &+ needed &- 1)
        guard min(ring.producer &- consumer, NetworkRing.count) >= needed else {
          lacksPages = true
          return false
        }
      }
      deliver(frame, header, connection, ring, &consumer, isValid: link.deliversValidChecksums)
      return true
    }
    domain.networks[index].connection?.receive.consumer = consumer
    if consumer != first, ring.publish(from: first, to: consumer) { domain.events.raise(connection.port) }
    link.setWantsFrames(!lacksPages)
  }

  private func deliver(
    _ frame: UnsafeRawBufferPointer, _ header: NetworkFrameHeader, _ connection: NetworkBackEnd.Connection,
    _ ring: NetworkRing, _ consumer: inout UInt32, isValid: Bool
  ) {
    var position = 0
    var flags: UInt16 = 0
    if header.flags & NetworkFrameHeader.Flag.needsChecksum != 0 {
      flags = NetworkRing.Flag.receivedChecksumBlank | NetworkRing.Flag.receivedDataIsValid
    } else if isValid || header.flags & NetworkFrameHeader.Flag.dataIsValid != 0 {
      flags = NetworkRing.Flag.receivedDataIsValid
    }
    while position < frame.count {
      let count = min(4096, frame.count - position)
      let buffer = ring.buffer(consumer)
      var size = NetworkRing.Status.error
      if let target = try? domain.grants.grantedToUs(buffer.reference, readOnly: false),
        domain.memory.tables.isWritable(target),
        let page = domain.memory.frames.bytes(target)
      {
        UnsafeMutableRawBufferPointer(start: page, count: count).copyMemory(
          from: UnsafeRawBufferPointer(rebasing: frame[position..<(position + count)]))
        domain.memory.frames.didStore(at: page, count: count)
        size = Int16(count)
      }
      position += count
      let more = position < frame.count ? NetworkRing.Flag.more : 0
      ring.answerReceived(consumer, buffer.identifier, flags: flags | more, size: size)
      flags = 0
      consumer &+= 1
    }
  }
}
