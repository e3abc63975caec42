// FXSAVE, FXRSTOR, XSAVE, XSAVEOPT and XRSTOR.
//
// None of them runs natively. XSAVE would write what the host's XCR0 enables, not the guest's; and the x87 environment holds
// the address of the last instruction, which here is one of the code cache: the guest's is in `X87Pointers`. FXSAVE and XSAVE
// store the pointers while an exception is pending that is not masked, and else zeros; what is loaded counts in any case. So do
// AMD's processors whose CPUID has RstrFpErrPtrs (xsaveerptr), from family 17h on (AMD64 APM vol. 2, 11.4.4; vol. 5, "FXSAVE").

import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// Sizes and places in the standard format of XSAVE's area (AMD64 APM vol. 2, 11.5.2).
enum ExtendedArea {
  /// `protectionKeys` is where AMD's processors without AVX-512 have PKRU, behind the upper halves.
  static let control = 24, controlMask = 28, vectors = 160
  static let legacySize = 512, header = 512, upperHalves = 576, protectionKeys = 832
  /// Of MXCSR, as FXSAVE's MXCSR_MASK tells them: without MISALIGNSSE's bit 17, which Intel's processors could not give.
  static let definedControlBits: UInt32 = 0xffff
  /// MXCSR after RESET: all exceptions masked.
  static let initialControl: UInt32 = 0x1f80

  /// Of the area that these components need.
  static func size(_ components: XCR0) -> Int {
    components.contains(.protectionKeys) ? protectionKeys + 8 : components.contains(.avx) ? protectionKeys : upperHalves
  }
}

struct ExtendedStateInstruction<Context: InstructionContext> {
  private let context: Context
  private let instruction: Instruction
  private let next: UInt64

  init(_ instruction: Instruction, next: UInt64, in context: Context) {
    self.context = context
    self.instruction = instruction
    self.next = next
  }

  func execute() throws(Interruption) {
    switch instruction.operation {
    case .fxsave, .fxrstor: try exchangeLegacy()
    default: try exchangeComponents()
    }
    context.rip = next
  }

  private func address(alignedTo alignment: UInt64, size: Int, isWrite: Bool) throws(Interruption) -> UInt64 {
    guard let memory = instruction.memoryOperand else { throw .exception(.invalidOpcode) }
    let address = try context.linear(memory, next, size: size, isWrite: isWrite)
    guard address & (alignment - 1) == 0 else { throw .exception(.general) }
    return address
  }

  // MARK: FXSAVE and FXRSTOR

  private func exchangeLegacy() throws(Interruption) {
    guard context.cr0.isDisjoint(with: [.emulation, .taskSwitched]) else { throw .exception(.deviceNotAvailable) }
    let hasVectors = context.cr4.contains(.osFXSR)
    let isRestore = instruction.operation == .fxrstor
    let address = try address(alignedTo: 16, size: ExtendedArea.legacySize, isWrite: !isRestore)
    context.saveX87()
    defer { context.loadX87() }
    try context.withBytes(address, count: ExtendedArea.legacySize, isRestore ? .read : .write) {
      area throws(Interruption) in
      guard isRestore else {
        saveX87(to: area)
        saveControl(to: area)
        if hasVectors { saveVectors(to: area) }
        return
      }
      let mxcsr = try control(in: area)
      loadX87(from: area)
      guard hasVectors else { return }
      context.mxcsr = mxcsr
      loadVectors(from: area)
    }
  }

  // MARK: XSAVE and XRSTOR

  private func exchangeComponents() throws(Interruption) {
    guard context.cr4.contains(.osXSAVE) else { throw .exception(.invalidOpcode) }
    guard !context.cr0.contains(.taskSwitched) else { throw .exception(.deviceNotAvailable) }
    let enabled = context.xcr0
    let requested = XCR0(rawValue: context.wideAccumulator).intersection(enabled)
    let isRestore = instruction.operation == .xrstor
    // What is not asked for is not touched.
    let count = ExtendedArea.size(requested)
    let address = try address(alignedTo: 64, size: count, isWrite: !isRestore)
    if requested.contains(.x87) { context.saveX87() }
    defer { if requested.contains(.x87) { context.loadX87() } }
    try context.withBytes(address, count: count, isRestore ? .read : .write) { area throws(Interruption) in
      if isRestore { try restore(requested, from: area) } else { save(requested, to: area) }
    }
  }

