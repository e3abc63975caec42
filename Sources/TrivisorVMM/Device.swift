// What hangs on a bus.
//
// A device is an object that answers reads and writes at offsets from wherever it was put: it knows neither its address
// nor which technique runs the guest. It is called on the thread of the processor that made the access, several of
// them at once if the guest does that, so it guards its own state.

/// A device in the 64 KiB of x86's port space.
public protocol PortDevice: AnyObject, Sendable {
  /// What the guest reads; bits above `width` are dropped by the bus.
  func read(at offset: UInt16, width: AccessWidth) -> UInt32
  /// What the guest writes; bits above `width` are zero.
  func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect
}

/// A device in guest physical memory.
public protocol MemoryDevice: AnyObject, Sendable {
  /// What the guest reads; bits above `width` are dropped by the bus.
  func read(at offset: UInt64, width: AccessWidth) -> UInt64
  /// What the guest writes; bits above `width` are zero.
  func write(_ value: UInt64, at offset: UInt64, width: AccessWidth) -> DeviceEffect
}

/// What an access does beyond the device itself.
public enum DeviceEffect: Sendable, Equatable {
  /// The guest goes on.
  case none
  /// The machine ends for this reason, right behind the accessing instruction.
  case stop(StopReason)
}
