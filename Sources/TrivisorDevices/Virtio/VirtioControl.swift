// What every transport of virtio does, whatever its registers look like: the device status, the negotiation of features,
// the set-up of queues, the reset (virtio 1.2, 2.1–2.4 and 3.1).
//
//     VirtioMMIO, VirtioPCI  ──registers──▶  VirtioControl  ──▶ VirtioQueue ◀── VirtioWorker ──▶ VirtioDevice
//            ▲                                     │                                                   │
//            └── VirtioNotifier ◀── VirtioHost ◀───┴───────────────────────────────────────────────────┘
//
// Lock order: `settings` here, then a queue's lock. The device's thread holds a queue's lock and may mark the device
// broken or interrupt meanwhile, so both are done with atomics and never take `settings`.

import Synchronization
import TrivisorVMM

/// The transport-independent half of a virtio device's registers.
final class VirtioControl: Sendable {
  private struct Settings {
    var driverFeatures = VirtioFeatures()
    var layouts: [SplitRing.Layout]
  }

  let device: any VirtioDevice
  let host: VirtioHost
  let queues: [VirtioQueue]
  let worker: VirtioWorker
  private let memory: GuestMemory
  private let usesWorker: Bool
  private let settings: Mutex<Settings>

  /// - Parameter usesWorker: without, requests wait for `worker.processQueues()`: for tests.
  init(
    _ device: any VirtioDevice, memory: GuestMemory, notifier: any VirtioNotifier, usesWorker: Bool = true
  ) throws(DeviceFailure) {
    let threads = device.threads
    let host = try VirtioHost(notifier: notifier, threads: threads)
    self.device = device
    self.host = host
    self.memory = memory
    self.usesWorker = usesWorker
    queues = device.queueSizes.enumerated().map { VirtioQueue(index: $0.offset, maximumSize: $0.element, host: host) }
    worker = VirtioWorker(device: device, threads: threads, queues: queues, doorbells: host.doorbells)
    settings = Mutex(Settings(layouts: Array(repeating: SplitRing.Layout(), count: queues.count)))
    device.attach(to: host)
  }

  deinit { worker.stop() }

  // MARK: Features and status

  /// What a driver may accept.
  var offeredFeatures: VirtioFeatures {
    device.features.union([.version1, .indirectDescriptors, .eventIndex])
  }

  /// What the driver has accepted, or is about to.
  var acceptedFeatures: VirtioFeatures { settings.withLock { $0.driverFeatures } }

  /// Replaces 32 of the accepted feature bits; ignored once the negotiation is over.
  func acceptFeatures(_ bits: UInt32, high: Bool) {
    settings.withLock { settings in
      guard status & VirtioHost.Status.featuresOK == 0 else { return }
      let kept = settings.driverFeatures.rawValue & (high ? 0xffff_ffff : 0xffff_ffff << 32)
      settings.driverFeatures = VirtioFeatures(rawValue: kept | UInt64(bits) << (high ? 32 : 0))
    }
  }

  var status: UInt8 { host.status.load(ordering: .acquiring) }

  /// The driver adds bits, or resets with zero. Bits that it may not have yet stay clear: a driver reads back to see.
  func writeStatus(_ value: UInt8) {
    if value == 0 { return reset() }
    settings.withLock { settings in
      var added = value & VirtioHost.Status.driverBits & ~status
      if added & VirtioHost.Status.featuresOK != 0 {
        let accepted = settings.driverFeatures
        if !accepted.contains(.version1) || !offeredFeatures.isSuperset(of: accepted) {
          added &= ~VirtioHost.Status.featuresOK
        } else {
          device.agree(on: accepted)
        }
      }
      if (status | added) & VirtioHost.Status.featuresOK == 0 { added &= ~VirtioHost.Status.driverOK }
      if added & VirtioHost.Status.driverOK != 0 { device.start(features: settings.driverFeatures) }
      host.status.bitwiseOr(added, ordering: .acquiringAndReleasing)
      guard added & VirtioHost.Status.driverOK != 0 else { return }
      if !usesWorker || worker.start() { host.wake() } else { host.fail(.noThread) }
    }
  }

  private func reset() {
    settings.withLock { settings in
      for queue in queues { queue.disable() }
      device.reset()
      settings = Settings(layouts: Array(repeating: SplitRing.Layout(), count: queues.count))
      host.clear()
    }
  }

  // MARK: Queues

  /// Changes a queue's size or addresses. While the queue is in use that is a fault.
  func changeLayout(ofQueue index: Int, _ change: (inout SplitRing.Layout) -> Void) {
    settings.withLock { settings in
      guard queues.indices.contains(index) else { return }
      if queues[index].isEnabled {
        host.fail(.changedWhileInUse)
      } else {
        change(&settings.layouts[index])
      }
    }
  }

