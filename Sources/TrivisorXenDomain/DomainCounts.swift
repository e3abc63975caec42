/// What the hypervisor counts for a domain. Used with the domain's lock held.
struct DomainCounts {
  /// What a guest may ask for without being refused, though it has no effect here.
  enum NotHonoured: String {
    case taskSwitched = "CR0.TS (no #NM follows)"
    case breakpointAddresses = "debug registers (breakpoints can't be switched on)"
    case control4 = "CR4.TSD, CR4.DE"
    case nestedTask = "RFLAGS.NT at a trap (it is lost)"
  }

  private var hypercalls = [UInt64](repeating: 0, count: 64)
  /// Refused as not implemented, by name.
  private var notImplemented: [String: UInt64] = [:]
  private var notHonoured: [NotHonoured: UInt64] = [:]
  private var mappings: UInt64 = 0
  private var mappedPages: UInt64 = 0

  mutating func add(hypercall number: UInt64, _ times: UInt64 = 1) {
    if number < UInt64(hypercalls.count) { hypercalls[Int(number)] &+= times }
  }

  mutating func add(notHonoured what: NotHonoured) { notHonoured[what, default: 0] &+= 1 }

  /// Hypercalls whose first argument is an operation.
  private static let callsWithOperations: Set<UInt64> = [7, 12, 17, 18, 20, 24, 28, 29, 30, 32, 33, 34]
  /// A guest that tries all numbers must not fill the monitor's memory.
  private static let notImplementedLimit = 200

  mutating func add(notImplemented number: UInt64, operation: UInt64) {
    let key = HypercallName.of(number) + (Self.callsWithOperations.contains(number) ? " \(operation)" : "")
    guard notImplemented[key] != nil || notImplemented.count < Self.notImplementedLimit else { return }
    notImplemented[key, default: 0] &+= 1
  }

  /// A page fault was answered with so many mappings of so many pages.
  mutating func add(mappings count: UInt64, pages: UInt64) {
    mappings &+= count
    mappedPages &+= pages
  }

  /// By name, for reports.
  var details: [String: UInt64] {
    var details: [String: UInt64] = [:]
    for (number, count) in hypercalls.enumerated() where count > 0 {
      details["hypercall: \(HypercallName.of(UInt64(number)))"] = count
    }
    for (name, count) in notImplemented { details["hypercall refused with -ENOSYS: \(name)"] = count }
    for (what, count) in notHonoured { details["not honoured: \(what.rawValue)"] = count }
    details["mappings made"] = mappings
    details["pages mapped"] = mappedPages
    return details
  }
}
