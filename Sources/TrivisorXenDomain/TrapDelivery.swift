// Into the guest's kernel and out of it: exceptions, upcalls and system calls push a frame and go on at an address that
// the guest has registered; the hypercall iret takes the frame back (Xen's arch-x86/xen-x86_64.h and xen-x86_32.h; the
// frames were measured on Xen 4.17).

import TrivisorVMM
import TrivisorX86

/// Bits of RFLAGS as frames have them.
enum Flags {
  static let trap = RFLAGS.trap.rawValue
  static let interrupt = RFLAGS.interrupt.rawValue
  static let direction = RFLAGS.direction.rawValue
  static let ioPrivilege = RFLAGS.ioPrivilegeLevel.rawValue
  static let nestedTask = RFLAGS.nestedTask.rawValue
  static let resume = RFLAGS.resume.rawValue
  static let virtual8086 = RFLAGS.virtual8086.rawValue
  static let alignment = RFLAGS.alignmentCheck.rawValue
  /// What guest code can have in it.
  static let visible = (1 << 22 - 1) & ~(ioPrivilege | virtual8086)
}

/// Entries of a domain's kernel on one of its processors.
struct TrapDelivery {
  let processor: DomainProcessor

  private var domain: Domain { processor.domain }
  private var registers: DomainRegisters {
    get { processor.registers }
    nonmutating _modify { yield &processor.registers }
  }

  /// One of the guest's words onto a stack of its kernel's.
  private func push(_ value: UInt64, _ stack: inout UInt64) throws(XenError) {
    switch processor.layout {
    case .bits64:
      stack &-= 8
      try processor.write(value, to: stack, root: processor.kernelRoot)
    case .bits32:
      stack = (stack &- 4) & 0xffff_ffff
      try processor.write(UInt32(truncatingIfNeeded: value), to: stack, root: processor.kernelRoot)
    }
  }

  /// Pushes a frame and goes on at a callback. From user mode the frame goes to the stack that stack_switch named.
  /// - Parameters:
  ///   - selectors: of code and stack where they are not those that the host has.
  ///   - data: the registers whose data selectors belong to the frame, too: DS, ES, FS, GS from below, below RIP.
  /// - Throws: `badAddress` when there is no stack: the domain can't go on.
  func bounce(
    to callback: DomainProcessor.Callback,
    errorCode: UInt64?, selectors: (code: UInt64, stack: UInt64)? = nil, data: SegmentRegisters? = nil
  ) throws(XenError) {
    guard callback.address != 0 else { throw .badAddress }
    let mask: UInt64 = processor.upcallsAreMasked ? 1 : 0
    let flags =
      registers.rflags & ~(Flags.resume | Flags.interrupt | Flags.ioPrivilege) | (mask == 0 ? Flags.interrupt : 0)
      | (domain.showsIOPrivilege ? UInt64(processor.ioPrivilege) << 12 : 0)
    var codeSelector = selectors?.code ?? UInt64(registers.cs.selector)
    let stackSelector = selectors?.stack ?? UInt64(registers.ss.selector)
    let old = registers
    var stack = registers.rsp
    let isFromUser = processor.mode == .user
    if isFromUser {
      processor.switchMode()
      stack = processor.kernelStack
    } else if processor.layout == .bits64 {
      // Privilege level 0 tells the guest that its own kernel was interrupted; 32-bit kernels are at 1 anyway.
      codeSelector &= ~Selectors.level
    }
    switch processor.layout {
    case .bits64:
      stack &= ~15
      try push(stackSelector, &stack)
      try push(old.rsp, &stack)
      try push(flags, &stack)
      try push(codeSelector | mask << 32, &stack)
      try push(old.rip, &stack)
      if let errorCode { try push(errorCode, &stack) }
      if let data {
        for segment in [data.gs, data.fs, data.es, data.ds] { try push(UInt64(segment.selector), &stack) }
      }
      try push(old.r11, &stack)
      try push(old.rcx, &stack)
      registers.enterFlat64()
    case .bits32:
      // Error code, EIP, CS with the mask in its upper half, EFLAGS, and of user code ESP and SS.
      if isFromUser {
        let own = selectors ?? processor.userSelectors
        codeSelector = own.code
        try push(own.stack, &stack)
        try push(old.rsp, &stack)
      }
      try push(flags, &stack)
      try push(codeSelector | mask << 16, &stack)
      try push(old.rip, &stack)
      if let errorCode { try push(errorCode, &stack) }
      registers.setFlat(code: Selectors.kernelCode32, stack: Selectors.kernelData32, .bits32)
    }
    registers.rsp = stack
    registers.rip = callback.address
    registers.rflags &= ~(Flags.trap | Flags.nestedTask | Flags.resume | Flags.alignment)
    if callback.masksUpcalls { processor.upcallsAreMasked = true }
  }

  /// Gives an exception to the guest.
  func raise(
    vector: UInt8, errorCode: UInt64?,
    selectors: (code: UInt64, stack: UInt64)? = nil
  ) {
    let entry = processor.traps[Int(vector)]
    let place = registers.rip
    guard entry.address != 0 else {
      return domain.end(
        .crashed("exception \(vector) at \(hexadecimal(place)), and the guest has no handler for it"))
    }
    let callback = DomainProcessor.Callback(address: entry.address, masksUpcalls: entry.masksUpcalls)
    let stack = processor.mode == .user ? processor.kernelStack : registers.rsp
    do throws(XenError) {
      try bounce(to: callback, errorCode: errorCode, selectors: selectors)
    } catch {
      domain.end(
        .crashed(
          "exception \(vector) at \(hexadecimal(place)), and the guest has no stack for it at \(hexadecimal(stack))"))
    }
  }

