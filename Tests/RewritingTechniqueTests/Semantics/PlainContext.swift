import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

@testable import TrivisorTranslation

/// Both modules of the manuals' names have one.
typealias Segment = TrivisorVMM.Segment

/// A processor that is nothing but registers and bytes: linear addresses are offsets into `memory`, but for pages that are
/// absent or read-only.
final class PlainContext: SystemContext {
  static let size = 1 << 18

  // MARK: Registers

  var general = [UInt64](repeating: 0, count: 16)
  var rip: UInt64 = 0x1000
  var flags: RFLAGS = .alwaysOne
  let vectorRegisters = UnsafeMutableRawPointer.allocate(byteCount: 512, alignment: 64)
  var mxcsr: UInt32 = 0x1f80
  let x87Area = UnsafeMutableRawPointer.allocate(byteCount: 512, alignment: 64)
  var hasPendingX87Error = false
  var x87Pointers = X87Pointers()
  var environmentLoads: [Int] = []
  var cr0: CR0 = [.protectedMode, .extensionType]
  var cr2: UInt64 = 0
  var cr3: UInt64 = 0
  var cr4: CR4 = [.osFXSR, .osXSAVE, .physicalAddressExtension]
  var efer: EFER = []
  var xcr0: XCR0 = [.x87, .sse, .avx]
  var pkru = PKRU.none
  var cpl: UInt8 = 0
  var gdt = DescriptorTable(base: 0x4000, limit: 0xff)
  var idt = DescriptorTable(base: 0x5000, limit: 0xfff)
  var localTable = Segment(selector: 0, base: 0, limit: 0, rights: [], isUnusable: true)
  var descriptorKeeper: (any DescriptorKeeper)?
  var task = Segment(selector: 0x40, base: 0x6000, limit: 0x67, rights: .system(.busyTask))
  var segments: [Segment]
  var blocksNonMaskable = false
  var fsBase: UInt64 {
    get { segments[4].base }
    set { segments[4].base = newValue }
  }
  var gsBase: UInt64 {
    get { segments[5].base }
    set { segments[5].base = newValue }
  }
  var kernelGSBase: UInt64 = 0
  var modelSpecificRegisters: [UInt32: UInt64] = [:]
  var identification = CPUIDTable(leaves: [])
  var timestamp: UInt64 = 0
  var clockVersion: UInt32 = 0
  var systemTime: UInt64 = 0
  var clockPair: (timestamp: UInt64, systemTime: UInt64) { (timestamp, systemTime) }
  var timestampFrequency: UInt64 = 1_000_000_000
  var taskPriority: UInt8 = 0
  var hasLocalAPIC = true
  func kickProcessor(_ identifier: UInt32) {}

  func sendInterrupts(_ command: UInt32, to set: [UInt64], first: UInt32) -> Int? {
    set.reduce(0) { $0 + $1.nonzeroBitCount }
  }
  var memoryEnds: (low: UInt64, high: UInt64) = (UInt64(size), 0)
  var shadow = Shadow.none
  var isTrapping = false
  var branchRecord = BranchRecord()
  var debug = DebugRegisters()
  var accessHits: DR6 = []
  var isSingleStepping = false
  var checksAccesses = false
  var isWanted = false
  var selectsElements = false

  // MARK: Memory and ports

