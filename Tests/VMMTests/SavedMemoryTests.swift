import Foundation
import Testing
import TrivisorVMM

@Suite("Saved guest memory")
struct SavedMemoryTests {
  @Test("contents come back, and only what is not zero is kept", arguments: [true, false])
  func roundTrip(isShareable: Bool) throws {
    let first = try GuestMemory(size: 5 << 30, isShareable: isShareable)
    let places: [UInt64] = [0, 4096 * 7 + 5, 3 << 30 - 1, 4 << 30, 6 << 30 - 1]
    for place in places { try first.write(UInt8(0x5a), at: GuestPhysicalAddress(place)) }
    // Touched, and zero again.
    try first.write(UInt8(1), at: GuestPhysicalAddress(1 << 20))
    try first.write(UInt8(0), at: GuestPhysicalAddress(1 << 20))
    let saved = first.save()
    #expect(saved.pieces.map(\.address) == places.map { $0 / 4096 * 4096 })
    let second = try GuestMemory(size: 5 << 30, isShareable: isShareable)
    try second.write(UInt8(9), at: GuestPhysicalAddress(2 << 20))
    let copy = try JSONDecoder().decode(GuestMemory.Saved.self, from: JSONEncoder().encode(saved))
    try second.restore(copy)
    #expect(second.save() == saved)
    #expect(try second.read(UInt8.self, at: GuestPhysicalAddress(2 << 20)) == 0)
  }

  @Test("pieces outside of memory and another size are refused before anything changes")
  func refusals() throws {
    let memory = try GuestMemory(size: 2 << 20)
    try memory.write(UInt8(7), at: GuestPhysicalAddress(5))
    let before = memory.save()
    for (size, address, count) in [(2 << 20, 2 << 20, 1), (2 << 20, UInt64.max, 2), (4 << 20, 0, 1)]
      as [(UInt64, UInt64, Int)]
    {
      let saved = GuestMemory.Saved(
        size: size,
        pieces: [
          .init(address: 0, bytes: [1]), .init(address: address, bytes: [UInt8](repeating: 1, count: count)),
        ])
      #expect(throws: RestoreFailure.self) { try memory.restore(saved) }
    }
    #expect(memory.save() == before)
  }
}

@Suite("Saved processor states")
struct SavedProcessorTests {
  @Test("the state after RESET is possible, and comes back")
  func roundTrip() throws {
    var state = MachineState()
    state.activity = .startupReceived(vector: 9)
    state.events.exception = .init(vector: 14, errorCode: 2, payload: 0xffff_8000_0000_1234)
    state[modelSpecific: 0x10] = 77
    try state.check()
    let copy = try JSONDecoder().decode(
      Versioned<MachineState>.self, from: JSONEncoder().encode(Versioned(state))
    ).state
    #expect(copy == state)
  }

  @Test("states that no processor can be in are refused")
  func impossible() {
    let changes: [(inout MachineState) -> Void] = [
      { $0.system.cr0 |= 1 << 31 }, { $0.system.cr0 |= 1 << 32 }, { $0.system.efer = 0x400 }, { $0.system.cr8 = 16 },
      { $0.system.cr3 = .max }, { $0.system.gs.base = 1 << 32 }, { $0.debug.addresses = [] }, { $0.debug.dr7 = .max },
      { $0.general.rflags = 0 }, { $0.extended.xcr0 = 0 }, { $0.extended.xcr0 = 5 },
      { $0.extended.area = [1, 2, 3] }, { $0.events.exception = .init(vector: 32) },
      { $0.system.pointerTable = [1] }, { $0.system.idt.base = 1 << 60 }, { $0.system.cs.attributes = 0x0f00 },
    ]
    for change in changes {
      var state = MachineState()
      change(&state)
      #expect(throws: RestoreFailure.self) { try state.check() }
    }
  }
}
