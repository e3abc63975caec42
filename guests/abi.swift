// What a paravirtual guest can find out about the interface below it: traps with their frames, the mask, page tables, event
// channels, timers, and what is refused with which error. The same image runs here and as a domain of real Xen, and
// must say the same. Numbers that belong to a machine (frames, ports, times) are not printed, but judged.

import CABI
import CPlatform
import CXen

@main
enum ABI {
  nonisolated(unsafe) static var trap = TrapFrame()
  nonisolated(unsafe) static var trapCount: UInt64 = 0

  static func main() {
    guard
      let process = UserProcess(argument: 0, dataPages: 1, stackPages: 1, interruptible: true),
      let page = Platform.allocateFrame()
    else {
      Console.print("No memory for the tables.")
      Platform.exit(1)
    }
    Platform.activate(process.space)
    registerGate()
    exceptions(process, page.address)
    privilegeLevel(process, page.address)
    frames()
    systemCalls(process)
    EventTests.run()
    TimerTests.run()
    PagingTests.run()
    CallTests.run()
    GrantTests.run()
    DescriptorTests.run()
    DetailTests.run(process)
    Console.print("Through.")
    Platform.exit(0)
  }

  static func say(_ what: StaticString, _ value: UInt64) { Console.print("\(what): \(hexadecimal: value)") }

  /// An error as a negative number, anything else as it is.
  static func sayResult(_ what: StaticString, _ result: UInt64) {
    if Int64(bitPattern: result) < 0 {
      Console.print("\(what): -\(0 &- result)")
    } else {
      Console.print("\(what): \(result)")
    }
  }

  static func judge(_ what: StaticString, _ isRight: Bool) {
    Console.print("\(what): \(isRight ? "yes" : "no" as StaticString)")
  }

  // MARK: Exceptions

  /// Vector 0x90 may be called by user code.
  static func registerGate() {
    withUnsafeTemporaryAllocation(of: XenTrap.self, capacity: 2) { table in
      // Vector 9 has no use in 64 bits, so its stub can stand for the gate's.
      table[0] = XenTrap(
        vector: 0x90, flags: 3 | 4, selector: UInt16(truncatingIfNeeded: xenCodeSelector), padding: 0,
        address: xen_trap_stub(9))
      table[1] = XenTrap(vector: 0, flags: 0, selector: 0, padding: 0, address: 0)
      sayResult("set_trap_table", xen_hypercall(xenSetTrapTable, address(table.baseAddress), 0, 0, 0))
      table[0].address = 0x8000_0000_0000_0000
      sayResult(
        "set_trap_table with an address that is none",
        xen_hypercall(xenSetTrapTable, address(table.baseAddress), 0, 0, 0))
    }
  }

  static func address<T>(_ pointer: UnsafeMutablePointer<T>?) -> UInt64 { UInt64(UInt(bitPattern: pointer)) }

  static func exceptions(_ process: UserProcess, _ page: UInt64) {
    Platform.trapHandler = { ABI.handle($0) }
    for index in 0..<abiRowCount() {
      let row = abiRow(index)
      write("kernel ", row)
      let result = attempt(row.code, page)
      describe(trapCount > 0, result, &trap)
      attemptAsUser(row, process)
    }
  }

  static func attemptAsUser(_ row: ABIRow, _ process: UserProcess) {
    write("user   ", row)
    let frame = process.frame
    let stack = UserProcess.stackEnd &- 8
    frame.pointee.rip = Platform.windowStart &+ row.code &- userProgramStart()
    frame.pointee.cs = Platform.userCodeSelector
    frame.pointee.ss = Platform.userDataSelector
    frame.pointee.rflags = 0x202
    frame.pointee.rsp = stack
    frame.pointee.rdi = UserProcess.dataStart
    xen_store64(stack, Platform.windowStart &+ abi_return_address() &- userProgramStart())
    switch process.run() {
    case .systemCall(let result, _, _): describe(false, result, frame)
    default: describe(true, 0, frame)
    }
  }

  /// Calls code in kernel mode; `trapCount` and `trap` tell what happened.
  static func attempt(_ code: UInt64, _ page: UInt64) -> UInt64 {
    trapCount = 0
    return abi_attempt(code, page)
  }

  /// Abandons what trapped.
  static func handle(_ frame: UnsafeMutablePointer<TrapFrame>) {
    trapCount &+= 1
    trap = frame.pointee
    frame.pointee.rip = abi_trap_point_address()
    frame.pointee.rsp = abiStack()
    frame.pointee.rflags = 0x2
  }

  static func write(_ mode: StaticString, _ row: ABIRow) {
    Console.write(literal: mode)
    var length = 0
    while row.name[length] != 0 {
      Platform.write(UInt8(bitPattern: row.name[length]))
      length &+= 1
    }
    while length < 26 {
      Platform.write(UInt8(ascii: " "))
      length &+= 1
    }
  }

