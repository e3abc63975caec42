// The same code from the same state, natively and translated, and what must be the same afterwards: everything that the
// architecture defines, at a fault too.
//
// A host's processor that is not the model's does some things otherwise: `HostDifference` has the classes.
//
// The native run is of this process, at CPL 3, and comes first; it ends with a signal, for the UD2 behind the code if not
// for a fault before. The translated run is in a guest whose page tables give the region the same rights. Left out
// of the comparison: RFLAGS.RF, which a frame has set for a fault; where x87 last was, which would be an address of the
// code cache; and the P bit of a page fault's error code in the upper half, where the host's kernel has pages.

import TrivisorCNativeRun
import Glibc
import TrivisorInstructionSet
import TrivisorRewritingTechnique
import Synchronization
import TrivisorVMM

/// Compares translated code with the host's processor.
public final class DifferentialTester {
  /// What came of one case.
  public enum Verdict: Equatable {
    case same
    /// Different as this host's processor is known to be different from the model.
    case known(HostDifference)
    /// Natively it did not end, or called the host; or it has made of itself what can't be compared.
    case skipped
    /// What the engine cannot run.
    case unsupported(String)
    case different([String])
    /// Different at first, and the same when it was run once more.
    case unstable
  }

  /// Of all cases so far.
  public struct Tally: Sendable {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public var same = 0, skipped = 0, different = 0, unstable = 0
    /// By class.
    public var known: [HostDifference: Int] = [:]
    /// By what was not supported.
    public var unsupported: [String: Int] = [:]
    /// Executions by kind of instruction, those that ended in a fault among them.
    public var executions: [Int]
    /// Cases by how they ended natively.
    public var vectors: [UInt64: Int] = [:]
  }

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public private(set) var tally: Tally
  let generator: CaseGenerator
  private let memory: TestMemory
  private let probe: CodeProbe
  private let native: UnsafeMutablePointer<cnr_state>
  private let watchdog: Watchdog
  /// Whose differences from the model count as known.
  let vendor = HostProcessor.current.vendor
  /// The case in work has FLDENV or FRSTOR.
  private var hasLongOperand = false
  private static let flagMask: UInt64 = 0x24_4fd5

  /// The calling thread is the one that runs code from now on. Once a process.
  /// - Parameter isShared: the code is written as for several processors.
  /// - Throws: what the host refuses.
  public init(seed: UInt64, isShared: Bool = false) throws {
    memory = try TestMemory(seed: seed)
    let bus = try Bus(memory: [
      .init("page", base: GuestPhysicalAddress(TestMemory.devicePhysical), size: 4096, device: memory.device)
    ])
    let configuration = MachineConfiguration(processorCount: isShared ? 2 : 1, memorySize: memory.guest.size)
    let probe = try CodeProbe(configuration, memory: memory.guest, bus: bus)
    self.probe = probe
    let root = memory.root
    try probe.begin { state in
      state.system.cr0 = 0x8005_0033
      state.system.cr3 = root
      // FSGSBASE, OSXSAVE, OSXMMEXCPT, OSFXSR, PAE.
      state.system.cr4 = 0x5_0620
      state.system.efer = 0xd01
      // No permission for ports.
      state.system.task.limit = 0x20
      // No gate that CPL 3 may use.
      state.system.idt.limit = 0
      state.system.cs = .flatCode64(selector: 0x33)
      state.system.cs.attributes |= 0x60
      for segment in [\SystemRegisters.ss, \.ds, \.es, \.fs, \.gs] {
        state.system[keyPath: segment] = .flatData(selector: 0x2b)
        state.system[keyPath: segment].attributes |= 0x60
      }
      state.extended.xcr0 = 7
      state.general.rflags = 0x202
      state.activity = .running
    }
    native = UnsafeMutableRawPointer.allocate(byteCount: MemoryLayout<cnr_state>.size, alignment: 64)
      .bindMemory(to: cnr_state.self, capacity: 1)
    native.initialize(to: cnr_state())
    watchdog = Watchdog(probe.stopHandle)
    let error = cnr_prepare(UInt32(Region.base), UInt32(Region.size))
    guard error == 0 else {
      throw TechniqueFailure(call: "sigaction, setitimer or seccomp", reason: String(cString: strerror(error)))
    }
    generator = CaseGenerator(kinds: KindCatalogue(announces: probe.announces).kinds)
    tally = Tally(executions: [Int](repeating: 0, count: generator.kinds.count))
  }

