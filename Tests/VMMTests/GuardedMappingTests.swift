import Foundation
import Testing
import TrivisorVMM

@Suite("Guarded mappings")
struct GuardedMappingTests {
  /// What /proc/self/maps says of the page at an address: its rights, or `nil` where nothing is mapped.
  private static func rights(at address: UInt) throws -> String? {
    for line in try String(contentsOfFile: "/proc/self/maps", encoding: .utf8).split(separator: "\n") {
      let words = line.split(separator: " ")
      let ends = words[0].split(separator: "-").compactMap { UInt($0, radix: 16) }
      if ends.count == 2, (ends[0]..<ends[1]).contains(address) { return String(words[1]) }
    }
    return nil
  }

  @Test("on either side of guest memory nothing can be read or written", arguments: [true, false])
  func guestMemory(isShareable: Bool) throws {
    let memory = try GuestMemory(size: 3 << 20, isShareable: isShareable)
    let start = UInt(bitPattern: memory.regions[0].host)
    #expect(try Self.rights(at: start)?.hasPrefix("rw-") == true)
    #expect(try Self.rights(at: start + 3 << 20 - 1)?.hasPrefix("rw-") == true)
    for address in [start - 1, start - UInt(GuardedMapping.guardSize), start + 3 << 20] {
      #expect(try Self.rights(at: address)?.hasPrefix("---") == true)
    }
    #expect(isShareable || start % (2 << 20) == 0)
  }

  @Test("what is given back is gone, its sides too; lengths that are none and that no host has")
  func lengths() throws {
    let mapping = try #require(GuardedMapping.map(5000, isFarAway: true))
    mapping.storeBytes(of: 7, toByteOffset: 4999, as: UInt8.self)
    GuardedMapping.unmap(mapping, 5000)
    // Nobody else gets this place: it is far from where the host puts what has no place of its own.
    for offset in [-1, 0, 4999, 8192] {
      #expect(try Self.rights(at: UInt(bitPattern: mapping + offset)) == nil)
    }
    let empty = try #require(GuardedMapping.map(0))
    GuardedMapping.unmap(empty, 0)
    for length in [Int.max, Int.max - 4095, 1 << 60] { #expect(GuardedMapping.map(length) == nil) }
  }
}
