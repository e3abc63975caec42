// The translator: guest instructions in, host instructions out.
//
// Guest and host speak the same language, so most instructions are written again with the same opcode. What changes:
//
// - Registers. Each guest register lives in the host register of the same name, RSP included, but for four: guest RAX
//   is in R11, because RAX is where flags are kept; R10 and R15 hold the temporaries T1 and T2 of memory checks, so that
//   guest R10, R11 and R15 live in the state block at %gs.
// - Memory. Every access first looks its page up in the software TLB (`Translator+Memory`).
// - Flags. Checks destroy the host's flags, so the guest's are put into RAX (`lahf; seto %al`) before one, and brought
//   back (`add $0x7f, %al; sahf`) where an instruction reads flags or leaves some unchanged. Flags that will only be
//   overwritten are not kept at all if they can be made again (`FlagRecipe`). `flags` says where they are at the moment;
//   between blocks they are in the host's flags.
// - What is not innocuous (`Instruction.classification`). Jumps become jumps between blocks (`Translator+Control`);
//   system instructions end the block in a call-out to Swift.
//
// A block ends at a control transfer, a call-out, a page's end or after 32 instructions. Its main line comes first, then
// the cold parts: misses, accesses to the bounce buffer, jumps that are not linked yet.

import InstructionSet
import VMM

/// Where the guest's arithmetic flags are.
struct FlagsHome: OptionSet {
  let rawValue: UInt8
  static let host = FlagsHome(rawValue: 1)
  static let rax = FlagsHome(rawValue: 2)
  /// Nowhere else than in the translator's recipe.
  static let recipe = FlagsHome(rawValue: 4)
}

/// An instruction of the block in work, and what it does.
struct DecodedInstruction {
  let instruction: Instruction
  let effects: Effects
  /// From the block's first byte.
  let offset: Int
  /// A jump to the loop's head, whose next round follows (`Translator+Loops`).
  var goesRound = false

  var end: Int { offset + Int(instruction.length) }
}

/// Translates one block after another into the code cache.
final class Translator {
  static let instructionLimit = 32

  let cache: CodeCache
  @exclusivity(unchecked) private(set) var sites: [Site] = []
  /// What `callOut` sites name.
  @exclusivity(unchecked) private(set) var instructions: [Instruction] = []
  /// What `unsupported` sites name.
  private(set) var reasons: [String] = []
  @exclusivity(unchecked) var emitter: Emitter
  @exclusivity(unchecked) var flags: FlagsHome = .host
  /// How the guest's flags can be made again, wherever they are now.
  @exclusivity(unchecked) var recipe: FlagRecipe?
  /// Closures in it refer to the translator without counting: they do not outlive the call that makes them.
  @exclusivity(unchecked) var cold: [ColdPart] = []
  /// Of the instruction in work, if it is innocuous.
  @exclusivity(unchecked) var effects = Instruction(mode: .bits64).effects
  @exclusivity(unchecked) var faults: [FaultRange] = []
  @exclusivity(unchecked) var block: Block
  @exclusivity(unchecked) var mode: CodeMode
  /// Of the instruction in work, and behind it.
  @exclusivity(unchecked) var rip: UInt64 = 0
  @exclusivity(unchecked) var nextRIP: UInt64 = 0
  /// The block's instructions, and perhaps some behind its end; and which one is in work.
  @exclusivity(unchecked) var decoded: [DecodedInstruction] = []
  @exclusivity(unchecked) private(set) var position = 0
  /// Accesses of the block that one check serves, and for each instruction which.
  @exclusivity(unchecked) var groups: [SharedCheck] = []
  @exclusivity(unchecked) var shares: [Share?] = []
  /// The group whose range's host address is in T1.
  @exclusivity(unchecked) var resident: Int?
  /// The instruction before was STI.
  @exclusivity(unchecked) var isInShadow = false
  /// The instruction in work is a call: behind its store comes a jump.
  @exclusivity(unchecked) var isCalling = false
  private let decoders: (Decoder, Decoder, Decoder)
  let announced: AnnouncedFeatures
  /// Every sensitive instruction is to be carried out by Swift.
  var tracesSensitive = false

