// Into the guest's kernel and out of it: exceptions, upcalls and system calls push a frame and go on at an address that
// the guest has registered; the hypercall iret takes the frame back (Xen's arch-x86/xen-x86_64.h and xen-x86_32.h; the
// frames were measured on Xen 4.17).

import Sandbox
import VMM

/// Bits of RFLAGS.
enum Flags {
  static let trap: UInt64 = 1 << 8
  static let interrupt: UInt64 = 1 << 9
  static let direction: UInt64 = 1 << 10
  static let ioPrivilege: UInt64 = 3 << 12
  static let nestedTask: UInt64 = 1 << 14
  static let resume: UInt64 = 1 << 16
  static let virtual8086: UInt64 = 1 << 17
  static let alignment: UInt64 = 1 << 18
}

/// Exceptions by the manuals' numbers (AMD64 APM vol. 2, 8.2).
enum ExceptionVector {
  static let debug: UInt8 = 1
  static let invalidOpcode: UInt8 = 6
  static let generalProtection: UInt8 = 13
  static let pageFault: UInt8 = 14
}

/// Xen's selectors for its flat segments, and the host's.
enum Selectors {
  static let code64: UInt64 = 0xe033
  static let data64: UInt64 = 0xe02b
  static let code32: UInt64 = 0xe023
  static let kernelCode32: UInt64 = 0xe019
  static let kernelData32: UInt64 = 0xe021
  static let userCode32: UInt64 = 0xe02b
  static let userData32: UInt64 = 0xe033
  static let hostCode64: UInt16 = 0x33
  static let hostData: UInt16 = 0x2b
  static let hostCode32: UInt16 = 0x23

  /// A flat segment, for reports.
  static func segment(_ selector: UInt64, attributes: UInt16) -> Segment {
    Segment(selector: UInt16(selector), base: 0, limit: .max, attributes: attributes)
  }
}

extension Domain {
  /// What a guest takes for the selectors that it has.
  private func codeSelector(_ registers: UserRegisters) -> UInt64 {
    switch (layout, registers.cs) {
    case (.bits64, Selectors.hostCode64): Selectors.code64
    case (.bits64, Selectors.hostCode32): Selectors.code32
    case (.bits32, SandboxProcess.codeSelector32): Selectors.kernelCode32
    default: UInt64(registers.cs)
    }
  }

  private func stackSelector(_ registers: UserRegisters) -> UInt64 {
    switch (layout, registers.ss) {
    case (.bits64, Selectors.hostData): Selectors.data64
    case (.bits32, SandboxProcess.dataSelector32): Selectors.kernelData32
    default: UInt64(registers.ss)
    }
  }

  /// To the other mode: its page tables and its GS base.
  func switchMode(_ processor: VirtualProcessor, _ registers: inout UserRegisters) {
    processor.mode = processor.mode == .kernel ? .user : .kernel
    processor.modeSwitchCount &+= 1
    if layout == .bits64 { swap(&registers.gsBase, &processor.otherGSBase) }
  }

