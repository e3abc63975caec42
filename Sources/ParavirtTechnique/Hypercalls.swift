// Hypercalls by number (Xen's public header xen.h). What is not here is answered with -ENOSYS, counted and named.
//
//                 number   arguments                 result   by
//     64 bits     RAX      RDI RSI RDX R10 R8        RAX      SYSCALL in kernel mode
//     32 bits     EAX      EBX ECX EDX ESI EDI       EAX      INT 82h
//
// Structures are read word by word from the guest's memory, once each, and what was read is judged.

import Boot
import Sandbox
import VMM

/// One call, as far as its carrying out needs to know.
struct HypercallContext {
  let processor: VirtualProcessor
  let arguments: [UInt64]
  var registers: UserRegisters
  /// Of a multicall: it can't be gone on with by executing it again.
  var isInner = false

  var root: UInt64 { processor.kernelRoot }
}

/// Their names in Xen's header, for statistics.
enum HypercallName {
  private static let names: [Int: String] = [
    0: "set_trap_table", 1: "mmu_update", 2: "set_gdt", 3: "stack_switch", 4: "set_callbacks", 5: "fpu_taskswitch",
    7: "platform_op", 8: "set_debugreg", 9: "get_debugreg", 10: "update_descriptor", 12: "memory_op", 13: "multicall",
    14: "update_va_mapping", 15: "set_timer_op", 17: "xen_version", 18: "console_io", 20: "grant_table_op",
    21: "vm_assist", 22: "update_va_mapping_otherdomain", 23: "iret", 24: "vcpu_op", 25: "set_segment_base",
    26: "mmuext_op", 27: "xsm_op", 28: "nmi_op", 29: "sched_op", 30: "callback_op", 31: "xenoprof_op",
    32: "event_channel_op", 33: "physdev_op", 34: "hvm_op", 35: "sysctl", 36: "domctl", 37: "kexec_op", 38: "tmem_op",
    40: "xenpmu_op",
  ]

  static func of(_ number: UInt64) -> String { names[Int(truncatingIfNeeded: number)] ?? "number \(number)" }
}

extension Domain {
  /// The most entries that one call may bring, so that a call is over in bounded time.
  static let batchLimit: UInt64 = 4096
  private static let iretNumber: UInt64 = 23
  private static let multicallNumber: UInt64 = 13

  /// Carries out the hypercall that the registers describe.
  func hypercall(_ processor: VirtualProcessor, _ registers: inout UserRegisters) {
    let number = layout == .bits64 ? registers.rax : registers.rax & 0xffff_ffff
    if number < UInt64(hypercallCounts.count) { hypercallCounts[Int(number)] += 1 }
    if number == Self.iretNumber { return returnFromTrap(processor, &registers) }
    let arguments =
      layout == .bits64
      ? [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8]
      : [registers.rbx, registers.rcx, registers.rdx, registers.rsi, registers.rdi].map { $0 & 0xffff_ffff }
    var context = HypercallContext(processor: processor, arguments: arguments, registers: registers)
    let answer = result(number, &context)
    registers = context.registers
    registers.rax = answer
  }

  /// Calls that the sandbox has answered by itself.
  func countServed(_ count: UInt32, _ processor: VirtualProcessor) {
    guard count > 0 else { return }
    hypercallCounts[25] &+= UInt64(count)
    processor.count("hypercall (SYSCALL), served in the sandbox", UInt64(count))
  }

  private func result(_ number: UInt64, _ context: inout HypercallContext) -> UInt64 {
    let a = context.arguments
    do throws(XenError) {
      switch number {
      case 0: try setTrapTable(context)
      case 1: return try updatePageTables(&context)
      case 2: try setDescriptorTable(context)
      case 3: switchStack(context)
      case 4: setCallbacks(context)
      case 5: setTaskSwitched(a[0] & 0xffff_ffff != 0, context.processor)
      case 8: try setDebugRegister(context)
      case 9: return try debugRegister(context)
      case 10: try updateDescriptor(context)
      case 12: return try memoryOperation(context)
      case Self.multicallNumber: try multicall(&context)
      case 14: try updateMapping(context)
      case 15: setTimer(context)
      case 17: return try version(context)
      // Only the first domain of a machine may write to the hypervisor's own console.
      case 18: throw .notPermitted
      case 20: try grantTable(context)
      case 21: try assist(context)
      case 24: return try processorOperation(context)
      case 25: try setSegmentBase(&context)
      case 26: return try extendedPaging(&context)
      case 29: return try schedule(context)
      case 30: try callbackOperation(context)
      case 32: try eventChannelOperation(context)
      case 33: try physicalDevice(context)
      default: throw .notImplemented
      }
      return 0
    } catch {
      if error == .notImplemented {
        let operation = number < 64 && [12, 17, 20, 24, 29, 30, 32, 33].contains(number) ? " \(a[0])" : ""
        let key = HypercallName.of(number) + operation
        // A guest that tries all numbers must not fill the monitor's memory.
        if notImplementedCounts[key] != nil || notImplementedCounts.count < 200 {
          notImplementedCounts[key, default: 0] &+= 1
        }
      }
      return error.result
    }
  }

  // MARK: Reading arguments

