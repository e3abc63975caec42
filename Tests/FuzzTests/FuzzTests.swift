import Foundation
import SystemPackage
import Testing
import TrivisorFuzzTargets

@Suite("Fuzz targets", .timeLimit(.minutes(15)))
struct FuzzTests {
  private static let names = FuzzTargets.all.map { $0.name }

  @Test("what the corpus holds is taken by its target", arguments: names)
  func inputs(name: String) throws {
    let type = try #require(FuzzTargets.named(name))
    let target = try type.init()
    let inputs = try FuzzTargets.corpus(of: name) + type.seeds
    #expect(!inputs.isEmpty)
    for input in inputs + [[], [0], [1], [0xff]] { input.withUnsafeBytes { target.run($0) } }
  }

  @Test("and so is the same with a few bytes changed", arguments: names)
  func changed(name: String) throws {
    let type = try #require(FuzzTargets.named(name))
    let target = try type.init()
    let inputs = try FuzzTargets.corpus(of: name) + type.seeds
    var generator = SystemRandomNumberGenerator()
    let edges: [UInt8] = [0, 1, 0x7f, 0x80, 0xff]
    let end = ContinuousClock.now + .milliseconds(500)
    while ContinuousClock.now < end {
      var input = inputs.randomElement(using: &generator) ?? []
      if Int.random(in: 0..<8, using: &generator) == 0 {
        input.removeLast(Int.random(in: 0...input.count, using: &generator))
      }
      for _ in 0..<Int.random(in: 1..<6, using: &generator) where !input.isEmpty {
        let place = Int.random(in: 0..<min(input.count, 0x400), using: &generator)
        input[place] =
          Bool.random(using: &generator)
          ? .random(in: .min ... .max, using: &generator) : edges.randomElement(using: &generator) ?? 0
      }
      input.withUnsafeBytes { target.run($0) }
    }
  }

  @Test("there is no corpus without a target, and none is large")
  func files() throws {
    for file in try FileManager.default.contentsOfDirectory(atPath: FuzzTargets.corpusFolder.string) {
      guard file != "README.md" else { continue }
      #expect(file.hasSuffix(".hex") && Self.names.contains(String(file.dropLast(4))))
      #expect(try FuzzTargets.contents(FuzzTargets.corpusFolder.appending(file)).count < 64 << 10)
    }
  }
}
