import CWorldSwitch
import Devices
import InstructionSet
import VMM
import X86

extension RewritingProcessor {
  var rflags: UInt64 {
    get { flags.rawValue }
    set { flags = RFLAGS(rawValue: newValue) }
  }

  func readState() throws(TechniqueFailure) -> MachineState {
    var state = MachineState()
    let general = block.general
    state.general.rax = general[0]
    state.general.rcx = general[1]
    state.general.rdx = general[2]
    state.general.rbx = general[3]
    state.general.rsp = general[4]
    state.general.rbp = general[5]
    state.general.rsi = general[6]
    state.general.rdi = general[7]
    state.general.r8 = general[8]
    state.general.r9 = general[9]
    state.general.r10 = general[10]
    state.general.r11 = general[11]
    state.general.r12 = general[12]
    state.general.r13 = general[13]
    state.general.r14 = general[14]
    state.general.r15 = general[15]
    state.general.rip = rip
    state.general.rflags = rflags
    state.system = system
    state.system.apicBase = interrupts.base
    state.system.cr8 = UInt64(interrupts.taskPriority)
    state.system.pointerTable = pointerTable
    state.debug = debug
    state.modelSpecific = modelSpecific.map { ModelSpecificRegister(index: $0.key, value: $0.value) }
      .sorted { $0.index < $1.index }
    state.modelSpecific.append(ModelSpecificRegister(index: 0x10, value: timestamp))
    state.modelSpecific.append(ModelSpecificRegister(index: ModelSpecific.kernelGSBase, value: kernelGSBase))
    state.extended.xcr0 = control.xcr0.rawValue
    state.extended.area = extendedArea()
    state.activity = activity
    state.events = pendingEvents
    state.events.stiShadow = shadow == .interrupts
    state.events.movSSShadow = shadow == .everything
    let held = accessHits.intersection(.breakpoints).rawValue
    state.events.heldBreakpoints = shadow == .everything ? UInt8(truncatingIfNeeded: held) : 0
    state.modelSpecific += branchRecord.registers
    return state
  }

  func writeState(_ state: MachineState) throws(TechniqueFailure) {
    try checkState(state)
    let values = state.general
    let general = block.general
    let ordered = [
      values.rax, values.rcx, values.rdx, values.rbx, values.rsp, values.rbp, values.rsi, values.rdi, values.r8,
      values.r9, values.r10, values.r11, values.r12, values.r13, values.r14, values.r15,
    ]
    for (number, value) in ordered.enumerated() { general[number] = value }
    rip = values.rip
    var registers = state.system
    registers.pointerTable = []
    let isProtected = CR0(rawValue: registers.cr0).contains(.protectedMode)
    control.restore(
      registers, privilege: isProtected ? SegmentAttributes(rawValue: registers.ss.attributes).privilege : 0)
    rflags = values.rflags
    debug = state.debug
    modelSpecific = [:]
    branchRecord = BranchRecord()
    for register in state.modelSpecific {
      if register.index == 0x10 {
        timestampOffset = register.value &- cws_timestamp()
      } else if register.index == ModelSpecific.kernelGSBase {
        kernelGSBase = register.value
      } else if BranchRecord.contains(register.index) {
        branchRecord.restore(register)
      } else {
        modelSpecific[register.index] = register.value
      }
    }
    control.xcr0 = XCR0(rawValue: state.extended.xcr0)
    setExtendedArea(state.extended.area)
    restoreLocal(base: state.system.apicBase, taskPriority: state.system.cr8)
    activity = state.activity
    if case .startupReceived(let vector) = activity { begin(at: vector) }
    pendingEvents = state.events
    shadow = state.events.movSSShadow ? .everything : state.events.stiShadow ? .interrupts : .none
    accessHits = DR6(rawValue: UInt64(state.events.heldBreakpoints))
    try restorePointerTable(state.system.pointerTable)
    resumeClock()
    translations.flush()
  }

  var timestamp: UInt64 { cws_timestamp() &+ timestampOffset }

  /// The legacy region, the header, and YMM's upper halves at 576.
  private func extendedArea() -> [UInt8] {
    var area = [UInt8](repeating: 0, count: 832)
    for position in 0..<160 { area[position] = block.x87[position] }
    area.withUnsafeMutableBytes { bytes in
      if let base = bytes.baseAddress { x87Pointers.save(to: base, isWide: true) }
      bytes.storeBytes(of: block.state.pointee.mxcsr, toByteOffset: 24, as: UInt32.self)
      bytes.storeBytes(of: 0xffff, toByteOffset: 28, as: UInt32.self)
      bytes.storeBytes(of: 7, toByteOffset: 512, as: UInt64.self)
    }
    for number in 0..<16 {
      for byte in 0..<16 {
        area[160 + 16 * number + byte] = block.vectors[32 * number + byte]
        area[576 + 16 * number + byte] = block.vectors[32 * number + 16 + byte]
      }
    }
    return area
  }

  private func setExtendedArea(_ area: [UInt8]) {
    x87Pointers = X87Pointers()
    guard area.count >= 512 else {
      for position in 0..<512 { block.x87[position] = 0 }
      block.x87[0] = 0x7f
      block.x87[1] = 0x03
      block.state.pointee.mxcsr = 0x1f80
      for position in 0..<512 { block.vectors[position] = 0 }
      return
    }
    for position in 0..<160 { block.x87[position] = (6..<24).contains(position) ? 0 : area[position] }
    area.withUnsafeBytes { bytes in
      if let base = bytes.baseAddress { x87Pointers = X87Pointers(area: base, isWide: true) }
    }
    let mxcsr = area.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: 24, as: UInt32.self) }
    block.state.pointee.mxcsr = mxcsr & 0xffff
    for number in 0..<16 {
      for byte in 0..<16 {
        block.vectors[32 * number + byte] = area[160 + 16 * number + byte]
        block.vectors[32 * number + 16 + byte] = area.count >= 832 ? area[576 + 16 * number + byte] : 0
      }
    }
  }

  /// Everything that is known at this point.
  func crashReport(_ summary: String) -> CrashReport {
    let state = try? readState()
    var bytes: [UInt8] = []
    while bytes.count < 15 {
      let linear = system.cs.base &+ rip &+ UInt64(bytes.count)
      guard let physical = try? mmu.translate(linear, .execute, isUser: cpl == 3, overridesSMAP: false),
        let host = mmu.host(physical, count: 1)
      else { break }
      bytes.append(host.load(as: UInt8.self))
    }
    return CrashReport(summary: "\(summary) at RIP \(hexadecimal(rip))", state: state, instruction: bytes)
  }
}
