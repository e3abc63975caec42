// A domain to and from a value.

import TrivisorBoot
import Synchronization
import TrivisorVMM

/// All that the hypervisor knows of a domain; its memory is saved beside it.
public struct DomainSaved: SavedState {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public static let version = 4
  var is64Bit: Bool
  /// Nanoseconds since the domain was made.
  var systemTime: UInt64
  var processors: [DomainProcessor.Saved]
  var tables: PageTables.Saved
  var pseudoPhysical: [UInt64]
  var rings: Domain.Rings
  var store: XenStore.Saved
  /// Whether the console's ring has input that the domain was not told of.
  var hasInput: Bool
  var channels: [EventChannels.Channel]
  var eventQueues: EventQueues.Saved?
  var grants: GrantTable.Saved
  var disks: [BlockBackEnd.Saved]
  var networks: [NetworkBackEnd.Saved]
  var endOfInterruptPage: UInt64?
  /// Whether what it prints comes by its console's ring.
  var usesConsoleRing: Bool
  /// Nanoseconds until they run out.
  var watchdogs: [Int64?]
  var assists: UInt64
  var speaker: SpeakerTimer?
  var ending: Domain.Ending?
}

extension Domain {
  static let savedSubject = "Xen domain"
  /// What `assist` takes.
  private static let knownAssists: UInt64 = 0x3f | 1 << 32

  /// While no guest code runs.
  public func save() -> DomainSaved {
    lock.withLock { _ in
      let now = monotonicNanoseconds()
      return DomainSaved(
        is64Bit: layout == .bits64, systemTime: now &- time.start, processors: processors.map { $0.save(at: now) },
        tables: memory.tables.save(), pseudoPhysical: memory.machineTable.entries, rings: rings, store: store.save(),
        hasInput: console.hasUntoldInput, channels: events.channels.channels,
        eventQueues: events.queues?.save(memory.frames), grants: grants.table.save(),
        disks: disks.map { BlockBackEnd.Saved(state: $0.state, ring: $0.ring, number: $0.number) },
        networks: networks.map {
          NetworkBackEnd.Saved(state: $0.state, connection: $0.connection, address: $0.address)
        }, endOfInterruptPage: endOfInterruptPage,
        usesConsoleRing: console.usesRing,
        watchdogs: (0..<Watchdogs.count).map { SavedTime.distance(to: watchdogs[$0] ?? .max, from: now) },
        assists: assists, speaker: speaker, ending: ending)
    }
  }

  /// A domain that goes on from where another one was saved.
  /// - Parameters:
  ///   - memory: with what the other one's had in it.
  ///   - console: gets what the domain prints from now on.
  ///   - doorbells: one for each processor.
  ///   - disks: with what was on them.
  ///   - networks: what they are plugged into may be something else.
  ///   - reference: some milliseconds old, so that the domain soon knows how fast this host's time stamp counter is.
  /// - Throws: `RestoreFailure` for what no domain can be.
  public convenience init(
    _ saved: DomainSaved, memory: GuestMemory, console: any SerialSink, doorbells: [any DomainDoorbell],
    disks: [any BlockStorage] = [], networks: [NetworkInterface] = [], reference: TimeReference
  ) throws(RestoreFailure) {
    let layout: SharedLayout = saved.is64Bit ? .bits64 : .bits32
    let grants = try GrantTable(saved.grants, memory)
    var tables = Self.tables(memory, layout, grants: grants)
    try restoring(
      Self.savedSubject,
      requires: saved.processors.count == doorbells.count && saved.pseudoPhysical.count == tables.frames.all.count
        && saved.watchdogs.count == Int(Watchdogs.count),
      "it has \(saved.processors.count) processors and \(saved.pseudoPhysical.count) frames, and the machine has "
        + "\(doorbells.count) and \(tables.frames.all.count)")
    try restoring(
      Self.savedSubject, requires: saved.assists & ~Self.knownAssists == 0 && saved.systemTime >> 62 == 0,
      "it has asked for what there is not, or is older than can be")
    try tables.restore(saved.tables) { tables throws(XenError) in
      try saved.rings.keepWritable(&tables)
      for processor in saved.processors { try processor.getReferences(&tables) }
      try saved.grants.getReferences(&tables)
      try saved.eventQueues?.getReferences(&tables)
      for disk in saved.disks {
        if let ring = disk.ring { try tables.getWritable(ring.frame) }
      }
      for network in saved.networks {
        guard let connection = network.connection else { continue }
        try tables.getWritable(connection.transmit.frame)
        try tables.getWritable(connection.receive.frame)
      }
      if let page = saved.endOfInterruptPage { try tables.getWritable(page) }
    }
    reference.waitUntilUseful()
    let now = monotonicNanoseconds()
    let time = SystemTime(saved.systemTime, at: now, reference: reference)
    do throws(XenError) {
      try self.init(
        DomainMemory(memory, layout, tables), saved.rings, grants, console: console, doorbells: doorbells, time: time)
    } catch {
      throw RestoreFailure(Self.savedSubject, "its rings are not in its memory")
    }
    for (processor, state) in zip(processors, saved.processors) { try processor.restore(state, at: now) }
    self.memory.machineTable.restore(saved.pseudoPhysical)
    try store.restore(saved.store)
    events.channels = try EventChannels(
      saved.channels, processorCount: processors.count, diskCount: disks.count,
      networkCount: networks.count)
    if let queues = saved.eventQueues {
      events.queues = try EventQueues(queues, processorCount: processors.count, self.memory.frames)
    }
    try restore(saved.disks, disks)
    try restore(saved.networks, networks, doorbells)
    endOfInterruptPage = saved.endOfInterruptPage
    self.console.usesRing = saved.usesConsoleRing
    for (number, distance) in zip(0..<Watchdogs.count, saved.watchdogs) {
      watchdogs[number] = distance.map { SavedTime.time($0, from: now) }
    }
    assists = saved.assists
    speaker = saved.speaker ?? SpeakerTimer()
    if case .crashed(let reason)? = saved.ending {
      try restoring(
        Self.savedSubject,
        requires: reason.utf8.count <= 1000 && reason.utf8.allSatisfy { (0x20...0x7e).contains($0) },
        "the reason of its crash is no sentence")
    }
    ending = saved.ending
    if saved.hasInput { self.console.noteInput() }
    for processor in processors { time.update(processor.info) }
    time.writeWallClock(sharedInfo, offset: layout.wallClock)
  }

