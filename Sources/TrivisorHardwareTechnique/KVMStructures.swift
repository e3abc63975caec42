// One conversion for each of KVM's register structures.

import CKVM
import TrivisorVMM

extension GeneralRegisters {
  init(_ regs: kvm_regs) {
    self.init()
    (rax, rbx, rcx, rdx) = (regs.rax, regs.rbx, regs.rcx, regs.rdx)
    (rsi, rdi, rsp, rbp) = (regs.rsi, regs.rdi, regs.rsp, regs.rbp)
    (r8, r9, r10, r11) = (regs.r8, regs.r9, regs.r10, regs.r11)
    (r12, r13, r14, r15) = (regs.r12, regs.r13, regs.r14, regs.r15)
    (rip, rflags) = (regs.rip, regs.rflags)
  }
}

extension kvm_regs {
  init(_ general: GeneralRegisters) {
    self.init()
    (rax, rbx, rcx, rdx) = (general.rax, general.rbx, general.rcx, general.rdx)
    (rsi, rdi, rsp, rbp) = (general.rsi, general.rdi, general.rsp, general.rbp)
    (r8, r9, r10, r11) = (general.r8, general.r9, general.r10, general.r11)
    (r12, r13, r14, r15) = (general.r12, general.r13, general.r14, general.r15)
    (rip, rflags) = (general.rip, general.rflags)
  }
}

extension Segment {
  init(_ segment: kvm_segment) {
    var attributes = UInt16(segment.type & 15)
    attributes |= UInt16(segment.s & 1) << 4
    attributes |= UInt16(segment.dpl & 3) << 5
    attributes |= UInt16(segment.present & 1) << 7
    attributes |= UInt16(segment.avl & 1) << 12
    attributes |= UInt16(segment.l & 1) << 13
    attributes |= UInt16(segment.db & 1) << 14
    attributes |= UInt16(segment.g & 1) << 15
    self.init(
      selector: segment.selector, base: segment.base, limit: segment.limit, attributes: attributes,
      isUnusable: segment.unusable != 0)
  }
}

extension kvm_segment {
  init(_ segment: Segment) {
    self.init()
    let attributes = segment.attributes
    (base, limit, selector) = (segment.base, segment.limit, segment.selector)
    type = UInt8(attributes & 15)
    s = UInt8(attributes >> 4 & 1)
    dpl = UInt8(attributes >> 5 & 3)
    present = UInt8(attributes >> 7 & 1)
    avl = UInt8(attributes >> 12 & 1)
    l = UInt8(attributes >> 13 & 1)
    db = UInt8(attributes >> 14 & 1)
    g = UInt8(attributes >> 15 & 1)
    unusable = segment.isUnusable ? 1 : 0
  }
}

extension SystemRegisters {
  init(_ sregs: kvm_sregs) {
    self.init()
    (cs, ds, es) = (Segment(sregs.cs), Segment(sregs.ds), Segment(sregs.es))
    (fs, gs, ss) = (Segment(sregs.fs), Segment(sregs.gs), Segment(sregs.ss))
    (task, ldt) = (Segment(sregs.tr), Segment(sregs.ldt))
    gdt = DescriptorTable(base: sregs.gdt.base, limit: sregs.gdt.limit)
    idt = DescriptorTable(base: sregs.idt.base, limit: sregs.idt.limit)
    (cr0, cr2, cr3, cr4, cr8) = (sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4, sregs.cr8)
    (efer, apicBase) = (sregs.efer, sregs.apic_base)
  }

  /// Everything but the bitmap of a pending interrupt, which belongs to `PendingEvents`.
  func store(to sregs: inout kvm_sregs) {
    (sregs.cs, sregs.ds, sregs.es) = (kvm_segment(cs), kvm_segment(ds), kvm_segment(es))
    (sregs.fs, sregs.gs, sregs.ss) = (kvm_segment(fs), kvm_segment(gs), kvm_segment(ss))
    (sregs.tr, sregs.ldt) = (kvm_segment(task), kvm_segment(ldt))
    (sregs.gdt.base, sregs.gdt.limit) = (gdt.base, gdt.limit)
    (sregs.idt.base, sregs.idt.limit) = (idt.base, idt.limit)
    (sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4, sregs.cr8) = (cr0, cr2, cr3, cr4, cr8)
    (sregs.efer, sregs.apic_base) = (efer, apicBase)
  }
}

extension PendingEvents {
  init(_ events: kvm_vcpu_events) {
    self.init()
    if events.exception.injected != 0 || events.exception.pending != 0 {
      exception = Exception(
        vector: events.exception.nr,
        errorCode: events.exception.has_error_code != 0 ? events.exception.error_code : nil,
        payload: events.exception_has_payload != 0 ? events.exception_payload : nil)
    }
    if events.interrupt.injected != 0 {
      interrupt = events.interrupt.nr
      interruptIsSoftware = events.interrupt.soft != 0
    }
    nonMaskablePending = events.nmi.pending != 0 || events.nmi.injected != 0
    nonMaskableBlocked = events.nmi.masked != 0
    stiShadow = Int32(events.interrupt.shadow) & KVM_X86_SHADOW_INT_STI != 0
    movSSShadow = Int32(events.interrupt.shadow) & KVM_X86_SHADOW_INT_MOV_SS != 0
  }

  func store(to events: inout kvm_vcpu_events) {
    events.exception.injected = exception == nil ? 0 : 1
    events.exception.pending = 0
    events.exception.nr = exception?.vector ?? 0
    events.exception.has_error_code = exception?.errorCode == nil ? 0 : 1
    events.exception.error_code = exception?.errorCode ?? 0
    events.interrupt.injected = interrupt == nil ? 0 : 1
    events.interrupt.nr = interrupt ?? 0
    events.interrupt.soft = interruptIsSoftware ? 1 : 0
    events.interrupt.shadow =
      UInt8(stiShadow ? KVM_X86_SHADOW_INT_STI : 0) | UInt8(movSSShadow ? KVM_X86_SHADOW_INT_MOV_SS : 0)
    events.nmi.injected = 0
    events.nmi.pending = nonMaskablePending ? 1 : 0
    events.nmi.masked = nonMaskableBlocked ? 1 : 0
    events.flags = UInt32(
      KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR | KVM_VCPUEVENT_VALID_SHADOW)
  }
}

extension Activity {
  init(_ state: kvm_mp_state, startupVector: UInt32) {
    self =
      switch Int32(bitPattern: state.mp_state) {
      case KVM_MP_STATE_UNINITIALIZED: .uninitialized
      case KVM_MP_STATE_INIT_RECEIVED: .waitingForStartup
      case KVM_MP_STATE_HALTED: .halted
      case KVM_MP_STATE_SIPI_RECEIVED: .startupReceived(vector: UInt8(truncatingIfNeeded: startupVector))
      default: .running
      }
  }

  var kvm: UInt32 {
    let number =
      switch self {
      case .running: KVM_MP_STATE_RUNNABLE
      case .halted: KVM_MP_STATE_HALTED
      case .uninitialized: KVM_MP_STATE_UNINITIALIZED
      case .waitingForStartup: KVM_MP_STATE_INIT_RECEIVED
      case .startupReceived: KVM_MP_STATE_SIPI_RECEIVED
      }
    return UInt32(number)
  }
}
