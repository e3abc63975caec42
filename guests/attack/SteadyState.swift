// The ways into the monitor, again and again, with a line for each round: for the test that counts what the monitor
// allocates meanwhile.

import CAttack
import CPlatform
import CXen

enum SteadyState {
  private static let rounds: UInt64 = 30
  private static let repetitions: UInt64 = 20

  static func run() {
    let process = Attack.makeProcess()
    guard let page = Platform.allocateFrame() else { return }
    Platform.activate(process.space)
    // Breakpoints and faults of the kernel's own: go on behind them.
    Platform.trapHandler = { if $0.pointee.vector != trapVectorBreakpoint { Attack.handle($0) } }
    for _ in 0..<rounds {
      for _ in 0..<repetitions {
        _ = xen_hypercall(xenVersion, 0, 0, 0, 0)
        _ = xen_bare_hypercall(xenSetSegmentBase, 0, 0x1000)
        // Emulated: MOV from CR0, RDMSR.
        _ = xen_read_cr0()
        _ = xen_read_msr(0xc000_0100)
        cost_breakpoint()
        // A mapping that changes, and is touched again.
        let entry = Platform.machineFrame(page.address) << 12 | 0x67
        _ = xen_hypercall(xenUpdateVirtualAddressMapping, page.address, entry & ~0x60, 2, 0)
        xen_store64(page.address, 1)
        // The user's system call, its exception, and its page fault.
        goOn(process, 0, 7)
        goOn(process, user_int1_offset(), 0)
        goOn(process, user_store_offset(), Platform.windowStart &+ 8 << 20)
      }
      Console.print("A round.")
    }
  }

  private static func goOn(_ process: UserProcess, _ piece: UInt64, _ argument: UInt64) {
    process.frame.pointee.rip = Platform.windowStart &+ piece
    process.frame.pointee.rsp = UserProcess.stackEnd
    process.frame.pointee.rflags = 0x202
    process.frame.pointee.rdi = argument
    _ = process.run()
  }
}
