// Writes the code of one block, from its plan.
//
// Guest and host speak the same language, so most instructions are written again with the same opcode. What changes:
//
// - Registers. Each guest register lives in the host register of the same name, RSP included, but for four: guest RAX
//   is in R11, because RAX is where flags are kept; R10 and R15 hold the temporaries T1 and T2 of memory checks, so that
//   guest R10, R11 and R15 live in the state block at %gs.
// - Memory. Every access first looks its page up in the software TLB (`AccessCode`).
// - Flags. Checks destroy the host's flags, so the guest's are put into RAX (`lahf; seto %al`) before one, and brought
//   back (`add $0x7f, %al; sahf`) where an instruction reads flags or leaves some unchanged. Flags that will only be
//   overwritten are not kept at all if they can be made again (`FlagRecipe`). `flags` says where they are at the moment;
//   where they are at a block's end, they stay (`emitEntries`).
// - What is not innocuous (`Instruction.classification`). Jumps become jumps between blocks (`TransferCode`); system
//   instructions end the block in a call-out to Swift.
//
// The main line comes first. What it leaves to be written behind it, misses, accesses to the bounce buffer, jumps that are
// not linked yet, is a list of `ColdPart`s: values, so that nothing that was true in the middle of the main line has to be
// remembered otherwise.
//
// An emitter is made for one block. The instructions' families have a namespace each (`OperationCode`, `StackCode`, …), whose
// functions write into it.

import TrivisorInstructionSet

/// Where the guest's arithmetic flags are.
struct FlagsHome: OptionSet {
  let rawValue: UInt8
  static let host = FlagsHome(rawValue: 1)
  static let rax = FlagsHome(rawValue: 2)
  /// Nowhere else than in the emitter's recipe.
  static let recipe = FlagsHome(rawValue: 4)
}

/// The code of one block in the making.
struct BlockEmitter: ~Copyable {
  /// The plan, and what is still to be written behind the main line: lent, as the records are.
  var work = BlockWorkspace()
  let key: BlockKey
  let mode: CodeMode
  let cache: CodeCache
  let announced: AnnouncedFeatures
  /// Every sensitive instruction is to be carried out by Swift.
  let tracesSensitive: Bool
  /// Several processors run the code.
  let isShared: Bool
  let block: Block
  /// What is written.
  var code: Emitter
  /// Sites, faults, and what they name: lent for as long as the block is written.
  var records = TranslationRecords()

  var flags: FlagsHome = .host
  /// How the guest's flags can be made again, wherever they are now.
  var recipe: FlagRecipe?
  /// Of the instruction in work, and behind it.
  private(set) var rip: UInt64
  private(set) var nextRIP: UInt64
  /// Which instruction is in work; in cold parts, none.
  private(set) var position = 0
  /// The groups whose anchors have been written, by slot.
  var establishedSlots: UInt64 = 0
  /// The group whose range's host address is in T1.
  var resident: Int?
  /// The instruction before was STI.
  var isInShadow = false
  /// What the x87 instruction before has not noted, because the one in work, or one behind it, will (`X87Code`).
  var elidedX87Notes = X87Notes()
  /// The instruction in work is a call: behind its store comes a jump.
  var isCalling = false

  init(
    _ key: BlockKey, _ mode: CodeMode, _ block: Block, into cache: CodeCache, announced: AnnouncedFeatures,
    tracesSensitive: Bool, isShared: Bool
  ) {
    self.isShared = isShared
    self.key = key
    self.mode = mode
    self.block = block
    self.cache = cache
    self.announced = announced
    self.tracesSensitive = tracesSensitive
    code = cache.emitter()
    rip = key.rip
    nextRIP = rip
  }

  var plan: BlockPlan { _read { yield work.plan } }
  var is64: Bool { mode.bits == .bits64 }

  /// Whether a second copy of each access is written, for the bounce buffer. Few accesses ever need it: they get a block of
  /// their own then.
  var writesBounces: Bool { key.variant == .bouncing || mode.isSingleStepping || mode.checksAccesses }

  /// Puts off what is written behind the main line.
  @inline(__always)
  mutating func postpone(_ part: ColdPart) { work.cold.append(part) }

