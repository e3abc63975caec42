import TrivisorInstructionSet
import Testing
import TrivisorVMM
import TrivisorX86

@testable import TrivisorTranslation

@Suite("semantics: control registers, MSRs, extended state, decimal adjustment")
struct SystemSemanticsTests {
  private func write(_ number: UInt8, _ value: UInt64, _ context: PlainContext) -> GuestException? {
    context[.rax] = value
    // mov %rax, %crN
    return context.run([0x0f, 0x22, 0xc0 | number << 3])?.exception
  }

  @Test("CR0: what excludes each other, what is ignored, what enters and leaves long mode")
  func cr0() {
    let context = PlainContext(.bits32)
    #expect(write(0, 0x8000_0000, context) == .general)
    #expect(write(0, 0x2000_0001, context) == .general)
    #expect(write(0, 0x1ffc_ffc1, context) == nil && context.cr0 == [.protectedMode, .extensionType, .alignmentMask])
    // PAE's table is loaded when paging comes on, and again with CD.
    context.cr3 = 0x3000
    #expect(write(0, 0x8000_0011, context) == nil && context.pointerTableRoots == [0x3000])
    #expect(write(0, 0xc000_0011, context) == nil && context.pointerTableRoots.count == 2)
    #expect(write(0, 0x11, context) == nil && write(0, 0x8000_0011, context) == nil)
    #expect(write(0, 0x11, context) == nil)
    context.efer = .longModeEnable
    #expect(write(0, 0x8000_0011, context) == nil && context.isLongMode)
    #expect(write(0, 0x11, context) == nil && !context.isLongMode)
    context.cr4.remove(.physicalAddressExtension)
    #expect(write(0, 0x8000_0011, context) == .general)
    let long = PlainContext()
    #expect(write(0, 0x11, long) == .general && long.isLongMode)
    #expect(write(0, 1 << 32 | 0x8000_0011, long) == .general)
  }

  @Test("CR4 has what CPUID announces; PAE stays in long mode; CR8 has four bits")
  func others() {
    let context = PlainContext()
    #expect(write(4, CR4([.physicalAddressExtension, .supervisorAccessPrevention]).rawValue, context) == .general)
    context.identification = CPUIDTable(leaves: [CPUIDLeaf(7, index: 0, ebx: 1 << 20)])
    #expect(write(4, CR4([.physicalAddressExtension, .supervisorAccessPrevention]).rawValue, context) == nil)
    #expect(write(4, 0, context) == .general)
    #expect(write(3, 1 << 50, context) == .general && write(3, 0x1234_5018, context) == nil)
    #expect(context.cr3 == 0x1234_5018)
    // Bit 63 is a wish with numbered address spaces, and reserved without; it is not kept.
    #expect(write(3, 1 << 63 | 0x5000, context) == .general)
    context.cr4.insert(.processContextIdentifiers)
    #expect(write(3, 1 << 63 | 0x5001, context) == nil && context.cr3 == 0x5001 && context.keptTranslations)
    #expect(write(3, 0x5002, context) == nil && !context.keptTranslations)
    context.cr4.remove(.processContextIdentifiers)
    context[.rax] = 16
    #expect(context.run([0x44, 0x0f, 0x22, 0xc0])?.exception == .general)
    context.cpl = 3
    #expect(context.run([0x0f, 0x20, 0xc0])?.exception == .general)
    // SMSW and SGDT are for everybody, unless UMIP is on.
    #expect(context.run([0x0f, 0x01, 0xe0]) == nil && context[.rax] & 1 == 1)
    context.cr4.insert(.userModeInstructionPrevention)
    #expect(context.run([0x0f, 0x01, 0xe0])?.exception == .general)
    #expect(context.run([0x0f, 0x00, 0xc8])?.exception == .general)
  }

  @Test("LMSW sets PE and does not take it back")
  func statusWord() {
    let context = PlainContext(.bits16)
    context[.rax] = 0xffff
    #expect(context.run([0x0f, 0x01, 0xf0]) == nil)
    #expect(context.cr0 == [.protectedMode, .monitorCoprocessor, .emulation, .taskSwitched, .extensionType])
    context[.rax] = 0
    #expect(context.run([0x0f, 0x01, 0xf0]) == nil && context.cr0 == [.protectedMode, .extensionType])
  }

