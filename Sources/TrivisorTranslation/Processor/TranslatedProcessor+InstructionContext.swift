// The processor as the instructions see it that Swift carries out (`Semantics`).

import TrivisorCWorldSwitch
import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

extension TranslatedProcessor: InstructionContext {
  subscript(register: GeneralRegister) -> UInt64 {
    get { block.general[Int(register.rawValue)] }
    set { block.general[Int(register.rawValue)] = newValue }
  }

  // MARK: Flags

  /// In the state block they are as LAHF and SETO leave them.
  var arithmeticFlags: RFLAGS {
    get {
      let saved = block.state.pointee.flags
      return RFLAGS(rawValue: saved >> 8 & RFLAGS.lowByte.rawValue | (saved & 1) << 11)
    }
    set {
      let low = newValue.intersection(.lowByte).union(.alwaysOne).rawValue
      block.state.pointee.flags = low << 8 | (newValue.contains(.overflow) ? 1 : 0)
    }
  }

  /// All of RFLAGS.
  package var flags: RFLAGS {
    get { control.flags.union(arithmeticFlags).union(.alwaysOne) }
    set {
      arithmeticFlags = newValue
      control.flags = newValue.intersection(.defined).subtracting(.arithmetic).union(.alwaysOne)
    }
  }

  // MARK: Vector and x87 registers

  var vectorRegisters: UnsafeMutableRawPointer { UnsafeMutableRawPointer(block.vectors) }

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  package var mxcsr: UInt32 {
    get { block.state.pointee.mxcsr }
    set { block.state.pointee.mxcsr = newValue }
  }

  var x87Area: UnsafeMutableRawPointer { UnsafeMutableRawPointer(block.x87) }
  func saveX87() { cws_save_x87(block.state) }
  func loadX87() { cws_load_x87(block.state) }
  func loadX87Environment(_ area: UnsafeRawPointer, count: Int) { cws_load_environment(area, Int32(count)) }
  var hasPendingX87Error: Bool { cws_x87_status() & 0x80 != 0 }

  // MARK: Control state and segments

  var cr0: CR0 { control.cr0 }
  var cr4: CR4 { control.cr4 }
  var efer: EFER { control.efer }
  var pkru: PKRU {
    get { control.pkru }
    set { control.pkru = newValue }
  }

  var cpl: UInt8 {
    get { control.privilege }
    set { control.privilege = newValue }
  }

  var gdt: DescriptorTable {
    get { control.globalTable }
    set { control.globalTable = newValue }
  }

  var idt: DescriptorTable {
    get { control.interruptTable }
    set { control.interruptTable = newValue }
  }

  var localTable: Segment {
    get { control.localTable }
    set { control.localTable = newValue }
  }

  var task: Segment {
    get { control.task }
    set { control.task = newValue }
  }

  var blocksNonMaskable: Bool {
    get { pendingEvents.nonMaskableBlocked }
    set { pendingEvents.nonMaskableBlocked = newValue }
  }

  var descriptorKeeper: (any DescriptorKeeper)? { surroundings.descriptorKeeper }
  func segment(_ register: SegmentRegister) -> Segment { control.segment(register) }
  func setSegment(_ register: SegmentRegister, _ value: Segment) { control.setSegment(register, value) }

  // MARK: Memory and ports

  @inline(__always)
  func loadBytes(
    _ linear: UInt64, into bytes: UnsafeMutableRawBufferPointer, isStack: Bool, asSupervisor: Bool
  ) throws(Interruption) {
    try self.linear.loadBytes(linear, into: bytes, isStack: isStack, asSupervisor: asSupervisor)
  }

  @inline(__always)
  func saveBytes(
    _ linear: UInt64, from bytes: UnsafeRawBufferPointer, isStack: Bool, asSupervisor: Bool
  ) throws(Interruption) {
    try self.linear.saveBytes(linear, from: bytes, isStack: isStack, asSupervisor: asSupervisor)
  }

  @inline(__always)
  func check(
    _ linear: UInt64, count: Int, _ access: MemoryAccess, isStack: Bool, asSupervisor: Bool
  ) throws(Interruption) {
    _ = try self.linear.locate(linear, count: count, access, isStack: isStack, asSupervisor: asSupervisor)
  }

  @inline(__always)
  func residentByte(_ linear: UInt64, _ access: MemoryAccess) throws(Interruption) -> UnsafeMutableRawPointer? {
    try self.linear.residentByte(linear, access)
  }

  @inline(__always)
  func didStore(to place: UnsafeMutableRawPointer, count: Int) { linear.didStore(to: place, count: count) }

  @inline(__always)
  func withBytes(
    _ linear: UInt64, count: Int, _ access: MemoryAccess,
    _ body: (UnsafeMutableRawPointer) throws(Interruption) -> Void
  ) throws(Interruption) {
    try self.linear.withBytes(linear, count: count, access, body)
  }

  var selectsElements: Bool {
    get { linear.selectsElements }
    set { linear.selectsElements = newValue }
  }

  var accessHits: DR6 {
    get { linear.accessHits }
    set { linear.accessHits = newValue }
  }

  @inline(__always)
  func readPort(_ port: UInt16, width: AccessWidth) -> UInt64 { linear.readPort(port, width: width) }

  @inline(__always)
  func writePort(_ port: UInt16, _ value: UInt64, width: AccessWidth) -> StopReason? {
    linear.writePort(port, value, width: width)
  }

  // MARK: Between instructions

  func notePortAccess(_ port: UInt16, width: AccessWidth) {
    guard debug.hasBreakpoints, cr4.contains(.debuggingExtensions) else { return }
    accessHits.formUnion(debug.hits(UInt64(port), count: width.rawValue, .port))
  }

  /// A repeated instruction that has used what a debugger watches stops behind that round, too.
  var isSingleStepping: Bool { mode.isSingleStepping || follower.hit != nil }
  var checksAccesses: Bool { mode.checksAccesses }
  var isWanted: Bool { stop.isWanted || hasEvent }

  func halt() {
    activity = .halted
    counters.count(.exitHalt)
  }
}
