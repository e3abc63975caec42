// The benchmark's operations as hypercalls. A domain without devices of its own has no ports to read.

import CPlatform
import CXen

extension Platform: BenchmarkPlatform {
  static var hasPorts: Bool { false }
  static func readPort() {}

  static func writeControlRegister(taskSwitched: Bool) {
    _ = xen_hypercall(xenTaskSwitch, taskSwitched ? 1 : 0, 0, 0, 0)
  }

  nonisolated(unsafe) private static var ownPort: UInt32 = 0

  static func prepareInterrupts() -> Bool {
    var request = XenTwoWords(first: 0, second: 0, third: 0, padding: 0)
    let result = withUnsafeMutablePointer(to: &request) {
      xen_hypercall(xenEventChannelOperation, xenBindInterprocessor, UInt64(UInt(bitPattern: $0)), 0, 0)
    }
    guard result == 0 else { return false }
    ownPort = request.second
    _ = withUnsafeMutablePointer(to: &ownPort) {
      xen_hypercall(xenEventChannelOperation, xenUnmaskEvent, UInt64(UInt(bitPattern: $0)), 0, 0)
    }
    // All events arrive as one upcall, which `kernelTrap` has acknowledged by then.
    trapHandler = { frame in
      if frame.pointee.vector != trapVectorTimer {
        Platform.report(frame)
        Platform.exit(1)
      }
    }
    return true
  }

  static func interruptSelf() {
    let mask = xen_shared_page_address() + UInt64(XEN_INFO_MASK)
    xen_store8(mask, 0)
    _ = withUnsafeMutablePointer(to: &ownPort) {
      xen_hypercall(xenEventChannelOperation, xenEventChannelSend, UInt64(UInt(bitPattern: $0)), 0, 0)
    }
    xen_store8(mask, 1)
  }
}
