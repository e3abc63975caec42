import TrivisorDevices
import TrivisorVMM

/// Bits of the device status (virtio 1.2, 2.1).
enum DriverStatus {
  static let acknowledge: UInt64 = 1
  static let driver: UInt64 = 2
  static let driverOK: UInt64 = 4
  static let featuresOK: UInt64 = 8
  static let all = acknowledge | driver | driverOK | featuresOK
}

/// A device in a machine of its own without processors: the driver's side of a transport. Its thread is the caller's.
protocol FuzzMachine: AnyObject {
  var memory: GuestMemory { get }
  var fault: VirtioFault? { get }
  /// Of each queue in use, how many requests were given back, modulo 2^16.
  var usedIndices: [UInt16?] { get }
  var status: UInt64 { get }

  /// From the reset to FEATURES_OK, from wherever the device is.
  func negotiate(_ features: VirtioFeatures, _ random: inout FuzzRandom)
  func place(_ queue: QueuePlace, _ random: inout FuzzRandom)
  /// DRIVER_OK.
  func start()
  /// Notifies, and lets the device work.
  func run(queue: Int)
  /// What a driver does behind an interrupt, or anything to any register.
  func acknowledge(_ random: inout FuzzRandom)
  func disturb(_ random: inout FuzzRandom)
  /// The device's end.
  func stop()
}

extension FuzzMachine {
  func store<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value, at address: UInt64) {
    try? memory.write(value, at: GuestPhysicalAddress(address))
  }

  func load<Value: FixedWidthInteger & BitwiseCopyable>(_ type: Value.Type, at address: UInt64) -> Value {
    (try? memory.read(at: GuestPhysicalAddress(address))) ?? 0
  }

  func describe(at place: UInt64, address: UInt64, length: UInt32, flags: UInt16, next: UInt16) {
    store(address, at: place)
    store(UInt64(length) | UInt64(flags) << 32 | UInt64(next) << 48, at: place + 8)
  }

  /// Publishes one head more.
  func publish(_ queue: QueuePlace, head: UInt16) {
    let index = load(UInt16.self, at: queue.available + 2)
    store(head, at: queue.available + 4 + 2 * UInt64(index % queue.size))
    store(index &+ 1, at: queue.available + 2)
  }

  /// - Returns: how many requests the device looked at: those that it gave back, and the one that it found a fault in.
  func runCounted(queue: Int) -> Int {
    let before = usedIndices
    let wasBroken = fault != nil
    run(queue: queue)
    var count = fault != nil && !wasBroken ? 1 : 0
    for (old, new) in zip(before, usedIndices) {
      if let old, let new { count += Int(new &- old) }
    }
    return count
  }
}
