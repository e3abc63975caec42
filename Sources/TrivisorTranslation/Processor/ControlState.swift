// The registers that decide how code runs, and what follows from them.
//
// CR0, CR3, CR4, EFER, XCR0, PKRU, CPL, the segments, the debug registers and some of RFLAGS decide three things: how addresses are
// translated (GuestMMU and the TLBs), which translation of code is the right one (CodeMode, and its number), and what
// translated code and its helpers see of these registers (the state block). Each of them is changed here and nowhere else,
// and whoever changes one need not know who else must learn of it:
//
//     set a register ─▶ page tables' registers, TLBs       at once
//                    └▶ mode, its number, the state block  when the next block is looked for (`establish`)
//
// The second half waits, because an instruction such as IRET changes several of them, and only the last state counts.
//
// Translated code changes some of them itself: SYSCALL, SYSRET, IRET, STAC and CLAC have helpers in C that go from one mode to
// another without Swift. A helper knows the other mode's number because Swift has noted it the first time that the guest went
// that way (`note`). `adopt` takes over what the helpers have changed, when translated code is left.

import TrivisorCWorldSwitch
import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// Both modules of the manuals' names have one.
typealias Segment = TrivisorVMM.Segment

/// Ways from one mode to another that translated code goes by itself, once it knows the other's number.
enum ModeChange {
  case systemCall, returnToUser, otherAccess
}

/// One processor's control registers, segments and mode.
final class ControlState {
  private let block: StateBlock
  private let mmu: GuestMMU
  private let translations: AddressTranslations
  private let turn: ProcessorTurn
  private let store: TranslationCache

  @exclusivity(unchecked) private(set) var system = SystemRegisters()
  /// Those that only remember what was written, and those of fast system calls.
  @exclusivity(unchecked) var modelSpecific: [UInt32: UInt64] = [:] {
    didSet { publishSystemCalls() }
  }
  @exclusivity(unchecked) var debug = DebugRegisters() {
    didSet { isEstablished = false }
  }
  /// MSR 0x1d9, and what it makes the processor record.
  @exclusivity(unchecked) var branchRecord = BranchRecord() {
    didSet { if branchRecord.isOn != oldValue.isOn { isEstablished = false } }
  }
  /// One instruction is run by itself, because an event waits behind it.
  @exclusivity(unchecked) var stepsOnce = false {
    didSet { if stepsOnce != oldValue { isEstablished = false } }
  }
  /// Why instructions are run by themselves, though nothing of the guest asks for it.
  enum Solitude {
    case no
    /// One is, for a debugger from outside that has not asked for it.
    case once
    /// A debugger from outside steps.
    case forDebugger
  }
  @exclusivity(unchecked) var isAlone = Solitude.no {
    didSet { if isAlone != oldValue { isEstablished = false } }
  }
  /// A debugger from outside looks at every access.
  @exclusivity(unchecked) var isWatched = false {
    didSet { if isWatched != oldValue { isEstablished = false } }
  }
  /// The next instruction is in device memory: it is run by itself.
  @exclusivity(unchecked) var runsDeviceCode = false {
    didSet { if runsDeviceCode != oldValue { isEstablished = false } }
  }
  @exclusivity(unchecked) var xcr0: XCR0 = .x87 {
    didSet { isEstablished = false }
  }
  /// What protection keys take from user pages. The TLB loses what it must no longer allow; what is allowed anew is found by a miss.
  var pkru: PKRU {
    get { mmu.pkru }
    set {
      let keys = newValue.keysWithLess(than: mmu.pkru)
      mmu.pkru = newValue
      block.system.pointee.pkru = UInt64(newValue.rawValue)
      if keys != 0, mmu.registers.hasProtectionKeys { translations.forbid(keys: keys) }
    }
  }
  /// CPL: that of the code that runs.
  @exclusivity(unchecked) var privilege: UInt8 = 0 {
    didSet { if privilege != oldValue { isEstablished = false } }
  }

  /// Code at CPL 3 is a domain's kernel (`CodeMode.isDomainKernel`).
  @exclusivity(unchecked) private(set) var isDomainKernel = false

