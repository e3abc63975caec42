import TrivisorCAllocationCounter
import Synchronization
import TrivisorVMM

/// At each write to its port, how often the calling thread has allocated, and how often it has gone to sleep: for a lock that
/// another thread holds, for instance. All else it answers and forgets.
final class SteadyProbe: PortDevice, MemoryDevice {
  struct Reading: Sendable {
    var allocations: UInt64
    var sleeps: UInt64
  }

  let readings = Mutex<[Reading]>([])

  init() { readings.withLock { $0.reserveCapacity(4096) } }

  func read(at offset: UInt16, width: AccessWidth) -> UInt32 { 0 }

  func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect {
    guard offset == 0 else { return .none }
    let reading = Reading(allocations: allocation_count_of_this_thread(), sleeps: sleep_count_of_this_thread())
    readings.withLock { $0.append(reading) }
    return value == 0xff ? .stop(.exited(code: 0)) : .none
  }

  func read(at offset: UInt64, width: AccessWidth) -> UInt64 { 0 }
  func write(_ value: UInt64, at offset: UInt64, width: AccessWidth) -> DeviceEffect { .none }
}
