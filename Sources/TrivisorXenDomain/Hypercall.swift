// Hypercalls by number (Xen's public header xen.h). What is not here is answered with -ENOSYS, counted and named.
//
//                 number   arguments                 result   by
//     64 bits     RAX      RDI RSI RDX R10 R8        RAX      SYSCALL in kernel mode
//     32 bits     EAX      EBX ECX EDX ESI EDI       EAX      INT 82h
//
// Structures are read word by word from the guest's memory, once each, and what was read is judged.

import TrivisorBoot
import TrivisorVMM
import TrivisorX86

/// One call by a domain's kernel.
struct Hypercall: HypercallSubject {
  let processor: DomainProcessor
  let arguments: InlineArray<6, UInt64>
  var call: Hypercall { self }

  /// After so many entries a call goes on by being executed again, so that others have their turn and the processor can be stopped.
  static let batchLimit: UInt64 = 4096

  /// Says that the call is to be executed again, with these arguments: what it was asked for is not done yet. A multicall goes on with the
  /// entry then whose arguments they become (Xen: hypercall_create_continuation).
  func goOn(with arguments: InlineArray<6, UInt64>) { processor.continuation = arguments }

  /// Numbers that this file itself knows (__HYPERVISOR_…).
  private enum Number {
    static let setTrapTable: UInt64 = 0
    static let mmuUpdate: UInt64 = 1
    static let setGDT: UInt64 = 2
    static let stackSwitch: UInt64 = 3
    static let setCallbacks: UInt64 = 4
    static let fpuTaskSwitch: UInt64 = 5
    static let setDebugRegister: UInt64 = 8
    static let getDebugRegister: UInt64 = 9
    static let updateDescriptor: UInt64 = 10
    static let schedulerOld: UInt64 = 6
    static let memory: UInt64 = 12
    static let multicall: UInt64 = 13
    static let updateVirtualAddressMapping: UInt64 = 14
    static let setTimer: UInt64 = 15
    static let eventChannelOld: UInt64 = 16
    static let xenVersion: UInt64 = 17
    static let consoleIO: UInt64 = 18
    static let physicalDeviceOld: UInt64 = 19
    static let grantTable: UInt64 = 20
    static let vmAssist: UInt64 = 21
    static let updateMappingOfOther: UInt64 = 22
    static let iret: UInt64 = 23
    static let vcpu: UInt64 = 24
    static let setSegmentBase: UInt64 = 25
    static let mmuExtended: UInt64 = 26
    static let scheduler: UInt64 = 29
    static let callback: UInt64 = 30
    static let eventChannel: UInt64 = 32
    static let physicalDevice: UInt64 = 33
  }

  /// Carries out the call that a processor's registers describe.
  static func perform(_ processor: DomainProcessor) {
    let registers = processor.registers
    let isWide = processor.layout == .bits64
    let number = isWide ? registers.rax : registers.rax & 0xffff_ffff
    processor.domain.counts.add(hypercall: number)
    if number == Number.iret { return TrapReturn(processor: processor).perform() }
    let arguments: InlineArray<6, UInt64> =
      isWide
      ? [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9]
      : [
        registers.rbx & 0xffff_ffff, registers.rcx & 0xffff_ffff, registers.rdx & 0xffff_ffff,
        registers.rsi & 0xffff_ffff, registers.rdi & 0xffff_ffff, registers.rbp & 0xffff_ffff,
      ]
    processor.continuation = nil
    let result = Hypercall(processor: processor, arguments: arguments).result(number)
    processor.registers.rax = result
    guard let rest = processor.continuation else { return }
    processor.continuation = nil
    if isWide {
      (processor.registers.rdi, processor.registers.rsi, processor.registers.rdx) = (rest[0], rest[1], rest[2])
    } else {
      let half: UInt64 = 0xffff_ffff
      (processor.registers.rbx, processor.registers.rcx) = (rest[0] & half, rest[1] & half)
      processor.registers.rdx = rest[2] & half
    }
    processor.registers.rax = number
    // SYSCALL, or INT 82h.
    processor.registers.rip &-= 2
  }