  deinit {
    watchdog.end()
    UnsafeMutableRawPointer(native).deallocate()
  }

  // MARK: Cases

  /// Runs one case of a sequence.
  public func run(seed: UInt64, index: UInt64) -> Verdict {
    let test = generator.make(seed: seed, index: index)
    var verdict = run(test)
    // Code that overwrites itself may depend on when the host interrupts it.
    if case .different = verdict, case .same = run(test) { verdict = .unstable }
    switch verdict {
    case .same:
      tally.same += 1
      count(test)
    case .known(let difference):
      tally.known[difference, default: 0] += 1
      count(test)
    case .skipped: tally.skipped += 1
    case .unsupported(let name): tally.unsupported[name, default: 0] += 1
    case .different: tally.different += 1
    case .unstable: tally.unstable += 1
    }
    return verdict
  }

  private func count(_ test: TestCase) {
    tally.vectors[native.pointee.vector, default: 0] += 1
    var start = test.address
    for element in test.elements where start <= native.pointee.rip || element.kind == test.elements[0].kind {
      tally.executions[element.kind] += 1
      start += UInt64(element.bytes.count)
    }
  }

  func run(_ test: TestCase) -> Verdict {
    let verdict = compare(test, modelCode: test.code)
    // What Swift carries out is compared by itself, too: translated code has helpers for some of it.
    if verdict == .same, test.elements.count == 1, case .different(let lines) = compare(test, isCarriedOut: true) {
      return .different(["carried out by Swift:"] + lines)
    }
    guard case .different = verdict else { return verdict }
    // As the model would have to be told to do it as the host does.
    for difference in HostDifference.allCases where difference.vendors.contains(vendor) {
      for other in encodings(of: test, for: difference) {
        switch compare(test, modelCode: other.test.code) {
        case .same: return .known(difference)
        case .known(let another): return .known(another)
        // So told, the model comes to what is left out of the comparison.
        case .skipped: return .skipped
        default: if other.isLonger { return .skipped }
        }
      }
    }
    return verdict
  }

  /// The same case with the instructions that the class is about in another encoding: all of them, and each alone. One that is
  /// longer without its prefix (`isLonger`) goes on with what lies behind it, which must be as it was; what begins in the middle of
  /// that may be anything, such as what is left out of the comparison.
  private func encodings(of test: TestCase, for difference: HostDifference) -> [(test: TestCase, isLonger: Bool)] {
    var changes: [(index: Int, bytes: [UInt8], isLonger: Bool)] = []
    let decoder = Decoder(mode: .bits64)
    var instruction = Instruction(mode: .bits64)
    for index in test.elements.indices {
      let bytes = test.elements[index].bytes
      guard bytes.withUnsafeBytes({ decoder.decode($0, into: &instruction) }) == .decoded,
        let changed = difference.encodingForModel(bytes, instruction)
      else { continue }
      let isLonger = changed.withUnsafeBytes { decoder.decode($0, into: &instruction) } == .needsMoreBytes
      changes.append((index, changed, isLonger))
    }
    let choices = changes.isEmpty ? [] : [changes] + (changes.count > 1 ? changes.map { [$0] } : [])
    return choices.map { choice in
      var other = test
      for change in choice { other.elements[change.index].bytes = change.bytes }
      return (other, choice.contains(where: \.isLonger))
    }
  }

