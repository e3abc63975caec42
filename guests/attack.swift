// A paravirtual guest that attacks the sandbox that it runs in. Each way is named on the command line; what the guest
// survives it reports, and what it can't survive must end it with a reason, and nothing else with it.
//
// It knows the sandbox's layout (Sources/TrivisorCStub/include/layout.h), as an attacker would.

import CAttack
import CPlatform
import CXen

/// Where the stub is, and its frames: the mapper's area, then one for each virtual processor.
enum Stub {
  static let code: UInt64 = 0x7f00_0000_0000
  static let configuration: UInt64 = 0x7f00_0001_0000
  static let frames: UInt64 = 0x7f00_0010_0000
  static let areaSize: UInt64 = 0x8000
}

@main
enum Attack {
  static func main() {
    Platform.trapHandler = { Attack.handle($0) }
    if Arguments.contains("syscalls") { systemCalls() }
    if Arguments.contains("int80") { interrupts() }
    if Arguments.contains("vsyscall") { hostPage() }
    if Arguments.contains("compat-syscall") { _ = attack_compatibility(0) }
    if Arguments.contains("compat-sysenter") { _ = attack_compatibility(1) }
    if Arguments.contains("compat-int80") { _ = attack_compatibility(2) }
    if Arguments.contains("kernel-sysenter") {
      _ = attack_system_entry()
      judge("SYSENTER in kernel mode is an invalid instruction", trapCount == 1 && trap.vector == 6)
    }
    if Arguments.contains("kernel-wrpkru") { kernelKeys() }
    if Arguments.contains("steady") { SteadyState.run() }
    if Arguments.contains("user") { UserAttack.run() }
    if Arguments.contains("user-spin") { UserAttack.spin() }
    if Arguments.contains("sigreturn-spin") { forge(attack_spin_address()) }
    if Arguments.contains("sigreturn-trap") { forge(attack_invalid_address()) }
    if Arguments.contains("stack") { stacks() }
    if Arguments.contains("flags") { flags() }
    if Arguments.contains("race") { race() }
    if Arguments.contains("jumps") { jumps() }
    if let offset = Arguments.number("jump-at=") { jump(to: offset, Arguments.number("with=") ?? 0) }
    if Arguments.contains("frames") { foreignFrames() }
    if Arguments.contains("tables") { TableAttack.run() }
    if Arguments.contains("stale") { TableAttack.stale() }
    if Arguments.contains("descriptors") { descriptors() }
    if Arguments.contains("mappings") { mappings() }
    Console.print("Through.")
    Platform.exit(0)
  }

  nonisolated(unsafe) static var trap = TrapFrame()
  nonisolated(unsafe) static var trapCount: UInt64 = 0

  static func handle(_ frame: UnsafeMutablePointer<TrapFrame>) {
    trapCount &+= 1
    trap = frame.pointee
    frame.pointee.rip = attack_trap_point_address()
    frame.pointee.cs = xenKernelCodeSelector  // it may come from 32-bit code
    frame.pointee.rsp = attackStackPointer()
    frame.pointee.rflags = 0x2
  }

  static func judge(_ what: StaticString, _ isRight: Bool) {
    Console.print("\(what): \(isRight ? "yes" : "no" as StaticString)")
    if !isRight { Platform.exit(1) }
  }

  /// Numbers of no hypercall, of x32 and of none at all; then from user mode, where they are the guest's own.
  static func systemCalls() {
    let notImplemented = 0 &- 38 as UInt64
    var refused: UInt64 = 0
    for number in 64..<1024 as Range<UInt64> {
      if attack_call(number) == notImplemented || isForTracing(number) { refused &+= 1 }
    }
    judge("all numbers are refused in kernel mode", refused == 960)
    refused = 0
    for number in 0..<600 as Range<UInt64> where attack_call(0x4000_0000 | number) == notImplemented { refused &+= 1 }
    judge("those of x32, too", refused == 600)
    judge("and -1", attack_call(.max) == notImplemented)
    let process = makeProcess()
    var arrived: UInt64 = 0
    for number in 0..<600 as Range<UInt64> {
      if isForTracing(number) {
        arrived &+= 1
        continue
      }
      process.frame.pointee.rip = Platform.windowStart
      process.frame.pointee.rdi = number
      if case .systemCall(number, _, _) = process.run() { arrived &+= 1 }
    }
    judge("all of user mode come to the guest's kernel", arrived == 600)
  }