  /// Writes the block.
  mutating func emit() {
    let firstFault = records.faults.count
    let entries = emitEntries()
    if key.isStraddling, mode.isRelative { TransferCode.checkSecondPage(&self) }
    var length = 1
    var hasEnded = false
    while !hasEnded, position < plan.instructions.count {
      let element = plan.instructions[position]
      length = max(length, element.end)
      begin(rip: plan.rip(at: element.offset), next: plan.rip(at: element.end))
      keepRecipeGood()
      hasEnded = emit(element.instruction)
      if !hasEnded {
        renewRecipe()
        if !AccessCode.leavesResident(element, self) { resident = nil }
      }
      begin(rip: nextRIP, next: nextRIP, keepsShadow: true)
      position += 1
    }
    if !hasEnded {
      switch plan.ending {
      case .cut: if isInShadow { exit(.shadow) } else { TransferCode.jump(to: rip, &self) }
      case .tooLong: exit(.raise(.general))
      case .breakpoint: exit(.breakpoint)
      }
    }
    // What follows an instruction is not known in its cold part. Cold parts may ask for more of them.
    position = plan.instructions.count
    resident = nil
    var part = 0
    while part < work.cold.count {
      let next = work.cold[part]
      next.emit(&self)
      part += 1
    }
    work.cold.removeAll()
    block.finish(entries: entries, hostEnd: code.address, length: length, faults: firstFault..<records.faults.count)
    cache.commit(code)
  }

  /// What is written first, by where the block wants the flags:
  ///
  ///     in the host's register:  RAX's entry: flags to the host's; the host's entry: poll; quick entry of the host's
  ///     in RAX, or nowhere:      the host's entry: flags to RAX; RAX's entry: poll; quick entry of RAX's, or of both
  ///
  /// Where several processors run it, a jump to RAX's entry comes before all that: that is where jump caches lead.
  private mutating func emitEntries() -> BlockEntries {
    let wish = plan.flagsWish
    var entries = BlockEntries()
    let start = code.address
    let lookup = isShared ? code.jump32() : nil
    let behindLookup = UInt8(truncatingIfNeeded: code.address &- start)
    entries.rax = behindLookup
    entries.host = behindLookup
    entries.quickHost = behindLookup
    if wish == .host {
      code.restoreFlags()
      entries.host = UInt8(truncatingIfNeeded: code.address &- start)
      entries.quickRAX = entries.rax
      flags = .host
    } else {
      code.saveFlags()
      entries.rax = UInt8(truncatingIfNeeded: code.address &- start)
      flags = .rax
    }
    lookup?.patch(to: start &+ UInt64(entries.rax))
    entries.lookup = isShared ? 0 : entries.rax
    // A load from the page that a stop request makes unreadable: no flags, no registers but a temporary.
    faulting { $0.code.load(Host.t1, .state(StateLayout.poll)) }
    let behind = UInt8(truncatingIfNeeded: code.address &- start)
    switch wish {
    case .host: entries.quickHost = behind
    case .rax: entries.quickRAX = behind
    case .nowhere:
      entries.quickRAX = behind
      entries.quickHost = behind
    }
    return entries
  }

  /// What is written from now on belongs to the instruction at `rip`.
  mutating func begin(rip: UInt64, next: UInt64, keepsShadow: Bool = false) {
    self.rip = rip
    nextRIP = next
    guard !keepsShadow else { return }
    isCalling = false
    isInShadow = false
  }

  /// Writes an instruction.
  /// - Returns: whether the block ends with it.
  private mutating func emit(_ instruction: Instruction) -> Bool {
    if let exception = missingState(instruction) {
      exit(.raise(exception))
      return true
    }
    do throws(Refusal) {
      return try emitByClass(instruction)
    } catch {
      let name = instruction.mnemonic
      exit(records.unsupported(error.reason.isEmpty ? name : "\(name) (\(error.reason))"))
      return true
    }
  }

  private mutating func emitByClass(_ instruction: Instruction) throws(Refusal) -> Bool {
    switch instruction.classification {
    case .undefined:
      exit(.raise(.invalidOpcode))
      return true
    case .innocuous:
      if instruction.setsDirection, !tracesSensitive {
        SensitiveCode.direction(instruction, &self)
        return false
      }
      if instruction.setsDirection || instruction.isMaskedMove {
        exit(records.callOut(instruction))
        return true
      }
      try OperationCode.emit(instruction, &self)
      return false
    case .implicitMemory:
      guard try StackCode.emit(instruction, &self) else {
        exit(records.callOut(instruction))
        return true
      }
      return false
    case .conditionalJump where plan.instructions[position].goesRound:
      TransferCode.loopExit(instruction, &self)
      return false
    case .jump, .conditionalJump, .loop, .call, .nearReturn, .indirectJump, .indirectCall:
      try TransferCode.emit(instruction, &self)
      return true
    case .legacyOnly where instruction.isLikeModern:
      try OperationCode.emit(instruction, &self)
      return false
    case .privileged where try SensitiveCode.emit(instruction, &self),
      .sensitive where try SensitiveCode.emit(instruction, &self):
      return false
    case .systemCall where HelperCode.modeChange(instruction, &self),
      .interruptReturn where HelperCode.modeChange(instruction, &self),
      .privileged where HelperCode.modeChange(instruction, &self):
      return true
    case .legacyOnly, .farJump, .farCall, .farReturn, .interruptReturn, .softwareInterrupt, .systemCall, .privileged,
      .sensitive:
      exit(records.callOut(instruction))
      return true
    }
  }