  /// - Parameters:
  ///   - modelCode: what is translated, if not the same.
  ///   - isCarriedOut: the first instruction is not translated, but carried out by Swift; skipped if that does not do it.
  private func compare(_ test: TestCase, modelCode: [UInt8]? = nil, isCarriedOut: Bool = false) -> Verdict {
    let code = test.code
    let modelCode = modelCode ?? code
    hasLongOperand = test.elements.contains { ["fldenv", "frstor"].contains($0.mnemonic) }
    memory.place(code, translated: modelCode, at: test.address)
    let offset = test.address - Region.base
    probe.memoryChanged(at: TestMemory.physicalBase + offset, count: code.count)
    runNatively(test)
    var verdict = Verdict.skipped
    // Swift carries out one instruction, behind which there is UD2 and then nothing: unless it has stored something there.
    let behind = memory.nativeBytes(at: test.address + UInt64(code.count - 2), count: 3)
    let goesOn = isCarriedOut && behind != [0x0f, 0x0b, TestMemory.undefinedOpcode]
    if native.pointee.vector < CNR_ENDLESS, !goesOn {
      switch runHere(test, isCarriedOut: isCarriedOut) {
      case nil: break
      case .unsupported(let name): verdict = .unsupported(name)
      case .stopped: verdict = .different(["the translated code did not end"])
      case .exception(let vector, let errorCode, let address):
        verdict = judge(test, modelCode, vector, errorCode, address)
      }
    }
    for page in memory.reset() {
      probe.memoryChanged(at: TestMemory.physicalBase + UInt64(page) * 4096, count: 4096)
    }
    return verdict
  }

  private func judge(
    _ test: TestCase, _ modelCode: [UInt8], _ vector: UInt8, _ errorCode: UInt32?, _ address: UInt64?
  ) -> Verdict {
    if isFetchBeyondUndefined(vector, errorCode, address) { return .same }
    let undefinedFlags = UInt64(test.undefinedFlags(at: native.pointee.rip).rawValue)
    let (expected, found) = outcomes(vector, errorCode, address, undefinedFlags)
    let code = test.code
    let bytes = memory.differences().filter { difference in
      // What was placed differently and is still so is no difference.
      let place = difference.address &- test.address
      guard place < UInt64(code.count) else { return true }
      return code[Int(place)] != difference.native || modelCode[Int(place)] != difference.model
    }
    let seen = HostObservation(
      mode: .bits64, native: expected, model: found, memory: bytes,
      modelLast: modelBytes(at: found.rip, count: 15),
      nativeLast: memory.nativeBytes(at: expected.rip, count: 15), startFlags: test.flags)
    if seen.parts.isEmpty { return .same }
    if hasBecomeIncomparable(test) || differsByFlagsWithin(test, seen) { return .skipped }
    if let difference = HostDifference.classify(seen, on: vendor) { return .known(difference) }
    return .different(describe(seen))
  }

  /// What the model has there: a native store may have gone to the code that made it.
  private func modelBytes(at address: UInt64, count: Int) -> [UInt8] {
    var bytes = memory.nativeBytes(at: address, count: count)
    for difference in memory.differences() {
      let place = difference.address &- address
      if place < UInt64(bytes.count) { bytes[Int(place)] = difference.model }
    }
    return bytes
  }

  private func describe(_ seen: HostObservation) -> [String] {
    var lines = seen.parts.subtracting([.memory]).map {
      "\(seen.native.describe($0)) natively, \(seen.model.describe($0)) here"
    }.sorted()
    if let byte = seen.memory.first {
      lines.append(
        "\(seen.memory.count) bytes of memory, at \(hexadecimal(byte.address)): \(hexadecimal(UInt64(byte.native))) "
          + "natively, \(hexadecimal(UInt64(byte.model))) here")
    }
    for other in [HostProcessor.Vendor.intel, .amd] where other != vendor {
      if let difference = HostDifference.classify(seen, on: other) {
        lines.append("as another vendor's processors do: \(difference)")
      }
    }
    return lines
  }