  /// Data segments could not be loaded: the failsafe callback, whose frame has the selectors.
  func failsafe(_ wanted: DomainRegisters) {
    do throws(XenError) {
      try bounce(
        to: processor.failsafeCallback, errorCode: nil,
        selectors: (UInt64(wanted.cs.selector), UInt64(wanted.ss.selector)), data: wanted.segments)
    } catch {
      domain.end(
        .crashed(
          "segments of processor \(processor.number) can't be loaded, and the guest has no failsafe callback or no stack"
            + " for it"))
    }
  }

  /// A page fault: the code is what the guest's tables and mode say.
  func raisePageFault(
    _ address: UInt64, errorCode: UInt64
  ) {
    processor.faultAddress = address
    processor.storeFaultAddress(address)
    guard processor.traps[Int(ExceptionVector.pageFault.rawValue)].address != 0 else {
      return domain.end(
        .crashed(
          "page fault at \(hexadecimal(registers.rip)), address \(hexadecimal(address)), and the guest has no handler"
            + " for it"))
    }
    raise(vector: ExceptionVector.pageFault.rawValue, errorCode: errorCode)
  }

  /// SYSCALL in user mode: the guest kernel's own system call. Without a callback for it the instruction is invalid.
  func systemCall() {
    guard processor.systemCallCallback.address != 0 else {
      registers.rip &-= 2
      return raise(vector: ExceptionVector.invalidOpcode.rawValue, errorCode: nil)
    }
    do throws(XenError) {
      try bounce(to: processor.systemCallCallback, errorCode: nil)
      registers.rflags &= ~Flags.direction
    } catch {
      domain.end(.crashed("a system call, and the guest has no stack for it at \(hexadecimal(processor.kernelStack))"))
    }
  }

  /// SYSCALL in 32-bit code: the callback for it; without one the instruction is invalid.
  func systemCall32() {
    processor.count(.systemCall32)
    guard processor.systemCall32Callback.address != 0 else {
      registers.rip &-= 2
      return raise(vector: ExceptionVector.invalidOpcode.rawValue, errorCode: nil)
    }
    do throws(XenError) {
      try bounce(to: processor.systemCall32Callback, errorCode: nil)
      registers.rflags &= ~Flags.direction
    } catch {
      domain.end(
        .crashed("SYSCALL in 32-bit code, and the guest has no stack for it at \(hexadecimal(processor.kernelStack))"))
    }
  }

  /// A system call of 32-bit code's kind whose place the host has lost: SYSENTER or SYSCALL, whichever this processor has.
  /// Xen loses it after SYSENTER, too, and enters the callback for it, if there is one, with RIP and RSP 0; else it is a
  /// general protection fault. SYSCALL of 32-bit code comes to its callback in the same way, with RIP 0; without one it is an
  /// invalid instruction, as on Xen.
  func callWithoutPlace(_ call: DomainTrap.LostSystemCall) {
    processor.count(call == .systemEntry ? .systemEntry : .systemCall32)
    let callback = call == .systemEntry ? processor.systemEntryCallback : processor.systemCall32Callback
    guard callback.address != 0 else {
      guard call == .systemEntry else { return raiseWithoutPlace(.invalidOpcode, errorCode: nil) }
      return raiseWithoutPlace(.generalProtection, errorCode: 0)
    }
    do throws(XenError) {
      registers.rip = 0
      try bounce(to: callback, errorCode: nil, selectors: selectorsWithoutPlace)
    } catch {
      let name = call == .systemEntry ? "SYSENTER" : "SYSCALL in 32-bit code"
      domain.end(.crashed("\(name), and the guest has no stack for it at \(hexadecimal(registers.rsp))"))
    }
  }

  /// An exception of code whose place is lost: RIP is 0, and so is the selector, with user mode's privilege level.
  func raiseWithoutPlace(_ vector: ExceptionVector, errorCode: UInt64?) {
    registers.rip = 0
    raise(vector: vector.rawValue, errorCode: errorCode, selectors: selectorsWithoutPlace)
  }

  private var selectorsWithoutPlace: (code: UInt64, stack: UInt64) {
    (code: 3, stack: processor.layout == .bits64 ? Selectors.data64 : Selectors.userData32)
  }

  /// Delivers an NMI if one was sent; without a handler it is lost. The next one waits for iret.
  func deliverInterrupt() {
    guard processor.hasPendingInterrupt, !processor.isInInterrupt else { return }
    processor.hasPendingInterrupt = false
    let entry = processor.traps[Int(ExceptionVector.nonMaskableInterrupt.rawValue)]
    guard entry.address != 0 else { return }
    processor.isInInterrupt = true
    raise(vector: ExceptionVector.nonMaskableInterrupt.rawValue, errorCode: nil)
  }

  /// Delivers an upcall if one is due.
  func deliverUpcall() {
    guard processor.hasPendingUpcall, !processor.upcallsAreMasked, processor.eventCallback.address != 0 else { return }
    processor.upcallCount &+= 1
    let callback = DomainProcessor.Callback(address: processor.eventCallback.address, masksUpcalls: true)
    do throws(XenError) {
      try bounce(to: callback, errorCode: nil)
    } catch {
      domain.end(.crashed("an event came, and the guest has no stack for it at \(hexadecimal(registers.rsp))"))
    }
  }
}
