import Testing
import TrivisorVMM

@Suite("Processor models")
struct ProcessorModelTests {
  @Test("a table announces the model's features and no others", arguments: ProcessorModel.all.filter { !$0.isHost })
  func features(model: ProcessorModel) {
    let table = CPUIDTable(features: model.features, processor: 0, of: 1, name: model.name)
    for feature in ProcessorFeature.allCases {
      #expect(table.has(feature) == model.features.contains(feature), "\(feature)")
    }
  }

  @Test("no two features share a bit, and each level contains the one below")
  func levels() {
    let places = ProcessorFeature.allCases.map { "\($0.location)" }
    #expect(Set(places).count == places.count)
    #expect(ProcessorModel.x86_64v1.features.isStrictSubset(of: ProcessorModel.x86_64v2.features))
    #expect(ProcessorModel.x86_64v2.features.isStrictSubset(of: ProcessorModel.x86_64v3.features))
  }

  @Test("the topology numbers each processor", arguments: [1, 2, 3, 16, 255])
  func topology(count: Int) throws {
    let features = ProcessorModel.x86_64v3.features
    for processor in [0, count - 1] {
      let table = CPUIDTable(features: features, processor: processor, of: count, name: "test")
      let basic = try #require(table.leaf(1))
      #expect(basic.ebx >> 24 == UInt32(processor))
      #expect(basic.ebx >> 16 & 0xff == UInt32(count))
      let cores = try #require(table.leaf(0xb, index: 1))
      #expect(cores.ebx == UInt32(count))
      #expect(cores.edx == UInt32(processor))
      #expect(count <= 1 << cores.eax)
      #expect(table.has(.ht) == (count > 1))
    }
  }

  @Test("caches and cores, for any number of processors", arguments: 1...64)
  func caches(count: Int) throws {
    let features: Set<ProcessorFeature> = [.topoext]
    let table = CPUIDTable(features: features, processor: count - 1, of: count, name: "test")
    let levels = (UInt32(0)..<4).compactMap { table.leaf(0x8000_001d, index: $0) }
    #expect(levels.map { $0.eax & 31 } == [1, 2, 3, 3])
    #expect(levels.map { $0.eax >> 5 & 7 } == [1, 1, 2, 3])
    // Ways, line size, sets: 48 KiB, 32 KiB, 1 MiB, 32 MiB.
    let sizes = levels.map { (($0.ebx >> 22) + 1) * (($0.ebx & 0xfff) + 1) * ($0.ecx + 1) }
    #expect(sizes == [48 << 10, 32 << 10, 1 << 20, 32 << 20])
    let sharing = levels.map { ($0.eax >> 14 & 0xfff) + 1 }
    #expect(sharing.dropLast() == [1, 1, 1])
    #expect(sharing[3] <= 8 && (sharing[3] >= count || sharing[3] == 8) && sharing[3].nonzeroBitCount == 1)
    // Nothing behind them.
    #expect(table.leaf(0x8000_001d, index: 4) == nil)
    let topology = try #require(table.leaf(0x8000_001e))
    #expect(topology.eax == UInt32(count - 1) && topology.ebx == UInt32(count - 1) && topology.ecx == 0)
  }

  @Test("guests see a processor that exists: EPYC of family 1Ah, or 17h where its care is needed")
  func family() throws {
    func signature(_ family: ProcessorFamily) throws -> UInt32 {
      let table = CPUIDTable(features: [], processor: 0, of: 1, name: "test", family: family)
      let basic = try #require(table.leaf(1)), extended = try #require(table.leaf(0x8000_0001))
      #expect(basic.eax == extended.eax)
      return (basic.eax >> 8 & 15) + (basic.eax >> 20 & 0xff)
    }
    #expect(try signature(.family1A) == 0x1a)
    #expect(try signature(.family17) == 0x17)
  }

  @Test("the brand string is the model's name")
  func brand() throws {
    let table = CPUIDTable(features: [], processor: 0, of: 1, name: "x86-64-v3")
    var bytes: [UInt8] = []
    for function in UInt32(0x8000_0002)...0x8000_0004 {
      let leaf = try #require(table.leaf(function))
      for word in [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx] {
        bytes += (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32(8 * $0)) }
      }
    }
    #expect(String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self) == "Trivisor x86-64-v3")
  }
}