  let memory = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 4096)
  var absentPages: Set<UInt64> = []
  var readOnlyPages: Set<UInt64> = []
  /// What ports were asked, and what the next reads give.
  var portWrites: [(port: UInt16, value: UInt64)] = []
  var portReads: [UInt64] = []
  var pointerTableRoots: [UInt64] = []
  /// Of the last load of CR3.
  var keptTranslations = false
  var isHalted = false
  var invalidations: [TranslationScope] = []

  /// Flat segments of this kind of code; the tables' bytes are all 0.
  init(_ mode: CPUMode = .bits64) {
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: Self.size)
    vectorRegisters.initializeMemory(as: UInt8.self, repeating: 0, count: 512)
    x87Area.initializeMemory(as: UInt8.self, repeating: 0, count: 512)
    let data = Segment.flatData(selector: 0x10)
    var code = Segment.flatCode64(selector: 8)
    switch mode {
    case .bits64:
      efer = [.longModeEnable, .longModeActive, .systemCallExtensions]
      cr0.insert(.paging)
    case .bits32: code = .flatCode32(selector: 8)
    case .bits16: code = Segment(selector: 8, base: 0, limit: 0xffff, rights: .realCode)
    }
    segments = [data, code, data, data, data, data]
    if mode == .bits16 {
      for register in [0, 2, 3, 4, 5] { segments[register] = .real(0) }
      cr0.remove(.protectedMode)
    }
  }

  deinit {
    memory.deallocate()
    vectorRegisters.deallocate()
    x87Area.deallocate()
  }

  subscript(register: GeneralRegister) -> UInt64 {
    get { general[Int(register.rawValue)] }
    set { general[Int(register.rawValue)] = newValue }
  }

  var arithmeticFlags: RFLAGS {
    get { flags.intersection(.arithmetic) }
    set { flags = flags.subtracting(.arithmetic).union(newValue.intersection(.arithmetic)) }
  }

  subscript(modelSpecific index: UInt32) -> UInt64? {
    get { modelSpecificRegisters[index] }
    set { modelSpecificRegisters[index] = newValue }
  }

  func saveX87() {}
  func loadX87() {}
  func loadX87Environment(_ area: UnsafeRawPointer, count: Int) { environmentLoads.append(count) }
  func segment(_ register: SegmentRegister) -> Segment { segments[Int(register.rawValue)] }
  func setSegment(_ register: SegmentRegister, _ value: Segment) { segments[Int(register.rawValue)] = value }

  // MARK: Accesses

  func check(
    _ linear: UInt64, count: Int, _ access: MemoryAccess, isStack: Bool, asSupervisor: Bool
  ) throws(Interruption) {
    let last = linear &+ UInt64(count - 1)
    guard LinearAddress.isCanonical(linear), LinearAddress.isCanonical(last) else {
      throw .exception(isStack ? .stack(0) : .general)
    }
    for page in [linear >> 12, last >> 12] {
      let isWrite = access == .write
      let isPresent = page < UInt64(Self.size >> 12) && !absentPages.contains(page)
      guard isPresent, !isWrite || !readOnlyPages.contains(page) else {
        var code: PageFaultError = isPresent ? .present : []
        if isWrite { code.insert(.write) }
        if cpl == 3, !asSupervisor { code.insert(.user) }
        throw .exception(.pageFault(code, at: page == linear >> 12 ? linear : page << 12))
      }
    }
  }

  func loadBytes(
    _ linear: UInt64, into bytes: UnsafeMutableRawBufferPointer, isStack: Bool, asSupervisor: Bool
  ) throws(Interruption) {
    try check(linear, count: bytes.count, .read, isStack: isStack, asSupervisor: asSupervisor)
    bytes.copyMemory(from: UnsafeRawBufferPointer(start: memory + Int(linear), count: bytes.count))
  }

  func saveBytes(
    _ linear: UInt64, from bytes: UnsafeRawBufferPointer, isStack: Bool, asSupervisor: Bool
  ) throws(Interruption) {
    try check(linear, count: bytes.count, .write, isStack: isStack, asSupervisor: asSupervisor)
    UnsafeMutableRawBufferPointer(start: memory + Int(linear), count: bytes.count).copyMemory(from: bytes)
  }

  func residentByte(_ linear: UInt64, _ access: MemoryAccess) throws(Interruption) -> UnsafeMutableRawPointer? {
    try check(linear, count: 1, access)
    return memory + Int(linear)
  }

  func didStore(to place: UnsafeMutableRawPointer, count: Int) {}

  func withBytes(
    _ linear: UInt64, count: Int, _ access: MemoryAccess,
    _ body: (UnsafeMutableRawPointer) throws(Interruption) -> Void
  ) throws(Interruption) {
    try check(linear, count: count, access)
    try body(memory + Int(linear))
  }

  func ram(at physical: UInt64, count: Int) -> UnsafeMutableRawPointer? {
    physical < UInt64(Self.size) && count <= Self.size - Int(physical) ? memory + Int(physical) : nil
  }

  func readPort(_ port: UInt16, width: AccessWidth) -> UInt64 {
    portReads.isEmpty ? width.allOnes : portReads.removeFirst() & width.allOnes
  }

  func writePort(_ port: UInt16, _ value: UInt64, width: AccessWidth) -> StopReason? {
    portWrites.append((port, value))
    return port == 0xf4 ? .exited(code: UInt8(truncatingIfNeeded: value)) : nil
  }

  func notePortAccess(_ port: UInt16, width: AccessWidth) {
    guard debug.hasBreakpoints, cr4.contains(.debuggingExtensions) else { return }
    accessHits.formUnion(debug.hits(UInt64(port), count: width.rawValue, .port))
  }

  func halt() { isHalted = true }

  // MARK: Control registers

  func set(cr0: CR0, efer: EFER) { (self.cr0, self.efer) = (cr0, efer) }
  func set(cr3: UInt64, keepsTranslations: Bool) { (self.cr3, keptTranslations) = (cr3, keepsTranslations) }
  func set(cr4: CR4) { self.cr4 = cr4 }
  func set(efer: EFER) { self.efer = efer }
  func clearTaskSwitched() { cr0.remove(.taskSwitched) }
  func loadPointerTable(from root: UInt64) throws(GuestException) { pointerTableRoots.append(root) }
  func invalidate(_ scope: TranslationScope) { invalidations.append(scope) }
  func readLocalAPIC(_ index: UInt32) -> UInt64? { index == MSR.apicBase ? 0xfee0_0900 : nil }
  func writeLocalAPIC(_ index: UInt32, _ value: UInt64) -> Bool { index == MSR.apicBase }
}