  /// What the executor has answered by itself.
  static func count(_ served: ServedCalls, _ processor: DomainProcessor) {
    if served.segmentBases > 0 {
      processor.domain.counts.add(hypercall: Number.setSegmentBase, UInt64(served.segmentBases))
      processor.count(.hypercallServed, UInt64(served.segmentBases))
    }
    if served.tableLoads > 0 {
      processor.count(.tableLoadServed, UInt64(served.tableLoads))
      processor.tableLoops.noteServed(served.tableLoads)
    }
  }

  private var processorCalls: ProcessorCalls { ProcessorCalls(call: self) }
  private var memoryCalls: MemoryCalls { MemoryCalls(call: self) }
  private var descriptorCalls: DescriptorCalls { DescriptorCalls(call: self) }
  private var eventCalls: EventCalls { EventCalls(call: self) }
  private var deviceCalls: DeviceCalls { DeviceCalls(call: self) }

  private func result(_ number: UInt64) -> UInt64 {
    do throws(XenError) {
      switch number {
      case Number.setTrapTable: try processorCalls.setTrapTable()
      case Number.mmuUpdate: return try memoryCalls.updatePageTables()
      case Number.setGDT: try descriptorCalls.setDescriptorTable()
      case Number.stackSwitch: processorCalls.switchStack()
      case Number.setCallbacks: processorCalls.setCallbacks()
      case Number.fpuTaskSwitch: processor.setTaskSwitched(arguments[0] & 0xffff_ffff != 0)
      case Number.setDebugRegister: try processor.setDebugRegister(arguments[0], arguments[1])
      case Number.getDebugRegister:
        return try processor.debugRegisters.read(arguments[0], control4: CR4(rawValue: processor.control4))
      case Number.updateDescriptor: try descriptorCalls.updateDescriptor()
      case Number.memory: return try memoryCalls.memoryOperation()
      case Number.multicall: return try multicall()
      case Number.updateVirtualAddressMapping: try memoryCalls.updateMapping()
      case Number.setTimer: processorCalls.setTimer()
      case Number.xenVersion: return try version()
      case Number.updateMappingOfOther: try memoryCalls.updateMappingOfOther()
      case Number.consoleIO: return try ConsoleCalls(call: self).perform()
      case Number.grantTable: try GrantCalls(call: self).grantTable()
      case Number.vmAssist: try assist()
      case Number.vcpu: return try processorCalls.processorOperation()
      case Number.setSegmentBase: try processorCalls.setSegmentBase()
      case Number.mmuExtended: return try memoryCalls.extendedPaging()
      case Number.scheduler: return try eventCalls.schedule(arguments[0], arguments[1])
      case Number.schedulerOld: return try eventCalls.scheduleByOldCall()
      case Number.callback: try processorCalls.callbackOperation()
      case Number.eventChannel: try eventCalls.eventChannelOperation(arguments[0], arguments[1])
      case Number.eventChannelOld:
        try eventCalls.eventChannelOperation(UInt64(try half(arguments[0])), arguments[0] &+ 4)
      case Number.physicalDevice: try deviceCalls.physicalDevice(arguments[0], arguments[1])
      case Number.physicalDeviceOld:
        try deviceCalls.physicalDevice(UInt64(try half(arguments[0])), arguments[0] &+ layout.wordSize)
      default: return try ControlCalls(call: self).perform(number)
      }
      return 0
    } catch {
      if error == .notImplemented { domain.counts.add(notImplemented: number, operation: arguments[0]) }
      return error.result
    }
  }