  /// What code runs in. Of the last block: it may have to be established before the next.
  @exclusivity(unchecked) private(set) var mode = CodeMode.reset
  @exclusivity(unchecked) private(set) var modeNumber: UInt8 = 0
  /// CS's limit and base, as in `BlockKey`.
  @exclusivity(unchecked) private(set) var codeSegment = BlockKey.flat
  /// A return to CPL 3 makes the selector of a data segment 0.
  @exclusivity(unchecked) private(set) var hasInnerDataSegments = false
  @exclusivity(unchecked) private var isEstablished = false
  /// The registers, and the numbering of modes, for which the ways between modes were noted.
  @exclusivity(unchecked) private var neighbourhood: Neighbourhood?

  private struct Neighbourhood: Equatable {
    let cr0: UInt64, cr4: UInt64, efer: UInt64
    let xcr0: XCR0
    let numbering: Int
  }

  init(
    _ block: StateBlock, _ mmu: GuestMMU, _ translations: AddressTranslations, _ store: TranslationCache,
    _ turn: ProcessorTurn
  ) {
    self.turn = turn
    self.block = block
    self.mmu = mmu
    self.translations = translations
    self.store = store
    flags = .alwaysOne
    publishPaging()
    publishSystemCalls()
    translations.whenBlocksGo = { [unowned self] in isEstablished = false }
  }

  // MARK: Flags

  /// Of RFLAGS all but the arithmetic flags, which are in the state block.
  var flags: RFLAGS {
    get { RFLAGS(rawValue: block.system.pointee.flags | block.system.pointee.interrupt_flag) }
    set {
      let interrupt = newValue.intersection(.interrupt)
      let others = newValue.subtracting(.interrupt)
      let changes = RFLAGS(rawValue: block.system.pointee.flags).symmetricDifference(others)
      block.system.pointee.flags = others.rawValue
      block.system.pointee.interrupt_flag = interrupt.rawValue
      if !changes.isDisjoint(with: Self.modeFlags) { isEstablished = false }
    }
  }

  /// What a mode depends on.
  private static let modeFlags: RFLAGS = [.trap, .alignmentCheck, .virtual8086]

  // MARK: Segments

  func segment(_ register: SegmentRegister) -> Segment {
    switch register {
    case .es: system.es
    case .cs: system.cs
    case .ss: system.ss
    case .ds: system.ds
    case .fs: system.fs
    case .gs: system.gs
    }
  }

  func setSegment(_ register: SegmentRegister, _ value: Segment) {
    switch register {
    case .es: system.es = value
    case .cs: system.cs = value
    case .ss: system.ss = value
    case .ds: system.ds = value
    case .fs: system.fs = value
    case .gs: system.gs = value
    }
    isEstablished = false
  }

  /// All of them at once, where most are what they were.
  func load(_ segments: SegmentRegisters) {
    guard system.segments != segments else { return }
    system.segments = segments
    isEstablished = false
  }

  /// CS, as the instructions that load it leave it.
  var code: Segment {
    get { system.cs }
    set { setSegment(.cs, newValue) }
  }

  /// SS.
  var stack: Segment {
    get { system.ss }
    set { setSegment(.ss, newValue) }
  }

  var fsBase: UInt64 {
    get { system.fs.base }
    set {
      system.fs.base = newValue
      isEstablished = false
    }
  }

  var gsBase: UInt64 {
    get { system.gs.base }
    set {
      system.gs.base = newValue
      isEstablished = false
    }
  }

  /// MSR 0xc000_0102.
  var kernelGSBase: UInt64 {
    get { block.system.pointee.kernel_gs_base }
    set { block.system.pointee.kernel_gs_base = newValue }
  }

  /// LDTR.
  var localTable: Segment {
    get { system.ldt }
    set { system.ldt = newValue }
  }

  /// TR.
  var task: Segment {
    get { system.task }
    set { system.task = newValue }
  }

  var globalTable: DescriptorTable {
    get { system.gdt }
    set {
      system.gdt = newValue
      isEstablished = false
    }
  }

  var interruptTable: DescriptorTable {
    get { system.idt }
    set { system.idt = newValue }
  }

  /// What SYSCALL in long mode makes of CS and SS.
  var callSegments: SystemCallSegments { .call(star: modelSpecific[MSR.star] ?? 0) }

  /// And SYSRET to 64-bit mode.
  var returnSegments: SystemCallSegments { .return(star: modelSpecific[MSR.star] ?? 0, to64: true) }

  // MARK: Control registers

