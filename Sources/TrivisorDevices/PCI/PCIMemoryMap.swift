import Synchronization
import TrivisorVMM

/// Which function answers where in the bus' window of memory, by now: the guest moves their regions.
public final class PCIMemoryMap: Sendable {
  struct Place: Sendable {
    var base: UInt64
    var size: UInt64
    /// The function's `PCIAddress.number`, and its base address register.
    var function: Int
    var region: Int
  }

  /// The window's first address.
  public let base: UInt32
  /// Its length in bytes.
  public let size: UInt32
  private let places = Mutex<[Place]>([])

  /// - Parameters:
  ///   - base: below 4 GiB, where no memory is.
  ///   - size: bytes; the window ends below 4 GiB.
  public init(base: UInt32, size: UInt32) {
    self.base = base
    self.size = size
  }

  /// Whether a region can be reached there.
  func isInside(_ place: UInt32, size regionSize: UInt32) -> Bool {
    place >= base && UInt64(place - base) + UInt64(regionSize) <= UInt64(size)
  }

  /// Puts a region somewhere else, or nowhere; outside of the window nobody reaches it.
  func move(_ region: Int, of function: Int, to place: UInt32?, size regionSize: UInt32) {
    places.withLock { places in
      let reachable = place.flatMap { isInside($0, size: regionSize) ? UInt64($0) : nil }
      let old = places.firstIndex { $0.function == function && $0.region == region }
      if let old {
        // Most writes to configuration space move nothing.
        guard places[old].base != reachable else { return }
        places.remove(at: old)
      }
      guard let reachable else { return }
      places.append(Place(base: reachable, size: UInt64(regionSize), function: function, region: region))
    }
  }

  /// Where an access goes; of regions that lie over one another, the one that came first has it.
  func find(_ address: UInt64, width: AccessWidth) -> Place? {
    places.withLock { places in
      places.first { place in
        address >= place.base && address - place.base <= place.size &- UInt64(width.rawValue)
      }
    }
  }
}