  @Test("debug registers: aliases, general detect, what is always one")
  func debug() {
    let context = PlainContext()
    context[.rax] = 0xffff_ffff
    // mov %rax, %dr7, which switches general detect on
    #expect(context.run([0x0f, 0x23, 0xf8]) == nil && context.debug.dr7 == 0xffff_2fff)
    #expect(context.run([0x0f, 0x21, 0xc0])?.exception == .debugGuard)
    #expect(DR6(rawValue: context.debug.dr6).contains(.registerAccess))
    context.debug.dr7 = 0x400
    #expect(context.run([0x0f, 0x21, 0xe0]) == nil && context[.rax] == context.debug.dr6)
    context.cr4.insert(.debuggingExtensions)
    #expect(context.run([0x0f, 0x21, 0xe0])?.exception == .invalidOpcode)
  }

  @Test("breakpoints cover what their length says, at their alignment")
  func breakpoints() {
    var registers = DebugRegisters()
    registers.addresses = [0x1003, 0x2000, 0x3001, 0x4000]
    // L0 write of 4, L1 access of 8, L2 execution, L3 port of 2.
    registers.dr7 = 0x55 | 0xd << 16 | 0xb << 20 | 0 << 24 | 6 << 28
    #expect(registers.hits(0x1000, count: 1, .write) == .breakpoint0)
    #expect(registers.hits(0x1000, count: 1, .read) == [] && registers.hits(0x1004, count: 8, .write) == [])
    #expect(registers.hits(0x1ff9, count: 8, .read) == .breakpoint1 && registers.hits(0x2008, count: 1, .read) == [])
    #expect(registers.hits(0x3001, count: 1, .execution) == .breakpoint2)
    #expect(registers.hits(0x4001, count: 1, .port) == .breakpoint3)
  }

  @Test("MSRs: canonical addresses, memory types, EFER's rules, and no others")
  func modelSpecific() {
    let context = PlainContext()
    let registers = ModelSpecificAccess(context: context)
    func isRefused(_ index: UInt32, _ value: UInt64) -> Bool {
      do throws(Interruption) {
        try registers.write(index, value)
        return false
      } catch {
        return error.exception == .general
      }
    }
    for index in [MSR.lstar, MSR.cstar, MSR.fsBase, MSR.gsBase, MSR.kernelGSBase] {
      #expect(isRefused(index, 1 << 47) && !isRefused(index, .max))
    }
    // Linux takes RDSEED away from an EPYC 9005 with an older one, loudly.
    #expect((try? registers.read(MSR.microcodeRevision)) == 0x0b00_215a)
    #expect(isRefused(MSR.pageAttributeTable, 2) && !isRefused(MSR.pageAttributeTable, 7))
    #expect(isRefused(MSR.memoryTypeFixed64K, 7) && !isRefused(MSR.memoryTypeFixed64K, 0x0606_0606_0606_0606))
    #expect(isRefused(MSR.memoryTypeDefault, 0x806 | 1 << 12) && !isRefused(MSR.memoryTypeDefault, 0xc06))
    #expect(isRefused(0x200, 1 << 40 | 6) && isRefused(0x201, 0x400) && !isRefused(0x201, 0x800))
    #expect(isRefused(MSR.efer, 0x501 ^ 0x100) && !isRefused(MSR.efer, 0x901) && context.isLongMode)
    #expect(isRefused(MSR.efer, 1 << 1) && isRefused(0x1234_5678, 0) && isRefused(MSR.x2APIC.lowerBound, 0))
    context[.rcx] = UInt64(MSR.lstar)
    // rdmsr
    #expect(context.run([0x0f, 0x32]) == nil && context[.rax] == 0xffff_ffff && context[.rdx] == 0xffff_ffff)
  }

