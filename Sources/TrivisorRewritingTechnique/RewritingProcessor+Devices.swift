// Ports and device memory: every access of the guest to a device goes through here, counted and timed.

import TrivisorCWorldSwitch
import TrivisorDevices
import TrivisorVMM

extension RewritingProcessor {
  private func timed<Result>(_ body: () -> Result) -> Result {
    let began = cws_timestamp()
    defer { ledger.devices &+= cws_timestamp() &- began }
    return body()
  }

  func readPort(_ port: UInt16, width: AccessWidth) -> UInt64 {
    counters.count(.portRead)
    return timed { UInt64(partition.bus.readPort(port, width: width)) }
  }

  /// - Returns: why the machine ends, if it does.
  func writePort(_ port: UInt16, _ value: UInt64, width: AccessWidth) -> StopReason? {
    counters.count(.portWrite)
    return timed {
      if case .stop(let reason) = partition.bus.writePort(port, UInt32(truncatingIfNeeded: value), width: width) {
        return reason
      }
      return nil
    }
  }

  func readDevice(_ physical: UInt64, width: AccessWidth) -> UInt64 {
    counters.count(.memoryRead)
    return timed {
      isLocalPage(physical)
        ? interrupts.readPage(physical & 4095, width: width)
        : partition.bus.readMemory(GuestPhysicalAddress(physical), width: width)
    }
  }

  /// - Returns: why the machine ends, if it does.
  func writeDevice(_ physical: UInt64, _ value: UInt64, width: AccessWidth) -> StopReason? {
    counters.count(.memoryWrite)
    return timed {
      if isLocalPage(physical) {
        interrupts.writePage(value, physical & 4095, width: width)
      } else if case .stop(let reason) = partition.bus.writeMemory(
        GuestPhysicalAddress(physical), value, width: width)
      {
        return reason
      }
      return nil
    }
  }
}