extension PlainContext {
  var mode: CPUMode {
    if is64 { return .bits64 }
    return segment(.cs).rights.contains(.big) ? .bits32 : .bits16
  }

  /// Decodes one instruction and carries it out, at CPL and in the mode that the context is in.
  /// - Returns: what it threw.
  @discardableResult
  func run(_ bytes: [UInt8]) -> Interruption? {
    let padded = bytes + [UInt8](repeating: 0x90, count: 15)
    let decoded = padded.withUnsafeBytes { Decoder(mode: mode).decode($0) }
    guard case .instruction(let instruction) = decoded else { return .unsupported("these bytes") }
    do throws(Interruption) {
      return try SensitiveInstruction(instruction, in: self).execute() ? nil : .unsupported(instruction.mnemonic)
    } catch {
      return error
    }
  }

  func byte(_ place: Int) -> UInt8 { (memory + place).load(as: UInt8.self) }
  func word(_ place: Int) -> UInt64 { (memory + place).loadUnaligned(as: UInt64.self) }
  func half(_ place: Int) -> UInt32 { (memory + place).loadUnaligned(as: UInt32.self) }
  func set(_ value: UInt64, at place: Int) { memory.storeBytes(of: value, toByteOffset: place, as: UInt64.self) }
  func set(_ bytes: [UInt8], at place: Int) { (memory + place).copyMemory(from: bytes, byteCount: bytes.count) }

  /// Puts a descriptor at a selector of the global table.
  func define(_ selector: UInt16, _ descriptor: SegmentDescriptor) {
    set(descriptor.rawValue, at: Int(gdt.base) + Int(selector & ~7))
  }

  /// A gate, of which the upper half is for long mode.
  func defineGate(
    _ place: Int, _ type: SystemSegmentType, privilege: UInt8 = 0, selector: UInt16, offset: UInt64, low: UInt8 = 0
  ) {
    let rights = SegmentAttributes.system(type).union(.present(privilege: privilege))
    let value =
      offset & 0xffff | UInt64(selector) << 16 | UInt64(low) << 32 | UInt64(rights.rawValue) << 40
      | (offset >> 16 & 0xffff) << 48
    set(value, at: place)
    if isLongMode { set(offset >> 32, at: place + 8) }
  }
}
