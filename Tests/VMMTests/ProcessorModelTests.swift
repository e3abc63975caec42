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
