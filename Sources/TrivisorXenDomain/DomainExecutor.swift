import TrivisorVMM
import TrivisorX86

/// What guest code of one virtual processor can reach: all that a root maps, or what of it user code may have.
public struct AddressView: Hashable, Sendable {
  /// The root's machine frame.
  public let root: UInt64
  /// Whether entries without the user bit are left out: user code of 32-bit domains, whose kernel has the same root.
  public let isUsers: Bool

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public init(root: UInt64, isUsers: Bool) {
    self.root = root
    self.isUsers = isUsers
  }
}

/// Why guest code of a domain came back.
public enum DomainTrap: Sendable, Equatable {
  /// SYSCALL in 64-bit code; RIP is behind it.
  case systemCall
  /// SYSCALL in 32-bit code; RIP is behind it.
  case systemCall32
  /// A system call by another way: INT 80h, if that is before RIP; else one of which the executor has lost where it was.
  case foreignSystemCall(LostSystemCall)
  /// SYSENTER, or SYSCALL in 32-bit code, of which the executor has lost where it was.
  case lostSystemCall(LostSystemCall)
  /// A system call from an address of the upper half, from which the code has returned already: there the executor has
  /// something of its own, and the domain has nothing.
  case hostPageCall(address: UInt64)
  /// An exception. Of page faults only the address counts and of the code the bits for stores, fetches and protection
  /// keys; of what else has a code, what the manuals say of user mode.
  case exception(vector: UInt8, errorCode: UInt64, address: UInt64)
  /// The executor can't provide memory that it was told of.
  case memoryFailure(address: UInt64)
  /// A deadline, the doorbell, or nothing that the domain would know of.
  case interrupted

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public enum LostSystemCall: Sendable {
    case systemEntry, systemCall32
  }
}

/// The registers of guest code are lost, and with them what it was doing.
public struct GuestCodeLost: Error, Sendable, Equatable {
  /// One sentence.
  public let reason: String

  /// - Parameter reason: one sentence, without a full stop.
  public init(_ reason: String) { self.reason = reason }
}

/// Pages could not be made reachable.
public enum MappingRefusal: Error, Sendable, Equatable {
  /// The host says no, in a few words.
  case refused(String)
  /// The view is no more, though its registers are not lost: running in it makes it anew.
  case viewIsGone
}

/// Pages that lie one behind the other, both for the domain and in memory.
public struct PageRun: Sendable, Equatable {
  /// The domain's address, a multiple of the page size; how many pages; where in the memory's file, in bytes.
  public var address, count, fileOffset: UInt64
}

/// Who executes the code of one virtual processor. Used on the thread of that processor.
///
/// A view is filled lazily, as a TLB is: `run` comes back with a page fault, and the domain says with `map` what is there.
/// What is no longer true it tells the views' `TranslationKeeper`.
public protocol DomainExecutor: AnyObject {
  /// The calling thread is the one that runs guest code, until `leaveThread`.
  /// - Throws: `TechniqueFailure` when the host refuses.
  func enterThread() throws(TechniqueFailure)

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  func leaveThread()

  /// Without the lock, before anything is done for the processor: waits until it may be, where processors take turns.
  /// - Parameter isHurried: it has slept, and something has come for it.
  func beginTurn(isHurried: Bool)

  /// Before the processor sleeps or stops.
  func endTurn()

  /// Between two runs: lets others have their turn if it is time.
  /// - Parameter isYielding: the guest wants that, too.
  func passTurn(isYielding: Bool)

  /// With the domain's lock held: makes a view ready for the next `run`.
  /// - Parameter isKernel: whether the guest's kernel runs in it.
  /// - Throws: `TechniqueFailure` when the host refuses.
  func enter(_ view: AddressView, isKernel: Bool) throws(TechniqueFailure)

  /// With the lock held: what the next `run` is to honour, as far as the executor can.
  func set(_ controls: DomainControls)