  var cr0: CR0 { CR0(rawValue: system.cr0) }
  var cr3: UInt64 { system.cr3 }
  var cr4: CR4 { CR4(rawValue: system.cr4) }
  var efer: EFER { EFER(rawValue: system.efer) }
  /// EFER.LMA.
  var isLongMode: Bool { efer.contains(.longModeActive) }
  /// CR0.PE.
  var isProtected: Bool { cr0.contains(.protectedMode) }
  /// Selectors name descriptors: not so in real and virtual-8086 mode.
  var usesDescriptors: Bool { isProtected && (isLongMode || !flags.contains(.virtual8086)) }
  /// CS is a 64-bit segment.
  var is64: Bool { isLongMode && SegmentAttributes(rawValue: system.cs.attributes).contains(.long) }

  var cr2: UInt64 {
    get { system.cr2 }
    set {
      system.cr2 = newValue
      block.system.pointee.controls.2 = newValue
    }
  }

  /// CR0, with what it makes of EFER.LMA.
  func set(cr0: CR0, efer: EFER) {
    system.cr0 = cr0.rawValue
    system.efer = efer.rawValue
    publishPaging()
    translations.flush(for: context)
  }

  /// CLTS: the TLBs stay.
  func clearTaskSwitched() { setTaskSwitched(false) }

  /// CR0.TS alone: the TLBs stay.
  func setTaskSwitched(_ isSet: Bool) {
    guard cr0.contains(.taskSwitched) != isSet else { return }
    system.cr0 = cr0.symmetricDifference(.taskSwitched).rawValue
    publishPaging()
  }

  /// CR4.TSD alone: the TLBs stay.
  func setTimeStampDisabled(_ isSet: Bool) {
    guard cr4.contains(.timeStampDisable) != isSet else { return }
    system.cr4 = cr4.symmetricDifference(.timeStampDisable).rawValue
    publishPaging()
  }

  /// - Parameter keepsTranslations: what was known of the context's address space may be kept.
  func set(cr3: UInt64, keepsTranslations: Bool) {
    system.cr3 = cr3
    publishPaging()
    translations.enter(context, keepsTranslations: keepsTranslations)
  }

  /// PCID, or 0 where contexts have no numbers.
  private var context: UInt64 { cr4.contains(.processContextIdentifiers) ? cr3 & CR3.processContext : 0 }

  /// To the page tables of a domain's kernel or of its user code, whose translations are apart: nothing is flushed.
  func switchView(root: UInt64, isDomainKernel: Bool) {
    guard system.cr3 != root || self.isDomainKernel != isDomainKernel else { return }
    system.cr3 = root
    self.isDomainKernel = isDomainKernel
    mmu.keepsUpperHalf = isDomainKernel
    publishPaging()
  }

  func set(cr4: CR4) {
    system.cr4 = cr4.rawValue
    publishPaging()
    translations.flush(for: context)
  }

  func set(efer: EFER) {
    system.efer = efer.rawValue
    publishPaging()
    translations.flush(for: context)
  }

  /// All at once, from a machine's state or at INIT.
  func restore(_ registers: SystemRegisters, privilege: UInt8) {
    system = registers
    self.privilege = privilege
    publishPaging()
    translations.flush(for: context)
  }

  private func publishPaging() {
    mmu.registers = PagingRegisters(cr0: cr0, cr3: cr3, cr4: cr4, efer: efer)
    isEstablished = false
  }

  // MARK: The mode

  /// Width of the stack pointer in bytes.
  var stackSize: Int {
    is64 ? 8 : SegmentAttributes(rawValue: system.ss.attributes).contains(.big) ? 4 : 2
  }

  /// A breakpoint register is on.
  var hasBreakpoints: Bool { !DR7(rawValue: debug.dr7).isDisjoint(with: .enables) }

  /// RFLAGS.AC and CR0.AM count at CPL 3 only.
  var checksAlignment: Bool {
    privilege == 3 && flags.contains(.alignmentCheck) && cr0.contains(.alignmentMask)
  }

  /// RFLAGS.AC: supervisor code may touch user pages where CR4.SMAP forbids it.
  var overridesSMAP: Bool { flags.contains(.alignmentCheck) }

  /// CS, DS, ES and SS reach everything, and forbid nothing but writes through CS.
  private var hasFlatSegments: Bool {
    func isFlat(_ segment: Segment) -> Bool {
      guard segment.base == 0, segment.limit == .max else { return false }
      if !isProtected { return true }
      let attributes = SegmentAttributes(rawValue: segment.attributes)
      return !segment.isUnusable && attributes.contains(.writable) && attributes.isDisjoint(with: [.expandDown, .code])
    }
    return isFlat(system.ds) && isFlat(system.es) && isFlat(system.ss) && system.cs.base == 0
      && system.cs.limit == .max
      && (!isProtected || SegmentAttributes(rawValue: system.cs.attributes).contains(.readable))
  }

