// `MachineState` to and from KVM's structures.

import CKVM
import Glibc
import TrivisorVMM

extension KVMProcessor {
  /// The MSRs that `MachineState` carries. EFER, the APIC base and the FS and GS bases have fields of their own.
  static let carriedModelSpecificRegisters: [UInt32] =
    [
      0x10,  // TSC
      0x3b,  // TSC_ADJUST
      0x174, 0x175, 0x176,  // SYSENTER_CS, _ESP, _EIP
      0x1a0,  // MISC_ENABLE
      0x277,  // PAT
      0x6e0,  // TSC_DEADLINE
      0xc000_0081, 0xc000_0082, 0xc000_0083, 0xc000_0084,  // STAR, LSTAR, CSTAR, SFMASK
      0xc000_0102, 0xc000_0103,  // KERNEL_GS_BASE, TSC_AUX
      0x4b56_4d00, 0x4b56_4d01,  // kvm-clock: wall clock, system time
      0x2ff, 0x250, 0x258, 0x259,  // MTRRs: default type, fixed ranges
    ] + (0x268...0x26f) + (0x200...0x20f)

  func readState() throws(TechniqueFailure) -> MachineState {
    let fd = descriptor.raw
    var state = MachineState()
    var regs = kvm_regs()
    _ = try kvm("KVM_GET_REGS", kvm_get_regs(fd, &regs))
    state.general = GeneralRegisters(regs)
    var sregs = kvm_sregs()
    _ = try kvm("KVM_GET_SREGS", kvm_get_sregs(fd, &sregs))
    state.system = SystemRegisters(sregs)
    var debug = kvm_debugregs()
    _ = try kvm("KVM_GET_DEBUGREGS", kvm_get_debugregs(fd, &debug))
    state.debug.addresses = [debug.db.0, debug.db.1, debug.db.2, debug.db.3]
    state.debug.dr6 = debug.dr6
    state.debug.dr7 = debug.dr7
    state.extended = try readExtendedState()
    state.modelSpecific = try readModelSpecificRegisters()
    var events = kvm_vcpu_events()
    _ = try kvm("KVM_GET_VCPU_EVENTS", kvm_get_vcpu_events(fd, &events))
    state.events = PendingEvents(events)
    var activity = kvm_mp_state()
    _ = try kvm("KVM_GET_MP_STATE", kvm_get_mp_state(fd, &activity))
    state.activity = Activity(activity, startupVector: events.sipi_vector)
    if let chips {
      if chips.isHalted { state.activity = .halted }
    } else {
      var apic = kvm_lapic_state()
      _ = try kvm("KVM_GET_LAPIC", kvm_get_lapic(fd, &apic))
      state.localAPIC = withUnsafeBytes(of: &apic) { Array($0) }
    }
    lastRead = state
    return state
  }

  func writeState(_ state: MachineState) throws(TechniqueFailure) {
    let fd = descriptor.raw
    let known = lastRead
    lastRead = nil
    // The system registers first: CR4 and EFER decide what the rest may hold.
    if state.system != known?.system {
      var sregs = kvm_sregs()
      _ = try kvm("KVM_GET_SREGS", kvm_get_sregs(fd, &sregs))
      state.system.store(to: &sregs)
      _ = try kvm("KVM_SET_SREGS", kvm_set_sregs(fd, &sregs))
    }
    if state.general != known?.general {
      var regs = kvm_regs(state.general)
      _ = try kvm("KVM_SET_REGS", kvm_set_regs(fd, &regs))
    }
    if state.debug != known?.debug {
      var debug = kvm_debugregs()
      let addresses = state.debug.addresses + Array(repeating: 0, count: max(0, 4 - state.debug.addresses.count))
      debug.db = (addresses[0], addresses[1], addresses[2], addresses[3])
      debug.dr6 = state.debug.dr6
      debug.dr7 = state.debug.dr7
      _ = try kvm("KVM_SET_DEBUGREGS", kvm_set_debugregs(fd, &debug))
    }
    if state.extended != known?.extended { try writeExtendedState(state.extended) }
    if state.modelSpecific != known?.modelSpecific {
      try writeModelSpecificRegisters(state.modelSpecific.filter { !(known?.modelSpecific.contains($0) ?? false) })
    }
    restoreChips(state)
    if chips == nil, !state.localAPIC.isEmpty, state.localAPIC != known?.localAPIC {
      var apic = kvm_lapic_state()
      withUnsafeMutableBytes(of: &apic) { $0.copyBytes(from: state.localAPIC.prefix($0.count)) }
      _ = try kvm("KVM_SET_LAPIC", kvm_set_lapic(fd, &apic))
    }
    if chips == nil, state.activity != known?.activity {
      var activity = kvm_mp_state(mp_state: state.activity.kvm)
      _ = try kvm("KVM_SET_MP_STATE", kvm_set_mp_state(fd, &activity))
    }
    if state.events != known?.events || state.activity != known?.activity {
      var events = kvm_vcpu_events()
      _ = try kvm("KVM_GET_VCPU_EVENTS", kvm_get_vcpu_events(fd, &events))
      state.events.store(to: &events)
      if case .startupReceived(let vector) = state.activity { events.sipi_vector = UInt32(vector) }
      _ = try kvm("KVM_SET_VCPU_EVENTS", kvm_set_vcpu_events(fd, &events))
    }
  }