  static func describe(_ isTrap: Bool, _ result: UInt64, _ frame: UnsafeMutablePointer<TrapFrame>) {
    guard isTrap else { return Console.print(" ran: \(hexadecimal: result)") }
    let frame = frame.pointee
    Console.write(" vector \(frame.vector), code \(hexadecimal: frame.errorCode), cs \(hexadecimal: frame.cs)")
    Console.write(", flags \(hexadecimal: frame.rflags & 0x7_7700)")
    if frame.vector == trapVectorPageFault { Console.write(", address \(hexadecimal: faultPlace())") }
    Console.print()
  }

  /// Addresses of code move from build to build.
  static func faultPlace() -> UInt64 {
    Platform.faultAddress < 0x7000_0000 ? Platform.faultAddress & 0xfff_ffff_f000_0000 : Platform.faultAddress
  }

  static func privilegeLevel(_ process: UserProcess, _ page: UInt64) {
    for level in 0..<4 as Range<UInt32> {
      var level = level
      _ = withUnsafeMutablePointer(to: &level) {
        xen_hypercall(xenPhysicalDevice, xenSetIOPrivilege, UInt64(UInt(bitPattern: $0)), 0, 0)
      }
      let before = xen_load8(mask)
      for index in 0..<abiRowCount() where isInterruptRow(index) {
        write("kernel ", abiRow(index))
        let result = attempt(abiRow(index).code, page)
        describe(trapCount > 0, result, &trap)
        attemptAsUser(abiRow(index), process)
      }
      judge("the mask is as before", xen_load8(mask) == before)
    }
    var level: UInt32 = 4
    sayResult(
      "set_iopl 4",
      withUnsafeMutablePointer(to: &level) {
        xen_hypercall(xenPhysicalDevice, xenSetIOPrivilege, UInt64(UInt(bitPattern: $0)), 0, 0)
      })
    level = 0
    _ = withUnsafeMutablePointer(to: &level) {
      xen_hypercall(xenPhysicalDevice, xenSetIOPrivilege, UInt64(UInt(bitPattern: $0)), 0, 0)
    }
  }

  /// The last two: CLI and STI.
  static func isInterruptRow(_ index: UInt64) -> Bool { index &+ 2 >= abiRowCount() }

  static var mask: UInt64 { xen_shared_page_address() + UInt64(XEN_INFO_MASK) }

  // MARK: Frames as they are

  static func frames() {
    for variant in 0..<4 as Range<UInt8> {
      let (masked, flags) = (variant & 1, (variant & 2) * 2)
      withUnsafeTemporaryAllocation(of: XenTrap.self, capacity: 2) { table in
        table[0] = XenTrap(
          vector: 3, flags: flags, selector: UInt16(truncatingIfNeeded: xenCodeSelector), padding: 0,
          address: abi_raw_entry_address())
        table[1] = XenTrap(vector: 0, flags: 0, selector: 0, padding: 0, address: 0)
        _ = xen_hypercall(xenSetTrapTable, address(table.baseAddress), 0, 0, 0)
      }
      xen_store8(mask, masked)
      let flagsAfter = abi_raw_call()
      let maskAfter = xen_load8(mask)
      xen_store8(mask, 1)
      Console.write("int3, upcalls \(masked == 0 ? "open" : "masked" as StaticString), flag \(UInt64(flags)):")
      Console.write(" rcx \(hexadecimal: abiRawWord(0)) r11 \(hexadecimal: abiRawWord(1))")
      Console.write(" cs \(hexadecimal: abiRawWord(3)) flags \(hexadecimal: abiRawWord(4) & 0x7_7700)")
      Console.write(" ss \(hexadecimal: abiRawWord(6)), mask within \(abiRawWord(7))")
      Console.print(", after \(UInt64(maskAfter)), flags after \(hexadecimal: flagsAfter & 0x7_7700)")
    }
    Platform.registerTraps()
    registerGateAgain()
  }

  static func registerGateAgain() { Platform.trapHandler = { ABI.handle($0) } }

  // MARK: System calls

  static func systemCalls(_ process: UserProcess) {
    let frame = process.frame
    let code = Platform.windowStart &+ abi_system_call_address() &- userProgramStart()
    frame.pointee.rip = code
    frame.pointee.rsp = UserProcess.stackEnd
    frame.pointee.rflags = 0x202
    _ = process.run()
    let first = frame.pointee
    Console.write("user system call: vector \(hexadecimal: first.vector), rax \(hexadecimal: first.rax)")
    Console.write(", rcx behind the instruction \(first.rcx == first.rip ? "yes" : "no" as StaticString)")
    Console.write(", r11 \(hexadecimal: first.r11 & 0x7_7700), cs \(hexadecimal: first.cs)")
    Console.print(", ss \(hexadecimal: first.ss), flags \(hexadecimal: first.rflags & 0x7_7700)")
    frame.pointee.rax = 0x5555
    _ = process.run()
    let second = frame.pointee
    Console.write("and back by iret: vector \(hexadecimal: second.vector), rax \(hexadecimal: second.rax)")
    Console.print(", rcx kept \(second.rsi == first.rcx ? "yes" : "no" as StaticString)")
  }
}