  private func save(_ components: XCR0, to area: UnsafeMutableRawPointer) {
    if components.contains(.x87) { saveX87(to: area) }
    if !components.isDisjoint(with: [.sse, .avx]) { saveControl(to: area) }
    if components.contains(.sse) { saveVectors(to: area) }
    if components.contains(.avx) { saveUpperHalves(to: area) }
    if components.contains(.protectionKeys) {
      area.storeBytes(of: UInt64(context.pkru.rawValue), toByteOffset: ExtendedArea.protectionKeys, as: UInt64.self)
    }
    let present = area.load(fromByteOffset: ExtendedArea.header, as: UInt64.self)
    area.storeBytes(of: present | components.rawValue, toByteOffset: ExtendedArea.header, as: UInt64.self)
  }

  private func restore(_ components: XCR0, from area: UnsafeMutableRawPointer) throws(Interruption) {
    // XSTATE_BV, XCOMP_BV, and what is reserved behind them.
    let present = XCR0(rawValue: area.load(fromByteOffset: ExtendedArea.header, as: UInt64.self))
    let format = area.load(fromByteOffset: ExtendedArea.header + 8, as: UInt64.self)
    let reserved = area.load(fromByteOffset: ExtendedArea.header + 16, as: UInt64.self)
    guard present.isSubset(of: context.xcr0), format == 0, reserved == 0 else {
      throw .exception(.general)
    }
    let hasControl = !components.isDisjoint(with: [.sse, .avx])
    if hasControl { context.mxcsr = try control(in: area) }
    let loaded = components.intersection(present)
    if loaded.contains(.x87) {
      loadX87(from: area)
    } else if components.contains(.x87) {
      X87Image(context.x87Area).clear()
      context.x87Pointers = X87Pointers()
    }
    if components.contains(.sse) { loadVectors(from: loaded.contains(.sse) ? UnsafeRawPointer(area) : nil) }
    if components.contains(.avx) { loadUpperHalves(from: loaded.contains(.avx) ? UnsafeRawPointer(area) : nil) }
    if components.contains(.protectionKeys) {
      let keys = area.load(fromByteOffset: ExtendedArea.protectionKeys, as: UInt32.self)
      context.pkru = loaded.contains(.protectionKeys) ? PKRU(rawValue: keys) : .none
    }
  }

  // MARK: Parts of an area

  private func saveX87(to area: UnsafeMutableRawPointer) {
    let image = X87Image(context.x87Area)
    X87Image(area).copy(from: image.bytes)
    let pointers = image.hasPendingError ? context.x87Pointers : X87Pointers()
    pointers.save(to: area, isWide: instruction.rexW)
  }

  private func loadX87(from area: UnsafeRawPointer) {
    X87Image(context.x87Area).copy(from: area)
    context.x87Pointers = X87Pointers(area: area, isWide: instruction.rexW)
  }

  private func saveControl(to area: UnsafeMutableRawPointer) {
    area.storeBytes(of: context.mxcsr, toByteOffset: ExtendedArea.control, as: UInt32.self)
    area.storeBytes(
      of: ExtendedArea.definedControlBits, toByteOffset: ExtendedArea.controlMask, as: UInt32.self)
  }

  /// MXCSR, if it has no bit that does not exist.
  private func control(in area: UnsafeMutableRawPointer) throws(Interruption) -> UInt32 {
    let mxcsr = area.load(fromByteOffset: ExtendedArea.control, as: UInt32.self)
    guard mxcsr & ~ExtendedArea.definedControlBits == 0 else { throw .exception(.general) }
    return mxcsr
  }

  /// Eight outside 64-bit mode.
  private var vectorCount: Int { context.is64 ? 16 : 8 }

  private func saveVectors(to area: UnsafeMutableRawPointer) {
    for number in 0..<vectorCount {
      (area + ExtendedArea.vectors + 16 * number).copyMemory(
        from: context.vectorRegisters + 32 * number, byteCount: 16)
    }
  }

  private func saveUpperHalves(to area: UnsafeMutableRawPointer) {
    for number in 0..<vectorCount {
      (area + ExtendedArea.upperHalves + 16 * number).copyMemory(
        from: context.vectorRegisters + 32 * number + 16, byteCount: 16)
    }
  }

  private func loadVectors(from area: UnsafeRawPointer?) {
    loadHalves(at: 0, from: area.map { $0 + ExtendedArea.vectors })
  }

  private func loadUpperHalves(from area: UnsafeRawPointer?) {
    loadHalves(at: 16, from: area.map { $0 + ExtendedArea.upperHalves })
  }

  /// Zeroes if there is no source.
  private func loadHalves(at offset: Int, from source: UnsafeRawPointer?) {
    for number in 0..<vectorCount {
      let target = context.vectorRegisters + 32 * number + offset
      if let source {
        target.copyMemory(from: source + 16 * number, byteCount: 16)
      } else {
        target.initializeMemory(as: UInt8.self, repeating: 0, count: 16)
      }
    }
  }
}
