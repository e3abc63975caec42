// Virtio over PCI, not transitional (virtio 1.2, 4.1).
//
// A function has two regions of memory: one with the virtio structures, a page each, and one with the MSI-X table.
//
//     region 0   0x0000 common configuration      region 1   0x000 MSI-X table
//                0x1000 ISR status                           0x800 its pending bits
//                0x2000 the device's configuration
//                0x3000 notification, a doubleword for each queue
//
// Capabilities of the vendor's kind say so, and one is a window to the regions for who can't reach memory yet. With MSI-X each
// queue interrupts by a vector of the driver's choice; without, the pin is asserted until the ISR status is read.

import Synchronization
import TrivisorVMM

/// A virtio device as a function of a PCI bus.
public final class VirtioPCI: PCIFunction, VirtioTransport {
  /// The types of capability structures (virtio 1.2, 4.1.4).
  enum Structure: UInt8 {
    case common = 1
    case notification = 2
    case interruptStatus = 3
    case device = 4
    case window = 5
  }

  /// Where the structures are in region 0.
  enum Place {
    static let common: UInt64 = 0x0000
    static let interruptStatus: UInt64 = 0x1000
    static let device: UInt64 = 0x2000
    static let notification: UInt64 = 0x3000
    static let structureSize: UInt64 = 0x1000
    static let regionSize: UInt32 = 0x4000
  }

  static let structures = 0
  static let messages = 1
  /// Bytes from one queue's notification address to the next one's.
  static let notificationStride: UInt64 = 4

  /// Offsets in the window capability.
  private enum Window {
    static let bar = 4
    static let offset = 8
    static let length = 12
    static let data = 16
  }

  let control: VirtioControl
  let interrupts: VirtioPCIInterrupts
  let deviceFeaturesSelect = Atomic<UInt32>(0)
  let driverFeaturesSelect = Atomic<UInt32>(0)
  let queueSelect = Atomic<UInt16>(0)
  private let address: PCIAddress
  private let map: PCIMemoryMap
  private let messageControlPlace: Int
  private let windowPlace: Int

  /// Where the host's kernel rings the doorbell itself.
  private struct Doorbells {
    var binding: (any EventBinding)?
    var places: [UInt64] = []
  }
  private let doorbells = Mutex(Doorbells())

  /// Bytes of the bus' window that a function should have to itself, a power of two.
  public static let windowShare: UInt32 = 0x8000

  /// - Parameters:
  ///   - device: gets this transport for good.
  ///   - memory: where queues and buffers are.
  ///   - address: on the bus.
  ///   - hasSiblings: whether the device has other functions, too.
  ///   - map: the bus'.
  ///   - place: where firmware would have put the regions: `windowShare` bytes in the map's window.
  ///   - pins: used without MSI-X.
  ///   - router: takes messages.
  /// - Throws: `DeviceFailure` when the host gives no eventfd.
  public convenience init(
    _ device: any VirtioDevice, memory: GuestMemory, at address: PCIAddress, hasSiblings: Bool, map: PCIMemoryMap,
    place: UInt32, pins: PCIInterruptPins, router: InterruptRouter
  ) throws(DeviceFailure) {
    try self.init(
      device, memory: memory, at: address, hasSiblings: hasSiblings, map: map, place: place, pins: pins,
      router: router, usesWorker: true)
  }

  package init(
    _ device: any VirtioDevice, memory: GuestMemory, at address: PCIAddress, hasSiblings: Bool, map: PCIMemoryMap,
    place: UInt32, pins: PCIInterruptPins, router: InterruptRouter, usesWorker: Bool
  ) throws(DeviceFailure) {
    self.address = address
    self.map = map
    let queueCount = device.queueSizes.count
    let table = MSIXTable(count: queueCount + 1)
    var space = PCIConfigurationSpace(
      .init(
        vendor: Self.vendor, device: Self.firstDevice + UInt16(truncatingIfNeeded: device.deviceID.rawValue),
        classCode: device.deviceID.classCode, revision: 1, subsystemVendor: Self.vendor,
        subsystem: Self.firstDevice + UInt16(truncatingIfNeeded: device.deviceID.rawValue),
        isMultifunction: hasSiblings, interruptPin: UInt8(address.function & 3) + 1))
    space.addRegion(Self.structures, size: Place.regionSize, at: place)
    space.addRegion(Self.messages, size: table.regionSize, at: place &+ Self.windowShare / 2)
    messageControlPlace =
      space.addCapability(
        PCICapability.messageSignalledInterruptsExtended, table.capability(region: Self.messages)) + 2
    space.allowWriting(UInt32(MSIXTable.writableControl), at: messageControlPlace, count: 2)
    Self.add(.common, at: Place.common, size: CommonRegister.size, to: &space)
    Self.add(.interruptStatus, at: Place.interruptStatus, size: 1, to: &space)
    Self.add(.device, at: Place.device, size: Place.structureSize, to: &space)
    Self.add(
      .notification, at: Place.notification, size: UInt64(max(queueCount, 1)) * Self.notificationStride,
      further: Self.notificationStride, to: &space)
    windowPlace = Self.add(.window, at: 0, size: 0, further: 0, to: &space)
    space.allowWriting(0xff, at: windowPlace + Window.bar, count: 1)
    space.allowWriting(.max, at: windowPlace + Window.offset, count: 4)
    space.allowWriting(.max, at: windowPlace + Window.length, count: 4)
    interrupts = VirtioPCIInterrupts(
      address, space: space, table: table, queueCount: queueCount, pins: pins, router: router)
    control = try VirtioControl(device, memory: memory, notifier: interrupts, usesWorker: usesWorker)
    control.host.mayUseMemory.store(false, ordering: .releasing)
  }

