// A machine from RESET to its end: memory with the image in it, a bus with the PC's devices, a partition, processors.
//
// What is where is decided here and nowhere else:
//
//     ports 0x020 0x0a0  8259 pair        the technique's    0x3f8 0x2f8 0x3e8 0x2e8  serial ports
//           0x040-0x043  8254 timer       the technique's    0x0f4                    debug exit
//           0x060 0x064  keyboard controller (reset)         0x5f0                    exit-code register
//                                                              0x5f4                    milestones
//                                                              0x5f8                    calls of firmware, for boot sectors
//           0x0e0-0x0eb  test ports              *         0x510                    firmware configuration *
//           0x2000-0x2017 test lines             *         (*: with test devices only)
//           0x070-0x071  clock and NVRAM                     0xcf8-0xcff              PCI configuration
//           0x080        POST codes                          0xcf9                    reset control
//           0x505        pvpanic                             0x600-0x605              ACPI power management, line 9
//                                                            0x608-0x60b              ACPI power management timer
//     memory 0x000e_0000 ACPI tables
//            0xd000_0000 virtio devices over MMIO, a page each; I/O APIC inputs 16-23
//            0xd800_0000 what PCI functions answer, and 0xe000_0000 their configuration, if virtio is over PCI
//            0xfec0_0000 I/O APIC, 0xfee0_0000 local APIC: the technique's
//            0xff00_0000 test memory *
//
// A reset makes a new instance: nothing of the old one can leak into it.

import TrivisorBoot
import TrivisorCLinux
import TrivisorCommandChannel
import TrivisorDevices
import TrivisorFileServer
import Glibc
import Synchronization
import TrivisorVMM

/// One life of a machine.
final class MachineInstance: Sendable {
  /// Where what is typed goes.
  let console: (any ConsoleInput)?
  let threads: ProcessorThreads
  /// Readable once the last processor's thread has ended.
  let endedEvent: EventDescriptor
  /// Readable once `requestStop` was called.
  let stopEvent: EventDescriptor
  /// Readable once the guest's command has ended, or can't be followed any more.
  let commandEvent: EventDescriptor
  /// What the boot loader has to say, a sentence each.
  let notes: [String]
  let machine: MachineConfiguration
  let memory: GuestMemory
  let partition: any Partition
  let virtio: VirtioBus
  /// Among the virtio devices, if there is one.
  let balloon: VirtioBalloon?
  /// Of each disk, what the guest has written apart from the image.
  let diskChanges: [DiskChanges?]
  let standardPorts: StandardPorts
  let testDevices: TestDevices?
  /// When there was memory, and when the image was in it.
  private let setUpTimes: (memory: UInt64, image: UInt64)
  let consoleWatches: [ConsoleWatch]
  let serialPorts: [SerialPort16550]
  /// Whether the guest runs a command whose streams the host has.
  let runsCommand: Bool

  private struct Wishes {
    var stopCause: StopCause?
    var isPaused = true
  }

  private let wishes = Mutex(Wishes())