  init(cache: CodeCache, announced: AnnouncedFeatures) {
    self.cache = cache
    self.announced = announced
    emitter = cache.emitter()
    block = Block(key: BlockKey(page: 0, secondPage: .max, rip: 0, mode: 0), host: 0)
    mode = CodeMode(
      bits: .bits64, isUser: false, overridesSMAP: false, monitorsCoprocessor: false, emulatesCoprocessor: false,
      taskSwitched: false,
      hasSSE: true, hasAVX: true, isSingleStepping: false)
    decoders = (Decoder(mode: .bits16), Decoder(mode: .bits32), Decoder(mode: .bits64))
  }

  /// Forgets everything: the cache is empty again.
  func removeAll() {
    sites.removeAll(keepingCapacity: true)
    reasons.removeAll()
    faults.removeAll(keepingCapacity: true)
    instructions.removeAll(keepingCapacity: true)
    cache.removeAll()
  }

  var decoder: Decoder {
    switch mode.bits {
    case .bits16: decoders.0
    case .bits32: decoders.1
    case .bits64: decoders.2
    }
  }

  var is64: Bool { mode.bits == .bits64 }

  /// Translates what begins in `bytes`, which end at a page's end or, for a straddling instruction, behind it.
  /// - Returns: `nil` if the first instruction needs more bytes.
  func translate(_ bytes: UnsafeRawBufferPointer, key: BlockKey, mode: CodeMode) -> Block? {
    self.mode = mode
    emitter = cache.emitter()
    flags = .host
    cold.removeAll(keepingCapacity: true)
    let firstFault = faults.count
    block = Block(key: key, host: emitter.address)
    recipe = nil
    guard let ending = decode(bytes, limit: mode.isSingleStepping ? 1 : Self.instructionLimit) else { return nil }
    planSharing()
    // A load from the page that a stop request makes unreadable: no flags, no registers but a temporary.
    emitter.load(Host.t1, .state(StateLayout.poll))
    rip = key.rip
    faults.append(
      FaultRange(start: cache.offset(block.host), end: cache.offset(emitter.address), rip: rip, flagsAreInRAX: false))
    var length = 1
    var hasEnded = false
    position = 0
    resident = nil
    while !hasEnded, position < decoded.count {
      let (instruction, end) = (decoded[position].instruction, decoded[position].end)
      length = max(length, end)
      rip = wrap(key.rip &+ UInt64(decoded[position].offset))
      nextRIP = wrap(key.rip &+ UInt64(end))
      isCalling = false
      isInShadow = false
      keepRecipeGood()
      hasEnded = translate(instruction)
      if !hasEnded {
        renewRecipe()
        if !leavesAddress() { resident = nil }
      }
      rip = nextRIP
      position += 1
    }
    if !hasEnded {
      switch ending {
      case .cut: emitCut()
      case .tooLong: emitExit(.raise(.general))
      }
    }
    // What follows an instruction is not known in its cold part. Cold parts may ask for more of them.
    position = decoded.count
    resident = nil
    var part = 0
    while part < cold.count {
      switch cold[part] {
      case .access(let access): emitCold(access)
      case .custom(let body): body()
      }
      part += 1
    }
    block.finish(hostEnd: emitter.address, length: length, faults: firstFault..<faults.count)
    cache.commit(emitter)
    return block
  }

  /// What follows the last decoded instruction if nothing ends the block before: more code, or an instruction that is too long.
  private enum Ending { case cut, tooLong }

  /// Fills `decoded`.
  /// - Returns: `nil` if the first instruction needs more bytes.
  private func decode(_ bytes: UnsafeRawBufferPointer, limit: Int) -> Ending? {
    decoded.removeAll(keepingCapacity: true)
    let decoder = decoder
    var instruction = Instruction(mode: mode.bits)
    var offset = 0
    while decoded.count < limit {
      let rest = UnsafeRawBufferPointer(rebasing: bytes[offset...])
      switch rest.isEmpty ? .needsMoreBytes : decoder.decode(rest, into: &instruction) {
      case .needsMoreBytes: return decoded.isEmpty ? nil : .cut
      case .tooLong: return .tooLong
      case .decoded:
        decoded.append(DecodedInstruction(instruction: instruction, effects: instruction.effects, offset: offset))
        offset += Int(instruction.length)
        if instruction.classification == .conditionalJump { unroll() }
        if instruction.classification.isControlTransfer || instruction.classification == .undefined { return .cut }
      }
    }
    return .cut
  }

