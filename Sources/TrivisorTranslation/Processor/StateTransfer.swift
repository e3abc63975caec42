// A processor's registers as a value of the machine's, and back: what belongs to a state beside registers that are copied is
// whether the engine can give it at all, the clock in guest memory, PAE's top table.

import TrivisorCWorldSwitch
import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// Reads and writes all of a processor's architectural state between two instructions.
struct StateTransfer {
  let processor: TranslatedProcessor
  private var control: ControlState { processor.control }
  private var block: StateBlock { processor.block }

  func read() -> MachineState {
    var state = MachineState()
    state.general = general
    state.system = processor.system
    state.system.apicBase = processor.surroundings.localBase
    state.system.cr8 = UInt64(processor.surroundings.taskPriority)
    state.system.pointerTable = pointerTable
    state.debug = control.debug
    state.modelSpecific = control.modelSpecific.map { ModelSpecificRegister(index: $0.key, value: $0.value) }
      .sorted { $0.index < $1.index }
    state.modelSpecific.append(ModelSpecificRegister(index: MSR.timeStampCounter, value: processor.timestamp))
    state.modelSpecific.append(ModelSpecificRegister(index: MSR.kernelGSBase, value: control.kernelGSBase))
    state.extended.xcr0 = control.xcr0.rawValue
    state.extended.area = extendedArea()
    state.activity = processor.activity
    state.events = processor.pendingEvents
    state.events.stiShadow = processor.shadow == .interrupts
    state.events.movSSShadow = processor.shadow == .everything
    let held = processor.accessHits.intersection(.breakpoints).rawValue
    state.events.heldBreakpoints = processor.shadow == .everything ? UInt8(truncatingIfNeeded: held) : 0
    state.modelSpecific += control.branchRecord.registers
    return state
  }

  /// - Throws: if the engine can't give all of it; nothing has changed then, but for a table in memory that is wrong.
  func write(_ state: MachineState) throws(TechniqueFailure) {
    try check(state)
    general = state.general
    var registers = state.system
    registers.pointerTable = []
    let isProtected = CR0(rawValue: registers.cr0).contains(.protectedMode)
    control.restore(registers, privilege: isProtected ? registers.ss.rights.privilege : 0)
    processor.flags = RFLAGS(rawValue: state.general.rflags)
    control.debug = state.debug
    control.modelSpecific = [:]
    control.branchRecord = BranchRecord()
    for register in state.modelSpecific {
      if register.index == MSR.timeStampCounter {
        processor.timestamp = register.value
      } else if register.index == MSR.kernelGSBase {
        control.kernelGSBase = register.value
      } else if BranchRecord.contains(register.index) {
        control.branchRecord.restore(register)
      } else {
        control.modelSpecific[register.index] = register.value
      }
    }
    control.xcr0 = XCR0(rawValue: state.extended.xcr0)
    setExtendedArea(state.extended.area)
    processor.surroundings.restoreLocalBase(state.system.apicBase)
    processor.linear.localPageChanged()
    processor.surroundings.restoreTaskPriority(UInt8(truncatingIfNeeded: state.system.cr8 & 15))
    processor.activity = state.activity
    if case .startupReceived(let vector) = state.activity { ProcessorEvents(processor).begin(at: vector) }
    processor.pendingEvents = state.events
    processor.shadow = state.events.movSSShadow ? .everything : state.events.stiShadow ? .interrupts : .none
    processor.accessHits = DR6(rawValue: UInt64(state.events.heldBreakpoints))
    try restorePointerTable(state.system.pointerTable)
    MonitorClock(context: processor).resume()
    processor.translations.flush()
  }

  private var general: GeneralRegisters {
    get {
      let place = block.general
      var values = GeneralRegisters()
      (values.rax, values.rcx, values.rdx, values.rbx) = (place[0], place[1], place[2], place[3])
      (values.rsp, values.rbp, values.rsi, values.rdi) = (place[4], place[5], place[6], place[7])
      (values.r8, values.r9, values.r10, values.r11) = (place[8], place[9], place[10], place[11])
      (values.r12, values.r13, values.r14, values.r15) = (place[12], place[13], place[14], place[15])
      values.rip = processor.rip
      values.rflags = processor.flags.rawValue
      return values
    }
    nonmutating set {
      let place = block.general
      (place[0], place[1], place[2], place[3]) = (newValue.rax, newValue.rcx, newValue.rdx, newValue.rbx)
      (place[4], place[5], place[6], place[7]) = (newValue.rsp, newValue.rbp, newValue.rsi, newValue.rdi)
      (place[8], place[9], place[10], place[11]) = (newValue.r8, newValue.r9, newValue.r10, newValue.r11)
      (place[12], place[13], place[14], place[15]) = (newValue.r12, newValue.r13, newValue.r14, newValue.r15)
      processor.rip = newValue.rip
    }
  }

  /// Whether the engine gives all of the state; nothing has changed yet.
  private func check(_ state: MachineState) throws(TechniqueFailure) {
    func require(_ condition: Bool, _ reason: String) throws(TechniqueFailure) {
      if !condition { throw TechniqueFailure(call: "writeState", reason: reason) }
    }
    let components = state.extended.xcr0
    let supported = processor.identification.stateComponents
    try require(
      XCR0(rawValue: components).isSubset(of: supported),
      "XCR0 is \(hexadecimal(components)), and the processor model has \(hexadecimal(supported.rawValue))")
    try require(state.debug.addresses.count == 4, "there are \(state.debug.addresses.count) breakpoints, not 4")
    for register in state.modelSpecific {
      try require(
        Self.canHold(register),
        "the model-specific register \(hexadecimal(UInt64(register.index))) can't be \(hexadecimal(register.value))")
    }
  }

