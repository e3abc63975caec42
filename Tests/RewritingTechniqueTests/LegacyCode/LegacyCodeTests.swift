import TrivisorDifferential
import Glibc
import TrivisorInstructionSet
import Testing
import TrivisorVMM

/// The same instructions natively, in another process, and by the engine: every result must be the same, and at a fault
/// every register and byte of memory.
///
/// `TRIVISOR_LEGACY_COUNT` and `TRIVISOR_LEGACY_SEED` in the environment make more of them, or others.
struct LegacyCodeTests {
  private static func setting(_ name: String) -> UInt64? {
    getenv("TRIVISOR_LEGACY_\(name)").flatMap { UInt64(String(cString: $0)) }
  }

  @Test("16- and 32-bit code does natively and translated the same", arguments: [CPUMode.bits16, .bits32])
  func agree(_ mode: CPUMode) throws {
    guard let native = TracedMachine() else {
      Issue.record("no native machine: \(String(cString: strerror(errno)))")
      return
    }
    let translated = try TranslatedMachine()
    var generator = LegacyCodeGenerator(mode, seed: Self.setting("SEED") ?? 1) { translated.announces($0) }
    let size = Int(LegacyCodeLayout.size)
    let pristine = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 4096)
    defer { pristine.deallocate() }
    var filler = SeededGenerator(state: 42)
    for offset in stride(from: 0, to: size, by: 8) {
      pristine.storeBytes(of: filler.next(), toByteOffset: offset, as: UInt64.self)
    }
    // INT3 wherever a jump may lead.
    memset(pristine, Int32(PlantedBreakpoints.instruction), Int(LegacyCodeLayout.codeSize))
    let forbidden = Int(LegacyCodeLayout.forbidden - LegacyCodeLayout.code)
    memset(pristine + forbidden, 0, 4096)
    var failures = 0
    var known: [HostDifference: Int] = [:]
    defer { if !known.isEmpty { print("\(mode): known of this host: \(known)") } }
    for _ in 0..<(Self.setting("COUNT") ?? 4000) {
      let test = generator.next()
      /// - Parameter cleared: bytes that are 0 in the beginning.
      func run(_ code: [UInt8], cleared: [UInt64] = []) throws -> LegacyCodeResult {
        for (memory, code) in [(native.memory, test.code), (translated.memory, code)] {
          memory.copyMemory(from: pristine, byteCount: size)
          let offset = Int(test.state.rip & 0xffff)
          (memory + offset).copyMemory(
            from: code, byteCount: min(code.count, Int(LegacyCodeLayout.codeSize) - offset))
          store(test.bytes, memory)
          for place in cleared { (memory + Int(place - LegacyCodeLayout.code)).storeBytes(of: 0, as: UInt8.self) }
        }
        translated.forgetCode()
        return LegacyCodeResult(
          test: test, mode: mode, code: code, native: native.run(test.state), model: try translated.run(test.state),
          memory: difference(native, translated))
      }
      let result = try run(test.code)
      guard result.native != nil else {
        Issue.record("the native machine is lost at \(describe(test))")
        return
      }
      guard let difference = result.difference else { continue }
      var found = result.knownDifference(on: .current)
      if found == nil {
        found = try HostDifference.allCases.first { candidate in
          guard candidate.vendors.contains(HostProcessor.current.vendor),
            let code = test.encodings(for: candidate, mode)
          else { return false }
          let other = try run(code)
          return other.difference == nil || other.knownDifference(on: .current) != nil
        }
      }
      // What a short push has left, other instructions have read: where it is 0 in the beginning, all is the same.
      if found == nil, HostDifference.segmentPushWidth.vendors.contains(HostProcessor.current.vendor),
        test.pushesSegment(mode)
      {
        let left = result.memory.filter { $0.model == 0 }.map(\.address)
        let other = try run(test.code, cleared: left)
        if !left.isEmpty, other.difference == nil || other.knownDifference(on: .current) != nil {
          found = .segmentPushWidth
        }
      }
      if let found {
        known[found, default: 0] += 1
        continue
      }
      Issue.record("\(describe(test))\n\(difference)")
      failures += 1
      if failures == 20 { return }
    }
  }

  private func store(_ bytes: (place: UInt64, values: [UInt8]), _ memory: UnsafeMutableRawPointer) {
    for (index, value) in bytes.values.enumerated() {
      let offset = bytes.place &- LegacyCodeLayout.data &+ UInt64(index)
      guard offset < LegacyCodeLayout.dataSize else { continue }
      (memory + Int(LegacyCodeLayout.data - LegacyCodeLayout.code + offset)).storeBytes(of: value, as: UInt8.self)
    }
  }

  private func hexadecimal(_ value: UInt64) -> String { String(value, radix: 16) }

  private func describe(_ test: LegacyCodeCase) -> String {
    let code = test.code.map { hexadecimal(UInt64($0)) }.joined(separator: " ")
    let registers = test.state.general.map(hexadecimal).joined(separator: " ")
    let selectors = test.state.selectors.map { hexadecimal(UInt64($0)) }.joined(separator: " ")
    return
      "\(test.mnemonics.joined(separator: "; ")) [\(code)] at \(hexadecimal(test.state.rip)), registers \(registers), "
      + "flags \(hexadecimal(test.state.flags)), selectors \(selectors)"
  }

  private func difference(_ native: TracedMachine, _ translated: TranslatedMachine) -> [MemoryDifference] {
    let size = Int(LegacyCodeLayout.size)
    guard memcmp(native.memory, translated.memory, size) != 0 else { return [] }
    var found: [MemoryDifference] = []
    for offset in 0..<size where found.count < 512 {
      let left = native.memory.load(fromByteOffset: offset, as: UInt8.self)
      let right = translated.memory.load(fromByteOffset: offset, as: UInt8.self)
      guard left != right else { continue }
      found.append(MemoryDifference(address: LegacyCodeLayout.code + UInt64(offset), native: left, model: right))
    }
    return found
  }
}
