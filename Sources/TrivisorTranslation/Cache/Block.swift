// What the translator makes: blocks of host code, and sites, the numbered places where they come back to Swift.

import TrivisorInstructionSet

/// What translated code depends on besides the bytes: part of every block's key (docs/rewriting.md).
struct CodeMode: Hashable {
  var bits: CPUMode
  var isUser: Bool
  /// CPL 0, or real mode.
  var isKernel = true
  /// CR4.TSD: RDTSC is for CPL 0 only.
  var restrictsTimestamp = false
  /// RFLAGS.AC while CR4.SMAP is on: supervisor code may touch user pages.
  var overridesSMAP: Bool
  /// CR0.MP.
  var monitorsCoprocessor: Bool
  /// CR0.EM, CR0.TS, CR4.OSFXSR, CR4.OSXSAVE with XCR0.AVX: decide between running, #UD and #NM.
  var emulatesCoprocessor: Bool
  var taskSwitched: Bool
  var hasSSE: Bool
  var hasAVX: Bool
  /// RFLAGS.TF or breakpoints are on, or a debugger from outside steps: one instruction a block.
  var isSingleStepping: Bool
  /// Breakpoints on data, a debugger's among them, or alignment checks: Swift looks at every access.
  var checksAccesses = false
  /// CS, DS, ES and SS reach all of the address space, so that only FS and GS need a look. Always so in 64-bit mode.
  var isFlat = true
  /// Width of the stack pointer in bytes: 8 in 64-bit mode, else by SS.B.
  var stackSize: UInt8 = 8
  /// CR0.PE, but for virtual-8086 mode.
  var isProtected = true
  /// The kernel of a domain: CPL 3 to the processor, but with page tables and translations of its own.
  var isDomainKernel = false

  /// Before the first instruction after RESET.
  static let reset = CodeMode(
    bits: .bits16, isUser: false, overridesSMAP: false, monitorsCoprocessor: false, emulatesCoprocessor: false,
    taskSwitched: false, hasSSE: false, hasAVX: false, isSingleStepping: false)

  /// Code is translated for any linear address that its page may have (docs/rewriting.md, "One translation for every address").
  var isRelative: Bool { isUser && !isDomainKernel && bits == .bits64 && !isSingleStepping }

  /// Which of the software TLB's tables; the last one is always empty.
  var view: Int { checksAccesses ? 3 : isUser && !isDomainKernel ? 0 : overridesSMAP ? 2 : 1 }
}

/// A block is the translation of these bytes in this mode, seen at this linear address, or at any (`CodeMode.isRelative`).
struct BlockKey: Hashable {
  let page: UInt64
  /// Of an instruction that straddles two pages: the second one's, else all ones.
  let secondPage: UInt64
  /// Offset in CS, or, where the linear address may be any, in the page.
  let rip: UInt64
  /// A mode's number, and a variant.
  let mode: UInt8
  /// Limit and base of CS, in the upper and the lower half.
  var codeSegment = BlockKey.flat

  /// From 0 to 4 GiB, or 64-bit code.
  static let flat: UInt64 = 0xffff_ffff_0000_0000

  /// How the same bytes are translated; in the mode's upper bits.
  enum Variant: UInt8 {
    case usual = 0
    /// One instruction, whose accesses may run on the bounce buffer.
    case bouncing = 0x40
    /// Each access checks for itself.
    case separate = 0x80

    static let mask: UInt8 = 0xc0
  }

  var modeNumber: Int { Int(mode & ~Variant.mask) }
  var variant: Variant { Variant(rawValue: mode & Variant.mask) ?? .usual }

  var isFlat: Bool { codeSegment == Self.flat }
  /// Of a block that is never found again: each time that it is needed it is made anew, from bytes that may be others.
  /// - Parameter number: another one each time.
  func madeOnce(_ number: UInt64) -> BlockKey {
    BlockKey(page: page, secondPage: .max - 1 - number, rip: rip, mode: mode, codeSegment: codeSegment)
  }

  /// The first instruction goes on in another page.
  var isStraddling: Bool { secondPage != .max }
  /// The last offset in CS.
  var limit: UInt64 { isFlat ? .max : codeSegment >> 32 }
  /// Of the first byte, in its page.
  var offset: UInt64 { linear(rip) & 4095 }