  /// Loads the image, or restores a machine of the same configuration, and makes the processors, paused.
  init(
    _ configuration: PlatformConfiguration, technique: any Technique, restoring saved: MachineSaved? = nil
  ) throws(MachineFailure) {
    let machine = configuration.machine
    self.machine = machine
    runsCommand = configuration.command != nil
    if let saved {
      do throws(RestoreFailure) { try Self.check(saved, for: configuration) } catch { throw .restore(error) }
    }
    do throws(GuestMemoryFailure) {
      memory = try GuestMemory(size: machine.memorySize, isShareable: technique.sharesMemory)
    } catch { throw .memory(error) }
    let memoryTime = monotonicNanoseconds()
    let loaded = saved == nil ? try Self.load(configuration, for: technique, into: memory) : nil
    notes = loaded?.notes ?? []
    setUpTimes = (memoryTime, monotonicNanoseconds())
    diskChanges = configuration.storageDevices.map(\.changes)
    let router = InterruptRouter()
    var claims: [Bus.PortClaim] = []
    var consoleWatches: [ConsoleWatch] = []
    var serialPorts: [SerialPort16550] = []
    for (index, place) in zip(configuration.serialPorts.indices, SerialPortConfiguration.places) {
      let watch = ConsoleWatch(configuration.serialPorts[index].output)
      consoleWatches.append(watch)
      let port = SerialPort16550(sink: watch, interrupt: InterruptLine(place.line, router: router))
      serialPorts.append(port)
      claims.append(.init("serial port COM\(index + 1)", base: place.port, count: 8, device: port))
    }
    if let channel = configuration.command?.channel, technique.handoverKind == .processor {
      // No watch: what a command prints says nothing of the kernel.
      let place = SerialPortConfiguration.commandPlace
      let port = SerialPort16550(sink: channel, interrupt: InterruptLine(place.line, router: router))
      channel.connect(port)
      serialPorts.append(port)
      claims.append(.init("command channel", base: place.port, count: 8, device: port))
    }
    testDevices = configuration.hasTestDevices ? TestDevices(configuration, router: router) : nil
    claims += testDevices?.portClaims ?? []
    let virtioConsole = configuration.virtioConsole.map { console in
      let watch = ConsoleWatch(console.output)
      consoleWatches.append(watch)
      return VirtioConsole(sink: watch, size: console.size)
    }
    let deviceConsole: (any ConsoleInput)? = virtioConsole ?? serialPorts.first
    self.consoleWatches = consoleWatches
    self.serialPorts = serialPorts
    let images: [DiskImage]
    do throws(DeviceFailure) {
      var opened: [DiskImage] = []
      for disk in configuration.storageDevices {
        opened.append(
          try DiskImage(
            path: disk.path, isReadOnly: disk.isReadOnly, changes: disk.changes, domainName: disk.domainName))
      }
      images = opened
      if let wish = configuration.memoryBalloon, technique.handoverKind == .processor {
        balloon = try VirtioBalloon(memory, size: wish.size, statisticsInterval: wish.statisticsInterval)
      } else {
        balloon = nil
      }
      // A domain's disks and network interfaces are no devices of a bus.
      let devices = try Self.makeVirtioDevices(
        configuration, disks: technique.handoverKind == .xenDomain ? [] : images,
        networks: technique.handoverKind == .xenDomain ? [] : configuration.networkDevices, console: virtioConsole,
        balloon: balloon, memory: memory)
      virtio = try VirtioBus(devices, over: configuration.virtioTransport, memory: memory, router: router)
    } catch { throw .device(error) }
    standardPorts = StandardPorts(configuration, memory: memory, router: router, bus: virtio.bus)
    claims += standardPorts.claims
    endedEvent = try EventDescriptor()
    stopEvent = try EventDescriptor()
    commandEvent = try EventDescriptor()
    do throws(TechniqueFailure) {
      let bus = try Self.makeBus(claims, virtio.claims + (testDevices?.memoryClaims ?? []))
      let partition = try technique.makePartition(machine, memory: memory, bus: bus)
      self.partition = partition
      router.connect(partition.interrupts)
      partition.connectDisks(images)
      partition.connectNetworks(
        configuration.networkDevices.compactMap { device in
          device.links.first.map { NetworkInterface($0, address: device.address) }
        })
      let ownConsole = consoleWatches.first.flatMap { partition.connectConsole($0) }
      if let channel = configuration.command?.channel {
        // A domain's is no device of a bus.
        if let line = partition.connectCommandLine(channel) { channel.connect(line) }
        console = channel
      } else {
        console = ownConsole ?? deviceConsole
      }
      if let binding = partition.eventBinding { try virtio.bind(binding) }
      let endedEvent = endedEvent
      let whenEnded: @Sendable () -> Void = { endedEvent.signal() }
      if let loaded {
        threads = ProcessorThreads(
          partition: partition, count: machine.processorCount, handover: loaded.handover, whenEnded: whenEnded)
      } else {
        threads = ProcessorThreads(
          partition: partition, restoring: saved?.processors ?? [], whenEnded: whenEnded)
      }
    } catch { throw .technique(error) }
    let commandEvent = commandEvent
    configuration.command?.channel.whenOver { commandEvent.signal() }
    if let saved {
      do throws(RestoreFailure) { try restore(saved) } catch { throw .restore(error) }
    }
    threads.start()
  }

  /// What the ACPI tables say of the machine.
  private static func description(_ configuration: PlatformConfiguration) -> ACPIMachine {
    var description = ACPIMachine(processorCount: configuration.machine.processorCount)
    var places = zip(configuration.serialPorts, SerialPortConfiguration.places).map { $1 }
    if configuration.command != nil { places.append(SerialPortConfiguration.commandPlace) }
    description.serialPorts = places.map { ACPIMachine.SerialPort(base: $0.port, interrupt: $0.line) }
    VirtioBus.describe(virtioCount(configuration), over: configuration.virtioTransport, in: &description)
    return description
  }

  private static func virtioCount(_ configuration: PlatformConfiguration) -> Int {
    configuration.storageDevices.count + configuration.sharedFolders.count + configuration.networkDevices.count
      + (configuration.hasEntropyDevice ? 1 : 0)
      + [
        configuration.virtioConsole == nil, configuration.socketDevice == nil, configuration.memoryBalloon == nil,
      ].count { !$0 }
  }

