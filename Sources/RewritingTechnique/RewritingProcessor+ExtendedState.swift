// The x87, SSE and AVX state in memory: FXSAVE, XSAVE, FNSTENV and their counterparts, and XCR0.
//
// None of it runs natively. XSAVE would write what the host's XCR0 enables, not the guest's; and the x87 environment
// holds the address of the last instruction, which here is one of the code cache. That field is stored as 0, as AMD's
// processors do without a pending exception (AMD64 APM vol. 2, 11.4.4; vol. 5, "FXSAVE").

import CWorldSwitch
import InstructionSet
import VMM
import X86

/// Sizes and places in the standard format of XSAVE's area (AMD64 APM vol. 2, 11.5.2).
private enum Area {
  static let legacySize = 512, header = 512, upper = 576, size = 832
  static let x87: UInt64 = 1, sse: UInt64 = 2, avx: UInt64 = 4
}

enum ExtendedControl {
  /// Of MXCSR, as FXSAVE's MXCSR_MASK tells them: without MISALIGNSSE's bit 17, which Intel's processors could not give.
  static let definedBits: UInt32 = 0xffff
}

extension RewritingProcessor {
  /// What XCR0 may enable.
  var supportedComponents: UInt64 {
    let table = partition.identification
    guard table.has(.xsave) else { return 1 }
    return table.has(.avx) ? 7 : 3
  }

  private var vectorCount: Int { mode.bits == .bits64 ? 16 : 8 }

  func getExtendedControl() throws(Interruption) {
    guard system.cr4 & 0x4_0000 != 0 else { throw .exception(.invalidOpcode) }
    guard general(.rcx, size: 4) == 0 else { throw .exception(.general) }
    setGeneral(.rax, xcr0 & 0xffff_ffff)
    setGeneral(.rdx, xcr0 >> 32)
  }

  func setExtendedControl() throws(Interruption) {
    guard system.cr4 & 0x4_0000 != 0 else { throw .exception(.invalidOpcode) }
    guard cpl == 0 else { throw .exception(.general) }
    let value = general(.rdx, size: 4) << 32 | general(.rax, size: 4)
    guard general(.rcx, size: 4) == 0, value & ~supportedComponents == 0, value & Area.x87 != 0,
      value & Area.avx == 0 || value & Area.sse != 0
    else { throw .exception(.general) }
    control.xcr0 = XCR0(rawValue: value)
  }

  // MARK: Areas

  /// Runs `body` on the `count` bytes at `linear`, at most one page, as they are in memory or in a copy of both sides of a
  /// page boundary.
  private func withArea(
    _ linear: UInt64, count: Int, _ access: MemoryAccess, _ body: (UnsafeMutableRawPointer) -> Interruption?
  ) throws(Interruption) {
    let pieces = try locate(linear, count: count, access)
    if pieces.secondCount == 0, let host = mmu.host(pieces.first, count: UInt64(count)) {
      if let interruption = body(host) { throw interruption }
      if access == .write { store.invalidate(pieces.first, count: count) }
      return
    }
    let copy = block.bounce
    readPhysical(pieces.first, into: copy, count: pieces.firstCount)
    readPhysical(pieces.second, into: copy + pieces.firstCount, count: pieces.secondCount)
    if let interruption = body(copy) { throw interruption }
    guard access == .write else { return }
    let first = writePhysical(pieces.first, from: copy, count: pieces.firstCount)
    let second = writePhysical(pieces.second, from: copy + pieces.firstCount, count: pieces.secondCount)
    if let reason = first ?? second { throw .stop(reason) }
  }

  private func saveX87(to area: UnsafeMutableRawPointer) {
    let source = UnsafeRawPointer(block.x87)
    area.copyMemory(from: source, byteCount: 24)
    (area + 32).copyMemory(from: source + 32, byteCount: 128)
  }

  private func loadX87(from area: UnsafeRawPointer) {
    let target = UnsafeMutableRawPointer(block.x87)
    target.copyMemory(from: area, byteCount: 24)
    (target + 32).copyMemory(from: area + 32, byteCount: 128)
  }

  private func clearX87() {
    let target = UnsafeMutableRawPointer(block.x87)
    target.initializeMemory(as: UInt8.self, repeating: 0, count: 160)
    target.storeBytes(of: 0x37f, as: UInt16.self)
  }