  @Test("the clock in guest memory: scale, version, and what is told once")
  func clock() {
    let context = PlainContext()
    context.timestampFrequency = 2_000_000_000
    (context.timestamp, context.systemTime) = (500, 250)
    let clock = MonitorClock(context: context)
    clock.storeSystemTime()
    #expect(context.clockVersion == 0)
    context[modelSpecific: MSR.kvmSystemTime] = 0x8001
    clock.storeSystemTime()
    #expect(context.half(0x8000) == 2 && context.word(0x8008) == 500 && context.word(0x8010) == 250)
    #expect(context.half(0x8018) == 0x8000_0000 && context.byte(0x801c) == 0 && context.byte(0x801d) == 1)
    clock.tellOfLostTime()
    #expect(context.half(0x8000) == 4 && context.byte(0x801d) == 3)
    context.clockVersion = 0
    clock.resume()
    #expect(context.half(0x8000) == 6)
    // Elsewhere than in RAM: nothing.
    context[modelSpecific: MSR.kvmSystemTime] = 1 << 40 | 1
    clock.storeSystemTime()
  }

  // MARK: Extended state

  @Test("XSAVE and XRSTOR: what is asked for, enabled and present")
  func extendedState() {
    let context = PlainContext()
    let vectors = context.vectorRegisters.assumingMemoryBound(to: UInt8.self)
    for index in 0..<512 { vectors[index] = UInt8(truncatingIfNeeded: index * 7) }
    for index in 0..<160 { context.x87Area.storeBytes(of: UInt8(index), toByteOffset: index, as: UInt8.self) }
    (context[.rax], context[.rdx], context[.rbx]) = (6, 0, 0x8000)
    // xsave (%rbx)
    #expect(context.run([0x0f, 0xae, 0x23]) == nil)
    #expect(context.word(0x8200) == 6 && context.byte(0x8000) == 0 && context.half(0x8018) == 0x1f80)
    #expect(context.byte(0x80a1) == 7 && context.byte(0x8241) == 17 * 7)
    // xrstor of everything: the x87 state was not saved, and becomes the initial one.
    context.vectorRegisters.initializeMemory(as: UInt8.self, repeating: 0, count: 512)
    context[.rax] = 7
    #expect(context.run([0x0f, 0xae, 0x2b]) == nil)
    #expect(context.vectorRegisters.load(fromByteOffset: 17, as: UInt8.self) == 17 * 7)
    #expect(X87Image(context.x87Area).controlWord == X87Image.initialControl)
    #expect(context.x87Area.load(fromByteOffset: 40, as: UInt8.self) == 0)
    // A header that is wrong, MXCSR with a bit that doesn't exist, a place that is not aligned.
    context.set(8, at: 0x8200)
    #expect(context.run([0x0f, 0xae, 0x2b])?.exception == .general)
    context.set(6, at: 0x8200)
    context.set([0, 0, 1], at: 0x8018)
    #expect(context.run([0x0f, 0xae, 0x2b])?.exception == .general)
    context[.rbx] = 0x8010
    #expect(context.run([0x0f, 0xae, 0x23])?.exception == .general)
    context.cr0.insert(.taskSwitched)
    #expect(context.run([0x0f, 0xae, 0x23])?.exception == .deviceNotAvailable)
    context.cr4.remove(.osXSAVE)
    #expect(context.run([0x0f, 0xae, 0x23])?.exception == .invalidOpcode)
  }

  @Test("XSETBV keeps x87 on, and YMM only with XMM")
  func extendedControl() {
    let context = PlainContext()
    context.identification = CPUIDTable(leaves: [CPUIDLeaf(1, ecx: 1 << 26 | 1 << 28)])
    for value in UInt64(0)..<16 {
      (context[.rax], context[.rdx], context[.rcx]) = (value, 0, 0)
      let isPossible = [1, 3, 7].contains(value)
      #expect((context.run([0x0f, 0x01, 0xd1])?.exception == .general) != isPossible, "\(value)")
    }
    #expect(context.xcr0 == [.x87, .sse, .avx])
  }

