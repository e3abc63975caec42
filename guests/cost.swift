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
    measure("set_segment_base by SYSCALL", 5000) { _ = xen_bare_hypercall(xenSetSegmentBase, 0, 0x1000) }
    measure("a hypercall served by the monitor", 5000) { _ = xen_hypercall(xenVersion, 0, 0, 0, 0) }
    measure("a user system call into the guest's kernel and back", 3000) { _ = process.run() }
    measure("an exception handled by the guest's kernel", 2000) { cost_breakpoint() }
    let window = Platform.windowStart + 0x80_0000
    Platform.trapHandler = { $0.pointee.rip &+= 2 }
    repeated("a page fault handled by the guest's kernel", 2000) { cost_load(window) }
    _ = Platform.map(window, to: page, .kernelOnly, in: process.space)
    repeated("a page-table update, mmu_update of one entry", 2000) {
      Platform.rewrite(window, page, in: process.space)
    }
    repeated("a page-table update in a batch of 512", 20, of: 512) {
      Platform.updateMany(window, page, isUsed: true, list: list, in: process.space)
    }
    // Entries without accessed and dirty bits: the processor would set them, here a fault for each page does.
    Platform.updateMany(window, page, isUsed: false, list: list, in: process.space)
    var next = window
    repeated("a page fault answered from the page tables", 500) {
      xen_store64(next, 1)
      next &+= 4096
    }
    let last = window + 511 * 4096
    repeated("unmap, map and touch a page (three hypercalls and a page fault)", 500) {
      Platform.unmap(last, in: process.space)
      _ = Platform.map(last, to: page, .kernelOnly, in: process.space)
      xen_store64(last, 1)
    }
    newRoots()
    Console.print("Through.")
    Platform.exit(0)
  }

  /// Page tables that no processor has used: the host makes a process for each.
  static func newRoots() {
    var time: UInt64 = 0
    for _ in 0..<4 {
      guard let space = Platform.makeAddressSpace() else { return }
      let start = Platform.systemTime()
      Platform.activate(space)
      time &+= Platform.systemTime() &- start
    }
    Console.print("a new root of page tables, its first use: \(time / 4)")
  }

  static func measure(_ what: StaticString, _ rounds: UInt64, _ body: () -> Void) {
    Platform.trapHandler = { _ in }
    for _ in 0..<10 { body() }
    repeated(what, rounds, body)
  }

  /// - Parameter count: how many things each round does.
  static func repeated(_ what: StaticString, _ rounds: UInt64, of count: UInt64 = 1, _ body: () -> Void) {
    let start = Platform.systemTime()
    for _ in 0..<rounds { body() }
    Console.print("\(what): \((Platform.systemTime() - start) / (rounds * count))")
  }
}

#else

import CUser

@c(user_main)
func run(_ argument: UInt64) {
  while true { _ = systemCall(1, 0, 0) }
}

#endif