  private func saveControl(to area: UnsafeMutableRawPointer) {
    area.storeBytes(of: block.state.pointee.mxcsr, toByteOffset: 24, as: UInt32.self)
    area.storeBytes(of: ExtendedControl.definedBits, toByteOffset: 28, as: UInt32.self)
  }

  private func saveVectors(to area: UnsafeMutableRawPointer) {
    for number in 0..<vectorCount {
      (area + 160 + 16 * number).copyMemory(from: block.vectors + 32 * number, byteCount: 16)
    }
  }

  private func loadVectors(from area: UnsafeRawPointer?) {
    for number in 0..<vectorCount {
      let target = UnsafeMutableRawPointer(block.vectors + 32 * number)
      if let area {
        target.copyMemory(from: area + 160 + 16 * number, byteCount: 16)
      } else {
        target.initializeMemory(as: UInt8.self, repeating: 0, count: 16)
      }
    }
  }

  private func saveUpperHalves(to area: UnsafeMutableRawPointer) {
    for number in 0..<vectorCount {
      (area + Area.upper + 16 * number).copyMemory(from: block.vectors + 32 * number + 16, byteCount: 16)
    }
  }

  private func loadUpperHalves(from area: UnsafeRawPointer?) {
    for number in 0..<vectorCount {
      let target = UnsafeMutableRawPointer(block.vectors + 32 * number + 16)
      if let area {
        target.copyMemory(from: area + Area.upper + 16 * number, byteCount: 16)
      } else {
        target.initializeMemory(as: UInt8.self, repeating: 0, count: 16)
      }
    }
  }

  private func address(
    _ instruction: Instruction, alignedTo alignment: UInt64, size: Int, isWrite: Bool
  ) throws(Interruption) -> UInt64 {
    guard let memory = instruction.memoryOperand else { throw .exception(.invalidOpcode) }
    let address = try linear(memory, nextRIP(instruction), size: size, isWrite: isWrite)
    guard address & (alignment - 1) == 0 else { throw .exception(.general) }
    return address
  }

  // MARK: FXSAVE and FXRSTOR

  func emulateFXSAVE(_ instruction: Instruction) throws(Interruption) {
    guard system.cr0 & 0xc == 0 else { throw .exception(.deviceNotAvailable) }
    let hasVectors = system.cr4 & 0x200 != 0
    let isRestore = instruction.reg == 1
    let address = try address(instruction, alignedTo: 16, size: Area.legacySize, isWrite: !isRestore)
    // The x87 state is in the processor while blocks run.
    cws_save_x87(block.state)
    defer { cws_load_x87(block.state) }
    try withArea(address, count: Area.legacySize, isRestore ? .read : .write) { area in
      if isRestore {
        let mxcsr = area.load(fromByteOffset: 24, as: UInt32.self)
        guard mxcsr & ~ExtendedControl.definedBits == 0 else { return .exception(.general) }
        loadX87(from: area)
        if hasVectors {
          block.state.pointee.mxcsr = mxcsr
          loadVectors(from: area)
        }
      } else {
        saveX87(to: area)
        saveControl(to: area)
        if hasVectors { saveVectors(to: area) }
      }
      return nil
    }
  }

  // MARK: XSAVE and XRSTOR

  func emulateXSAVE(_ instruction: Instruction) throws(Interruption) {
    guard system.cr4 & 0x4_0000 != 0 else { throw .exception(.invalidOpcode) }
    guard system.cr0 & 8 == 0 else { throw .exception(.deviceNotAvailable) }
    let requested = (general(.rdx, size: 4) << 32 | general(.rax, size: 4)) & xcr0
    let isRestore = instruction.reg == 5
    let count = xcr0 & Area.avx != 0 ? Area.size : Area.upper
    let address = try address(instruction, alignedTo: 64, size: count, isWrite: !isRestore)
    if requested & Area.x87 != 0 { cws_save_x87(block.state) }
    defer { if requested & Area.x87 != 0 { cws_load_x87(block.state) } }
    try withArea(address, count: count, isRestore ? .read : .write) { area in
      isRestore ? restore(requested, from: area) : save(requested, to: area)
    }
  }

  private func save(_ components: UInt64, to area: UnsafeMutableRawPointer) -> Interruption? {
    if components & Area.x87 != 0 { saveX87(to: area) }
    if components & (Area.sse | Area.avx) != 0 { saveControl(to: area) }
    if components & Area.sse != 0 { saveVectors(to: area) }
    if components & Area.avx != 0 { saveUpperHalves(to: area) }
    let present = area.load(fromByteOffset: Area.header, as: UInt64.self)
    area.storeBytes(of: present | components, toByteOffset: Area.header, as: UInt64.self)
    return nil
  }