  /// uprobe: the kernels of some hosts let it by every filter, because tracing of user code needs it; elsewhere than in its
  /// own page it does nothing.
  static func isForTracing(_ number: UInt64) -> Bool { number == 336 }

  static func makeProcess() -> UserProcess {
    // XRSTOR of all components that a processor may have (11 KiB with AMX) finds memory.
    guard let process = UserProcess(argument: 0, dataPages: 4, stackPages: 1, interruptible: true) else {
      Console.print("No memory.")
      Platform.exit(1)
    }
    return process
  }

  static func interrupts() {
    trapCount = 0
    for number in 0..<460 as Range<UInt64> { _ = attack_interrupt(number) }
    judge("INT 80h is a fault in kernel mode", trapCount == 460 && trap.vector == 13 && trap.errorCode == 0x402)
    let process = makeProcess()
    var faults: UInt64 = 0
    for number in 0..<460 as Range<UInt64> {
      process.frame.pointee.rip = Platform.windowStart &+ 64
      process.frame.pointee.rdi = number
      if case .exception(13) = process.run() { faults &+= 1 }
    }
    judge("and in user mode", faults == 460)
  }

  static func hostPage() {
    for page in 0..<3 as Range<UInt64> {
      trapCount = 0
      _ = attack_vsyscall(0xffff_ffff_ff60_0000 + page * 0x400)
      judge("the host's vsyscall page is a page fault", trapCount == 1 && trap.vector == 14)
    }
  }

  /// The kernel denies itself its own pages.
  static func kernelKeys() {
    for denied in [1, 2, 3, 0xffff_ffff] as InlineNumbers {
      for stores in 0..<2 as Range<UInt64> {
        trapCount = 0
        _ = attack_keys(denied, stores)
        // 1 and 3 deny the load before the store, too; 2 denies stores only.
        let isStore = denied == 2 && stores != 0
        let isFault =
          trapCount == 1 && (trap.vector == 6 || trap.vector == 14 && trap.errorCode == (isStore ? 0x23 : 0x21))
        judge("keys of kernel mode", isFault || denied == 2 && stores == 0 && trapCount == 0)
      }
    }
  }

  /// SYSCALL with 15 in EAX before it, in the stub's page.
  static func sigreturnAddress() -> UInt64 {
    for offset in 0x100..<4090 as Range<UInt64> {
      let place = Stub.code + offset
      if xen_load8(place) == 0xb8, xen_load8(place + 1) == 15, xen_load8(place + 5) == 0x0f, xen_load8(place + 6) == 5 {
        return place + 5
      }
    }
    Console.print("No rt_sigreturn.")
    Platform.exit(1)
  }

  /// A ucontext_t of our own: all signals blocked, no alternate stack, and on at `rip`.
  static func forge(_ rip: UInt64) {
    guard let page = Platform.allocateFrame() else { return }
    let frame = page.address + 64
    writeFrame(at: frame, rip: rip, rsp: page.address + 4096)
    Console.print("Signals blocked from here.")
    _ = attack_sigreturn(sigreturnAddress(), frame)
  }

  static func writeFrame(at frame: UInt64, rip: UInt64, rsp: UInt64) {
    xen_store64(frame + 0, 6)  // UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS
    xen_store64(frame + 24, 2)  // SS_DISABLE
    xen_store64(frame + 40 + 8 * 15, rsp)
    xen_store64(frame + 40 + 8 * 16, rip)
    xen_store64(frame + 40 + 8 * 17, 0x202)
    xen_store64(frame + 40 + 8 * 18, 0x002b_0000_0000_0033)
    xen_store64(frame + 296, .max)
  }

  static func stacks() {
    Console.print("A stack pointer within the alternate stack.")
    _ = attack_stack(Stub.frames + Stub.areaSize + 0x4000)
  }