  /// Where an offset in CS is.
  func linear(_ rip: UInt64) -> UInt64 { isFlat ? rip : (rip &+ codeSegment) & 0xffff_ffff }
}

/// Translated code.
///
/// It has entries for flags that are in RAX and for flags that are in the host's register, because what comes before leaves them
/// where they are; and for each a quick one behind the poll, for jumps that can't close a cycle. Where several processors run it,
/// jump caches have an entry of their own, a jump to the one for RAX: nobody is ever in the middle of that one when it is changed.
final class Block {
  let key: BlockKey
  /// The first byte.
  let host: UInt64
  /// Where the entries are, from `host`.
  private(set) var entries = BlockEntries()
  /// First byte behind, cold parts included.
  private(set) var hostEnd: UInt64 = 0
  /// Guest bytes from `key.rip`.
  private(set) var length = 0
  /// Which of the translator's `faults` are this block's.
  private(set) var faults: Range<Int> = 0..<0
  /// Sites of jumps that were patched to come here.
  var incoming = GrowingList<Int>()
  var isValid = true

  init(key: BlockKey, host: UInt64) {
    self.key = key
    self.host = host
  }

  var isStraddling: Bool { key.isStraddling }

  /// For whoever remembers the block by its address; where that leads when the block is dropped is changed in one step.
  var entryForLookup: UInt64 { host &+ UInt64(entries.lookup) }
  /// For jumps that leave the flags in RAX.
  var entryForRAX: UInt64 { host &+ UInt64(entries.rax) }
  /// For jumps that leave the flags in the host's register.
  var entryForHost: UInt64 { host &+ UInt64(entries.host) }
  /// For Swift, which leaves the flags in both places.
  var entry: UInt64 { host &+ UInt64(max(entries.rax, entries.host)) }

  /// The same, without looking whether the processor is to stop.
  var entryBehindPoll: UInt64 { host &+ UInt64(max(entries.quickRAX, entries.quickHost)) }

  /// - Parameter isQuick: without looking whether the processor is to stop.
  func entry(inRAX: Bool, isQuick: Bool) -> UInt64 {
    guard isQuick, !isStraddling else { return inRAX ? entryForRAX : entryForHost }
    return host &+ UInt64(inRAX ? entries.quickRAX : entries.quickHost)
  }

  func finish(entries: BlockEntries, hostEnd: UInt64, length: Int, faults: Range<Int>) {
    self.entries = entries
    self.hostEnd = hostEnd
    self.length = length
    self.faults = faults
  }
}

/// Where a block's entries are, from its first byte.
struct BlockEntries {
  var lookup: UInt8 = 0
  var rax: UInt8 = 0
  var host: UInt8 = 0
  var quickRAX: UInt8 = 0
  var quickHost: UInt8 = 0
}

/// Host instructions that run in a guest instruction's stead and can fault.
struct FaultRange {
  /// Offsets in the code cache.
  let start: UInt32
  let end: UInt32
  /// As a site's.
  let rip: UInt64
  /// Where the guest's flags are: in RAX, or else in the host's flags.
  let flagsAreInRAX: Bool
  /// RAX, R10, R11 and R15 are the guest's own.
  var hasOwnRegisters = false
  /// The register whose value is in the second scratch word.
  var spare: UInt8?
  /// The flags are nowhere, and come out of this.
  var recipe: FlagRecipe?
  /// What the x87 instructions before have not noted in the state block.
  var x87Notes = X87Notes()
}

/// A memory access in translated code.
///
/// There are very many of these, so places in the code cache are offsets.
struct AccessSite {
  let size: UInt16
  let isWrite: Bool
  /// What is there has to be fetched before the access runs on the bounce buffer.
  let isRead: Bool
  /// A misaligned address is #GP before it is anything else.
  let mustBeAligned: Bool
  /// By SS: a non-canonical address is #SS.
  let isStack: Bool
  /// The check; expects the address in T1.
  var retry: UInt32 = 0
  /// The access itself on T2 + T1, and what follows in the instruction; 0 where that is not written (`BlockKey.Variant`).
  var bounce: UInt32 = 0
  /// Behind the instruction or the load.
  var next: UInt32 = 0
  let view: UInt8
  /// A pending x87 exception comes before whatever memory has to say.
  let waitsForX87: Bool
  /// The instruction goes on with a jump behind the store: a block that the store invalidates must still run to there.
  let isCall: Bool
  /// Others rely on its check: it can't run on the bounce buffer.
  var isShared = false
  /// With LOCK, or XCHG's own.
  var isLocked = false
}

