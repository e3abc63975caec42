import TrivisorVMM
import TrivisorX86

/// The hypercall iret: out of the guest's kernel, by a frame on its stack.
struct TrapReturn {
  let processor: DomainProcessor

  private var domain: Domain { processor.domain }
  private var registers: DomainRegisters {
    get { processor.registers }
    nonmutating _modify { yield &processor.registers }
  }

  /// HYPERVISOR_iret: back to where a frame says, in user mode if its CS is of privilege level 3 (64-bit kernels).
  func perform() {
    processor.isInInterrupt = false
    do throws(XenError) {
      switch processor.layout {
      case .bits64: try return64()
      case .bits32: try return32()
      }
    } catch {
      domain.end(.crashed("iret from a stack that is not there, at \(hexadecimal(registers.rsp))"))
    }
  }

  /// rax, r11, rcx, flags, rip, cs, rflags, rsp, ss.
  private func return64() throws(XenError) {
    var words: InlineArray<9, UInt64> = InlineArray(repeating: 0)
    for position in words.indices {
      words[position] = try processor.read(
        UInt64.self, registers.rsp &+ 8 &* UInt64(position), root: processor.kernelRoot)
    }
    let cameBySystemCall: UInt64 = 0x100
    if words[5] & 3 == 3 {
      guard processor.userRoot != 0 else {
        return domain.end(
          .crashed("the guest enters user mode without page tables for it (MMUEXT_NEW_USER_BASEPTR)"))
      }
      processor.switchMode()
    }
    if domain.showsIOPrivilege { processor.ioPrivilege = UInt8(words[6] >> 12 & 3) }
    registers.rax = words[0]
    registers.rip = words[4]
    registers.rflags = words[6] & ~(Flags.ioPrivilege | Flags.virtual8086) | Flags.interrupt
    if registers.rflags & Flags.nestedTask != 0, !domain.abilities.contains(.nestedTask) {
      domain.counts.add(notHonoured: .nestedTask)
    }
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
    let selectors = (code: words[5] & 0xffff | 3, stack: words[8] & 0xffff | 3)
    guard !domain.abilities.contains(.segments) else {
      if words[3] & cameBySystemCall != 0, LinearAddress.isCanonical(registers.rip) {
        // SYSRET has segments of its own, whatever the frame says.
        let code = selectors.code == Selectors.code32 ? Selectors.code32 : Selectors.code64
        return registers.setFlat(code: code, stack: Selectors.data64, .bits64)
      }
      return load(code: UInt16(selectors.code), stack: UInt16(selectors.stack))
    }
    // What the processor would say of selectors that can't be loaded, at the instruction that was to be next.
    guard let code = processor.flatCode(UInt16(truncatingIfNeeded: selectors.code)) else {
      return processor.delivery.raise(
        vector: ExceptionVector.generalProtection.rawValue, errorCode: selectors.code & ~3, selectors: selectors)
    }
    guard processor.dataSegment(UInt16(truncatingIfNeeded: selectors.stack))?.isWritable ?? false else {
      return processor.delivery.raise(
        vector: ExceptionVector.generalProtection.rawValue, errorCode: selectors.stack & ~3, selectors: selectors)
    }
    registers.setFlat(code: code, stack: Selectors.data64, .bits64)
  }

  /// CS and SS, as IRET loads them. What it raises of them is raised at the instruction that was to be next.
  func load(code: UInt16, stack: UInt16) {
    do throws(SegmentFault) {
      let segment = try processor.loads.loadCode(code)
      registers.ss = try processor.loads.loadStack(stack)
      registers.cs = segment
    } catch {
      processor.delivery.raise(
        vector: error.vector.rawValue, errorCode: error.errorCode, selectors: (UInt64(code), UInt64(stack)))
    }
  }

  /// eax, eip, cs, eflags, and for user code esp and ss.
  private func return32() throws(XenError) {
    func word(_ position: UInt64) throws(XenError) -> UInt64 {
      UInt64(try processor.read(UInt32.self, registers.rsp &+ 4 &* position & 0xffff_ffff, root: processor.kernelRoot))
    }
    let (eax, eip, code, flags) = (try word(0), try word(1), try word(2) & 0xffff, try word(3))
    guard code & 3 != 0 else { return domain.end(.crashed("iret to privilege level 0, which is the hypervisor's")) }
    guard flags & Flags.virtual8086 == 0 else {
      return domain.end(.crashed("iret to virtual-8086 mode, which is not done here"))
    }
    if code & 3 == 1 {
      registers.rsp = (registers.rsp &+ 16) & 0xffff_ffff
    } else {
      let (stack, stackSelector) = (try word(4), try word(5) & 0xffff)
      registers.rsp = stack
      processor.userSelectors = (code, stackSelector)
      processor.switchMode()
    }
    if domain.showsIOPrivilege { processor.ioPrivilege = UInt8(flags >> 12 & 3) }
    registers.rax = eax
    registers.rip = eip
    registers.rflags = flags & ~(Flags.ioPrivilege | Flags.virtual8086) | Flags.interrupt
    processor.upcallsAreMasked = flags & Flags.interrupt == 0
    guard processor.mode == .user else { return }
    if checkUserSegment(processor.userSelectors.code, isCode: true) {
      _ = checkUserSegment(processor.userSelectors.stack, isCode: false)
    }
  }

  /// - Returns: whether user code can go on with it.
  private func checkUserSegment(_ selector: UInt64, isCode: Bool) -> Bool {
    switch userSegment(selector, isCode: isCode) {
    case .flat: return true
    case .none:
      processor.delivery.raise(
        vector: ExceptionVector.generalProtection.rawValue, errorCode: selector & ~Selectors.level)
    case .other:
      domain.end(
        .crashed("user code in segment \(hexadecimal(selector)) with a base or a limit, which is not done here"))
    }
    return false
  }

  private enum UserSegment {
    case flat, other, none
  }

  /// What 32-bit user code may have as its code or stack: Xen's flat segments or such of its own table.
  private func userSegment(_ selector: UInt64, isCode: Bool) -> UserSegment {
    if selector == (isCode ? Selectors.userCode32 : Selectors.userData32) { return .flat }
    guard selector & 3 == 3, let segment = processor.descriptor(UInt16(truncatingIfNeeded: selector)),
      segment.isPresent, segment.isSegment, segment.privilegeLevel == 3, segment.isCode == isCode,
      isCode || segment.isWritable
    else { return .none }
    return segment.isFlat && segment.is32Bit ? .flat : .other
  }
}