  /// AC, NT, DF and all of them: the call works, and the flags are as they were. TF traps after it.
  static func flags() {
    // NT gets lost: a host's process can't have it restored.
    for flags in [0x4_0002, 0x4002, 0x402, 0x4_4402] as InlineNumbers {
      let after = attack_flags(flags)
      judge("AC and DF are kept over a call", after & 0x4_0400 == flags & 0x4_0400)
    }
    trapCount = 0
    Platform.trapHandler = {
      Attack.trapCount &+= 1
      $0.pointee.rflags &= ~0x100
    }
    _ = attack_flags(0x102)
    judge("a single step over a call is one debug exception", trapCount == 1)
    Platform.trapHandler = { Attack.handle($0) }
  }

  /// A second processor overwrites the first one's frames while it makes calls.
  static func race() {
    guard Platform.processorCount > 1 else {
      Console.print("This needs two processors.")
      Platform.exit(2)
    }
    Console.print("Another processor writes to the frames.")
    Platform.startOtherProcessors { _ in
      var value: UInt64 = 0x1234_5678_9abc_def0
      while true {
        for offset in stride(from: 0 as UInt64, to: Stub.areaSize, by: 8) {
          xen_store64(Stub.frames + Stub.areaSize + offset, value)
          value = value &* 6_364_136_223_846_793_005 &+ 1
        }
      }
    }
    while true { _ = attack_call(63) }
  }

  /// To each SYSCALL of the stub's, with the number of a call that the host must not see.
  static func jumps() {
    var tried: UInt64 = 0
    for offset in 0x100..<4095 as Range<UInt64> {
      let place = Stub.code + offset
      guard xen_load8(place) == 0x0f, xen_load8(place + 1) == 5 else { continue }
      tried &+= 1
      Console.print("to the stub's SYSCALL number \(tried)")
      for number in [9, 59, 231] as InlineNumbers { _ = attack_jump(place, number, 0) }
    }
  }

  /// To any byte of the stub's page, with all registers the same: somewhere in the frames, in the configuration, 0, -1.
  static func jump(to offset: UInt64, _ way: UInt64) {
    let values = [Stub.frames + Stub.areaSize + 0x4000, Stub.configuration, 0, .max] as InlineNumbers
    var value: UInt64 = 0
    for (position, candidate) in values.enumerated() where UInt64(position) == way { value = candidate }
    attack_jump_with(Stub.code + offset, value)
  }

  static func foreignFrames() {
    let page = Platform.allocateFrame()?.address ?? 0
    for frame in [0, 1, 0xfff, 0x10_0000, 0xff_ffff_ffff] as InlineNumbers {
      let result = xen_hypercall(xenUpdateVirtualAddressMapping, page, frame << 12 | 0x67, 2, 0)
      judge("a frame of somebody else's is refused", Int64(bitPattern: result) < 0)
    }
    let table = xen_load64(xen_start(UInt64(XEN_START_PAGE_TABLES))) >> 12 & 0xff_ffff_ffff
    let result = xen_hypercall(xenUpdateVirtualAddressMapping, page, table << 12 | 0x67, 2, 0)
    judge("a writable page table is refused", Int64(bitPattern: result) < 0)
    trapCount = 0
    xen_store64(Stub.frames + 8, 1)
    judge("the frames are the guest's to write", trapCount == 0)
  }

  static func descriptors() {
    TableAttack.descriptors()
    for selector in [0x08, 0x10, 0x33, 0x40, 0x4b, 0x53, 0x7f, 0xfff8] as InlineNumbers {
      trapCount = 0
      _ = attack_load_selector(selector)
    }
    judge("selectors are loaded or faults", true)
  }

  /// More mappings than a process of the host may have: one page at every other address.
  static func mappings() {
    guard let space = Platform.makeAddressSpace(), let page = Platform.allocateFrame() else { return }
    Platform.activate(space)
    let entry = Platform.machineFrame(page.address) << 12 | 0x67
    var address = Platform.windowStart
    for slot in 0..<130 as Range<UInt64> {
      guard let table = Platform.allocateFrame() else { return }
      for position in 0..<512 as Range<UInt64> { xen_store64(table.address + position * 8, entry) }
      guard Platform.setTable(address, table, in: space) else { return Console.print("No table \(slot).") }
      for _ in 0..<512 {
        xen_store64(address, xen_load64(address) &+ 1)
        address &+= 4096
      }
    }
    judge("a page was written at each of 66560 addresses", xen_load64(page.address) == 130 * 512)
  }
}
