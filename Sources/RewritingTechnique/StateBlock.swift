// The memory that translated code reaches through %gs: registers that have no host register, the software TLB's tables,
// the jump caches, the page that stops a running guest, and a buffer for accesses that are not simply to RAM.

import CWorldSwitch
import Glibc
import InstructionSet
import VMM

/// Offsets from %gs.
enum StateLayout {
  static func general(_ number: UInt8) -> Int32 { 8 * Int32(number) }
  static let exitHostFlags: Int32 = 152
  static let exitRAXFlags: Int32 = 160
  static let site: Int32 = 168
  static let address: Int32 = 176
  static let scratch: Int32 = 184
  static let secondScratch: Int32 = 192
  static let rip: Int32 = 200
  static let fsBase: Int32 = 208
  static let gsBase: Int32 = 216
  static let helper: Int32 = 296
  static let call: Int32 = 304

  /// Outside 64-bit mode, for each segment register: its base, and one more than the last offset that may be read or
  /// written, or 0 where that is not a simple question.
  static let segments: Int32 = 2048
  static func segmentBase(_ register: SegmentRegister) -> Int32 { segments + 8 * Int32(register.rawValue) }
  static func segmentEnd(_ register: SegmentRegister, isWrite: Bool) -> Int32 {
    segments + (isWrite ? 128 : 64) + 8 * Int32(register.rawValue)
  }

  /// System registers, as in `cws_system`.
  private static func system(_ field: PartialKeyPath<cws_system>) -> Int32 {
    CWS_SYSTEM + Int32(MemoryLayout<cws_system>.offset(of: field) ?? 0)
  }
  static let interruptFlag = system(\.interrupt_flag)
  static let systemFlags = system(\.flags)
  static let eventPending = system(\.event_pending)
  static let kernelGSBase = system(\.kernel_gs_base)
  static let timestampOffset = system(\.timestamp_offset)
  static let timestampAuxiliary = system(\.timestamp_auxiliary)
  static func selector(_ register: SegmentRegister) -> Int32 { system(\.selectors) + 8 * Int32(register.rawValue) }
  static func control(_ number: Int) -> Int32 { system(\.controls) + 8 * Int32(number) }

  /// Host addresses that accesses of a block share.
  static let sharedSlots = 8
  static func shared(_ slot: Int) -> Int32 { 3072 + 8 * Int32(slot) }

  static let poll: Int32 = 4096
  static let bounce: Int32 = 8192
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
  static let jumpCacheSize = Int32(jumpCacheEntries * 16)
  static let modeLimit = Int(CWS_MODES)
  static let size = Int(jumpCache) + modeLimit * Int(jumpCacheSize)
}

/// Owns the block's mapping. `requestStop` is the only thing that may be called from another thread.
final class StateBlock: @unchecked Sendable {
  let base: UnsafeMutableRawPointer
  var state: UnsafeMutablePointer<cws_state> { base.assumingMemoryBound(to: cws_state.self) }

  init() throws(TechniqueFailure) {
    let mapping = mmap(nil, StateLayout.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let mapping, mapping != MAP_FAILED else {
      throw TechniqueFailure(call: "mmap of a processor's state", reason: String(cString: strerror(errno)))
    }
    base = mapping
    state.pointee.exit_host_flags = cws_exit_host_flags_address()
    state.pointee.exit_rax_flags = cws_exit_rax_flags_address()
    state.pointee.call = cws_call_address()
    state.pointee.own = state
    state.pointee.signal_vector = CWS_NO_SIGNAL
    state.pointee.mxcsr = 0x1f80
    // FCW after RESET is 0x40, MXCSR 0x1f80.
    let x87 = UnsafeMutableRawPointer(self.x87)
    x87.storeBytes(of: 0x40, as: UInt16.self)
  }

  deinit { munmap(base, StateLayout.size) }

  var system: UnsafeMutablePointer<cws_system> {
    (base + Int(CWS_SYSTEM)).assumingMemoryBound(to: cws_system.self)
  }

  /// The FXSAVE area.
  var x87: UnsafeMutablePointer<UInt8> {
    (base + (MemoryLayout<cws_state>.offset(of: \cws_state.x87) ?? 832)).assumingMemoryBound(to: UInt8.self)
  }
  /// 16 YMM registers of 32 bytes.
  var vectors: UnsafeMutablePointer<UInt8> {
    (base + (MemoryLayout<cws_state>.offset(of: \cws_state.vector) ?? 320)).assumingMemoryBound(to: UInt8.self)
  }
  var bounce: UnsafeMutableRawPointer { base + Int(StateLayout.bounce) }
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