  private func restore(_ components: UInt64, from area: UnsafeMutableRawPointer) -> Interruption? {
    let present = area.load(fromByteOffset: Area.header, as: UInt64.self)
    let format = area.load(fromByteOffset: Area.header + 8, as: UInt64.self)
    let reserved = area.load(fromByteOffset: Area.header + 16, as: UInt64.self)
    guard present & ~xcr0 == 0, format == 0, reserved == 0 else { return .exception(.general) }
    let mxcsr = area.load(fromByteOffset: 24, as: UInt32.self)
    if components & (Area.sse | Area.avx) != 0, mxcsr & ~ExtendedControl.definedBits != 0 {
      return .exception(.general)
    }
    let loaded = components & present
    if loaded & Area.x87 != 0 { loadX87(from: area) } else if components & Area.x87 != 0 { clearX87() }
    if components & (Area.sse | Area.avx) != 0 { block.state.pointee.mxcsr = mxcsr }
    if components & Area.sse != 0 { loadVectors(from: loaded & Area.sse != 0 ? UnsafeRawPointer(area) : nil) }
    if components & Area.avx != 0 { loadUpperHalves(from: loaded & Area.avx != 0 ? UnsafeRawPointer(area) : nil) }
    return nil
  }

  // MARK: FNSTENV and FNSAVE

  /// The full tag word of the abridged one and the registers (AMD64 APM vol. 2, 11.4.4): valid, zero, special, empty.
  private var fullTags: UInt16 {
    let area = UnsafeRawPointer(block.x87)
    let status = area.load(fromByteOffset: 2, as: UInt16.self)
    let abridged = area.load(fromByteOffset: 4, as: UInt8.self)
    let top = Int(status >> 11 & 7)
    var tags: UInt16 = 0
    for physical in 0..<8 {
      var tag: UInt16 = 3
      if abridged & 1 << UInt8(physical) != 0 {
        let place = 32 + 16 * ((physical - top) & 7)
        let significand = area.load(fromByteOffset: place, as: UInt64.self)
        let exponent = area.load(fromByteOffset: place + 8, as: UInt16.self) & 0x7fff
        switch exponent {
        case 0: tag = significand == 0 ? 1 : 2
        case 0x7fff: tag = 2
        default: tag = significand >> 63 != 0 ? 0 : 2
        }
      }
      tags |= tag << UInt16(2 * physical)
    }
    return tags
  }

  /// D9 /6 and DD /6, as their forms without a wait.
  func emulateEnvironmentStore(_ instruction: Instruction) throws(Interruption) {
    guard system.cr0 & 0xc == 0 else { throw .exception(.deviceNotAvailable) }
    guard let memory = instruction.memoryOperand else { throw .exception(.invalidOpcode) }
    let savesAll = instruction.opcode == 0xdd
    let environment = instruction.operandSize == 2 ? 14 : 28
    let count = environment + (savesAll ? 80 : 0)
    let address = try linear(memory, nextRIP(instruction), size: count, isWrite: true)
    cws_save_x87(block.state)
    defer { cws_load_x87(block.state) }
    try withArea(address, count: count, .write) { area in
      let source = UnsafeRawPointer(block.x87)
      let words = [
        source.load(as: UInt16.self), source.load(fromByteOffset: 2, as: UInt16.self), fullTags, 0, 0, 0, 0,
      ]
      for (position, word) in words.enumerated() {
        if environment == 14 {
          area.storeBytes(of: word, toByteOffset: 2 * position, as: UInt16.self)
        } else {
          // The upper halves of the three words are ones; the pointers are 0.
          let upper: UInt32 = position < 3 ? 0xffff_0000 : 0
          area.storeBytes(of: UInt32(word) | upper, toByteOffset: 4 * position, as: UInt32.self)
        }
      }
      if savesAll {
        for number in 0..<8 {
          (area + environment + 10 * number).copyMemory(from: source + 32 + 16 * number, byteCount: 10)
        }
      }
      return nil
    }
    if savesAll {
      clearX87()
    } else {
      // FNSTENV masks all exceptions afterwards.
      let target = UnsafeMutableRawPointer(block.x87)
      target.storeBytes(of: target.load(as: UInt16.self) | 0x3f, as: UInt16.self)
    }
  }
}
