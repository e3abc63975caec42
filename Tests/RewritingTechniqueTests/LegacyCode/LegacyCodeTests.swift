import Glibc
import InstructionSet
import Testing

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
    memset(pristine, 0xcc, Int(LegacyCodeLayout.codeSize))
    let forbidden = Int(LegacyCodeLayout.forbidden - LegacyCodeLayout.code)
    memset(pristine + forbidden, 0, 4096)
    var failures = 0
    for _ in 0..<(Self.setting("COUNT") ?? 4000) {
      let test = generator.next()
      native.memory.copyMemory(from: pristine, byteCount: size)
      translated.memory.copyMemory(from: pristine, byteCount: size)
      let offset = Int(test.state.rip & 0xffff)
      let count = min(test.code.count, Int(LegacyCodeLayout.codeSize) - offset)
      (native.memory + offset).copyMemory(from: test.code, byteCount: count)
      (translated.memory + offset).copyMemory(from: test.code, byteCount: count)
      store(test.bytes, native.memory)
      store(test.bytes, translated.memory)
      translated.forgetCode()
      guard let expected = native.run(test.state) else {
        Issue.record("the native machine is lost at \(describe(test))")
        return
      }
      let found = try translated.run(test.state)
      let difference = compare(
        test, expected, found, memcmp(native.memory, translated.memory, size) == 0 ? nil : memory(native, translated))
      guard let difference else { continue }
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

  private func memory(_ native: TracedMachine, _ translated: TranslatedMachine) -> String {
    for offset in 0..<Int(LegacyCodeLayout.size) {
      let left = native.memory.load(fromByteOffset: offset, as: UInt8.self)
      let right = translated.memory.load(fromByteOffset: offset, as: UInt8.self)
      if left != right {
        return "memory at \(hexadecimal(LegacyCodeLayout.code + UInt64(offset))): \(left) and \(right)"
      }
    }
    return "memory"
  }

  private func compare(
    _ test: LegacyCodeCase, _ expected: (LegacyCodeState, LegacyCodeEnd),
    _ found: (LegacyCodeState, LegacyCodeEnd?, String), _ memory: String?
  ) -> String? {
    guard let end = found.1 else { return "refused: \(found.2)" }
    var texts: [String] = []
    if end != expected.1 { texts.append("end: \(expected.1) and \(end)") }
    let is64 = expected.0.selectors[1] == LegacyCodeLayout.code64
    let mask: UInt64 = is64 ? .max : 0xffff_ffff
    for number in 0..<(is64 ? 16 : 8) {
      // Linux leaves something of its own above ESP where the stack is of 16 bits.
      let mask = number == 4 ? 0xffff_ffff : mask
      guard (expected.0.general[number] ^ found.0.general[number]) & mask != 0 else { continue }
      texts.append(
        "register \(number): \(hexadecimal(expected.0.general[number])) and \(hexadecimal(found.0.general[number]))")
    }
    // INT1 under a hypervisor comes with RIP at itself; jumps lead to it.
    let isStep = expected.1.signal == SIGTRAP && found.0.rip == expected.0.rip + 1
    if (expected.0.rip ^ found.0.rip) & mask != 0, !isStep {
      texts.append("RIP: \(hexadecimal(expected.0.rip)) and \(hexadecimal(found.0.rip))")
    }
    if (expected.0.flags ^ found.0.flags) & 0xcd5 & ~test.undefinedFlags != 0 {
      texts.append("flags: \(hexadecimal(expected.0.flags)) and \(hexadecimal(found.0.flags))")
    }
    if expected.0.selectors != found.0.selectors {
      texts.append("selectors: \(expected.0.selectors) and \(found.0.selectors)")
    }
    // Control, status and tags; MXCSR; the registers. Not the last instruction and its operand.
    let parts = [0..<5, 24..<28] + (0..<8).map { 32 + 16 * $0..<42 + 16 * $0 } + [160..<(is64 ? 416 : 288)]
    for part in parts where expected.0.floating[part] != found.0.floating[part] {
      texts.append("FXSAVE at \(part): \(expected.0.floating[part]) and \(found.0.floating[part])")
    }
    if let memory { texts.append(memory) }
    return texts.isEmpty ? nil : texts.joined(separator: "; ")
  }
}