  /// Of all virtio devices, and of those that are not transitional (virtio 1.2, 4.1.2).
  private static let vendor: UInt16 = 0x1af4
  private static let firstDevice: UInt16 = 0x1040

  /// Adds a capability of the vendor's kind (struct virtio_pci_cap, with a word behind it where one belongs there).
  @discardableResult
  private static func add(
    _ structure: Structure, at offset: UInt64, size: UInt64, further: UInt64? = nil,
    to space: inout PCIConfigurationSpace
  ) -> Int {
    let length: UInt8 = further == nil ? 16 : 20
    return space.addCapability(
      PCICapability.vendorSpecific,
      [length, structure.rawValue, UInt8(structures), 0, 0, 0] + littleEndian(offset, count: 4)
        + littleEndian(size, count: 4) + (further.map { littleEndian($0, count: 4) } ?? []))
  }

  /// Lets notifications go through eventfds from when the driver is ready.
  public func bind(_ binding: any EventBinding) {
    doorbells.withLock { $0.binding = binding }
    bindDoorbells()
  }

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public func stop() { control.worker.stop() }
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public var fault: VirtioFault? { control.host.fault }
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public func hold() { control.worker.hold() }
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public func release() { control.worker.release() }

  /// For tests of devices made without a thread.
  package func processQueues() { control.worker.processQueues() }

  /// For tests: of each queue in use, how many requests were given back, modulo 2^16.
  package var usedIndices: [UInt16?] { control.usedIndices }

  // MARK: Configuration space

  /// A register, or what the window is set to.
  public func readConfiguration(at offset: Int, width: AccessWidth) -> UInt32 {
    if let access = windowAccess(offset, width) {
      return UInt32(truncatingIfNeeded: readRegion(access.region, at: access.offset, width: width))
    }
    return interrupts.state.withLock { $0.space.read(at: offset, width: width) }
  }

  /// A register: the regions move, interrupts go another way; or what the window is set to.
  public func writeConfiguration(_ value: UInt32, at offset: Int, width: AccessWidth) {
    if let access = windowAccess(offset, width) {
      // None of the registers behind the window ends the machine.
      _ = writeRegion(UInt64(value), access.region, at: access.offset, width: width)
      return
    }
    let (messages, isMaster) = interrupts.state.withLock { state -> ([InterruptMessage], Bool) in
      state.space.write(value, at: offset, width: width)
      let messages = state.table.setControl(messageControl(state.space))
      interrupts.drivePin(&state)
      placeRegions(state.space)
      let isMaster = state.space.command.contains(.busMaster)
      return (isMaster ? messages : [], isMaster)
    }
    interrupts.send(messages)
    let wasMaster = control.host.mayUseMemory.exchange(isMaster, ordering: .acquiringAndReleasing)
    if wasMaster, !isMaster { control.waitForRequests() }
    if !wasMaster, isMaster { control.host.wake() }
    bindDoorbells()
  }

  /// What software has set of MSI-X's message control.
  func messageControl(_ space: PCIConfigurationSpace) -> UInt16 {
    UInt16(truncatingIfNeeded: space.read(at: messageControlPlace, width: .word)) & MSIXTable.writableControl
  }

  /// Another state in place of the whole one: the pin and the regions' places follow.
  func adopt(_ state: VirtioPCIInterrupts.State) {
    interrupts.state.withLock { own in
      own = state
      interrupts.drivePin(&own)
      placeRegions(own.space)
    }
    control.host.mayUseMemory.store(state.space.command.contains(.busMaster), ordering: .releasing)
  }