  @Test("the full tag word of FNSTENV")
  func tags() {
    let context = PlainContext()
    let image = context.x87Area
    // TOP is 6: ST(0) is register 6, valid; ST(1) is 7, zero; ST(2) is 0, infinite.
    image.storeBytes(of: 6 << 11, toByteOffset: 2, as: UInt16.self)
    image.storeBytes(of: 0b1100_0001, toByteOffset: 4, as: UInt8.self)
    image.storeBytes(of: 1 << 63, toByteOffset: 32, as: UInt64.self)
    image.storeBytes(of: 0x3fff, toByteOffset: 40, as: UInt16.self)
    image.storeBytes(of: 1 << 63, toByteOffset: 64, as: UInt64.self)
    image.storeBytes(of: 0x7fff, toByteOffset: 72, as: UInt16.self)
    #expect(X87Image(image).fullTags == 0b01_00_1111_1111_11_10)
    context[.rbx] = 0x8000
    // fnstenv (%rbx)
    #expect(context.run([0xd9, 0x33]) == nil && context.half(0x8008) == 0xffff_4ffe)
  }

  // MARK: Masked accesses

  @Test("VPMASKMOVD touches nothing that the mask leaves out; a gather keeps what it has when it faults")
  func masked() {
    let context = PlainContext()
    let lanes = context.vectorRegisters.assumingMemoryBound(to: UInt32.self)
    for lane in 0..<8 {
      lanes[lane] = UInt32(100 + lane)
      lanes[8 + lane] = lane % 2 == 0 ? 0x8000_0000 : 0
      lanes[16 + lane] = UInt32(lane)
    }
    context.absentPages = [9]
    context[.rbx] = 0x8ffc - 8
    // vpmaskmovd %ymm0, %ymm1, (%rbx): lane 4 is on the absent page.
    #expect(context.run([0xc4, 0xe2, 0x75, 0x8e, 0x03])?.exception == .pageFault([.write], at: 0x9004))
    #expect(context.half(0x8ff4) == 0)
    (lanes[12], lanes[14]) = (0, 0)
    #expect(context.run([0xc4, 0xe2, 0x75, 0x8e, 0x03]) == nil)
    #expect(context.half(0x8ff4) == 100 && context.half(0x8ff8) == 0 && context.half(0x8ffc) == 102)
    // vpgatherdd %ymm1, (%rbx,%ymm2,4), %ymm0 with all lanes.
    for lane in 0..<8 { lanes[8 + lane] = .max }
    #expect(context.run([0xc4, 0xe2, 0x75, 0x90, 0x04, 0x93])?.exception == .pageFault([], at: 0x9000))
    #expect(lanes[0] == 100 && lanes[1] == 0 && lanes[2] == 102 && lanes[3] == 103)
    #expect((0..<8).map { lanes[8 + $0] } == [0, 0, 0, .max, .max, .max, .max, .max])
  }

  // MARK: Decimal

  @Test("DAA and DAS make decimal sums and differences of two decimal digits")
  func decimal() {
    func packed(_ value: Int) -> UInt64 { UInt64(value / 10 * 16 + value % 10) }
    let context = PlainContext(.bits32)
    for left in 0..<100 {
      for right in 0..<100 {
        for isSubtraction in [false, true] {
          let (a, b) = (packed(left), packed(right))
          let sum = isSubtraction ? a &- b : a + b
          var flags: RFLAGS = []
          if isSubtraction ? a & 15 < b & 15 : (a & 15) + (b & 15) > 15 { flags.insert(.auxiliary) }
          if isSubtraction ? a < b : sum > 255 { flags.insert(.carry) }
          context[.rax] = sum & 0xff
          context.arithmeticFlags = flags
          #expect(context.run([isSubtraction ? 0x2f : 0x27]) == nil)
          let decimal = isSubtraction ? left - right : left + right
          #expect(context[.rax] == packed((decimal + 100) % 100), "\(left) \(right)")
          #expect(context.arithmeticFlags.contains(.carry) == (decimal < 0 || decimal > 99))
        }
      }
    }
    context[.rax] = 0x1234
    #expect(context.run([0xd4, 0])?.exception == .divide)
    #expect(context.run([0xd4, 10]) == nil && context[.rax] == 0x0502)
    #expect(context.run([0xd5, 10]) == nil && context[.rax] == 0x34)
  }
}
