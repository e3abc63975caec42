import Synchronization

/// INT3 instructions that a debugger from outside has in guest memory, for all processors: each as long as somebody wants it. An
/// engine that watches memory is told of each that comes or goes, since it may have translated what was there before.
public final class PlantedBreakpoints: Sendable {
  private struct Place {
    var original: UInt8
    var users: Int
  }

  /// INT3 (AMD64 APM vol. 3).
  public static let instruction: UInt8 = 0xcc
  private let memory: GuestMemory
  private let places = Mutex<[UInt64: Place]>([:])

  /// None yet.
  public init(_ memory: GuestMemory) { self.memory = memory }

  /// - Returns: whether there is RAM at this guest physical address.
  public func plant(_ physical: UInt64) -> Bool {
    places.withLock { places in
      if places[physical] != nil {
        places[physical]?.users += 1
        return true
      }
      let address = GuestPhysicalAddress(physical)
      guard let original = try? memory.read(UInt8.self, at: address),
        store(Self.instruction, at: address)
      else { return false }
      places[physical] = Place(original: original, users: 1)
      return true
    }
  }

  /// - Parameter physical: what `plant` has accepted.
  public func remove(_ physical: some Sequence<UInt64>) {
    for place in physical { remove(place) }
  }

  /// What is not INT3 any more was stored by the guest, and stays.
  public func remove(_ physical: UInt64) {
    places.withLock { places in
      guard var place = places[physical] else { return }
      place.users -= 1
      places[physical] = place.users == 0 ? nil : place
      let address = GuestPhysicalAddress(physical)
      guard place.users == 0, (try? memory.read(UInt8.self, at: address)) == Self.instruction else { return }
      store(place.original, at: address)
    }
  }

  /// Lets the guest's own instruction run: the byte that was there is there again while `body` does its work.
  public func withOriginal<Result>(
    _ physical: UInt64?, _ body: () throws(TechniqueFailure) -> Result
  ) throws(TechniqueFailure) -> Result {
    func exchange(_ old: UInt8, _ new: UInt8) {
      guard let physical, (try? memory.read(UInt8.self, at: GuestPhysicalAddress(physical))) == old else { return }
      store(new, at: GuestPhysicalAddress(physical))
    }
    guard let physical, let place = places.withLock({ $0[physical] }) else { return try body() }
    exchange(Self.instruction, place.original)
    defer { exchange(place.original, Self.instruction) }
    return try body()
  }

  /// - Returns: whether there is RAM at this address.
  @discardableResult
  private func store(_ byte: UInt8, at address: GuestPhysicalAddress) -> Bool {
    guard let host = memory.host(address, count: 1) else { return false }
    host.storeBytes(of: byte, as: UInt8.self)
    memory.watch.stored(at: host, count: 1)
    return true
  }

  /// Whether INT3 is there because of a debugger, and not of the guest.
  public func contains(_ physical: UInt64) -> Bool {
    places.withLock { $0[physical].map { $0.original != Self.instruction } ?? false }
  }
}