  /// The code has made something of itself, or jumped into the middle of an instruction and found something there, that is left
  /// out of the comparison: a system call, an interrupt, flags without a value, an instruction that the host has and the guest has not.
  private func hasBecomeIncomparable(_ test: TestCase) -> Bool {
    let code = test.code
    let bytes = memory.nativeBytes(at: test.address, count: code.count + 15)
    let hasChanged = Array(bytes.prefix(code.count)) != code
    var instruction = Instruction(mode: .bits64)
    // Where it ended there may be an instruction that none of the case's begins at; INT3 is a byte before its RIP. An
    // undefined one at a page's end may be fetched in part only.
    let end = native.pointee.rip &- (native.pointee.vector == 3 ? 1 : 0)
    if end >= test.address, end &- test.address < UInt64(bytes.count) {
      let last = bytes[Int(end &- test.address)...]
      let status = last.withUnsafeBytes { Decoder(mode: .bits64).decode($0, into: &instruction) }
      if status == .decoded,
        instruction.classification == .undefined
          ? hasChanged && end & 4095 > 4096 - 15
          : !isComparable(instruction) || (hasChanged && !probe.announces(instruction))
      {
        return true
      }
    }
    guard hasChanged else { return false }
    // In a loop it was one thing after the other, which nobody has seen.
    let loops = test.elements.indices.contains { index in test.elements[index].target.map { $0 <= index } ?? false }
    if loops { return true }
    // A repeated instruction goes on with its old bytes until the host interrupts it.
    if test.elements.contains(where: { generator.kinds[$0.kind].key.isRepeated }) { return true }
    var offset = 0
    while offset < code.count {
      let status = bytes[offset...].withUnsafeBytes { Decoder(mode: .bits64).decode($0, into: &instruction) }
      guard status == .decoded, instruction.classification != .undefined else { return false }
      if !isComparable(instruction) || !instruction.effects.flags.undefined.isEmpty { return true }
      // The host has it, and the guest is not told of it.
      if !probe.announces(instruction) { return true }
      offset += Int(instruction.length)
    }
    return false
  }

  /// A branch through a register, memory or the stack may have led into the middle of an instruction, where another one begins. Only
  /// flags differ, and only those which such a one leaves without a value.
  private func differsByFlagsWithin(_ test: TestCase, _ seen: HostObservation) -> Bool {
    guard seen.parts == [.flags], test.elements.contains(where: { isIndirectBranch($0.bytes) }) else { return false }
    let code = test.code
    var undefined: Flags = []
    for offset in code.indices {
      if let found = decode(code[offset...]) { undefined.formUnion(found.effects.flags.undefined) }
    }
    return (seen.native.flags ^ seen.model.flags) & ~UInt64(undefined.rawValue) == 0
  }

  private func isIndirectBranch(_ bytes: [UInt8]) -> Bool {
    switch decode(bytes[...])?.classification {
    case .nearReturn, .indirectJump, .indirectCall: true
    default: false
    }
  }

  private func decode(_ bytes: ArraySlice<UInt8>) -> Instruction? {
    var instruction = Instruction(mode: .bits64)
    let status = bytes.withUnsafeBytes { Decoder(mode: .bits64).decode($0, into: &instruction) }
    return status == .decoded ? instruction : nil
  }

  private func isComparable(_ instruction: Instruction) -> Bool { KindCatalogue.isComparable(instruction) }

  private func runNatively(_ test: TestCase) {
    let words = UnsafeMutableRawPointer(native).assumingMemoryBound(to: UInt64.self)
    for number in 0..<16 { words[number] = test.general[number] }
    native.pointee.flags = test.flags
    native.pointee.rip = test.address
    native.pointee.fs_base = test.bases.fs
    native.pointee.gs_base = test.bases.gs
    let area = extended
    memset(area, 0, 832)
    for byte in 0..<160 { area[byte] = test.x87[byte] }
    var mxcsr = test.mxcsr
    memcpy(area + 24, &mxcsr, 4)
    area[512] = 7
    for register in 0..<16 {
      for half in 0..<2 {
        for word in 0..<2 {
          var value = test.vectors[4 * register + 2 * half + word]
          memcpy(area + (half == 0 ? 160 : 576) + 16 * register + 8 * word, &value, 8)
        }
      }
    }
    cnr_run(native)
  }

  private var extended: UnsafeMutablePointer<UInt8> {
    (UnsafeMutableRawPointer(native) + 192).assumingMemoryBound(to: UInt8.self)
  }