  /// Whether the first instruction in `bytes` goes on behind them.
  func needsMore(_ bytes: UnsafeRawBufferPointer, mode: CodeMode) -> Bool {
    self.mode = mode
    var instruction = Instruction(mode: mode.bits)
    if case .needsMoreBytes = decoder.decode(bytes, into: &instruction) { return true }
    return false
  }

  /// The block ends in the middle of things.
  private func emitCut() {
    if isInShadow { emitExit(.shadow) } else { emitJump(to: rip) }
  }

  /// RIP in the mode's width. Without a branch, IP of 16 bits goes on into EIP's upper half, where CS ends as a rule.
  func wrap(_ value: UInt64) -> UInt64 {
    switch mode.bits {
    case .bits16, .bits32: value & 0xffff_ffff
    case .bits64: value
    }
  }

  /// Whether the block ends with it.
  private func translate(_ instruction: Instruction) -> Bool {
    if let exception = missingState(instruction) {
      emitExit(.raise(exception))
      return true
    }
    switch instruction.classification {
    case .undefined:
      emitExit(.raise(.invalidOpcode))
      return true
    case .innocuous:
      if instruction.setsDirection, !tracesSensitive {
        emitDirection(instruction)
        return false
      }
      if instruction.setsDirection || instruction.isMaskedMove {
        emitExit(callOut(instruction))
        return true
      }
      guard let failure = translateInnocuous(instruction) else { return false }
      return refuse(instruction, failure)
    case .implicitMemory:
      switch translateImplicit(instruction) {
      case .done: return false
      case .callOut:
        emitExit(callOut(instruction))
        return true
      case .refused(let reason): return refuse(instruction, reason)
      }
    case .conditionalJump where decoded[position].goesRound:
      emitLoopExit(instruction)
      return false
    case .jump, .conditionalJump, .loop, .call, .nearReturn, .indirectJump, .indirectCall:
      if let failure = translateTransfer(instruction) { _ = refuse(instruction, failure) }
      return true
    case .legacyOnly where instruction.isLikeModern:
      guard let failure = translateInnocuous(instruction) else { return false }
      return refuse(instruction, failure)
    case .privileged where translateSensitive(instruction), .sensitive where translateSensitive(instruction):
      return false
    case .systemCall where translateModeChange(instruction), .interruptReturn where translateModeChange(instruction),
      .privileged where translateModeChange(instruction):
      return true
    case .legacyOnly, .farJump, .farCall, .farReturn, .interruptReturn, .softwareInterrupt, .systemCall, .privileged,
      .sensitive:
      emitExit(callOut(instruction))
      return true
    }
  }

  private func refuse(_ instruction: Instruction, _ reason: String) -> Bool {
    let name = instruction.mnemonic
    reasons.append(reason.isEmpty ? name : "\(name) (\(reason))")
    emitExit(.unsupported(Int32(truncatingIfNeeded: reasons.count - 1)))
    return true
  }

  /// #UD or #NM instead of an instruction whose state the guest has not enabled (AMD64 APM vol. 2, table 8-1).
  private func missingState(_ instruction: Instruction) -> TranslationFault? {
    if !announced.contains(instruction.feature), !announced.isOlderInstruction(instruction) { return .invalidOpcode }
    if instruction.encoding == .vex, !mode.isProtected { return .invalidOpcode }
    switch instruction.feature {
    case .x87 where instruction.opcode == 0x9b:
      // WAIT looks at MP, not at EM.
      return mode.taskSwitched && mode.monitorsCoprocessor ? .deviceNotAvailable : nil
    case .x87, .mmx, .mmxext:
      if instruction.feature != .x87, mode.emulatesCoprocessor { return .invalidOpcode }
      if instruction.feature == .x87, mode.emulatesCoprocessor { return .deviceNotAvailable }
    case .sse, .sse2, .sse3, .ssse3, .sse41, .sse42, .aes, .pclmul, .sha, .gfni, .avx, .avx2, .f16c, .fma, .vaes,
      .vpclmul:
      if instruction.encoding == .vex {
        if !mode.hasAVX { return .invalidOpcode }
      } else if !usesVectors(instruction) {
        // Prefetches, fences, MOVNTI and their like.
        return nil
      } else if mode.emulatesCoprocessor || !mode.hasSSE {
        return .invalidOpcode
      }
    default: return nil
    }
    return mode.taskSwitched ? .deviceNotAvailable : nil
  }

