import TrivisorDevices
import TrivisorVMM

/// Devices in front of drivers that do anything: in sessions, each with a new device, over MMIO and PCI in turns. A session depends on
/// nothing but its seed and number.
package struct DeviceFuzzer: Sendable {
  /// What is looked at.
  package enum Kind: String, CaseIterable, Sendable {
    case block, blockReadOnly = "block-read-only", blockSnapshot = "block-snapshot"
    case entropy, console, terminal, balloon, sockets
    case networkTap = "network-tap", networkUser = "network-user", networkGuests = "network-guests"
    case folder, folderReadOnly = "folder-read-only"
    case configuration = "pci"

    fileprivate func subject() throws -> any FuzzSubject {
      switch self {
      case .block: try BlockSubject(.writable)
      case .blockReadOnly: try BlockSubject(.readOnly)
      case .blockSnapshot: try BlockSubject(.snapshot)
      case .console: try ConsoleSubject(isTerminal: false)
      case .terminal: try ConsoleSubject(isTerminal: true)
      case .balloon: try BalloonSubject()
      case .sockets: try SocketSubject()
      case .networkTap: try NetworkSubject(.tap)
      case .networkUser: try NetworkSubject(.user)
      case .networkGuests: try NetworkSubject(.guests)
      case .folder: try FileSystemSubject(isReadOnly: false)
      case .folderReadOnly: try FileSystemSubject(isReadOnly: true)
      case .entropy, .configuration: try EntropySubject()
      }
    }
  }

  /// What a session came to.
  package struct Outcome: Sendable {
    /// Requests that the device has looked at; of PCI's configuration, accesses.
    package var inputs = 0
    /// Kinds of faults that the device found in what the driver did.
    package var faults: Set<String> = []
  }

  private let kind: Kind
  private let seed: UInt64

  package init(_ kind: Kind, seed: UInt64) {
    self.kind = kind
    self.seed = seed
  }

  /// - Parameters:
  ///   - session: even ones are over MMIO.
  ///   - steps: a few requests each.
  /// - Throws: what was found, or what the host refuses.
  package func run(session: Int, steps: Int) throws -> Outcome {
    // Far from the next seed's sessions.
    let own = seed &* 0x1_0000_0000_0001 &+ UInt64(session)
    guard kind != .configuration else {
      var session = try ConfigurationSession(seed: own)
      try session.run(steps: steps)
      return Outcome(inputs: session.accesses)
    }
    let subject = try kind.subject()
    let machine: any FuzzMachine =
      session % 2 == 0
      ? try MMIOMachine(subject.device, memory: subject.memory)
      : try PCIMachine([subject.device], memory: subject.memory)
    var guest = RandomGuest(machine, subject, seed: own)
    for _ in 0..<steps { guest.step() }
    try guest.finish()
    try subject.check()
    return Outcome(inputs: guest.served, faults: guest.faults)
  }
}
