// A processor's first state, all of it in one structure: there is no real mode that it would have to come from.

import TrivisorBoot
import TrivisorVMM
import TrivisorX86

extension ProcessorCalls {
  /// VCPUOP_initialise.
  func initialise(
    _ processor: DomainProcessor, _ argument: UInt64
  ) throws(XenError) {
    guard !processor.isInitialised else { throw .exists }
    switch layout {
    case .bits64: try initialise64(processor, argument)
    case .bits32: try initialise32(processor, argument)
    }
    processor.isInitialised = true
    processor.doorbell.ring()
  }

  /// VCPUOP_initialise: `struct vcpu_guest_context` of 64 bits (arch-x86/xen.h).
  private func initialise64(
    _ processor: DomainProcessor, _ argument: UInt64
  ) throws(XenError) {
    let bytes = try domain.memory.read(argument, count: 5168, root: root)
    func quad(_ offset: Int) -> UInt64 {
      bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt64.self) }
    }
    let user = 520
    var registers = DomainRegisters()
    registers.r15 = quad(user)
    registers.r14 = quad(user + 8)
    registers.r13 = quad(user + 16)
    registers.r12 = quad(user + 24)
    registers.rbp = quad(user + 32)
    registers.rbx = quad(user + 40)
    registers.r11 = quad(user + 48)
    registers.r10 = quad(user + 56)
    registers.r9 = quad(user + 64)
    registers.r8 = quad(user + 72)
    registers.rax = quad(user + 80)
    registers.rcx = quad(user + 88)
    registers.rdx = quad(user + 96)
    registers.rsi = quad(user + 104)
    registers.rdi = quad(user + 112)
    registers.rip = quad(user + 128)
    let flags = quad(user + 144)
    registers.rflags = flags & ~(Flags.ioPrivilege | Flags.virtual8086) | Flags.interrupt
    registers.rsp = quad(user + 152)
    if domain.abilities.contains(.segments) {
      // Until they are loaded, by selector.
      func selector(_ offset: Int) -> UInt16 { UInt16(truncatingIfNeeded: quad(user + offset)) }
      registers.segments.cs.selector = selector(136) | 3
      registers.segments.ss.selector = selector(160) | 3
      registers.segments.es.selector = selector(168)
      registers.segments.ds.selector = selector(176)
      registers.segments.fs.selector = selector(184)
      registers.segments.gs.selector = selector(192)
    }
    registers.fsBase = quad(5144)
    guard LinearAddress.isCanonical(registers.fsBase), LinearAddress.isCanonical(quad(5152)),
      LinearAddress.isCanonical(quad(5160)), LinearAddress.isCanonical(registers.rip)
    else { throw .invalid }
    let inKernel: UInt64 = 4
    processor.mode = quad(512) & inKernel != 0 ? .kernel : .user
    registers.gsBase = processor.mode == .kernel ? quad(5152) : quad(5160)
    processor.otherGSBase = processor.mode == .kernel ? quad(5160) : quad(5152)
    let userRoot = quad(4984 + 8) >> 12
    guard processor.mode == .kernel || userRoot != 0 else { throw .invalid }
    try processor.setKernelRoot(quad(4984 + 24) >> 12)
    if userRoot != 0 {
      try tables.getRoot(userRoot)
      processor.userRoot = userRoot
    }
    let descriptorCount = quad(4960)
    guard descriptorCount <= DomainDescriptor.firstReserved else { throw .invalid }
    try processor.setDescriptorTable(
      (0..<Int((descriptorCount + 511) / 512)).map { quad(4832 + 8 * $0) }, count: descriptorCount)
    try processor.setLocalDescriptorTable(quad(4816), count: quad(4824))
    for vector in 0..<256 {
      let (head, address) = (quad(720 + 16 * vector), quad(720 + 16 * vector + 8))
      processor.traps[vector] = .init(
        flags: UInt8(truncatingIfNeeded: head >> 8), codeSelector: UInt16(truncatingIfNeeded: head >> 16),
        address: LinearAddress.isCanonical(address) ? address : 0)
    }
    processor.kernelStack = quad(4976)
    processor.eventCallback = .init(address: quad(5112), masksUpcalls: true)
    processor.failsafeCallback = .init(address: quad(5120), masksUpcalls: quad(512) & 8 != 0)
    processor.systemCallCallback = .init(address: quad(5128), masksUpcalls: quad(512) & 16 != 0)
    // As PHYSDEVOP_set_iopl would: Linux says it so for all processors but the first.
    processor.ioPrivilege = UInt8(flags >> 12 & 3)
    processor.start = registers
    // VGCF_online
    processor.isUp = quad(512) & 32 != 0
  }

  /// The same structure of 32 bits.
  private func initialise32(
    _ processor: DomainProcessor, _ argument: UInt64
  ) throws(XenError) {
    let bytes = try domain.memory.read(argument, count: 2800, root: root)
    func half(_ offset: Int) -> UInt64 {
      UInt64(bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self) })
    }
    let user = 516
    var registers = DomainRegisters()
    registers.rbx = half(user)
    registers.rcx = half(user + 4)
    registers.rdx = half(user + 8)
    registers.rsi = half(user + 12)
    registers.rdi = half(user + 16)
    registers.rbp = half(user + 20)
    registers.rax = half(user + 24)
    registers.rip = half(user + 32)
    let flags = half(user + 40)
    registers.rflags = flags & ~(Flags.ioPrivilege | Flags.virtual8086) | Flags.interrupt
    registers.rsp = half(user + 44)
    registers.setFlat(code: Selectors.kernelCode32, stack: Selectors.kernelData32, .bits32)
    let code = half(user + 36) & 0xffff
    processor.mode = code & 3 == 3 ? .user : .kernel
    processor.userSelectors = (code, half(user + 48) & 0xffff)
    // A root's frame number of more than 20 bits goes on in the low ones.
    let root = half(2728)
    try processor.setKernelRoot(root >> 12 | (root & 0xfff) << 20)
    let descriptorCount = half(2704)
    guard descriptorCount <= DomainDescriptor.firstReserved else { throw .invalid }
    try processor.setDescriptorTable(
      (0..<Int((descriptorCount + 511) / 512)).map { half(2640 + 4 * $0) }, count: descriptorCount)
    try processor.setLocalDescriptorTable(half(2632), count: half(2636))
    for vector in 0..<256 {
      let head = half(584 + 8 * vector)
      processor.traps[vector] = .init(
        flags: UInt8(truncatingIfNeeded: head >> 8), codeSelector: UInt16(truncatingIfNeeded: head >> 16),
        address: half(584 + 8 * vector + 4))
    }
    processor.kernelStack = half(2712)
    processor.eventCallback = .init(address: half(2784), masksUpcalls: true)
    processor.failsafeCallback = .init(address: half(2792), masksUpcalls: half(512) & 8 != 0)
    processor.ioPrivilege = UInt8(flags >> 12 & 3)
    processor.start = registers
    processor.isUp = half(512) & 32 != 0
  }
}