  private func restore(_ saved: [BlockBackEnd.Saved], _ storages: [any BlockStorage]) throws(RestoreFailure) {
    try restoring(
      Self.savedSubject, requires: saved.count == storages.count && saved.count <= DomainDiskName.limit,
      "it has \(saved.count) disks, and the machine has \(storages.count)")
    for (index, state) in saved.enumerated() {
      var disk = BlockBackEnd(storages[index], index: index)
      try restoring(
        Self.savedSubject, requires: (state.number ?? disk.number) == disk.number,
        "disk \(index + 1) is named \(disk.name), and was not")
      (disk.state, disk.ring) = (state.state, state.ring)
      disks.append(disk)
      guard let ring = state.ring else { continue }
      try restoring(
        Self.savedSubject,
        requires: grants.table.uses[ring.reference] == nil && ring.reference < grants.table.entryCount
          && events.channels[ring.port].binding == .disk(index) && memory.frames.index(ring.frame) != nil
          && !memory.frames.isHypervisors(ring.frame),
        "the ring of a disk is not such as it can have")
      grants.table.uses[ring.reference] = .init(frame: ring.frame, user: 0, writers: 1)
    }
    for (port, channel) in events.channels.channels.enumerated() {
      guard case .disk(let index) = channel.binding else { continue }
      try restoring(
        Self.savedSubject, requires: disks[index].ring?.port == UInt32(port),
        "a port leads to a disk that knows nothing of it")
    }
  }

  private func restore(
    _ saved: [NetworkBackEnd.Saved], _ interfaces: [NetworkInterface], _ doorbells: [any DomainDoorbell]
  ) throws(RestoreFailure) {
    try restoring(
      Self.savedSubject, requires: saved.count == interfaces.count && saved.count <= NetworkBackEnd.limit,
      "it has \(saved.count) network interfaces, and the machine has \(interfaces.count)")
    for (index, state) in saved.enumerated() {
      var network = NetworkBackEnd(
        NetworkInterface(interfaces[index].link, address: state.address), index: index, doorbell: doorbells[0])
      (network.state, network.connection) = (state.state, state.connection)
      networks.append(network)
      guard let connection = state.connection else { continue }
      for ring in [connection.transmit, connection.receive] {
        try restoring(
          Self.savedSubject,
          requires: grants.table.uses[ring.reference] == nil && ring.reference < grants.table.entryCount
            && events.channels[connection.port].binding == .network(index) && memory.frames.index(ring.frame) != nil
            && !memory.frames.isHypervisors(ring.frame),
          "the ring of a network interface is not such as it can have")
        grants.table.uses[ring.reference] = .init(frame: ring.frame, user: 0, writers: 1)
      }
      network.link.setGuestOffloads(connection.takesBlankChecksums ? .checksums : [])
      network.link.setWantsFrames(true)
    }
    for (port, channel) in events.channels.channels.enumerated() {
      guard case .network(let index) = channel.binding else { continue }
      try restoring(
        Self.savedSubject, requires: networks[index].connection?.port == UInt32(port),
        "a port leads to a network interface that knows nothing of it")
    }
  }
}
