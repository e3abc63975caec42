import Foundation
import Testing

@testable import TrivisorTranslation

@Suite("The code cache's mappings")
struct CodeCacheMappingTests {
  @Test("one can be written, the other runs, far apart, and at another distance in each cache")
  func distance() throws {
    var distances: Set<Int> = []
    for _ in 0..<4 {
      let cache = try CodeCache()
      let distance = Int(bitPattern: cache.emitter().cursor) - Int(bitPattern: UInt(cache.base))
      #expect(abs(distance) > 4 << 30)
      distances.insert(distance)
    }
    #expect(distances.count == 4)
    let maps = try String(contentsOfFile: "/proc/self/maps", encoding: .utf8).split(separator: "\n")
    #expect(maps.allSatisfy { !$0.split(separator: " ")[1].hasPrefix("rwx") })
  }
}