  /// Finds the mode that the registers make, and tells translated code of them, if any has changed since the last time.
  @inline(__always)
  func establish() throws(Interruption) {
    if !isEstablished { try establishAnew() }
  }

  private func establishAnew() throws(Interruption) {
    let (cr0, cr4, flags) = (cr0, cr4, flags)
    let attributes = SegmentAttributes(rawValue: system.cs.attributes)
    let bits: CPUMode =
      isLongMode && attributes.contains(.long) ? .bits64 : attributes.contains(.big) ? .bits32 : .bits16
    mode = CodeMode(
      bits: bits, isUser: privilege == 3, isKernel: privilege == 0,
      restrictsTimestamp: privilege != 0 && cr4.contains(.timeStampDisable),
      overridesSMAP: privilege != 3 && flags.contains(.alignmentCheck) && cr4.contains(.supervisorAccessPrevention),
      monitorsCoprocessor: cr0.contains(.monitorCoprocessor), emulatesCoprocessor: cr0.contains(.emulation),
      taskSwitched: cr0.contains(.taskSwitched), hasSSE: cr4.contains(.osFXSR),
      hasAVX: cr4.contains(.osXSAVE) && xcr0.contains([.sse, .avx]),
      isSingleStepping: flags.contains(.trap) || hasBreakpoints || stepsOnce || runsDeviceCode || branchRecord.isOn
        || isAlone != .no,
      checksAccesses: hasBreakpoints || checksAlignment || isWatched, isFlat: bits == .bits64 || hasFlatSegments,
      stackSize: UInt8(stackSize), isProtected: usesDescriptors, isDomainKernel: isDomainKernel)
    modeNumber = store.number(of: mode, probably: modeNumber, turn)
    isEstablished = true
    publish()
    codeSegment = BlockKey.flat
    if bits != .bits64 {
      codeSegment = UInt64(system.cs.limit) << 32 | system.cs.base & 0xffff_ffff
      publishSegments()
    }
  }

  /// Tells translated code the registers that it works with.
  private func publish() {
    block.state.pointee.fs_base = system.fs.base
    block.state.pointee.gs_base = system.gs.base
    let place = block.system
    place.pointee.mode = UInt64(modeNumber)
    place.pointee.relative_modes = store.relativeModes
    place.pointee.segments = CWS_SEGMENTS_KEPT
    place.pointee.extended_control = xcr0.rawValue
    place.pointee.controls = (system.cr0, 0, system.cr2, system.cr3, system.cr4)
    place.pointee.selectors = (
      UInt64(system.es.selector), UInt64(system.cs.selector), UInt64(system.ss.selector), UInt64(system.ds.selector),
      UInt64(system.fs.selector), UInt64(system.gs.selector)
    )
    place.pointee.gdt_base = system.gdt.base
    place.pointee.gdt_limit = UInt64(system.gdt.limit)
    let hasPlainStack =
      system.ss == .flatData(selector: system.ss.selector)
      || system.ss
        == Segment(
          selector: 0, base: 0, limit: .max, attributes: SegmentAttributes.flatData().rawValue, isUnusable: true)
    place.pointee.segments_are_plain =
      privilege == 0 && system.cs == .flatCode64(selector: system.cs.selector) && hasPlainStack ? 1 : 0
    hasInnerDataSegments =
      Self.isInner(system.ds) || Self.isInner(system.es) || Self.isInner(system.fs) || Self.isInner(system.gs)
    let registers = Neighbourhood(
      cr0: system.cr0, cr4: system.cr4, efer: system.efer, xcr0: xcr0, numbering: store.numbering)
    if registers != neighbourhood {
      neighbourhood = registers
      forgetNeighbours()
    }
  }

  /// A return to CPL 3 makes the selector 0.
  private static func isInner(_ segment: Segment) -> Bool {
    guard !Selector(rawValue: segment.selector).isNull else { return segment.selector != 0 }
    return SegmentAttributes(rawValue: segment.attributes).privilege != 3
  }