/// An access whose offset is not simply inside its segment.
struct SegmentCheck {
  let register: SegmentRegister
  let size: UInt16
  let isWrite: Bool
  /// A misaligned address is #GP before it is anything else.
  let mustBeAligned: Bool
  /// Adds the base; expects the offset in T1. An offset in the code cache.
  let resume: UInt32
}

/// An exception that is certain when the instruction is translated.
enum TranslationFault: UInt8 {
  case general, invalidOpcode, deviceNotAvailable

  var exception: GuestException {
    switch self {
    case .general: .general
    case .invalidOpcode: .invalidOpcode
    case .deviceNotAvailable: .deviceNotAvailable
    }
  }
}

/// Where translated code comes back.
struct Site {
  enum Kind {
    /// The address in the state block missed the TLB.
    case miss(AccessSite)
    /// The offset in the state block is beyond what translated code knows of the segment.
    case segment(SegmentCheck)
    /// A store has been made to the bounce buffer.
    case stored(AccessSite)
    /// Goes on at `rip`; the jump can be patched to the block that is there.
    /// Both are offsets in the code cache: of the jump's operand, and of where it goes unpatched. `inRAX`: the flags are.
    case chain(UInt32, unlinked: UInt32, inRAX: Bool)
    /// Goes on at `rip`, in a translation in which each access checks for itself; otherwise as `chain`.
    case separate(UInt32, unlinked: UInt32)
    /// Goes on at `rip`, on another page; the word can be set to the block that is there. Offsets in the code cache: of the
    /// word, and of what it holds unset.
    case across(UInt32, unlinked: UInt32, inRAX: Bool)
    /// Goes on at `rip`, on another page, in code for any linear address. Offsets in the code cache: of the word that says which
    /// physical page the link is good for, and of the jump's operand. `branch` is where the jump itself is, as a RIP, or -1 where
    /// code just goes on, and `released` by how much it has moved RSP: its own fault is at a target that is not canonical.
    case cross(word: UInt32, jump: UInt32, branch: Int32, released: Int32)
    /// The second page of an instruction that straddles is not the one that the block was made of, as far as is known.
    case refetch
    /// Goes on at `rip`, behind a call that has come back; a call can be told the block that is there. Both are offsets in the code cache: of the
    /// operand that the call notes, and of what it is unset.
    case returnPoint(UInt32, unlinked: UInt32)
    /// Goes on at the RIP in the state block; RSP has grown by `released`, less for a call. In a block of one instruction that
    /// may be no branch, or one that is not taken.
    case indirect(released: Int32, isBranch: Bool)
    /// Goes on at `rip`, but not before an interrupt could come: STI ends the block.
    case shadow
    /// An instruction that Swift carries out, by its place in the translator's list.
    case callOut(Int32)
    /// Goes on at `rip`, behind the last of many PAUSEs.
    case spun
    /// A debugger from outside may have a breakpoint at the instruction.
    case breakpoint
    case raise(TranslationFault)
    /// By its place in the translator's list of reasons.
    case unsupported(Int32)
  }

  var kind: Kind
  /// Lives as long as the site.
  let owner: Unmanaged<Block>
  /// The instruction's, or the target of `chain`; counts from the page of the code in work where that may be anywhere.
  let rip: UInt64
  /// The flags are nowhere, and come out of this.
  var recipe: FlagRecipe?

  var block: Block { owner._withUnsafeGuaranteedRef { $0 } }

  /// The instruction may go on from here in translated code.
  var isWithinInstruction: Bool {
    switch kind {
    case .miss, .segment, .stored: true
    default: false
    }
  }
}
