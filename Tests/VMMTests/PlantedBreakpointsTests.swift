import Synchronization
import Testing

@testable import TrivisorVMM

@Suite("A debugger's INT3 in guest memory")
struct PlantedBreakpointsTests {
  private static let place: UInt64 = 0x1234
  private static let original: UInt8 = 0x90
  private let memory: GuestMemory
  private let planted: PlantedBreakpoints
  private let stores = StoreRecorder()

  init() throws {
    memory = try GuestMemory(size: 1 << 20)
    try memory.write(Self.original, at: GuestPhysicalAddress(Self.place))
    planted = PlantedBreakpoints(memory)
    memory.watch.set(stores)
  }

  private func byte() throws -> UInt8 { try memory.read(at: GuestPhysicalAddress(Self.place)) }

  @Test("who watches memory is told of each that comes, steps aside and goes: what was translated before is stale")
  func watched() throws {
    #expect(planted.plant(Self.place) && stores.taken() == 1)
    #expect(try byte() == PlantedBreakpoints.instruction)
    try planted.withOriginal(Self.place) { () throws(TechniqueFailure) in
      #expect((try? byte()) == Self.original && stores.taken() == 1)
    }
    #expect(try byte() == PlantedBreakpoints.instruction && stores.taken() == 1)
    planted.remove(Self.place)
    #expect(try byte() == Self.original && stores.taken() == 1)
  }

  @Test("two users of one place: it is planted once and stays until the second is gone")
  func shared() throws {
    #expect(planted.plant(Self.place) && planted.plant(Self.place) && stores.taken() == 1)
    planted.remove(Self.place)
    #expect(planted.contains(Self.place) && stores.taken() == 0)
    planted.remove(Self.place)
    #expect(!planted.contains(Self.place) && stores.taken() == 1)
  }

  @Test("what the guest has stored there stays, and where there is no RAM nothing is planted")
  func foreign() throws {
    #expect(planted.plant(Self.place))
    try memory.write(UInt8(0xf4), at: GuestPhysicalAddress(Self.place))
    _ = stores.taken()
    planted.remove(Self.place)
    #expect(try byte() == 0xf4 && stores.taken() == 0)
    #expect(!planted.plant(1 << 40) && stores.taken() == 0)
  }
}

private final class StoreRecorder: MemoryWatcher {
  private let count = Atomic<Int>(0)
  func deviceStored(at host: UnsafeMutableRawPointer, count bytes: Int) { count.add(bytes, ordering: .relaxed) }
  /// The bytes stored since it was last asked.
  func taken() -> Int { count.exchange(0, ordering: .relaxed) }
}
