// The part of HYPERVISOR_memory_op that is about which frames a domain has (Xen's common/memory.c). There is nothing but its own
// memory, so it can have back what it gave away, and nothing else.

import TrivisorBoot
import TrivisorVMM

struct ReservationCalls: HypercallSubject {
  let call: Hypercall

  /// CONFIG_DOMU_MAX_ORDER: the largest extent that a domain without devices can name, as a power of two.
  private static let mostOrder: UInt32 = 9

  /// `struct xen_memory_reservation`: list, count, order, flags, domain.
  private struct Reservation {
    let list, count: UInt64
    let order: UInt32
    let owner: UInt16

    var size: UInt64 { 1 << UInt64(order) }
  }

  private func read(_ address: UInt64) throws(XenError) -> Reservation {
    let word = layout.wordSize
    return Reservation(
      list: try long(address), count: try long(address &+ word), order: try half(address &+ 2 &* word),
      owner: try short(address &+ 2 &* word &+ 8))
  }

  /// The bytes of one.
  private var reservationSize: UInt64 { layout == .bits64 ? 32 : 20 }

  /// From where on, and how far now: these calls answer with what was done, not with errors.
  private func positions() -> (Reservation, Range<UInt64>)? {
    let start = arguments[0] >> 6
    guard let reservation = try? read(arguments[1]), reservation.order <= Self.mostOrder,
      domain.isSelf(reservation.owner), start < reservation.count
    else { return nil }
    let most = max(1, Hypercall.batchLimit / reservation.size)
    return (reservation, start..<min(reservation.count, start &+ most))
  }

  private func place(_ list: UInt64, _ position: UInt64) -> UInt64 { list &+ layout.wordSize &* position }

  /// Whether the domain has a frame to give away, and nothing refers to it.
  private func canLose(_ frame: UInt64) -> Bool {
    frames.isOwned(frame) && !frames.isHypervisors(frame) && !tables.isReferenced(frame)
  }

  /// XENMEM_decrease_reservation: how many extents were given back. What is a page table or mapped writable stays.
  func release() -> UInt64 {
    guard let (reservation, positions) = positions() else { return arguments[0] >> 6 }
    for position in positions {
      guard let first = try? long(place(reservation.list, position)), first <= frames.all.upperBound else {
        return position
      }
      for frame in first..<(first + reservation.size) {
        guard canLose(frame) else { return position }
        tables.frames.cede(frame)
        // Mappings for reading are not counted, so all go.
        tables.stale.addEverything()
      }
    }
    return positions.upperBound
  }

  /// XENMEM_populate_physmap and XENMEM_increase_reservation: frames given back before.
  func reserve(populating: Bool) -> UInt64 {
    guard let (reservation, positions) = positions() else { return arguments[0] >> 6 }
    for position in positions {
      let place = place(reservation.list, position)
      guard let wanted = populating ? try? long(place) : 0,
        let first = tables.frames.reclaim(order: UInt64(reservation.order))
      else { return position }
      if populating {
        for offset in 0..<reservation.size { memory.machineTable.set(first + offset, wanted &+ offset) }
      }
      // No list: whoever increases its reservation so doesn't want to know.
      guard reservation.list != 0 || populating else { continue }
      guard (try? putLong(first, place)) != nil else { return position }
    }
    return positions.upperBound
  }

  /// XENMEM_exchange: extents of one size against extents of another, `nr_exchanged` of them done already.
  func exchange() throws(XenError) -> UInt64 {
    let argument = arguments[1]
    let (given, taken) = (try read(argument), try read(argument &+ reservationSize))
    let donePlace = argument &+ 2 &* reservationSize
    var done = try long(donePlace)
    guard max(given.order, taken.order) <= Self.mostOrder else { throw .notPermitted }
    let most = UInt64.max >> (layout == .bits64 ? 0 : 32)
    guard done <= given.count, given.owner == taken.owner, given.count <= most >> UInt64(given.order),
      taken.count <= most >> UInt64(taken.order),
      given.count << UInt64(given.order) == taken.count << UInt64(taken.order)
    else { throw .invalid }
    guard domain.isSelf(given.owner) else { throw given.owner == 0 ? .notPermitted : .noSuchProcess }
    // A chunk is as large as the larger of both.
    let givenPerChunk = max(given.size, taken.size) / given.size
    let takenPerChunk = max(given.size, taken.size) / taken.size
    var frameCount: UInt64 = 0
    while done < given.count {
      try exchange(given, taken, chunk: done / givenPerChunk, givenPerChunk, takenPerChunk)
      done += givenPerChunk
      try putLong(min(done, given.count), donePlace)
      frameCount += max(given.size, taken.size)
      if frameCount >= Hypercall.batchLimit, done < given.count {
        // How far it is, it finds in the argument.
        call.goOn(with: arguments)
        return 0
      }
    }
    return 0
  }

  private func exchange(
    _ given: Reservation, _ taken: Reservation, chunk: UInt64, _ givenCount: UInt64, _ takenCount: UInt64
  ) throws(XenError) {
    var old: [UInt64] = []
    for position in 0..<givenCount {
      let first = try long(place(given.list, chunk &* givenCount &+ position))
      guard first <= frames.all.upperBound else { throw .invalid }
      old += first..<(first + given.size)
    }
    var wanted: [UInt64] = []
    for position in 0..<takenCount {
      wanted.append(try long(place(taken.list, chunk &* takenCount &+ position)))
    }
    for frame in old {
      guard frames.isOwned(frame), !frames.isHypervisors(frame) else { throw .invalid }
      guard !tables.isReferenced(frame) else { throw .busy }
    }
    guard Set(old).count == old.count else { throw .invalid }
    for frame in old { tables.frames.cede(frame) }
    var new: [UInt64] = []
    for _ in wanted {
      guard let first = tables.frames.reclaim(order: UInt64(taken.order)) else { break }
      new.append(first)
    }
    guard new.count == wanted.count else {
      for first in new { for frame in first..<(first + taken.size) { tables.frames.cede(frame) } }
      for frame in old { tables.frames.reclaim(frame) }
      throw .noMemory
    }
    // Mappings for reading are not counted, so all go.
    tables.stale.addEverything()
    for (position, first) in new.enumerated() {
      for offset in 0..<taken.size { memory.machineTable.set(first + offset, wanted[position] &+ offset) }
      try putLong(first, place(taken.list, chunk &* takenCount &+ UInt64(position)))
    }
  }
}
