import TrivisorConformanceGuests

/// The assembled guests by name.
public enum GuestCode {
  /// Every guest's machine code.
  public static let all: [String: [UInt8]] = {
    var count = 0
    guard let table = conformance_guests(&count) else { return [:] }
    var guests: [String: [UInt8]] = [:]
    for guest in UnsafeBufferPointer(start: table, count: count) {
      guard let begin = guest.begin, let end = guest.end, let name = guest.name else { continue }
      guests[String(cString: name)] = Array(UnsafeBufferPointer(start: begin, count: end - begin))
    }
    return guests
  }()
}
