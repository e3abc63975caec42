// What the ways between a paravirtual guest, its user code and its hypervisor cost, in nanoseconds of system time. The lines
// vary from run to run and from host to host: tools/bench paravirtual puts them beside what the host itself needs.

#if KERNEL

import CPlatform
import CXen

@main
enum Cost {
  static func main() {
    guard
      let process = UserProcess(argument: 0, dataPages: 1, stackPages: 1, interruptible: true, systemCalls: .syscall),
      let page = Platform.allocateFrame(), let list = Platform.allocateFrame(), Platform.allocateFrame() != nil
    else {
      Console.print("No memory.")
      Platform.exit(1)
    }
    Platform.activate(process.space)
    measure("set_segment_base by the hypercall page", 1_000_000) {
      _ = xen_hypercall(xenSetSegmentBase, 0, 0x1000, 0, 0)
    }
    measure("a hypercall served by the monitor", 5000) { _ = xen_hypercall(xenVersion, 0, 0, 0, 0) }
    measure("a user system call into the guest's kernel and back", 3000) { _ = process.run() }
    let window = Platform.windowStart + 0x80_0000
    measure("a page-table update, mmu_update of one entry", 2000) {
      _ = Platform.map(window, to: page, .kernelOnly, in: process.space)
    }
    // Addresses that nobody has touched: a host fault each, and the entry's accessed and dirty bits.
    let start = Platform.systemTime()
    for _ in 0..<500 {
      Platform.unmap(window, in: process.space)
      _ = Platform.map(window, to: page, .kernelOnly, in: process.space)
      xen_store64(window, 1)
    }
    report("unmap, map and touch a page", (Platform.systemTime() - start) / 500)
    let batch = Platform.systemTime()
    for _ in 0..<20 { Platform.updateMany(window, page, list: list, in: process.space) }
    report("a page-table update in a batch of 512", (Platform.systemTime() - batch) / (20 * 512))
    measure("an exception handled by the guest's kernel", 2000) { cost_breakpoint() }
    Console.print("Through.")
    Platform.exit(0)
  }

  static func measure(_ what: StaticString, _ rounds: UInt64, _ body: () -> Void) {
    Platform.trapHandler = { _ in }
    for _ in 0..<10 { body() }
    let start = Platform.systemTime()
    for _ in 0..<rounds { body() }
    report(what, (Platform.systemTime() - start) / rounds)
  }

  static func report(_ what: StaticString, _ nanoseconds: UInt64) { Console.print("\(what): \(nanoseconds)") }
}

#else

import CUser

@c(user_main)
func run(_ argument: UInt64) {
  while true { _ = systemCall(1, 0, 0) }
}

#endif