  /// Pushes a frame and goes on at a callback. From user mode the frame goes to the stack that stack_switch named.
  /// - Parameter selectors: of code and stack where they are not those that the host has.
  /// - Throws: `badAddress` when there is no stack: the domain can't go on.
  func bounce(
    _ processor: VirtualProcessor, _ registers: inout UserRegisters, to callback: VirtualProcessor.Callback,
    errorCode: UInt64?, selectors: (code: UInt64, stack: UInt64)? = nil
  ) throws(XenError) {
    guard callback.address != 0 else { throw .badAddress }
    let mask: UInt64 = processor.upcallsAreMasked ? 1 : 0
    let flags =
      registers.rflags & ~(Flags.resume | Flags.interrupt | Flags.ioPrivilege) | (mask == 0 ? Flags.interrupt : 0)
      | (showsIOPrivilege ? UInt64(processor.ioPrivilege) << 12 : 0)
    var codeSelector = selectors?.code ?? codeSelector(registers)
    let stackSelector = selectors?.stack ?? stackSelector(registers)
    let (oldRSP, oldRIP) = (registers.rsp, registers.rip)
    let (oldRCX, oldR11) = (registers.rcx, registers.r11)
    var stack = registers.rsp
    let isFromUser = processor.mode == .user
    if isFromUser {
      switchMode(processor, &registers)
      stack = processor.kernelStack
    } else {
      // Privilege level 0 tells the guest that its own kernel was interrupted; 32-bit kernels are at 1 anyway.
      if layout == .bits64 { codeSelector &= ~3 }
    }
    switch layout {
    case .bits64:
      var frame = [oldRCX, oldR11]
      if let errorCode { frame.append(errorCode) }
      frame += [oldRIP, codeSelector | mask << 32, flags, oldRSP, stackSelector]
      stack = (stack & ~15) &- UInt64(8 * frame.count)
      for (position, word) in frame.enumerated() {
        try write(word, to: stack &+ UInt64(8 * position), root: processor.kernelRoot)
      }
      (registers.cs, registers.ss) = (Selectors.hostCode64, Selectors.hostData)
    case .bits32:
      // Error code, EIP, CS with the mask in its upper half, EFLAGS, and of user code ESP and SS.
      var frame = [oldRIP, codeSelector | mask << 16, flags]
      if isFromUser {
        let own = selectors ?? processor.userSelectors
        frame[1] = own.code | mask << 16
        frame += [oldRSP, own.stack]
      }
      if let errorCode { frame.insert(errorCode, at: 0) }
      stack = stack &- UInt64(4 * frame.count) & 0xffff_ffff
      for (position, word) in frame.enumerated() {
        try write(
          UInt32(truncatingIfNeeded: word), to: stack &+ UInt64(4 * position), root: processor.kernelRoot)
      }
      (registers.cs, registers.ss) = (SandboxProcess.codeSelector32, SandboxProcess.dataSelector32)
    }
    registers.rsp = stack
    registers.rip = callback.address
    registers.rflags &= ~(Flags.trap | Flags.nestedTask | Flags.resume | Flags.alignment)
    if callback.masksUpcalls { processor.upcallsAreMasked = true }
  }

  /// Gives an exception to the guest.
  func raise(
    vector: UInt8, errorCode: UInt64?, _ processor: VirtualProcessor, _ registers: inout UserRegisters,
    selectors: (code: UInt64, stack: UInt64)? = nil
  ) {
    let entry = processor.traps[Int(vector)]
    let what = "exception \(vector) at \(hexadecimal(registers.rip))"
    guard entry.address != 0 else {
      return end(.crashed("\(what), and the guest has no handler for it"))
    }
    let callback = VirtualProcessor.Callback(address: entry.address, masksUpcalls: entry.masksUpcalls)
    let stack = processor.mode == .user ? processor.kernelStack : registers.rsp
    do throws(XenError) {
      try bounce(processor, &registers, to: callback, errorCode: errorCode, selectors: selectors)
    } catch {
      end(.crashed("\(what), and the guest has no stack for it at \(hexadecimal(stack))"))
    }
  }

  /// A page fault: the code is what the guest's tables and mode say.
  func raisePageFault(
    _ address: UInt64, errorCode: UInt64, _ processor: VirtualProcessor, _ registers: inout UserRegisters
  ) {
    processor.faultAddress = address
    storeFaultAddress(address, processor)
    guard processor.traps[14].address != 0 else {
      return end(
        .crashed(
          "page fault at \(hexadecimal(registers.rip)), address \(hexadecimal(address)), and the guest has no handler"
            + " for it"))
    }
    raise(vector: 14, errorCode: errorCode, processor, &registers)
  }

  /// Where the guest looks for CR2.
  func storeFaultAddress(_ address: UInt64, _ processor: VirtualProcessor) {
    switch layout {
    case .bits64: processor.info.storeBytes(of: address, toByteOffset: layout.faultAddress, as: UInt64.self)
    case .bits32:
      processor.info.storeBytes(
        of: UInt32(truncatingIfNeeded: address), toByteOffset: layout.faultAddress, as: UInt32.self)
    }
  }