  private func usesVectors(_ instruction: Instruction) -> Bool {
    for index in 0..<instruction.operandCount {
      switch instruction.operand(at: index)?.kind {
      case .vector, .mmx: return true
      default: break
      }
    }
    // LDMXCSR and STMXCSR.
    return instruction.opcodeMap == Instruction.OpcodeMap.escape0F && instruction.opcode == 0xae
      && (instruction.reg == 2 || instruction.reg == 3) && instruction.hasModRMMemory
  }

  // MARK: Exits

  /// Where a fault of the host belongs to the instruction in work.
  func faulting(ownRegisters: Bool = false, spare: UInt8? = nil, _ body: () -> Void) {
    let start = emitter.address
    body()
    faults.append(
      FaultRange(
        start: cache.offset(start), end: cache.offset(emitter.address), rip: rip, flagsAreInRAX: !flags.contains(.host),
        hasOwnRegisters: ownRegisters, spare: spare, recipe: flags == .recipe ? recipe : nil))
  }

  /// Puts off what `body` writes until the block's main line is done.
  func appendCold(_ body: @escaping () -> Void) { cold.append(.custom(body)) }

  func callOut(_ instruction: Instruction) -> Site.Kind {
    instructions.append(instruction)
    return .callOut(Int32(truncatingIfNeeded: instructions.count - 1))
  }

  /// A place that is left with the flags where they are now.
  func addSite(_ kind: Site.Kind, rip: UInt64) -> Int {
    sites.append(
      Site(
        kind: kind, owner: Unmanaged.passUnretained(block), rip: rip, recipe: flags == .recipe ? recipe : nil))
    return sites.count - 1
  }

  func replaceSite(_ index: Int, _ kind: Site.Kind) { sites[index].kind = kind }

  /// Leaves translated code, with the flags wherever they are.
  func emitExit(_ kind: Site.Kind) {
    emitLeave(site: addSite(kind, rip: rip))
  }

  func emitLeave(site: Int) {
    emitter.storeConstant32(UInt32(truncatingIfNeeded: site), .state(StateLayout.site))
    let isInHost = flags.contains(.host) && !flags.contains(.rax)
    emitter.jump(.state(isInHost ? StateLayout.exitHostFlags : StateLayout.exitRAXFlags))
  }

  // MARK: Registers

  /// The host register in which a guest register lives, or `nil` for the three in the state block.
  func home(_ register: GeneralRegister) -> UInt8? {
    switch register {
    case .rax: Host.guestRAX
    case .r10, .r11, .r15: nil
    default: register.rawValue
    }
  }

  /// A host register with the value: its home, or `temporary` loaded with it.
  func fetch(_ register: GeneralRegister, into temporary: UInt8) -> UInt8 {
    if let home = home(register) { return home }
    emitter.load(temporary, .state(StateLayout.general(register.rawValue)))
    return temporary
  }
}

extension Instruction {
  /// Exists in 64-bit mode in another encoding: INC and DEC without ModRM, and 82.
  var isLikeModern: Bool {
    encoding == .legacy && opcodeMap == OpcodeMap.oneByte && (0x40...0x4f ~= opcode || opcode == 0x82)
  }

  /// CLD or STD: the guest's direction flag never gets into the host's.
  var setsDirection: Bool {
    encoding == .legacy && opcodeMap == OpcodeMap.oneByte && (opcode == 0xfc || opcode == 0xfd)
  }
}