  private func runHere(_ test: TestCase, isCarriedOut: Bool) -> CodeProbe.Ending? {
    for number in 0..<16 { probe.general[number] = test.general[number] }
    probe.rflags = test.flags
    probe.rip = test.address
    probe.bases = test.bases
    for byte in 0..<160 where !(6..<32).contains(byte) { probe.x87[byte] = test.x87[byte] }
    for byte in 6..<24 { probe.x87[byte] = 0 }
    probe.mxcsr = test.mxcsr
    test.vectors.withUnsafeBytes { bytes in
      if let source = bytes.baseAddress { memcpy(probe.vectors, source, 512) }
    }
    watchdog.begin()
    defer { watchdog.pause() }
    return isCarriedOut ? probe.carryOut(test.code) : probe.run()
  }

  // MARK: Comparison

  /// A processor may fetch all of an instruction before it finds that there is none; our decoder does so for some, and knows earlier for others.
  private func isFetchBeyondUndefined(_ vector: UInt8, _ errorCode: UInt32?, _ address: UInt64?) -> Bool {
    let expected = native.pointee
    guard expected.rip == probe.rip else { return false }
    func isBehind(_ address: UInt64) -> Bool { address & 4095 == 0 && address &- probe.rip < 15 }
    if vector == 6, expected.vector == 14 { return expected.error_code & 16 != 0 && isBehind(expected.address) }
    if vector == 14, expected.vector == 6 { return (errorCode ?? 0) & 16 != 0 && isBehind(address ?? 1) }
    return false
  }

  /// What both ended with, without what is left out of the comparison.
  private func outcomes(
    _ vector: UInt8, _ errorCode: UInt32?, _ address: UInt64?, _ undefinedFlags: UInt64
  ) -> (native: ProcessorOutcome, model: ProcessorOutcome) {
    let expected = native.pointee
    var natively = ProcessorOutcome(), here = ProcessorOutcome()
    (natively.vector, here.vector) = (expected.vector, UInt64(vector))
    (natively.rip, here.rip) = (expected.rip, probe.rip)
    (natively.errorCode, here.errorCode) = (expected.error_code, UInt64(errorCode ?? 0))
    // The host leaves an old CR2 in place at other exceptions.
    (natively.address, here.address) = (expected.vector == 14 ? expected.address : 0, address ?? 0)
    if expected.vector == 14, vector == 14 {
      if hasLongOperand {
        // Of an operand of many parts, the first that is looked at need not be the first of the page.
        natively.address &= ~4095
        here.address &= ~4095
      }
      // In the upper half of addresses the host's kernel has pages.
      if expected.address >> 47 != 0 {
        natively.errorCode &= ~1
        here.errorCode &= ~1
      }
    }
    let flagMask = Self.flagMask & ~undefinedFlags
    (natively.flags, here.flags) = (expected.flags & flagMask, probe.rflags & flagMask)
    let words = UnsafeMutableRawPointer(native).assumingMemoryBound(to: UInt64.self)
    for number in 0..<16 { (natively.general[number], here.general[number]) = (words[number], probe.general[number]) }
    (natively.fsBase, natively.gsBase) = (expected.fs_base, expected.gs_base)
    (here.fsBase, here.gsBase) = probe.bases
    natively.readFloating(from: UnsafeRawPointer(extended))
    here.readFloating(from: UnsafeRawPointer(probe.x87))
    natively.mxcsr = UnsafeRawPointer(extended).load(fromByteOffset: 24, as: UInt32.self)
    here.mxcsr = probe.mxcsr
    for register in 0..<16 {
      for word in 0..<4 {
        let place = (word < 2 ? 160 : 576) + 16 * register + 8 * (word & 1)
        natively.vectors[4 * register + word] = UnsafeRawPointer(extended).load(fromByteOffset: place, as: UInt64.self)
        here.vectors[4 * register + word] = UnsafeRawPointer(probe.vectors).load(
          fromByteOffset: 32 * register + 8 * word, as: UInt64.self)
      }
    }
    return (natively, here)
  }
}
