import Sandbox
import VMM

/// A virtual processor as the hypervisor sees it: what its guest has registered, and where it is. The general registers
/// are with whoever executes.
final class VirtualProcessor {
  /// Ring 3 is all there is, so the mode is the hypervisor's knowledge: SYSCALL is a hypercall in one and the guest's own
  /// system call in the other, and each has page tables of its own.
  enum Mode {
    case kernel, user
  }

  /// What set_trap_table registers for a vector.
  struct TrapEntry {
    var flags: UInt8 = 0
    var codeSelector: UInt16 = 0
    var address: UInt64 = 0

    /// The least privileged level that may raise it by INT.
    var privilegeLevel: UInt8 { flags & 3 }
    var masksUpcalls: Bool { flags & 4 != 0 }
  }

  /// An address to call, and whether upcalls are masked then.
  struct Callback {
    var address: UInt64 = 0
    var masksUpcalls = false
  }

  /// Why it does not run guest code.
  enum Rest: Equatable {
    case none
    /// SCHEDOP_block: until an upcall is pending.
    case blocked
    /// SCHEDOP_poll: until one of the ports is pending, or the time has come.
    case polling(ports: [UInt32], deadline: UInt64)
  }

  let number: Int
  let doorbell: Doorbell
  /// Its `struct vcpu_info`, in guest memory.
  var info: UnsafeMutableRawPointer
  var isInitialised = false
  var isUp = false
  /// Registers to begin with, when another processor has set it up.
  var start: UserRegisters?

  /// Whether user mode has the kernel's page tables: of 32 bits, where the kernel is at level 1 and the tables themselves
  /// can tell it from user code.
  let sharesRoot: Bool
  var mode = Mode.kernel
  /// The selectors that user code of a 32-bit guest was entered with.
  var userSelectors: (code: UInt64, stack: UInt64) = (Selectors.userCode32, Selectors.userData32)
  /// Machine frames of the roots; 0 for a user root that there is not.
  var kernelRoot: UInt64 = 0
  var userRoot: UInt64 = 0
  /// Whether the kernel root has a reference of its own beside the builder's pin.
  var kernelRootIsCounted = false
  /// Where the frame goes when user mode is left.
  var kernelStack: UInt64 = 0
  var traps = [TrapEntry](repeating: TrapEntry(), count: 256)
  var eventCallback = Callback()
  var failsafeCallback = Callback()
  var systemCallCallback = Callback()
  var systemEntryCallback = Callback()
  /// PHYSDEVOP_set_iopl: from 1 on CLI and STI are taken in kernel mode, without effect.
  var ioPrivilege: UInt8 = 0
  var isTaskSwitched = false
  var faultAddress: UInt64 = 0
  var control4: UInt64 = 0x620
  var debugRegisters: [UInt64] = [0, 0, 0, 0, 0, 0, 0xffff_0ff0, 0x400]
  /// The GS base of the mode that it is not in.
  var otherGSBase: UInt64 = 0

  /// The guest's descriptor table (set_gdt), and its local one (MMUEXT_SET_LDT).
  var descriptorFrames: [UInt64] = []
  var descriptorCount: UInt64 = 0
  var localDescriptors: UInt64 = 0
  var localDescriptorCount: UInt64 = 0

  /// When VIRQ_TIMER is due, in the host's monotonic time.
  var timer: UInt64 = .max
  /// And how long after that again; 0 for once.
  var timerPeriod: UInt64 = 0
  /// Ports of per-processor virtual interrupts, by number.
  var virtualInterruptPorts = [UInt32](repeating: 0, count: 24)
  var rest = Rest.none
  /// SCHEDOP_yield: others may use the host's processor first.
  var isYielding = false
  var runstate = RunState()

  /// How often it ran guest code again after each cause.
  var trapCounts: [String: UInt64] = [:]
  var modeSwitchCount: UInt64 = 0
  var upcallCount: UInt64 = 0

  init(number: Int, info: UnsafeMutableRawPointer, doorbell: Doorbell, sharesRoot: Bool) {
    self.number = number
    self.sharesRoot = sharesRoot
    self.info = info
    self.doorbell = doorbell
  }

  var root: UInt64 { mode == .kernel || sharesRoot ? kernelRoot : userRoot }

  /// What guest code can reach now.
  var view: AddressView { AddressView(root: root, isUsers: sharesRoot && mode == .user) }

  /// The virtual interrupt flag, inverted.
  var upcallsAreMasked: Bool {
    get { info.load(fromByteOffset: 1, as: UInt8.self) != 0 }
    set { info.storeBytes(of: newValue ? 1 : 0, toByteOffset: 1, as: UInt8.self) }
  }

  var hasPendingUpcall: Bool { info.load(as: UInt8.self) != 0 }

  /// When it must look at the clock next.
  var deadline: UInt64 {
    // A periodic timer stands still while the processor rests, as Xen's does.
    let timer = rest != .none && timerPeriod != 0 ? .max : timer
    if case .polling(_, let deadline) = rest { return min(timer, deadline) }
    return timer
  }

  func count(_ cause: String, _ times: UInt64 = 1) { trapCounts[cause, default: 0] &+= times }
}

/// How long a processor was in each state (`struct vcpu_runstate_info`).
struct RunState {
  enum Kind: UInt32 {
    case running, runnable, blocked, offline
  }

  private(set) var kind = Kind.offline
  private(set) var since = monotonicNanoseconds()
  private(set) var times: [UInt64] = [0, 0, 0, 0]
  /// Where the guest wants to see it; 0 where it does not.
  var area: UInt64 = 0
  /// Whether what the guest sees there is old.
  var isStale = false

  mutating func change(to new: Kind, at now: UInt64) {
    guard new != kind else { return }
    isStale = true
    times[Int(kind.rawValue)] &+= now &- since
    (kind, since) = (new, now)
  }
}