  /// The disks in their order, then the shared folders, the networks, the source of random numbers, the console, sockets, the
  /// balloon.
  private static func makeVirtioDevices(
    _ configuration: PlatformConfiguration, disks: [DiskImage], networks: [NetworkDeviceConfiguration],
    console: VirtioConsole?, balloon: VirtioBalloon?, memory: GuestMemory
  ) throws(DeviceFailure) -> [any VirtioDevice] {
    var devices: [any VirtioDevice] = []
    for (index, (image, disk)) in zip(disks, configuration.storageDevices).enumerated() {
      devices.append(
        VirtioBlock(
          image, identifier: "trivisor-disk-\(index)",
          queueCount: disk.queues(processorCount: configuration.machine.processorCount)))
    }
    if !configuration.sharedFolders.isEmpty {
      let limits = FileServer.Limits(forShares: configuration.sharedFolders.count, memory: memory.size)
      for share in configuration.sharedFolders {
        devices.append(try makeFileSystem(share, limits))
      }
    }
    // One without a link is not valid.
    devices += networks.compactMap { VirtioNetwork($0.links, address: $0.address) }
    if configuration.hasEntropyDevice { devices.append(VirtioEntropy()) }
    if let console { devices.append(console) }
    if let socket = configuration.socketDevice {
      devices.append(try VirtioSocket(socket.gate, identifier: socket.identifier))
    }
    if let balloon { devices.append(balloon) }
    return devices
  }

  private static func makeFileSystem(
    _ share: SharedFolderConfiguration, _ limits: FileServer.Limits
  ) throws(DeviceFailure) -> VirtioFileSystem {
    do throws(SharedFolderFailure) {
      return VirtioFileSystem(try FileServer(share.folder, limits: limits), tag: share.tag)
    } catch {
      throw DeviceFailure(
        call: "opening \(share.setting.title) \(share.folder.path)", reason: error.reason,
        remedy: error.isHosts ? "" : "name a folder that you may enter")
    }
  }

  /// Lets the devices' threads finish the request at hand and go: when no processor runs any more.
  func stopDevices() {
    for device in virtio.transports { device.stop() }
  }

  /// The guest kernel's panic, if it said that it had one: by the port made for that, or on a console.
  var panic: KernelPanic? {
    let said = consoleWatches.lazy.compactMap(\.panic).first
    return standardPorts.panicPort.events.contains(.panicked) ? said ?? KernelPanic() : said
  }

  /// The same, unless the guest went on for so long that it only quoted an old log.
  var lastingPanic: KernelPanic? {
    standardPorts.panicPort.events.contains(.panicked) ? panic : consoleWatches.lazy.compactMap(\.lastingPanic).first
  }

  /// When the kernel wrote the last line of a panic, on the host's CLOCK_MONOTONIC, if it wrote nothing since.
  var lastWords: UInt64? { consoleWatches.lazy.compactMap(\.lastWords).first }

  /// How this life went, with the first instruction at `firstInstruction`.
  func timeline(firstInstruction: UInt64) -> Timeline {
    Timeline(
      memory: setUpTimes.memory, image: setUpTimes.image, firstInstruction: firstInstruction,
      firstOutput: consoleWatches.compactMap(\.firstOutput).min(),
      firstInterruptDrivenOutput: serialPorts.compactMap(\.firstInterruptDrivenOutput).min(),
      milestones: standardPorts.milestonePort.milestones)
  }

  /// Devices that a hostile or broken driver made stop, a sentence each.
  var deviceFaults: [String] {
    virtio.transports.enumerated().compactMap { index, device in
      device.fault.map { "virtio device \(index) was stopped because its driver broke the rules: \($0)" }
    }
  }

  /// Fills memory, and refuses what the technique can't begin with.
  private static func load(
    _ configuration: PlatformConfiguration, for technique: any Technique, into memory: GuestMemory
  ) throws(MachineFailure) -> LoadedGuest {
    let description = description(configuration)
    let tables = ACPITables(description)
    // Behind the others, at a multiple of 16.
    let multiprocessor = MultiprocessorTable(
      description,
      at: GuestPhysicalAddress((tables.base.rawValue + UInt64(tables.bytes.count) + 15) & ~15))
    let loaded: LoadedGuest
    if technique.handoverKind == .processor, let obstacle = configuration.boot.obstacleOutsideDomain {
      throw .boot(obstacle)
    }
    do throws(BootFailure) {
      var request = configuration.boot
      request.isForDomain = technique.handoverKind == .xenDomain
      loaded = try load(request, tables, multiprocessor, into: memory)
    } catch { throw .boot(error) }
    guard loaded.handover.kind == technique.handoverKind else {
      throw .boot(
        BootFailure(
          configuration.boot.image.name,
          .unsupported(
            "is an image that the \(technique.name.rawValue) technique can't run",
            remedy: "set \(Setting.technique) to hardware or rewriting, or give a Xen PV kernel")))
    }
    return loaded
  }

