import TrivisorX86

/// How often guest code came back, by cause. Counting allocates nothing.
struct TrapCounts {
  /// What it came back for, in words.
  enum Cause: Int, CaseIterable {
    case interrupted, hypercall, hypercallByInterrupt, hypercallServed, systemCall, systemEntry, systemCall32,
      softwareInterrupt, hostPageCall, identification, privileged, selector, pageMapped, tableStore, tableLoad,
      tableLoadServed, tableLoadInterpreted, lostUserCode

    var name: String {
      switch self {
      case .interrupted: "interrupted from outside"
      case .hypercall: "hypercall (SYSCALL)"
      case .hypercallByInterrupt: "hypercall (INT 82h)"
      case .hypercallServed: "hypercall (SYSCALL), served in the sandbox"
      case .systemCall: "system call of the guest's own"
      case .systemEntry: "SYSENTER"
      case .systemCall32: "SYSCALL in 32-bit code"
      case .softwareInterrupt: "software interrupt"
      case .hostPageCall: "call to the host's vsyscall page"
      case .identification: "CPUID by its prefix, emulated"
      case .privileged: "privileged instruction, emulated"
      case .selector: "segment selector, emulated"
      case .pageMapped: "page fault, mapped"
      case .tableStore: "store into a page table, emulated"
      case .tableLoad: "machine-to-physical table, emulated"
      case .tableLoadServed: "machine-to-physical table, served in the sandbox"
      case .tableLoadInterpreted: "machine-to-physical table, in code that was interpreted"
      case .lostUserCode: "user code that ended its process"
      }
    }
  }

  private var causes = [UInt64](repeating: 0, count: Cause.allCases.count)
  private var exceptions = ExceptionCounts()

  mutating func add(_ cause: Cause, _ times: UInt64) {
    causes[cause.rawValue] &+= times
  }

  /// - Parameter isUser: it came in the guest's user mode, which is CPL 3 to its kernel.
  mutating func add(exception vector: UInt8, errorCode: PageFaultError = [], isUser: Bool) {
    exceptions.add(vector, errorCode: errorCode, isUser: isUser)
  }

  /// All exceptions.
  var exceptionCount: UInt64 { exceptions.total }

  /// By name, without those that did not occur.
  var byName: [String: UInt64] {
    var result: [String: UInt64] = [:]
    for cause in Cause.allCases where causes[cause.rawValue] > 0 { result[cause.name] = causes[cause.rawValue] }
    result.merge(exceptions.byName) { $1 }
    return result
  }
}
