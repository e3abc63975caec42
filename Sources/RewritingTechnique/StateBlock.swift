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

  /// Outside 64-bit mode, for each segment register: its base, and one more than the last offset that may be read or
  /// written, or 0 where that is not a simple question.
  static let segments: Int32 = 2048
  static func segmentBase(_ register: SegmentRegister) -> Int32 { segments + 8 * Int32(register.rawValue) }
  static func segmentEnd(_ register: SegmentRegister, isWrite: Bool) -> Int32 {
    segments + (isWrite ? 128 : 64) + 8 * Int32(register.rawValue)
  }

  /// RFLAGS but for the arithmetic flags: IF by itself, as 0 or 0x200, and the others.
  static let interruptFlag: Int32 = 2304
  static let systemFlags: Int32 = 2312
  /// Not 0 if the chips have something that only RFLAGS.IF may hold back.
  static let eventPending: Int32 = 2320
  /// What SWAPGS exchanges with the base of GS.
  static let kernelGSBase: Int32 = 2328
  /// The guest's time stamp counter less the host's.
  static let timestampOffset: Int32 = 2336

  static let poll: Int32 = 4096
  static let bounce: Int32 = 8192
  /// By view (user, supervisor, supervisor with SMAP overridden, everything checked) and kind of access: pairs of a tag
  /// and the host address of a page.
  static let tlb: Int32 = 16384
  static let tlbEntries = 8192
  static let tlbTableSize = Int32(tlbEntries * 16)
  static let viewCount = 4
  static func tlbTable(view: Int, isWrite: Bool) -> Int32 { tlb + Int32(view * 2 + (isWrite ? 1 : 0)) * tlbTableSize }
  /// By the mode's number: pairs of linear RIP and host address.
  static let jumpCache = tlb + Int32(viewCount * 2) * tlbTableSize
  static let jumpCacheEntries = 4096
  /// An index is made of a linear RIP and itself shifted by this.
  static let jumpCacheShift: UInt8 = 5
  static let jumpCacheSize = Int32(jumpCacheEntries * 16)
  static let modeLimit = 16
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
    state.pointee.signal_vector = CWS_NO_SIGNAL
    state.pointee.mxcsr = 0x1f80
    // FCW after RESET is 0x40, MXCSR 0x1f80.
    let x87 = UnsafeMutableRawPointer(self.x87)
    x87.storeBytes(of: 0x40, as: UInt16.self)
  }

  deinit { munmap(base, StateLayout.size) }

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
