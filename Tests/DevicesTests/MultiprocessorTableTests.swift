import Testing
import TrivisorVMM

@testable import TrivisorDevices

private func number(_ bytes: [UInt8], _ offset: Int, _ count: Int) -> Int {
  (0..<count).reduce(0) { $0 | Int(bytes[offset + $1]) << (8 * $1) }
}

@Suite("MP tables")
struct MultiprocessorTableTests {
  private static let base = GuestPhysicalAddress(0xf_1230)

  /// The entries of a table as kernels walk it, by their lengths.
  private static func entries(_ machine: ACPIMachine) -> [[UInt8]] {
    let bytes = MultiprocessorTable(machine, at: base).bytes
    #expect(Array(bytes[..<4]) == Array("_MP_".utf8))
    #expect(bytes[..<16].reduce(0, &+) == 0)
    #expect(number(bytes, 4, 4) == Int(base.rawValue) + 16)
    let table = Array(bytes[16...])
    #expect(Array(table[..<4]) == Array("PCMP".utf8))
    #expect(number(table, 4, 2) == table.count)
    #expect(table.reduce(0, &+) == 0)
    #expect(number(table, 36, 4) == 0xfee0_0000)
    var entries: [[UInt8]] = []
    var place = 44
    while place < table.count {
      let length = table[place] == 0 ? 20 : 8
      entries.append(Array(table[place..<min(place + length, table.count)]))
      place += length
    }
    #expect(place == table.count)
    #expect(number(table, 34, 2) == entries.count)
    return entries
  }

  @Test("there is an entry for each processor, and the first one begins", arguments: [1, 2, 16, 255])
  func processors(count: Int) {
    let entries = Self.entries(ACPIMachine(processorCount: count))
    let processors = entries.filter { $0[0] == 0 }
    #expect(processors.map { $0[1] } == (0..<count).map { UInt8($0) })
    #expect(processors.map { $0[3] } == [3] + [UInt8](repeating: 1, count: count - 1))
    #expect(entries.map { $0[0] } == entries.map { $0[0] }.sorted())
    // The I/O APIC has the identifier that is in its register, and interrupts lead to it.
    let chip = entries.first { $0[0] == 2 }
    #expect(chip?[1] == 0)
    #expect(number(chip ?? [UInt8](repeating: 0, count: 8), 4, 4) == 0xfec0_0000)
    #expect(entries.filter { $0[0] == 3 }.allSatisfy { $0[6] == 0 })
  }

  @Test("ISA interrupts go to the inputs of their numbers, and those of a PCI bus where its pins are wired")
  func interrupts() {
    var machine = ACPIMachine(processorCount: 2)
    let plain = Self.entries(machine).filter { $0[0] == 3 }
    #expect(plain.map { $0[5] } == [0, 1] + (3..<16).map { UInt8($0) })
    #expect(plain.map { $0[7] } == plain.map { $0[5] })
    let control = plain.first { Int($0[5]) == machine.systemControlInterrupt }
    #expect(control.map { number($0, 2, 2) } == 0x0d)
    var host = ACPIMachine.PCIHost(configurationBase: 0xe000_0000, windowBase: 0xd800_0000, windowSize: 0x0800_0000)
    host.interrupts = [.init(device: 3, pin: 2, interrupt: 21)]
    machine.pciHost = host
    let entries = Self.entries(machine)
    #expect(
      entries.filter { $0[0] == 1 }.map { Array($0[1...4]) } == [[0] + Array("PCI".utf8), [1] + Array("ISA".utf8)])
    #expect(entries.filter { $0[0] == 3 }.last == [3, 0, 0, 0, 0, 3 << 2 | 1, 0, 21])
  }
}
