// `MachineState` to and from KVM's structures.

import CKVM
import Glibc
import TrivisorVMM
import TrivisorX86

/// Everything that KVM knows of a virtual CPU, as `MachineState`.
struct KVMProcessorState {
  /// The MSRs that `MachineState` carries. EFER, the APIC base and the FS and GS bases have fields of their own.
  static let carriedModelSpecificRegisters: [UInt32] =
    [
      MSR.timeStampCounter, MSR.timeStampAdjust, MSR.systemEnterCS, MSR.systemEnterESP, MSR.systemEnterEIP,
      MSR.miscellaneousEnable, MSR.pageAttributeTable, MSR.timeStampDeadline, MSR.star, MSR.lstar, MSR.cstar,
      MSR.systemCallFlagMask, MSR.kernelGSBase, MSR.timeStampAuxiliary, MSR.kvmWallClock, MSR.kvmSystemTime,
      MSR.memoryTypeDefault, MSR.memoryTypeFixed64K,
    ] + MSR.memoryTypeFixed16K + MSR.memoryTypeFixed4K + MSR.memoryTypeVariableRanges

  private let fd: Int32
  /// Bytes of the XSAVE area that KVM hands out.
  private let extendedStateSize: Int
  /// Which of the carried ones this host has.
  private let modelSpecificRegisters: [UInt32]

  init(of descriptor: OwnedDescriptor, in partition: KVMPartition) {
    fd = descriptor.raw
    extendedStateSize = partition.extendedStateSize
    modelSpecificRegisters = partition.modelSpecificRegisters
  }

  /// - Parameter hasLocalAPIC: whether KVM has the processor's local APIC.
  func read(hasLocalAPIC: Bool) throws(TechniqueFailure) -> MachineState {
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
    state.modelSpecific = try modelSpecific(modelSpecificRegisters)
    var events = kvm_vcpu_events()
    _ = try kvm("KVM_GET_VCPU_EVENTS", kvm_get_vcpu_events(fd, &events))
    state.events = PendingEvents(events)
    var activity = kvm_mp_state()
    _ = try kvm("KVM_GET_MP_STATE", kvm_get_mp_state(fd, &activity))
    state.activity = Activity(activity, startupVector: events.sipi_vector)
    if hasLocalAPIC {
      var apic = kvm_lapic_state()
      _ = try kvm("KVM_GET_LAPIC", kvm_get_lapic(fd, &apic))
      state.localAPIC = withUnsafeBytes(of: &apic) { Array($0) }
    }
    return state
  }

  /// - Parameters:
  ///   - known: what the processor has already; only what differs is written.
  ///   - hasLocalAPIC: whether KVM has the processor's local APIC, and does its waiting.
  func write(_ state: MachineState, known: MachineState?, hasLocalAPIC: Bool) throws(TechniqueFailure) {
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
    if hasLocalAPIC, !state.localAPIC.isEmpty, state.localAPIC != known?.localAPIC {
      var apic = kvm_lapic_state()
      withUnsafeMutableBytes(of: &apic) { $0.copyBytes(from: state.localAPIC.prefix($0.count)) }
      _ = try kvm("KVM_SET_LAPIC", kvm_set_lapic(fd, &apic))
    }
    if hasLocalAPIC, state.activity != known?.activity {
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

  /// Whether nothing but another processor can make it go on.
  /// - Parameter isInHalt: it has left KVM_RUN by HLT, or may have: KVM does not know of halts where it has no APIC.
  func isHaltedForGood(isInHalt: Bool) -> Bool {
    var activity = kvm_mp_state()
    guard kvm_get_mp_state(fd, &activity) == 0 else { return false }
    switch Int32(bitPattern: activity.mp_state) {
    case KVM_MP_STATE_UNINITIALIZED, KVM_MP_STATE_INIT_RECEIVED: return true
    case KVM_MP_STATE_HALTED: break
    case KVM_MP_STATE_RUNNABLE where isInHalt: break
    default: return false
    }
    var regs = kvm_regs()
    var events = kvm_vcpu_events()
    guard kvm_get_regs(fd, &regs) == 0, kvm_get_vcpu_events(fd, &events) == 0 else { return false }
    return !RFLAGS(rawValue: regs.rflags).contains(.interrupt) && events.nmi.pending == 0 && events.smi.pending == 0
  }

  private func readExtendedState() throws(TechniqueFailure) -> ExtendedState {
    var extended = ExtendedState()
    var control = kvm_xcrs()
    _ = try kvm("KVM_GET_XCRS", kvm_get_xcrs(fd, &control))
    extended.xcr0 = control.xcrs.0.value
    let size = extendedStateSize
    let raw = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
    defer { raw.deallocate() }
    let area = raw.bindMemory(to: kvm_xsave.self, capacity: 1)
    if size > MemoryLayout<kvm_xsave>.size {
      _ = try kvm("KVM_GET_XSAVE2", kvm_get_xsave2(fd, area))
    } else {
      _ = try kvm("KVM_GET_XSAVE", kvm_get_xsave(fd, area))
    }
    extended.area = Array(UnsafeRawBufferPointer(start: raw, count: size))
    return extended
  }

  private func writeExtendedState(_ extended: ExtendedState) throws(TechniqueFailure) {
    var control = kvm_xcrs()
    control.nr_xcrs = 1
    control.xcrs.0.value = extended.xcr0
    _ = try kvm("KVM_SET_XCRS", kvm_set_xcrs(fd, &control))
    let size = extendedStateSize
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
    _ = try kvm("KVM_SET_XSAVE", kvm_set_xsave(fd, raw.bindMemory(to: kvm_xsave.self, capacity: 1)))
  }

  /// What this processor has of them.
  func modelSpecific(_ indices: [UInt32]) throws(TechniqueFailure) -> [ModelSpecificRegister] {
    var values: [ModelSpecificRegister] = []
    var remaining = indices[...]
    while !remaining.isEmpty {
      let list = MSRList(remaining.map { ModelSpecificRegister(index: $0, value: 0) })
      let count = Int(try kvm("KVM_GET_MSRS", kvm_get_msrs(fd, list.pointer)))
      values += list.values.prefix(count)
      // KVM stops at the first that this processor does not have after all.
      remaining = remaining.dropFirst(count + 1)
    }
    return values
  }

  private func writeModelSpecificRegisters(_ registers: [ModelSpecificRegister]) throws(TechniqueFailure) {
    guard !registers.isEmpty else { return }
    let list = MSRList(registers)
    let count = Int(try kvm("KVM_SET_MSRS", kvm_set_msrs(fd, list.pointer)))
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