  /// Tells the bus where the regions are, by now.
  private func placeRegions(_ space: PCIConfigurationSpace) {
    for region in [Self.structures, Self.messages] {
      map.move(region, of: address.number, to: space.place(ofRegion: region), size: space.regionSizes[region])
    }
  }

  /// What an access to the window's data reaches: what the window's other fields say, if it is as wide as they say.
  private func windowAccess(_ offset: Int, _ width: AccessWidth) -> (region: Int, offset: UInt64)? {
    guard offset == windowPlace + Window.data else { return nil }
    return interrupts.state.withLock { state in
      let region = Int(state.space.read(at: windowPlace + Window.bar, width: .byte))
      let inside = state.space.read(at: windowPlace + Window.offset, width: .doubleword)
      let length = state.space.read(at: windowPlace + Window.length, width: .doubleword)
      guard length == UInt32(width.rawValue), inside % length == 0, state.space.regionSizes.indices.contains(region),
        inside < state.space.regionSizes[region]
      else { return nil }
      return (region, UInt64(inside))
    }
  }

  // MARK: Regions

  /// A structure's field, or a word of the MSI-X table.
  public func readRegion(_ region: Int, at offset: UInt64, width: AccessWidth) -> UInt64 {
    guard region == Self.structures else {
      return interrupts.state.withLock { $0.table.read(at: offset, width: width) }
    }
    switch offset {
    case Place.interruptStatus: return UInt64(interrupts.takeReasons())
    case Place.device..<Place.notification:
      var value: UInt64 = 0
      for byte in 0..<UInt64(width.rawValue) {
        value |= UInt64(control.device.configuration(at: offset - Place.device + byte)) << (8 * byte)
      }
      return value
    case ..<Place.interruptStatus: return readCommon(offset, width)
    default: return 0
    }
  }

  /// A structure's field, a notification, or a word of the MSI-X table.
  public func writeRegion(
    _ value: UInt64, _ region: Int, at offset: UInt64, width: AccessWidth
  ) -> DeviceEffect {
    guard region == Self.structures else {
      let messages = interrupts.state.withLock { state in
        let messages = state.table.write(value, at: offset, width: width)
        return state.space.command.contains(.busMaster) ? messages : []
      }
      interrupts.send(messages)
      return .none
    }
    if offset >= Place.notification {
      control.host.wake(queue: Self.queue(at: offset))
    } else if offset >= Place.device {
      control.device.writeConfiguration(value, at: offset - Place.device, width: width)
    } else if offset < Place.interruptStatus {
      writeCommon(value, offset, width)
    }
    return .none
  }

  // MARK: Doorbells

  /// Whose notification is at this place: an offset in the region, or an address, since a region lies at a multiple of its size.
  private static func queue(at place: UInt64) -> Int {
    Int((place % UInt64(Place.regionSize) &- Place.notification) / notificationStride)
  }

  /// Where a store needs nobody to look at it, because the driver is ready, it goes to the eventfd at once. The source of random
  /// numbers is asked too seldom for that.
  func bindDoorbells() {
    doorbells.withLock { doorbells in
      guard let binding = doorbells.binding, control.device.deviceID != .entropy else { return }
      var wanted: [UInt64] = []
      let base = interrupts.state.withLock { state -> UInt32? in
        guard let place = state.space.place(ofRegion: Self.structures) else { return nil }
        return map.isInside(place, size: Place.regionSize) ? place : nil
      }
      if let base, control.status & VirtioHost.Status.driverOK != 0 {
        wanted = control.queues.filter(\.isEnabled).map { queue in
          UInt64(base) + Place.notification + UInt64(queue.index) * Self.notificationStride
        }
      }
      guard wanted != doorbells.places else { return }
      func descriptor(_ place: UInt64) -> Int32 {
        control.host.doorbell(ofQueue: Self.queue(at: place))?.fileDescriptor ?? -1
      }
      for place in doorbells.places where !wanted.contains(place) {
        try? binding.unbindDoorbell(descriptor(place), from: GuestPhysicalAddress(place), width: .word)
      }
      // A host that refuses leaves the stores to the bus.
      doorbells.places = wanted.filter { place in
        if doorbells.places.contains(place) { return true }
        return
          (try? binding.bindDoorbell(
            descriptor(place), to: GuestPhysicalAddress(place), width: .word, value: nil)) != nil
      }
    }
  }
}

extension VirtioDeviceID {
  /// What kind of device PCI takes it for: base class, sub-class, interface (PCI Code and ID Assignment Specification 1.11).
  fileprivate var classCode: UInt32 {
    switch self {
    // Network, mass storage, communication, none of them.
    case .network: 0x02_0000
    case .block, .fileSystem: 0x01_8000
    case .console: 0x07_8000
    default: 0xff_0000
    }
  }
}
