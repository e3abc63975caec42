// The memory that translated code reaches through %gs: registers that have no host register, the software TLB's tables,
// the jump caches, the page that stops a running guest, and a buffer for accesses that are not simply to RAM.

import TrivisorCWorldSwitch
import Glibc
import TrivisorInstructionSet
import TrivisorVMM

/// Offsets from %gs: TrivisorCWorldSwitch.h's, by the names that the translator knows.
enum StateLayout {
  static func general(_ number: UInt8) -> Int32 { CWS_GENERAL + 8 * Int32(number) }
  static let exitHostFlags = CWS_EXIT_HOST_FLAGS
  static let exitRAXFlags = CWS_EXIT_RAX_FLAGS
  static let site = CWS_SITE
  static let address = CWS_ADDRESS
  static let scratch = CWS_SCRATCH
  static let secondScratch = CWS_SCRATCH + 8
  static let rip = CWS_RIP
  static let fsBase = CWS_FS_BASE
  static let gsBase = CWS_GS_BASE
  static let helper = CWS_HELPER
  static let call = CWS_CALL
  static let vectors = CWS_VECTOR
  static let x87 = CWS_X87
  static let x87InstructionNote = CWS_X87_INSTRUCTION_NOTE
  static let x87OperandNote = CWS_X87_OPERAND_NOTE
  static let x87Operand = CWS_X87_OPERAND

  /// Outside 64-bit mode, for each segment register: its base, and one more than the last offset that may be read or
  /// written, or 0 where that is not a simple question.
  static func segmentBase(_ register: SegmentRegister) -> Int32 { CWS_SEGMENT_BASE + 8 * Int32(register.rawValue) }
  static func segmentEnd(_ register: SegmentRegister, isWrite: Bool) -> Int32 {
    (isWrite ? CWS_SEGMENT_WRITE_END : CWS_SEGMENT_READ_END) + 8 * Int32(register.rawValue)
  }

  static let system = CWS_SYSTEM
  static let interruptFlag = CWS_INTERRUPT_FLAG
  static let systemFlags = CWS_SYSTEM_FLAGS
  static let eventPending = CWS_EVENT_PENDING
  static let kernelGSBase = CWS_KERNEL_GS_BASE
  static let timestampOffset = CWS_TIMESTAMP_OFFSET
  static let timestampAuxiliary = CWS_TIMESTAMP_AUXILIARY
  static let pkru = CWS_PKRU
  static func selector(_ register: SegmentRegister) -> Int32 { CWS_SELECTORS + 8 * Int32(register.rawValue) }
  static func control(_ number: Int) -> Int32 { CWS_CONTROLS + 8 * Int32(number) }

  /// Host addresses that accesses of a block share.
  static let sharedSlots = Int(CWS_SHARED_SLOTS)
  static func shared(_ slot: Int) -> Int32 { CWS_SHARED + 8 * Int32(slot) }