  func byte(_ address: UInt64, _ context: HypercallContext) throws(XenError) -> UInt8 {
    try read(UInt8.self, address, root: context.root)
  }
  func short(_ address: UInt64, _ context: HypercallContext) throws(XenError) -> UInt16 {
    try read(UInt16.self, address, root: context.root)
  }
  func half(_ address: UInt64, _ context: HypercallContext) throws(XenError) -> UInt32 {
    try read(UInt32.self, address, root: context.root)
  }
  func quad(_ address: UInt64, _ context: HypercallContext) throws(XenError) -> UInt64 {
    try read(UInt64.self, address, root: context.root)
  }
  /// An unsigned long or a pointer.
  func long(_ address: UInt64, _ context: HypercallContext) throws(XenError) -> UInt64 {
    layout == .bits64 ? try quad(address, context) : UInt64(try half(address, context))
  }
  func put<Value: FixedWidthInteger & BitwiseCopyable>(
    _ value: Value, _ address: UInt64, _ context: HypercallContext
  ) throws(XenError) {
    try write(value, to: address, root: context.root)
  }
  func putLong(_ value: UInt64, _ address: UInt64, _ context: HypercallContext) throws(XenError) {
    if layout == .bits64 {
      try put(value, address, context)
    } else {
      try put(UInt32(truncatingIfNeeded: value), address, context)
    }
  }

  /// Entries of number, result, six arguments. None may be another multicall, or iret.
  private func multicall(_ context: inout HypercallContext) throws(XenError) {
    let (address, count) = (context.arguments[0], context.arguments[1])
    guard count <= Self.batchLimit else { throw .invalid }
    let size = layout.wordSize
    for position in 0..<count {
      let entry = address &+ 8 &* size &* position
      let number = try long(entry, context)
      var arguments: [UInt64] = []
      for argument in 0..<6 as Range<UInt64> {
        arguments.append(try long(entry &+ size &* (2 &+ argument), context))
      }
      if number < UInt64(hypercallCounts.count) { hypercallCounts[Int(number)] += 1 }
      var inner = HypercallContext(
        processor: context.processor, arguments: arguments, registers: context.registers, isInner: true)
      let answer =
        number == Self.multicallNumber || number == Self.iretNumber
        ? XenError.notImplemented.result : result(number, &inner)
      context.registers = inner.registers
      try putLong(answer, entry &+ size, context)
    }
  }

  /// HYPERVISOR_xen_version: that of 4.17, whose behaviour this follows.
  private func version(_ context: HypercallContext) throws(XenError) -> UInt64 {
    let argument = context.arguments[1]
    func put(text: String, size: Int) throws(XenError) {
      let bytes = Array(text.utf8.prefix(size - 1))
      try write(bytes + [UInt8](repeating: 0, count: size - bytes.count), to: argument, root: context.root)
    }
    switch context.arguments[0] {
    case 0: return 4 << 16 | 17
    case 1: try put(text: ".trivisor", size: 16)
    // Compiler, who compiled it where and when: 64, 16, 32 and 32 bytes.
    case 2: try put(text: "", size: 144)
    case 3: try put(text: layout == .bits64 ? "xen-3.0-x86_64" : "xen-3.0-x86_32p", size: 1024)
    case 4: try put(text: "unavailable", size: 64)
    case 5: try putLong(layout == .bits64 ? Self.machineToPhysical : 0xf580_0000, argument, context)
    case 6:
      // MMU_PT_UPDATE_PRESERVE_AD, clearing and copying pages, and page-table roots above 4 GiB where asked for.
      guard try half(argument, context) == 0 else { throw .invalid }
      let features: UInt32 = 1 << 5 | 1 << 6 | (assists & 1 << 3 != 0 ? 1 << 4 : 0)
      try self.put(features, argument &+ 4, context)
    case 7:
      guard argument == 0 else { throw .invalid }
      return 4096
    // The domain's identifier: none was given.
    case 8: try put(text: "", size: 16)
    // The hypervisor's command line and build are not for guests.
    case 9: try put(text: "<denied>", size: 9)
    case 10: throw .notPermitted
    default: throw .notImplemented
    }
    return 0
  }

  /// HYPERVISOR_vm_assist, enable (0) or disable (1): segments of 4 GiB, and being told of them; stores into page tables,
  /// which are always carried out; roots above 4 GiB; IOPL in frames; the flag in runstate updates. For 64 bits also the
  /// machine-to-physical table hidden from user mode, where it never is.
  private func assist(_ context: HypercallContext) throws(XenError) {
    let (command, type) = (context.arguments[0], context.arguments[1])
    guard type <= 5 || type == 32 && layout == .bits64 else { throw .invalid }
    switch command {
    case 0: assists |= 1 << type
    case 1: assists &= ~(1 << type)
    default: throw .notImplemented
    }
  }

  /// VMASST_TYPE_architectural_iopl: the guest has its I/O privilege level in RFLAGS, as on a bare machine.
  var showsIOPrivilege: Bool { assists & 1 << 4 != 0 }

  /// HYPERVISOR_physdev_op: a domain without devices may set its own I/O privilege level.
  private func physicalDevice(_ context: HypercallContext) throws(XenError) {
    switch context.arguments[0] {
    case 6:
      let level = try half(context.arguments[1], context)
      guard level <= 3 else { throw .invalid }
      context.processor.ioPrivilege = UInt8(level)
    default: throw .notImplemented
    }
  }
}