  /// Without the lock: runs guest code in the view that was entered, until it traps or the deadline has come.
  /// - Parameters:
  ///   - registers: the domain's; what they were before when they are lost.
  ///   - servesCalls: whether the executor may by itself carry out what `ServedCalls` counts.
  ///   - deadline: in nanoseconds of `monotonicNanoseconds()`.
  /// - Throws: `GuestCodeLost`.
  func run(
    _ registers: inout DomainRegisters, servesCalls: Bool, until deadline: UInt64
  ) throws(GuestCodeLost) -> DomainTrap

  /// Before `run`: how many loads from the machine-to-physical table it may carry out by itself until one is to come back.
  func limitTableLoads(_ count: UInt32)

  /// With the lock held: x87 and vector registers of guest code, where it ran last; the reset state before its first run.
  func extendedState() -> ExtendedState

  /// With the lock held: what they are when guest code runs next, in the view that was entered.
  /// - Throws: `TechniqueFailure` when this host has no such registers, or refuses.
  func setExtendedState(_ state: ExtendedState) throws(TechniqueFailure)

  /// With the lock held: makes pages reachable in the view that was entered, all with the same rights.
  func map(_ runs: [PageRun], writable: Bool, executable: Bool) throws(MappingRefusal)

  /// Whether it sees by itself which bytes instructions use; else the pages of bytes that a debugger watches are not to be mapped.
  var seesWatchedBytes: Bool { get }

  /// From the next run on: what to look at.
  func watch(_ points: [Watchpoint])

  /// Which of it the last instruction of the last run has used, or what became of it; asked once.
  func takeWatched() -> Watchpoint?

  /// Whether a page at this address can be reached at all.
  func canReach(_ address: UInt64) -> Bool

  /// What it has carried out by itself since it was asked last.
  func takeServed() -> ServedCalls

  /// What it counts, by name.
  var details: [String: UInt64] { get }

  /// What else it counts, besides the calls of `run`.
  var counters: Counters { get }
}

/// What an executor has carried out of a kernel's by itself, without coming back.
public struct ServedCalls: Sendable, Equatable {
  /// Hypercalls set_segment_base.
  public var segmentBases: UInt32 = 0
  /// Loads from the machine-to-physical table.
  public var tableLoads: UInt32 = 0

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public init(segmentBases: UInt32 = 0, tableLoads: UInt32 = 0) {
    self.segmentBases = segmentBases
    self.tableLoads = tableLoads
  }
}

/// Registers of a guest's that have consequences while its code runs.
public struct DomainControls: Equatable, Sendable {
  /// CR0.TS: x87 and vector instructions are #NM.
  public var isTaskSwitched = false
  /// CR4, as far as a domain can set it.
  public var control4: CR4 = []

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public init(isTaskSwitched: Bool = false, control4: CR4 = []) {
    self.isTaskSwitched = isTaskSwitched
    self.control4 = control4
  }
}

/// What an executor honours of what a guest may ask for.
public struct ExecutorAbilities: OptionSet, Sendable {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public let rawValue: UInt8
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public init(rawValue: UInt8) { self.rawValue = rawValue }

  /// #NM while CR0.TS is set.
  public static let taskSwitched = ExecutorAbilities(rawValue: 1)
  /// CR4.TSD.
  public static let timeStampDisable = ExecutorAbilities(rawValue: 2)
  /// RFLAGS.NT, which stays at a trap.
  public static let nestedTask = ExecutorAbilities(rawValue: 4)
  /// Segment registers hold what the guest's tables and Xen's say, and guest code loads them itself.
  public static let segments = ExecutorAbilities(rawValue: 8)
}

/// Whatever keeps translations of a domain, for all its processors.
public protocol TranslationKeeper: AnyObject {
  /// Returns when no processor can use them any more.
  func remove(_ stale: StaleTranslations)
  /// No translation of this root is needed again; its frame may become the root of something else.
  func forget(root: UInt64)
}

/// How other processors and devices reach one virtual processor.
public protocol DomainDoorbell: AnyObject, Sendable {
  /// Makes it look around before its guest code goes on, from any thread.
  func ring()
  /// On its own thread: what rings from now on is new.
  func silence()
  /// Whether it was asked to stop since it was asked this last.
  func takeStopRequest() -> Bool
  /// Sleeps until somebody rings or asks it to stop, or until the deadline.
  func sleep(until deadline: UInt64)
}