  /// Whether there is such a register, and it can have this value.
  private static func canHold(_ register: ModelSpecificRegister) -> Bool {
    switch register.index {
    case MSR.kernelGSBase, MSR.lstar, MSR.cstar:
      LinearAddress.isCanonical(register.value)
    case MSR.systemCallFlagMask, MSR.timeStampAuxiliary: register.value >> 32 == 0
    case MSR.timeStampCounter, MSR.timeStampAdjust, MSR.star, MSR.systemEnterCS...MSR.systemEnterEIP,
      MSR.pageAttributeTable,
      MSR.memoryTypeDefault, MSR.memoryTypeVariableRanges, MSR.kvmWallClock, MSR.kvmSystemTime, MSR.kvmStealTime:
      true
    case let index where BranchRecord.contains(index) || MSR.isMemoryTypeFixed(index): true
    case let index:
      if case .kept(let initial, let writable)? = FamilyRegister.behaviour(of: index) {
        (register.value ^ initial) & ~writable == 0
      } else {
        false
      }
    }
  }

  /// The entries that are in the processor; none where the mode of paging has none.
  private var pointerTable: [UInt64] {
    guard processor.mmu.registers.usesPointerTable else { return [] }
    let table = processor.mmu.pointerTable
    return [table.0, table.1, table.2, table.3].map(\.rawValue)
  }

  /// Takes over the entries of a state, or those in memory if it has none.
  private func restorePointerTable(_ entries: [UInt64]) throws(TechniqueFailure) {
    guard processor.mmu.registers.usesPointerTable else { return }
    do throws(GuestException) {
      if entries.count == 4 {
        try processor.mmu.setPointerTable(entries.map { PageTableEntry(rawValue: $0) })
      } else {
        try processor.mmu.loadPointerTable(from: control.cr3)
      }
    } catch {
      throw TechniqueFailure(call: "writeState", reason: "CR3 points to PAE entries with reserved bits")
    }
  }

  /// The legacy region, the header, YMM's upper halves, and PKRU where there is one: it counts without its bit in XCR0, too.
  func extendedArea() -> [UInt8] {
    var components: XCR0 = [.x87, .sse, .avx]
    if processor.identification.has(.pku) { components.insert(.protectionKeys) }
    var area = [UInt8](repeating: 0, count: ExtendedArea.size(components))
    area.withUnsafeMutableBytes { bytes in
      guard let base = bytes.baseAddress else { return }
      base.copyMemory(from: block.x87, byteCount: X87Image.size)
      processor.x87Pointers.save(to: base, isWide: true)
      bytes.storeBytes(of: processor.mxcsr, toByteOffset: ExtendedArea.control, as: UInt32.self)
      bytes.storeBytes(
        of: ExtendedArea.definedControlBits, toByteOffset: ExtendedArea.controlMask, as: UInt32.self)
      bytes.storeBytes(of: components.rawValue, toByteOffset: ExtendedArea.header, as: UInt64.self)
      for number in 0..<16 {
        let register = block.vectors + 32 * number
        (base + ExtendedArea.vectors + 16 * number).copyMemory(from: register, byteCount: 16)
        (base + ExtendedArea.upperHalves + 16 * number).copyMemory(from: register + 16, byteCount: 16)
      }
      if components.contains(.protectionKeys) {
        bytes.storeBytes(
          of: UInt64(control.pkru.rawValue), toByteOffset: ExtendedArea.protectionKeys, as: UInt64.self)
      }
    }
    return area
  }

  /// What is shorter than a part is as after RESET, but for the control words, which are as after FNINIT.
  func setExtendedArea(_ area: [UInt8]) {
    let vectors = UnsafeMutableRawPointer(block.vectors)
    vectors.initializeMemory(as: UInt8.self, repeating: 0, count: 16 * 32)
    let x87 = UnsafeMutableRawPointer(block.x87)
    x87.initializeMemory(as: UInt8.self, repeating: 0, count: ExtendedArea.legacySize)
    processor.x87Pointers = X87Pointers()
    control.pkru = .none
    guard area.count >= ExtendedArea.legacySize else {
      X87Image(x87).clear()
      processor.mxcsr = ExtendedArea.initialControl
      return
    }
    let hasUpperHalves = area.count >= ExtendedArea.size(.avx)
    let hasKeys = processor.identification.has(.pku) && area.count >= ExtendedArea.size(.protectionKeys)
    area.withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress else { return }
      x87.copyMemory(from: base, byteCount: X87Image.size)
      // Those are the host's own once the state is loaded; the guest's are kept beside.
      (x87 + X87Image.opcode).initializeMemory(
        as: UInt8.self, repeating: 0, count: ExtendedArea.control - X87Image.opcode)
      processor.x87Pointers = X87Pointers(area: base, isWide: true)
      let mxcsr = bytes.loadUnaligned(fromByteOffset: ExtendedArea.control, as: UInt32.self)
      processor.mxcsr = mxcsr & ExtendedArea.definedControlBits
      for number in 0..<16 {
        let register = vectors + 32 * number
        register.copyMemory(from: base + ExtendedArea.vectors + 16 * number, byteCount: 16)
        guard hasUpperHalves else { continue }
        (register + 16).copyMemory(from: base + ExtendedArea.upperHalves + 16 * number, byteCount: 16)
      }
      guard hasKeys else { return }
      let present = XCR0(rawValue: bytes.loadUnaligned(fromByteOffset: ExtendedArea.header, as: UInt64.self))
      guard present.contains(.protectionKeys) else { return }
      control.pkru = PKRU(
        rawValue: bytes.loadUnaligned(fromByteOffset: ExtendedArea.protectionKeys, as: UInt32.self))
    }
  }
}