  /// #UD or #NM instead of an instruction whose state the guest has not enabled (AMD64 APM vol. 2, table 8-1).
  private func missingState(_ instruction: Instruction) -> TranslationFault? {
    if !announced.contains(instruction) { return .invalidOpcode }
    if instruction.encoding == .vex, !mode.isProtected { return .invalidOpcode }
    switch instruction.feature {
    case .x87 where instruction.operation == .fwait:
      // WAIT looks at MP, not at EM.
      return mode.taskSwitched && mode.monitorsCoprocessor ? .deviceNotAvailable : nil
    case .x87, .mmx, .mmxext:
      if instruction.feature != .x87, mode.emulatesCoprocessor { return .invalidOpcode }
      if instruction.feature == .x87, mode.emulatesCoprocessor { return .deviceNotAvailable }
    case .sse, .sse2, .sse3, .ssse3, .sse41, .sse42, .aes, .pclmul, .sha, .gfni, .avx, .avx2, .f16c, .fma, .vaes,
      .vpclmul:
      if instruction.encoding == .vex {
        if !mode.hasAVX { return .invalidOpcode }
      } else if !instruction.usesVectors {
        return nil
      } else if mode.emulatesCoprocessor || !mode.hasSSE {
        return .invalidOpcode
      }
    default: return nil
    }
    return mode.taskSwitched ? .deviceNotAvailable : nil
  }

  // MARK: Records

  /// Where a fault of the host belongs to the instruction in work.
  mutating func faulting(ownRegisters: Bool = false, spare: UInt8? = nil, _ body: (inout BlockEmitter) -> Void) {
    let start = code.address
    body(&self)
    noteFault(from: start, ownRegisters: ownRegisters, spare: spare)
  }

  /// What was written since `start` may fault, and belongs to the instruction in work.
  mutating func noteFault(from start: UInt64, ownRegisters: Bool = false, spare: UInt8? = nil) {
    records.faults.append(
      FaultRange(
        start: cache.offset(start), end: cache.offset(code.address), rip: rip, flagsAreInRAX: !flags.contains(.host),
        hasOwnRegisters: ownRegisters, spare: spare, recipe: flags == .recipe ? recipe : nil,
        x87Notes: elidedX87Notes))
  }

  /// A place that is left with the flags where they are now.
  mutating func addSite(_ kind: Site.Kind, rip: UInt64) -> Int {
    records.add(
      Site(
        kind: kind, owner: Unmanaged.passUnretained(block), rip: rip, recipe: flags == .recipe ? recipe : nil))
  }

  /// Leaves translated code, with the flags wherever they are.
  mutating func exit(_ kind: Site.Kind) { exit(kind, rip: rip) }

  /// The instruction in work must be one step with regard to other processors.
  var isLocked: Bool {
    guard position < plan.instructions.count else { return false }
    let instruction = plan.instructions[position].instruction
    return instruction.prefixes.contains(.lock) || instruction.operation == .xchg
  }

  /// Before a jump that will be linked: where others run it meanwhile, its target must change in one step.
  mutating func alignLink(opcodeLength: UInt64) {
    if isShared { code.alignOperand(opcodeLength: opcodeLength) }
  }

  /// The same, for another instruction than the one in work, or to a target.
  mutating func exit(_ kind: Site.Kind, rip: UInt64) { leave(site: addSite(kind, rip: rip)) }

  mutating func leave(site: Int) {
    let isInHost = flags.contains(.host) && !flags.contains(.rax)
    leave(site: site, by: isInHost ? cache.leaves.host : cache.leaves.rax)
  }

  /// - Parameter leaf: common code that leaves, or does not.
  mutating func leave(site: Int, by leaf: UInt64) {
    code.storeConstant32(UInt32(truncatingIfNeeded: site), .state(StateLayout.site))
    code.jump32().patch(to: leaf)
  }

  /// Leaves behind a check that failed, as `check` left its temporaries. The host's flags have been given up.
  mutating func leaveByMiss(site: Int, view: Int, isWrite: Bool) {
    leave(site: site, by: cache.leaves.miss(view: view, isWrite: isWrite))
  }

  // MARK: Registers