  /// Entries of number, result, six arguments. None may be another multicall; iret is the last that is done, because what
  /// follows it is user mode's.
  private func multicall() throws(XenError) -> UInt64 {
    let (address, count) = (arguments[0], arguments[1] & 0xffff_ffff)
    let size = layout.wordSize
    for position in 0..<min(count, Self.batchLimit) {
      let entry = address &+ 8 &* size &* position
      let number = try long(entry)
      var arguments: InlineArray<6, UInt64> = InlineArray(repeating: 0)
      for argument in arguments.indices {
        arguments[argument] = try long(entry &+ size &* (2 &+ UInt64(argument)))
      }
      domain.counts.add(hypercall: number)
      if number == Number.iret {
        TrapReturn(processor: processor).perform()
        let result = processor.registers.rax
        try? putLong(result, entry &+ size)
        return result
      }
      let answer =
        number == Number.multicall
        ? XenError.invalid.result
        : Hypercall(processor: processor, arguments: arguments).result(number)
      if let rest = processor.continuation {
        processor.continuation = nil
        for argument in rest.indices { try putLong(rest[argument], entry &+ size &* (2 &+ UInt64(argument))) }
        goOnMulticall(behind: position)
        return 0
      }
      try putLong(answer, entry &+ size)
    }
    if count > Self.batchLimit { goOnMulticall(behind: Self.batchLimit) }
    return 0
  }

  private func goOnMulticall(behind done: UInt64) {
    var rest = arguments
    rest[0] &+= 8 &* layout.wordSize &* done
    rest[1] = (rest[1] & 0xffff_ffff) - done
    goOn(with: rest)
  }

  /// HYPERVISOR_xen_version: that of 4.17, whose behaviour this follows.
  private func version() throws(XenError) -> UInt64 {
    let argument = arguments[1]
    func put(text: String, size: Int) throws(XenError) {
      let bytes = Array(text.utf8.prefix(size - 1))
      try memory.write(bytes + [UInt8](repeating: 0, count: size - bytes.count), to: argument, root: root)
    }
    switch arguments[0] {
    case 0: return 4 << 16 | 17
    case 1: try put(text: ".trivisor", size: 16)
    // Compiler, who compiled it where and when: 64, 16, 32 and 32 bytes.
    case 2: try put(text: "", size: 144)
    case 3: try put(text: layout == .bits64 ? "xen-3.0-x86_64" : "xen-3.0-x86_32p", size: 1024)
    case 4: try put(text: "unavailable", size: 64)
    case 5: try putLong(layout == .bits64 ? MachineToPhysicalTable.start64 : MachineToPhysicalTable.start32, argument)
    case 6:
      guard try half(argument) == 0 else { throw .invalid }
      let largeRoots = domain.assists & Self.extendedRoots != 0 ? Feature.largeRoots : 0
      try self.put(Feature.always | largeRoots, argument &+ 4)
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

  /// XENFEAT_… (Xen's public header features.h).
  private enum Feature {
    /// MMU_PT_UPDATE_PRESERVE_AD (bit 5), clearing and copying pages (6), bits of the guest's own in mappings of grants (7), nodes in
    /// memory_op (13); pseudo-physical frames are not the machine's (16).
    static let always: UInt32 = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 13 | 1 << 16
    /// Page-table roots above 4 GiB.
    static let largeRoots: UInt32 = 1 << 4
  }
  /// VMASST_TYPE_pae_extended_cr3.
  private static let extendedRoots: UInt64 = 1 << 3

  /// HYPERVISOR_vm_assist, enable (0) or disable (1): segments of 4 GiB, and being told of them; stores into page tables,
  /// which are always carried out; roots above 4 GiB; IOPL in frames; the flag in runstate updates. For 64 bits also the
  /// machine-to-physical table hidden from user mode, where it never is.
  private func assist() throws(XenError) {
    let (command, type) = (arguments[0], arguments[1])
    guard type <= 5 || type == 32 && layout == .bits64 else { throw .invalid }
    switch command {
    case 0: domain.assists |= 1 << type
    case 1: domain.assists &= ~(1 << type)
    default: throw .notImplemented
    }
  }
}
