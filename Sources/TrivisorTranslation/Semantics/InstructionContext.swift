// What Swift carries out of the instruction set is written over this protocol, a family of instructions a type: registers
// and memory in, registers and memory out. The engine's processor is a context, and the families are specialized for it
// when they are compiled: no call goes through a table, nothing is allocated. The tests have a context that is nothing but
// registers and an array of bytes.

import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// A processor as an instruction sees it that is about to be carried out.
///
/// Addresses are linear; whatever can't be done throws, and the instruction then has changed nothing but what the manuals
/// say. RIP is the instruction's own until it is complete.
protocol InstructionContext: AnyObject {
  // MARK: Registers

  /// All 64 bits of a general register.
  subscript(register: GeneralRegister) -> UInt64 { get set }
  /// Offset in CS.
  var rip: UInt64 { get set }
  /// All of RFLAGS.
  var flags: RFLAGS { get set }
  /// CF, PF, AF, ZF, SF and OF alone; others are ignored when it is set.
  var arithmeticFlags: RFLAGS { get set }

  // MARK: Vector and x87 registers

  /// YMM0 to YMM15, 32 bytes each.
  var vectorRegisters: UnsafeMutableRawPointer { get }
  var mxcsr: UInt32 { get set }
  /// The x87 state as FXSAVE stores it, between `saveX87` and `loadX87`. Elsewhere the registers may be in the processor.
  var x87Area: UnsafeMutableRawPointer { get }
  func saveX87()
  func loadX87()
  /// FLDENV, or FRSTOR, on 14 or 28 bytes, or 94 or 108.
  func loadX87Environment(_ area: UnsafeRawPointer, count: Int)
  /// Where the last x87 instruction was.
  var x87Pointers: X87Pointers { get set }
  /// FSW.ES: the next x87 instruction that waits is to raise #MF.
  var hasPendingX87Error: Bool { get }

  // MARK: Control state and segments

  var cr0: CR0 { get }
  var cr4: CR4 { get }
  var efer: EFER { get }
  var xcr0: XCR0 { get }
  var pkru: PKRU { get set }
  /// 0 in real mode.
  var cpl: UInt8 { get set }
  var gdt: DescriptorTable { get set }
  var idt: DescriptorTable { get set }
  /// LDTR.
  var localTable: Segment { get set }
  /// Who keeps the descriptor tables, where that is not memory at their bases.
  var descriptorKeeper: (any DescriptorKeeper)? { get }
  /// TR.
  var task: Segment { get set }
  /// An NMI's handler runs: no second one until IRET.
  var blocksNonMaskable: Bool { get set }
  func segment(_ register: SegmentRegister) -> Segment
  func setSegment(_ register: SegmentRegister, _ value: Segment)

  // MARK: Memory

  /// Copies bytes out of memory, behind a check of all of them; at most 4,096.
  /// - Parameters:
  ///   - isStack: a fault of the address is #SS, not #GP.
  ///   - asSupervisor: the processor's own access to one of its tables, or with the rights of an inner level, whatever CPL is.
  func loadBytes(
    _ linear: UInt64, into bytes: UnsafeMutableRawBufferPointer, isStack: Bool, asSupervisor: Bool
  ) throws(Interruption)
  /// As `loadBytes`.
  func saveBytes(
    _ linear: UInt64, from bytes: UnsafeRawBufferPointer, isStack: Bool, asSupervisor: Bool
  ) throws(Interruption)
  /// Throws what such an access would throw, and does nothing else. At most 4,096 bytes.
  func check(
    _ linear: UInt64, count: Int, _ access: MemoryAccess, isStack: Bool, asSupervisor: Bool
  ) throws(Interruption)
  /// Where a byte lies in this process, if all of its page is RAM; `nil` if it is a device's.
  func residentByte(_ linear: UInt64, _ access: MemoryAccess) throws(Interruption) -> UnsafeMutableRawPointer?
  /// To be told of stores to what `residentByte` has found, behind them.
  func didStore(to place: UnsafeMutableRawPointer, count: Int)
  /// Runs `body` on `count` bytes, at most one page, as they are in memory or in a copy; stores the copy if `access` is a
  /// write and `body` does not throw.
  func withBytes(
    _ linear: UInt64, count: Int, _ access: MemoryAccess,
    _ body: (UnsafeMutableRawPointer) throws(Interruption) -> Void
  ) throws(Interruption)
  /// The instruction in work reaches memory by elements that a mask selects, which are not checked for alignment.
  var selectsElements: Bool { get set }

  // MARK: Ports

  func readPort(_ port: UInt16, width: AccessWidth) -> UInt64
  /// - Returns: why the machine ends, if it does.
  func writePort(_ port: UInt16, _ value: UInt64, width: AccessWidth) -> StopReason?
  /// To be told of an access before it is made, for breakpoints.
  func notePortAccess(_ port: UInt16, width: AccessWidth)

  // MARK: Between instructions

  /// What this instruction holds back until the next one is complete.
  var shadow: Shadow { get set }
  /// The instruction ends with a single-step trap. Set before it from RFLAGS.TF; some decide anew.
  var isTrapping: Bool { get set }
  var branchRecord: BranchRecord { get set }
  /// DR0 to DR7.
  var debug: DebugRegisters { get set }
  /// The breakpoints that accesses of the instruction have hit.
  var accessHits: DR6 { get set }
  /// Each instruction, and each round of a repeated one, is looked at by itself.
  var isSingleStepping: Bool { get }
  /// Each access is.
  var checksAccesses: Bool { get }
  /// Somebody waits for this processor: a repeated instruction should make way between two rounds.
  var isWanted: Bool { get }
  /// HLT: no further instruction before an event.
  func halt()
}

extension InstructionContext {
  /// Nobody: they are in memory.
  var descriptorKeeper: (any DescriptorKeeper)? { nil }

  /// At most eight bytes, little endian.
  func load(
    _ linear: UInt64, size: Int, isStack: Bool = false, asSupervisor: Bool = false
  ) throws(Interruption) -> UInt64 {
    var value: UInt64 = 0
    try withUnsafeMutableBytes(of: &value) { bytes throws(Interruption) in
      try loadBytes(
        linear, into: UnsafeMutableRawBufferPointer(rebasing: bytes[..<size]), isStack: isStack,
        asSupervisor: asSupervisor)
    }
    return value
  }

  /// At most eight bytes, little endian.
  func save(
    _ linear: UInt64, _ value: UInt64, size: Int, isStack: Bool = false, asSupervisor: Bool = false
  ) throws(Interruption) {
    try withUnsafeBytes(of: value) { bytes throws(Interruption) in
      try saveBytes(
        linear, from: UnsafeRawBufferPointer(rebasing: bytes[..<size]), isStack: isStack, asSupervisor: asSupervisor)
    }
  }

  func check(_ linear: UInt64, count: Int, _ access: MemoryAccess, isStack: Bool = false) throws(Interruption) {
    try check(linear, count: count, access, isStack: isStack, asSupervisor: false)
  }

  /// From a descriptor table or a TSS.
  func loadTable(_ linear: UInt64, size: Int) throws(Interruption) -> UInt64 {
    try load(linear, size: size, asSupervisor: true)
  }
}