  /// SYSCALL in user mode: the guest kernel's own system call. Without a callback for it the instruction is invalid.
  func systemCall(_ processor: VirtualProcessor, _ registers: inout UserRegisters) {
    guard processor.systemCallCallback.address != 0 else {
      registers.rip &-= 2
      return raise(vector: 6, errorCode: nil, processor, &registers)
    }
    do throws(XenError) {
      try bounce(processor, &registers, to: processor.systemCallCallback, errorCode: nil)
      registers.rflags &= ~Flags.direction
    } catch {
      end(.crashed("a system call, and the guest has no stack for it at \(hexadecimal(processor.kernelStack))"))
    }
  }

  /// A system call of 32-bit code's kind whose place the host has lost: SYSENTER or SYSCALL, whichever this processor has.
  /// Xen loses it after SYSENTER, too, and enters the callback for it, if there is one, with RIP and RSP 0; else it is a
  /// general protection fault. SYSCALL of 32-bit code, for which there can be no callback here, is an invalid instruction.
  func callWithoutPlace(_ processor: VirtualProcessor, _ registers: inout UserRegisters) {
    guard HostProcessor.hasSYSENTER else {
      processor.count("SYSCALL in 32-bit code")
      return raiseWithoutPlace(vector: ExceptionVector.invalidOpcode, errorCode: nil, processor, &registers)
    }
    processor.count("SYSENTER")
    let callback = processor.systemEntryCallback
    guard callback.address != 0 else {
      return raiseWithoutPlace(vector: ExceptionVector.generalProtection, errorCode: 0, processor, &registers)
    }
    do throws(XenError) {
      try bounce(processor, &registers, to: callback, errorCode: nil, selectors: selectorsWithoutPlace)
    } catch {
      end(.crashed("SYSENTER, and the guest has no stack for it at \(hexadecimal(registers.rsp))"))
    }
  }

  /// An exception of code whose place is lost: RIP is 0, and so is the selector, with user mode's privilege level.
  func raiseWithoutPlace(
    vector: UInt8, errorCode: UInt64?, _ processor: VirtualProcessor, _ registers: inout UserRegisters
  ) {
    registers.rip = 0
    raise(vector: vector, errorCode: errorCode, processor, &registers, selectors: selectorsWithoutPlace)
  }

  private var selectorsWithoutPlace: (code: UInt64, stack: UInt64) {
    (code: 3, stack: layout == .bits64 ? Selectors.data64 : Selectors.userData32)
  }

  /// Delivers an upcall if one is due.
  func deliverUpcall(_ processor: VirtualProcessor, _ registers: inout UserRegisters) {
    guard processor.hasPendingUpcall, !processor.upcallsAreMasked, processor.eventCallback.address != 0 else { return }
    processor.upcallCount &+= 1
    let callback = VirtualProcessor.Callback(address: processor.eventCallback.address, masksUpcalls: true)
    do throws(XenError) {
      try bounce(processor, &registers, to: callback, errorCode: nil)
    } catch {
      end(.crashed("an event came, and the guest has no stack for it at \(hexadecimal(registers.rsp))"))
    }
  }

  /// HYPERVISOR_iret: back to where a frame says, in user mode if its CS is of privilege level 3 (64-bit kernels).
  func returnFromTrap(_ processor: VirtualProcessor, _ registers: inout UserRegisters) {
    do throws(XenError) {
      switch layout {
      case .bits64: try returnFromTrap64(processor, &registers)
      case .bits32: try returnFromTrap32(processor, &registers)
      }
    } catch {
      end(.crashed("iret from a stack that is not there, at \(hexadecimal(registers.rsp))"))
    }
  }