  /// Puts the image and, in the place of a PC's firmware, the ACPI and MP tables into memory. Flat images get no tables: they
  /// may lie there themselves.
  private static func load(
    _ request: BootRequest, _ tables: ACPITables, _ multiprocessor: MultiprocessorTable, into memory: GuestMemory
  ) throws(BootFailure) -> LoadedGuest {
    var request = request
    request.rootSystemDescriptionPointer = tables.rootPointer
    request.randomSeed = [UInt8](unsafeUninitializedCapacity: 32) { bytes, count in
      count = max(0, getrandom(bytes.baseAddress, bytes.count, 0))
    }
    var loaded = try request.load(into: memory)
    if ![.flat16, .flat32, .flat64].contains(loaded.kind) {
      // The tables lie below 1 MiB, which every machine has.
      try? memory.copy(tables.bytes, to: tables.base)
      try? memory.copy(multiprocessor.bytes, to: multiprocessor.base)
    }
    if loaded.kind == .flat16 || loaded.kind == .multiboot { addFirmware(to: memory, before: &loaded) }
    return loaded
  }

  /// What begins behind a PC's firmware finds real mode's interrupt vectors, and the interrupt chips as a BIOS leaves
  /// them; unless the image lies
  /// where the vectors or the firmware's instructions would be.
  private static func addFirmware(to memory: GuestMemory, before guest: inout LoadedGuest) {
    guard case .processor(var start) = guest.handover else { return }
    func put(_ bytes: [UInt8], at place: UInt64) -> Bool {
      let place = GuestPhysicalAddress(place)
      // Below 1 MiB, which every machine has.
      guard let old = try? memory.bytes(at: place, count: bytes.count), old.allSatisfy({ $0 == 0 }) else {
        return false
      }
      return (try? memory.copy(bytes, to: place)) != nil
    }
    guard put(FirmwareCode.vectors, at: 0), put(FirmwareCode.code, at: FirmwareCode.address),
      put(FirmwareCode.start(of: &start), at: FirmwareCode.startAddress)
    else { return }
    guest.handover = .processor(start)
  }

  /// Asks whoever serves the machine to end it; the first cause counts.
  func requestStop(_ cause: StopCause) {
    wishes.withLock { $0.stopCause = $0.stopCause ?? cause }
    stopEvent.signal()
  }

  /// What `requestStop` was called with.
  var stopCause: StopCause? { wishes.withLock { $0.stopCause } }

  /// The owner's wish that the processors stand still; returns when they do.
  func pause() {
    wishes.withLock { $0.isPaused = true }
    threads.pause()
  }

  /// The owner's wish that the processors run.
  func resume() {
    wishes.withLock { $0.isPaused = false }
    threads.resume()
  }

  /// Whether the owner wants them to stand still.
  var isPaused: Bool { wishes.withLock { $0.isPaused } }

  /// After a look at processors that were stopped for it.
  func resumeUnlessPaused() {
    if !isPaused { threads.resume() }
  }

  /// Devices of one machine can only collide by a mistake of ours; it is told as one, not trapped.
  private static func makeBus(
    _ ports: [Bus.PortClaim], _ memory: [Bus.MemoryClaim]
  ) throws(TechniqueFailure) -> Bus {
    do throws(BusConflict) {
      return try Bus(ports: ports, memory: memory)
    } catch {
      throw TechniqueFailure(call: "machine assembly", reason: error.description)
    }
  }
}

/// What stands between a configuration and a running machine.
public enum MachineFailure: Error, Sendable, CustomStringConvertible {
  /// The host does not give the memory.
  case memory(GuestMemoryFailure)
  /// The image can't be loaded.
  case boot(BootFailure)
  /// The host does not give what backs a device.
  case device(DeviceFailure)
  /// The technique can't make the machine.
  case technique(TechniqueFailure)
  /// What was saved is no machine of this configuration.
  case restore(RestoreFailure)

  /// One sentence.
  public var description: String { sentence.description }

  /// The same, with the settings that it names.
  public var sentence: Sentence {
    switch self {
    case .memory(let failure): failure.sentence
    case .boot(let failure): failure.sentence
    case .device(let failure): Sentence(failure.description)
    case .technique(let failure): failure.sentence
    case .restore(let failure): Sentence(failure.description)
    }
  }
}
