import SystemPackage
import TrivisorFileServer
import TrivisorPlatform
import TrivisorVMM

/// What one machine's run needs of its process, and all else can be given up.
public struct ConfinementNeeds: Sendable {
  /// Of the host's files.
  public var places: [Confinement.Place]
  /// Whether files are opened by their names.
  public var opensFiles: Bool
  /// Whether guests run in processes of their own.
  public var makesProcesses: Bool
  /// Whether code is made, or mapped.
  public var makesCode: Bool
  /// Whether others may connect to a socket that is open.
  public var takesConnections = false
  /// Whether the guest has sockets to the host, by which connections come and go.
  public var hasSockets: Bool

  /// - Parameter packed: files and folders of the host's that the guest's archives are made from.
  public init(_ configuration: PlatformConfiguration, technique: TechniqueName, packed: [FilePath]) {
    places = configuration.sharedFolders.map { share in
      Confinement.Place(share.folder.path, share.folder.isReadOnly ? .read : .change)
    }
    places += configuration.storageDevices.map { disk in
      Confinement.Place(disk.path, disk.isReadOnly || disk.changes != nil ? .read : .write)
    }
    places += packed.map { Confinement.Place($0, .read) }
    places += [Confinement.Place("/proc/self", .read)]
    if technique == .hardware { places.append(Confinement.Place("/dev/kvm", .write)) }
    opensFiles = !configuration.sharedFolders.isEmpty || configuration.resetPolicy == .restart
    makesProcesses = technique == .paravirtual
    makesCode = technique != .hardware
    hasSockets = configuration.socketDevice != nil
  }
}

extension Confinement {
  /// Gives up all files but those that are needed: in this thread and those that it makes.
  public mutating func restrictFiles(to needs: ConfinementNeeds) { restrictFiles(to: needs.places) }

  /// Refuses all system calls that are not needed, in all threads.
  public mutating func restrictCalls(_ needs: ConfinementNeeds) {
    restrictCalls(
      opensFiles: needs.opensFiles, makesProcesses: needs.makesProcesses, makesCode: needs.makesCode,
      takesConnections: needs.takesConnections, hasSockets: needs.hasSockets)
  }
}