  /// rax, r11, rcx, flags, rip, cs, rflags, rsp, ss.
  private func returnFromTrap64(_ processor: VirtualProcessor, _ registers: inout UserRegisters) throws(XenError) {
    var words: [UInt64] = []
    for position in 0..<9 as Range<UInt64> {
      words.append(try read(UInt64.self, registers.rsp &+ 8 &* position, root: processor.kernelRoot))
    }
    let cameBySystemCall: UInt64 = 0x100
    if words[5] & 3 == 3 {
      guard processor.userRoot != 0 else {
        return end(.crashed("the guest enters user mode without page tables for it (MMUEXT_NEW_USER_BASEPTR)"))
      }
      switchMode(processor, &registers)
    }
    if showsIOPrivilege { processor.ioPrivilege = UInt8(words[6] >> 12 & 3) }
    registers.rax = words[0]
    registers.rip = words[4]
    registers.rflags = words[6] & ~(Flags.ioPrivilege | Flags.virtual8086) | Flags.interrupt
    if registers.rflags & Flags.nestedTask != 0 { countNotHonoured(.nestedTask) }
    registers.rsp = words[7]
    if words[3] & cameBySystemCall == 0 {
      registers.r11 = words[1]
      registers.rcx = words[2]
    } else {
      // As SYSRET leaves them.
      registers.r11 = registers.rflags
      registers.rcx = registers.rip
    }
    processor.upcallsAreMasked = words[6] & Flags.interrupt == 0
    // What the processor would say of selectors that can't be loaded, at the instruction that was to be next.
    let selectors = (code: words[5] & 0xffff | 3, stack: words[8] & 0xffff | 3)
    guard let code = hostCodeSelector(UInt16(selectors.code), processor) else {
      return raise(vector: 13, errorCode: selectors.code & ~3, processor, &registers, selectors: selectors)
    }
    guard dataSegment(UInt16(selectors.stack), processor)?.isWritable ?? false else {
      return raise(vector: 13, errorCode: selectors.stack & ~3, processor, &registers, selectors: selectors)
    }
    (registers.cs, registers.ss) = (code, Selectors.hostData)
  }

  /// eax, eip, cs, eflags, and for user code esp and ss.
  private func returnFromTrap32(_ processor: VirtualProcessor, _ registers: inout UserRegisters) throws(XenError) {
    func word(_ position: UInt64) throws(XenError) -> UInt64 {
      UInt64(try read(UInt32.self, registers.rsp &+ 4 &* position & 0xffff_ffff, root: processor.kernelRoot))
    }
    let (eax, eip, code, flags) = (try word(0), try word(1), try word(2) & 0xffff, try word(3))
    guard code & 3 != 0 else { return end(.crashed("iret to privilege level 0, which is the hypervisor's")) }
    guard flags & Flags.virtual8086 == 0 else {
      return end(.crashed("iret to virtual-8086 mode, which is not done here"))
    }
    if code & 3 == 1 {
      registers.rsp = (registers.rsp &+ 16) & 0xffff_ffff
    } else {
      let (stack, stackSelector) = (try word(4), try word(5) & 0xffff)
      registers.rsp = stack
      processor.userSelectors = (code, stackSelector)
      switchMode(processor, &registers)
    }
    if showsIOPrivilege { processor.ioPrivilege = UInt8(flags >> 12 & 3) }
    registers.rax = eax
    registers.rip = eip
    registers.rflags = flags & ~(Flags.ioPrivilege | Flags.virtual8086) | Flags.interrupt
    processor.upcallsAreMasked = flags & Flags.interrupt == 0
    guard processor.mode == .user else { return }
    for (selector, isCode) in [(processor.userSelectors.code, true), (processor.userSelectors.stack, false)] {
      switch userSegment(selector, isCode: isCode, processor) {
      case .flat: break
      case .none: return raise(vector: 13, errorCode: selector & ~3, processor, &registers)
      case .other:
        return end(
          .crashed("user code in segment \(hexadecimal(selector)) with a base or a limit, which is not done here"))
      }
    }
  }

  private enum UserSegment {
    case flat, other, none
  }

  /// What 32-bit user code may have as its code or stack: Xen's flat segments or such of its own table.
  private func userSegment(_ selector: UInt64, isCode: Bool, _ processor: VirtualProcessor) -> UserSegment {
    if selector == (isCode ? Selectors.userCode32 : Selectors.userData32) { return .flat }
    guard selector & 3 == 3, let segment = descriptor(UInt16(truncatingIfNeeded: selector), processor),
      segment.isPresent, segment.isSegment, segment.privilegeLevel == 3, segment.isCode == isCode,
      isCode || segment.isWritable
    else { return .none }
    return segment.isFlat && segment.is32Bit ? .flat : .other
  }
}
