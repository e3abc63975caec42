import TrivisorInstructionSet
import Testing
import TrivisorVMM
import TrivisorX86

@testable import TrivisorTranslation

@Suite("semantics: strings and ports")
struct StringSemanticsTests {
  @Test("REP MOVSB in either direction, with every overlap, is a copy byte by byte", arguments: [false, true])
  func move(isDownward: Bool) {
    for distance in -9...9 {
      let context = PlainContext()
      var model = (0..<64).map { UInt8($0) }
      context.set(model, at: 0x8000)
      let (count, first) = (20, isDownward ? 39 : 20)
      if isDownward { context.flags.insert(.direction) }
      context[.rsi] = UInt64(0x8000 + first)
      context[.rdi] = UInt64(0x8000 + first + distance)
      context[.rcx] = UInt64(count)
      #expect(context.run([0xf3, 0xa4]) == nil)
      for step in 0..<count {
        let from = isDownward ? first - step : first + step
        model[from + distance] = model[from]
      }
      #expect((0..<64).map { context.byte(0x8000 + $0) } == model, "\(distance)")
      #expect(context[.rcx] == 0 && context.rip == 0x1002)
      #expect(context[.rsi] == UInt64(0x8000 + (isDownward ? first - count : first + count)))
    }
  }

  @Test("a fault in the middle leaves what is done, and what is left in the registers")
  func fault() {
    let context = PlainContext()
    context.absentPages = [9]
    context[.rdi] = 0x8ff6
    context[.rcx] = 8
    context[.rax] = 0x1122_3344
    // rep stosl: two and a half elements fit.
    #expect(
      context.run([0xf3, 0xab])?.exception == .pageFault([.write], at: 0x9000))
    #expect(context[.rdi] == 0x8ffe && context[.rcx] == 6 && context.rip == 0x1000)
    #expect(context.word(0x8ff6) == 0x1122_3344_1122_3344 && context.byte(0x8ffe) == 0)
    context.absentPages = []
    #expect(context.run([0xf3, 0xab]) == nil)
    #expect(context[.rdi] == 0x9016 && context[.rcx] == 0 && context.half(0x8ffe) == 0x1122_3344)
  }

  @Test("REPE CMPSB and REPNE SCASB end where they should, with CMP's flags")
  func compare() {
    let context = PlainContext()
    context.set([1, 2, 3, 4, 5], at: 0x8000)
    context.set([1, 2, 9, 4, 5], at: 0x8100)
    (context[.rsi], context[.rdi], context[.rcx]) = (0x8000, 0x8100, 5)
    #expect(context.run([0xf3, 0xa6]) == nil)
    #expect(context[.rcx] == 2 && context[.rsi] == 0x8003 && context[.rdi] == 0x8103)
    // 3 − 9.
    #expect(context.arithmeticFlags == [.carry, .sign, .auxiliary, .parity])
    (context[.rdi], context[.rcx], context[.rax]) = (0x8100, 5, 4)
    #expect(context.run([0xf2, 0xae]) == nil)
    #expect(context[.rcx] == 1 && context.arithmeticFlags == [.zero, .parity])
    // None at all: the flags stay.
    (context[.rcx], context.arithmeticFlags) = (0, [.carry])
    #expect(context.run([0xf2, 0xae]) == nil && context.arithmeticFlags == [.carry])
  }

  @Test("the flags of a comparison are those of the host's, for 8 bits")
  func flags() {
    for left in UInt64(0)...255 {
      for right in UInt64(0)...255 {
        let flags = RFLAGS(comparing: left, with: right, size: 1)
        let (difference, overflow) = Int8(bitPattern: UInt8(left)).subtractingReportingOverflow(
          Int8(bitPattern: UInt8(right)))
        #expect(flags.contains(.overflow) == overflow && flags.contains(.sign) == (difference < 0))
        #expect(flags.contains(.carry) == (left < right) && flags.contains(.zero) == (left == right))
        #expect(flags.contains(.auxiliary) == (left & 15 < right & 15))
      }
    }
  }

  @Test("REP STOSB in 16-bit code wraps at 64 KiB and keeps the rest of the registers")
  func wrap() {
    let context = PlainContext(.bits16)
    (context[.rdi], context[.rcx], context[.rax]) = (0xaaaa_fffe, 0xbbbb_0004, 0x55)
    #expect(context.run([0xf3, 0xaa]) == nil)
    #expect(context[.rdi] == 0xaaaa_0002 && context[.rcx] == 0xbbbb_0000)
    #expect(context.byte(0xffff) == 0x55 && context.byte(1) == 0x55 && context.byte(2) == 0)
  }

  @Test("a destination that can't be written is found before the port is read; OUTS tells the machine's end")
  func ports() {
    let context = PlainContext()
    context.readOnlyPages = [8]
    context.portReads = [0x77]
    (context[.rdi], context[.rdx], context[.rcx]) = (0x8000, 0x60, 2)
    #expect(context.run([0xf3, 0x6c])?.exception == .pageFault([.present, .write], at: 0x8000))
    #expect(context.portReads == [0x77])
    context.set([3, 4], at: 0x9000)
    (context[.rsi], context[.rdx]) = (0x9000, 0xf4)
    guard case .stop(.exited(code: 3))? = context.run([0xf3, 0x6e]) else {
      Issue.record("no end")
      return
    }
    #expect(context[.rcx] == 1 && context[.rsi] == 0x9001 && context.rip == 0x1000)
  }

  @Test("somebody who waits gets a turn within 65,536 rounds; RF is set then")
  func patience() {
    let context = PlainContext()
    context.isWanted = true
    (context[.rsi], context[.rcx]) = (0x8000, 1 << 40)
    context.isSingleStepping = false
    guard case .stop(.stopRequested)? = context.run([0xf3, 0xac]) else {
      Issue.record("it did not make way")
      return
    }
    #expect(context.flags.contains(.resume) && context.rip == 0x1000 && context[.rcx] == 1 << 40 - 1 << 16)
  }

  @Test("ports: IOPL, and the bitmap of the task for those outside it")
  func permission() {
    let context = PlainContext()
    context.cpl = 3
    context[.rdx] = 0x3f8
    #expect(context.run([0xec])?.exception == .general)
    context.task.limit = 0xfff
    // The bitmap at 0x100: all ports but 0x3f8 to 0x3fb are forbidden.
    context.set([UInt8](repeating: 0xff, count: 0x2001), at: 0x6100)
    context.set([0x00, 0x01], at: 0x6066)
    context.set([0xf0], at: 0x6100 + 0x3f8 / 8)
    context.portReads = [0x12, 0x3456_789a]
    #expect(context.run([0xec]) == nil && context[.rax] == 0x12)
    #expect(context.run([0xed]) == nil && context[.rax] == 0x3456_789a)
    context[.rdx] = 0x3f9
    #expect(context.run([0xed])?.exception == .general)
    context.flags.formUnion(.ioPrivilegeLevel)
    #expect(context.run([0xed]) == nil)
  }
}