  /// Tells translated code what it may decide itself of segments, outside 64-bit mode.
  private func publishSegments() {
    for number in UInt8(0)..<6 {
      guard let register = SegmentRegister(rawValue: number) else { continue }
      let value = segment(register)
      var canRead = true
      var canWrite = true
      if usesDescriptors {
        let attributes = SegmentAttributes(rawValue: value.attributes)
        let isCode = attributes.contains(.code)
        let isSimple = !value.isUnusable && (isCode || !attributes.contains(.expandDown))
        canRead = isSimple && (!isCode || attributes.contains(.readable))
        canWrite = isSimple && !isCode && attributes.contains(.writable)
      }
      let end = UInt64(value.limit) + 1
      block.words(at: StateLayout.segmentBase(register))[0] = value.base & 0xffff_ffff
      block.words(at: StateLayout.segmentEnd(register, isWrite: false))[0] = canRead ? end : 0
      block.words(at: StateLayout.segmentEnd(register, isWrite: true))[0] = canWrite ? end : 0
    }
  }

  /// The MSRs of system calls, for the helpers.
  private func publishSystemCalls() {
    let place = block.system
    place.pointee.timestamp_auxiliary = modelSpecific[MSR.timeStampAuxiliary] ?? 0
    place.pointee.call_target = modelSpecific[MSR.lstar] ?? 0
    place.pointee.call_flags = ~(modelSpecific[MSR.systemCallFlagMask] ?? 0)
    let (call, back) = (callSegments, returnSegments)
    place.pointee.call_selectors = (UInt64(call.code.selector), UInt64(call.stack.selector))
    place.pointee.return_selectors = (UInt64(back.code.selector), UInt64(back.stack.selector))
  }

  // MARK: Ways between modes

  private func forgetNeighbours() {
    let none = cws_neighbours(kernel: CWS_NO_MODE, user: CWS_NO_MODE, other_access: CWS_NO_MODE, reserved: 0)
    withUnsafeMutableBytes(of: &block.system.pointee.neighbours) { bytes in
      let table = bytes.bindMemory(to: cws_neighbours.self)
      for number in table.indices { table[number] = none }
    }
  }

  /// Carries out an instruction that changes the mode, and notes where it has led: a helper may go that way from then on. The
  /// modes say all that the way depends on, but for the control registers.
  func noting(_ change: ModeChange, _ body: () throws(Interruption) -> Void) throws(Interruption) {
    let (number, from, numbering) = (modeNumber, mode, store.numbering)
    try body()
    try establish()
    guard numbering == store.numbering, from.bits == .bits64, mode.bits == .bits64 else { return }
    guard !from.isSingleStepping, !mode.isSingleStepping, !from.checksAccesses, !mode.checksAccesses else { return }
    let isRight =
      switch change {
      case .systemCall: mode.isKernel && !mode.overridesSMAP
      case .returnToUser: from.isKernel && mode.isUser && code == returnSegments.code
      case .otherAccess: from.isKernel && mode.isKernel && from.overridesSMAP != mode.overridesSMAP
      }
    guard isRight else { return }
    withUnsafeMutableBytes(of: &block.system.pointee.neighbours) { bytes in
      let table = bytes.bindMemory(to: cws_neighbours.self)
      switch change {
      case .systemCall: table[Int(number)].kernel = modeNumber
      case .returnToUser: table[Int(number)].user = modeNumber
      case .otherAccess: table[Int(number)].other_access = modeNumber
      }
    }
  }

  /// Takes over what translated code has changed: the bases of FS and GS, the mode, CS and SS.
  @inline(__always)
  func adopt() {
    system.fs.base = block.state.pointee.fs_base
    system.gs.base = block.state.pointee.gs_base
    let place = block.system
    if place.pointee.mode != UInt64(modeNumber) || place.pointee.segments != CWS_SEGMENTS_KEPT { adoptMode() }
  }

  private func adoptMode() {
    let place = block.system
    switch place.pointee.segments {
    case CWS_SEGMENTS_OF_CALL: (system.cs, system.ss) = (callSegments.code, callSegments.stack)
    case CWS_SEGMENTS_OF_RETURN: (system.cs, system.ss) = (returnSegments.code, returnSegments.stack)
    default: break
    }
    place.pointee.segments = CWS_SEGMENTS_KEPT
    guard let known = store.mode(numbered: place.pointee.mode) else { return }
    modeNumber = UInt8(truncatingIfNeeded: place.pointee.mode)
    mode = known
    privilege = mode.isUser ? 3 : 0
    // Nothing is left to be told: translated code runs in established modes only.
    isEstablished = true
  }
}