  static let page = CWS_PAGE
  static let x87Page = CWS_X87_PAGE
  static let codeTLB = CWS_CODE_TLB
  static let codeTLBEntries = Int(CWS_CODE_TLB_ENTRIES)
  static let pausesLeft = CWS_PAUSES_LEFT
  /// By the mode's number: what entries of the return cache must have.
  static func returnKey(mode: Int) -> Int32 { CWS_RETURN_KEYS + 8 * Int32(mode) }
  /// By the place on the stack: return address, host address, key.
  static let returns = CWS_RETURNS
  static let returnEntries = Int(CWS_RETURN_ENTRIES)
  static let poll = CWS_POLL
  static let bounce = CWS_BOUNCE
  /// By view (user, supervisor, supervisor with SMAP overridden, everything checked) and kind of access: pairs of a tag
  /// and the host address of a page.
  static let tlb = CWS_TLB
  static let tlbEntries = Int(CWS_TLB_ENTRIES)
  static let tlbTableSize = Int32(tlbEntries * 16)
  static let viewCount = Int(CWS_TLB_VIEWS)
  static func tlbTable(view: Int, isWrite: Bool) -> Int32 { tlb + Int32(view * 2 + (isWrite ? 1 : 0)) * tlbTableSize }
  /// By the mode's number: pairs of linear RIP and host address.
  static let jumpCache = CWS_JUMP_CACHE
  static let jumpCacheEntries = Int(CWS_JUMP_CACHE_ENTRIES)
  /// An index is made of a linear RIP and itself shifted by this.
  static let jumpCacheShift = UInt8(CWS_JUMP_CACHE_SHIFT)
  static let jumpCacheSize = Int32(2 * jumpCacheEntries * 16)
  /// Of the first entry of a mode's jump cache, or of those that have had to make way.
  static func jumpCache(mode: Int, isSecond: Bool) -> Int32 {
    jumpCache + Int32(mode) * jumpCacheSize + (isSecond ? jumpCacheSize / 2 : 0)
  }
  static let modeLimit = Int(CWS_MODES)
  static let size = Int(jumpCache) + modeLimit * Int(jumpCacheSize)
}

/// Owns the block's mapping. `requestStop` is the only thing that may be called from another thread.
final class StateBlock: @unchecked Sendable {
  let base: UnsafeMutableRawPointer
  var state: UnsafeMutablePointer<cws_state> { base.assumingMemoryBound(to: cws_state.self) }

  init() throws(TechniqueFailure) {
    guard let mapping = GuardedMapping.map(StateLayout.size) else {
      throw TechniqueFailure(call: "mmap of a processor's state", reason: String(cString: strerror(errno)))
    }
    base = mapping
    // A child that an embedder forks has no use for it.
    madvise(mapping, StateLayout.size, MADV_DONTFORK)
    state.pointee.exit_host_flags = cws_exit_host_flags_address()
    state.pointee.exit_rax_flags = cws_exit_rax_flags_address()
    state.pointee.call = cws_call_address()
    state.pointee.own = state
    state.pointee.signal_vector = CWS_NO_SIGNAL
    state.pointee.mxcsr = 0x1f80
    pausesLeft = SpinBrake.count
    // FCW after RESET is 0x40, MXCSR 0x1f80.
    let x87 = UnsafeMutableRawPointer(self.x87)
    x87.storeBytes(of: 0x40, as: UInt16.self)
  }

  deinit { GuardedMapping.unmap(base, StateLayout.size) }

  var system: UnsafeMutablePointer<cws_system> {
    (base + Int(StateLayout.system)).assumingMemoryBound(to: cws_system.self)
  }

  /// The FXSAVE area.
  var x87: UnsafeMutablePointer<UInt8> {
    (base + Int(StateLayout.x87)).assumingMemoryBound(to: UInt8.self)
  }
  /// 16 YMM registers of 32 bytes.
  var vectors: UnsafeMutablePointer<UInt8> {
    (base + Int(StateLayout.vectors)).assumingMemoryBound(to: UInt8.self)
  }
  var bounce: UnsafeMutableRawPointer { base + Int(StateLayout.bounce) }
  /// How many more PAUSEs translated code runs before it asks Swift.
  var pausesLeft: UInt64 {
    get { words(at: StateLayout.pausesLeft).pointee }
    set { words(at: StateLayout.pausesLeft).pointee = newValue }
  }
  var pollAddress: UInt64 { UInt64(UInt(bitPattern: base)) + UInt64(StateLayout.poll) }

  /// The guest's registers by number.
  var general: UnsafeMutablePointer<UInt64> { base.assumingMemoryBound(to: UInt64.self) }

  func words(at offset: Int32) -> UnsafeMutablePointer<UInt64> {
    (base + Int(offset)).assumingMemoryBound(to: UInt64.self)
  }

  func armPoll(_ isArmed: Bool) {
    mprotect(base + Int(StateLayout.poll), 4096, isArmed ? PROT_NONE : PROT_READ)
  }
}