  /// Gives a queue to the device, or takes it back.
  func setQueue(_ index: Int, enabled: Bool) {
    settings.withLock { settings in
      guard queues.indices.contains(index) else { return }
      let queue = queues[index]
      guard enabled else { return queue.disable() }
      // A second "ready" changes nothing.
      guard !queue.isEnabled, !host.isBroken else { return }
      do throws(VirtioFault) {
        queue.enable(
          try SplitRing(
            settings.layouts[index], maximumSize: queue.maximumSize, features: settings.driverFeatures, memory: memory))
      } catch {
        host.fail(error)
      }
      if status & VirtioHost.Status.driverOK != 0 { host.wake() }
    }
  }

  /// Its size and addresses as the driver has written them; `nil` for one that is not there.
  func layout(ofQueue index: Int) -> SplitRing.Layout? {
    settings.withLock { $0.layouts.indices.contains(index) ? $0.layouts[index] : nil }
  }

  /// Returns when the requests at hand are done.
  func waitForRequests() {
    for queue in queues { _ = queue.isEnabled }
  }

  /// Of each queue in use, how many requests were given back, modulo 2^16.
  var usedIndices: [UInt16?] { queues.map { $0.progress?.nextUsed } }

  /// Whether the device has it.
  func isQueueEnabled(_ index: Int) -> Bool {
    queues.indices.contains(index) && queues[index].isEnabled
  }
}

// MARK: Saved form

extension VirtioControl {
  struct Saved: Codable, Sendable, Equatable {
    var deviceID: UInt32
    var status: UInt8
    var generation: UInt32
    var fault: VirtioFault?
    var driverFeatures: VirtioFeatures
    var layouts: [SplitRing.Layout]
    /// By queue; `nil` for one that is not in use.
    var progress: [SplitRing.Progress?]
    var device: VirtioDeviceState
  }

  /// With the worker held: between two requests.
  func save() -> Saved {
    settings.withLock { settings in
      Saved(
        deviceID: device.deviceID.rawValue, status: status, generation: host.generation.load(ordering: .acquiring),
        fault: host.fault, driverFeatures: settings.driverFeatures, layouts: settings.layouts,
        progress: queues.map(\.progress), device: device.save())
    }
  }

  /// Waits for a request that is being handled, then goes on where the saved device was.
  /// - Parameter adopt: what the transport does when all is right, before the device works again.
  func restore(_ saved: Saved, adopt: () -> Void) throws(RestoreFailure) {
    let subject = "virtio device"
    try restoring(
      subject, requires: saved.deviceID == device.deviceID.rawValue,
      "it is of the type \(saved.deviceID), and the machine has a device of the type \(device.deviceID.rawValue)")
    try restoring(
      subject, requires: saved.layouts.count == queues.count && saved.progress.count == queues.count,
      "it has \(saved.layouts.count) queues, not \(queues.count)")
    let (featuresOK, driverOK) = (VirtioHost.Status.featuresOK, VirtioHost.Status.driverOK)
    try restoring(
      subject,
      requires: saved.status & ~VirtioHost.Status.all == 0
        && (saved.status & driverOK == 0 || saved.status & featuresOK != 0), "its status is \(saved.status)")
    let accepted = saved.driverFeatures
    try restoring(
      subject,
      requires: saved.status & featuresOK == 0
        || accepted.contains(.version1) && offeredFeatures.isSuperset(of: accepted),
      "its driver accepted features that it does not offer here")
    var rings: [SplitRing?] = []
    for (queue, (layout, progress)) in zip(queues, zip(saved.layouts, saved.progress)) {
      guard let progress else {
        rings.append(nil)
        continue
      }
      do throws(VirtioFault) {
        var ring = try SplitRing(layout, maximumSize: queue.maximumSize, features: accepted, memory: memory)
        ring.progress = progress
        rings.append(ring)
      } catch {
        throw RestoreFailure(subject, "queue \(queue.index) can't be where it is: \(error)")
      }
    }
    let isReady = saved.status & driverOK != 0
    try settings.withLock { settings throws(RestoreFailure) in
      let changed = try device.restore(saved.device, features: isReady ? accepted : nil)
      adopt()
      for (queue, ring) in zip(queues, rings) {
        queue.disable()
        if let ring { queue.enable(ring) }
      }
      settings = Settings(driverFeatures: accepted, layouts: saved.layouts)
      host.restore(status: saved.status, generation: saved.generation, fault: saved.fault)
      if changed { host.configurationChanged() }
    }
    guard isReady else { return }
    // Requests may wait of which the driver has told already.
    if !usesWorker || worker.start() { host.wake() } else { host.fail(.noThread) }
  }
}