  var isHaltedForGood: Bool {
    if let chips, !chips.isHalted { return false }
    var activity = kvm_mp_state()
    guard kvm_get_mp_state(descriptor.raw, &activity) == 0 else { return false }
    switch Int32(bitPattern: activity.mp_state) {
    case KVM_MP_STATE_UNINITIALIZED, KVM_MP_STATE_INIT_RECEIVED: return true
    case KVM_MP_STATE_HALTED: break
    case KVM_MP_STATE_RUNNABLE where chips != nil: break
    default: return false
    }
    var regs = kvm_regs()
    var events = kvm_vcpu_events()
    guard kvm_get_regs(descriptor.raw, &regs) == 0, kvm_get_vcpu_events(descriptor.raw, &events) == 0 else {
      return false
    }
    let interruptFlag: UInt64 = 1 << 9
    return regs.rflags & interruptFlag == 0 && events.nmi.pending == 0 && events.smi.pending == 0
  }

  private func readExtendedState() throws(TechniqueFailure) -> ExtendedState {
    var extended = ExtendedState()
    var control = kvm_xcrs()
    _ = try kvm("KVM_GET_XCRS", kvm_get_xcrs(descriptor.raw, &control))
    extended.xcr0 = control.xcrs.0.value
    let size = partition.extendedStateSize
    let raw = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
    defer { raw.deallocate() }
    let area = raw.bindMemory(to: kvm_xsave.self, capacity: 1)
    if size > MemoryLayout<kvm_xsave>.size {
      _ = try kvm("KVM_GET_XSAVE2", kvm_get_xsave2(descriptor.raw, area))
    } else {
      _ = try kvm("KVM_GET_XSAVE", kvm_get_xsave(descriptor.raw, area))
    }
    extended.area = Array(UnsafeRawBufferPointer(start: raw, count: size))
    return extended
  }

  private func writeExtendedState(_ extended: ExtendedState) throws(TechniqueFailure) {
    var control = kvm_xcrs()
    control.nr_xcrs = 1
    control.xcrs.0.value = extended.xcr0
    _ = try kvm("KVM_SET_XCRS", kvm_set_xcrs(descriptor.raw, &control))
    let size = partition.extendedStateSize
    let raw = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
    defer { raw.deallocate() }
    raw.initializeMemory(as: UInt8.self, repeating: 0, count: size)
    if extended.area.isEmpty {
      // The reset state: FCW 0x37f, MXCSR 0x1f80, nothing in use.
      raw.storeBytes(of: 0x37f, as: UInt16.self)
      raw.storeBytes(of: 0x1f80, toByteOffset: 24, as: UInt32.self)
    } else {
      UnsafeMutableRawBufferPointer(start: raw, count: size).copyBytes(from: extended.area.prefix(size))
    }
    _ = try kvm("KVM_SET_XSAVE", kvm_set_xsave(descriptor.raw, raw.bindMemory(to: kvm_xsave.self, capacity: 1)))
  }

  private func readModelSpecificRegisters() throws(TechniqueFailure) -> [ModelSpecificRegister] {
    try modelSpecific(partition.modelSpecificRegisters)
  }

  /// What this processor has of them.
  func modelSpecific(_ indices: [UInt32]) throws(TechniqueFailure) -> [ModelSpecificRegister] {
    var values: [ModelSpecificRegister] = []
    var remaining = indices[...]
    while !remaining.isEmpty {
      let list = MSRList(remaining.map { ModelSpecificRegister(index: $0, value: 0) })
      let count = Int(try kvm("KVM_GET_MSRS", kvm_get_msrs(descriptor.raw, list.pointer)))
      values += list.values.prefix(count)
      // KVM stops at the first that this processor does not have after all.
      remaining = remaining.dropFirst(count + 1)
    }
    return values
  }

  private func writeModelSpecificRegisters(_ registers: [ModelSpecificRegister]) throws(TechniqueFailure) {
    guard !registers.isEmpty else { return }
    let list = MSRList(registers)
    let count = Int(try kvm("KVM_SET_MSRS", kvm_set_msrs(descriptor.raw, list.pointer)))
    guard count >= registers.count else {
      let refused = registers[count]
      throw TechniqueFailure(
        call: "KVM_SET_MSRS",
        reason: "refused MSR \(hexadecimal(UInt64(refused.index))) = \(hexadecimal(refused.value))")
    }
  }
}

/// A `kvm_msrs` with room for its entries.
private final class MSRList {
  let pointer: UnsafeMutablePointer<kvm_msrs>
  private let raw: UnsafeMutableRawPointer

  init(_ registers: [ModelSpecificRegister]) {
    let size = MemoryLayout<kvm_msrs>.size + registers.count * MemoryLayout<kvm_msr_entry>.stride
    raw = .allocate(byteCount: size, alignment: 8)
    raw.initializeMemory(as: UInt8.self, repeating: 0, count: size)
    pointer = raw.bindMemory(to: kvm_msrs.self, capacity: 1)
    pointer.pointee.nmsrs = UInt32(registers.count)
    for (position, register) in registers.enumerated() {
      kvm_msrs_entries(pointer)[position].index = register.index
      kvm_msrs_entries(pointer)[position].data = register.value
    }
  }

  deinit { raw.deallocate() }

  var values: [ModelSpecificRegister] {
    UnsafeBufferPointer(start: kvm_msrs_entries(pointer), count: Int(pointer.pointee.nmsrs)).map {
      ModelSpecificRegister(index: $0.index, value: $0.data)
    }
  }
}