  /// An address that code has of itself, `relative` as RIPs are in the plan: into a temporary. No flags change.
  mutating func loadCodeAddress(_ temporary: UInt8, _ relative: UInt64, isWide: Bool = true) {
    guard mode.isRelative else {
      code.loadConstant(temporary, isWide ? relative : relative & 0xffff_ffff)
      return
    }
    code.load(temporary, .state(StateLayout.page))
    if let distance = Int32(exactly: Int64(bitPattern: relative)) {
      code.lea(temporary, .memory(base: temporary, displacement: distance), w: isWide)
    } else {
      let other = temporary == Host.t1 ? Host.t2 : Host.t1
      code.loadConstant(other, relative)
      code.lea(temporary, .memory(base: temporary, index: other), w: isWide)
    }
  }

  /// A host register with the value: its home, or `temporary` loaded with it.
  mutating func fetch(_ register: GeneralRegister, into temporary: UInt8) -> UInt8 {
    if let home = Host.home(register) { return home }
    code.load(temporary, .state(StateLayout.general(register.rawValue)))
    return temporary
  }

  /// Writes an instruction with other registers and another place.
  mutating func encode(_ instruction: Instruction, _ shape: OperationShape, reg: UInt8, vvvv: UInt8, _ rm: Place) {
    shape.encode(
      instruction, reg: reg, vvvv: vvvv, rm, is64: is64, is16: mode.bits == .bits16,
      keepsRepeat: announced.contains(instruction.feature), into: &code)
  }

  /// Writes an operation all of whose registers are at home.
  mutating func encode(_ operation: PlannedOperation, _ shape: OperationShape, on place: Place?) {
    let keepsRepeat = announced.contains(plan.instructions[operation.index].instruction.feature)
    shape.encode(
      work.plan.instructions[operation.index].instruction, reg: shape.reg.home, vvvv: shape.vvvv.home,
      place ?? .register(shape.rm.home), is64: is64, is16: mode.bits == .bits16, keepsRepeat: keepsRepeat, into: &code)
  }

  // MARK: Flags

  /// Brings the flags to the host's.
  mutating func requireHostFlags() {
    if flags == .recipe {
      if let recipe { recipe.emit(into: &code) }
    } else if !flags.contains(.host) {
      code.restoreFlags()
    }
    flags = .host
  }

  /// Before a jump to another block: the flags stay where they are, if they are anywhere.
  /// - Returns: whether they are in RAX.
  mutating func leaveFlags() -> Bool {
    if flags == .recipe { requireHostFlags() }
    return flags.contains(.rax)
  }

  /// Puts a copy into RAX.
  mutating func requireSavedFlags() {
    if flags == .recipe { requireHostFlags() }
    if !flags.contains(.rax) { code.saveFlags() }
    flags.insert(.rax)
  }

  /// Before the host's flags are destroyed: a copy is in RAX, or none is needed.
  mutating func giveUpHostFlags() {
    if flags.contains(.rax) || flags == .recipe { return }
    if is64, let recipe, plan.flagsDie(from: position, keeping: recipe) {
      flags = .recipe
    } else {
      requireSavedFlags()
    }
  }

  /// Whether the instruction in work, whose effects these are, must find the flags in the host's.
  func needsHostFlags(_ use: FlagUse, at index: Int) -> Bool {
    if !use.tested.isDisjoint(with: .arithmetic) { return true }
    if use.changed.isDisjoint(with: .arithmetic) || plan.overwritesFlags(index) { return false }
    // What it leaves as it is matters, unless nobody can see it.
    return flags.contains(.host) || !plan.flagsDie(behind: position)
  }

  /// Before an instruction: the flags are taken out of a recipe that it would spoil.
  private mutating func keepRecipeGood() {
    guard flags == .recipe, let recipe else { return }
    let (instruction, effects) = (plan.instructions[position].instruction, plan.instructions[position].effects)
    if !instruction.isPlain {
      requireHostFlags()
    } else if !effects.general.written.isDisjoint(with: recipe.registers), !plan.overwritesFlags(position) {
      requireSavedFlags()
    }
  }

  /// Behind an instruction: what is known of its flags, or still known of older ones.
  private mutating func renewRecipe() {
    if plan.instructions[position].goesRound { return }
    let template = plan.instructions[position].template
    if !plan.instructions[position].instruction.isPlain {
      recipe = nil
    } else if !template.pointee.effects.flags.changed.isDisjoint(with: .arithmetic) {
      recipe =
        plan.overwritesFlags(position) ? template.pointee.recipe(for: plan.instructions[position].instruction) : nil
    } else if let known = recipe, !template.pointee.effects.general.written.isDisjoint(with: known.registers) {
      recipe = nil
    }
  }
}
