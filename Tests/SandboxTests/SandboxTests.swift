import TrivisorCStub
import Glibc
import TrivisorSandbox
import Testing
import TrivisorVMM

/// Guest code at 4 MiB, in a memory of one MiB.
private struct Fixture {
  let memory: GuestMemory
  let process: SandboxProcess
  let thread: SandboxThread
  var registers = UserRegisters()

  init(_ code: [UInt8], window: UpperWindow? = nil) throws {
    memory = try GuestMemory(size: 1 << 20)
    try memory.copy(code, to: GuestPhysicalAddress(0))
    process = try SandboxProcess(memory: memory, threadCount: 1, window: window)
    thread = try SandboxThread(process, index: 0)
    try process.apply([
      MappingChange(
        address: 0x40_0000, size: 1 << 20, target: .init(fileOffset: 0, access: [.read, .write, .execute]))
    ])
    registers.rip = 0x40_0000
    registers.rsp = 0x48_0000
  }

  mutating func run() throws -> SandboxTrap { try thread.run(&registers) }
}

@Suite(.serialized)
struct SandboxTests {
  @Test("every system call number of the host is a trap with all registers, also those that the stub itself needs")
  func systemCalls() throws {
    var fixture = try Fixture([0x0f, 0x05])
    for number in [0, 1, 9, 15, 39, 56, 57, 59, 62, 101, 158, 202, 231, 317, 321, 435, 0x4000_0027, .max] as [UInt64] {
      fixture.registers.rax = number
      fixture.registers.rdi = 0x1111
      fixture.registers.r15 = 0x2222
      fixture.registers.rip = 0x40_0000
      #expect(try fixture.run() == .systemCall(rip: 0x40_0002))
      #expect(fixture.registers.rax == number)
      #expect(fixture.registers.rdi == 0x1111)
      #expect(fixture.registers.r15 == 0x2222)
    }
  }

  @Test("vector and x87 registers go to another process through a value, and what is none is refused")
  func savedExtendedState() throws {
    // movq %rax, %xmm5; fld1; ud2. And back: movq %xmm5, %rax; fstps (%rsp); ud2.
    var first = try Fixture([0x66, 0x48, 0x0f, 0x6e, 0xe8, 0xd9, 0xe8, 0x0f, 0x0b])
    first.registers.rax = 0x1234_5678_9abc_def0
    #expect(try first.run() == .exception(vector: 6, errorCode: 0, address: 0))
    let saved = try first.thread.savedExtendedState()
    var second = try Fixture([0x66, 0x48, 0x0f, 0x7e, 0xe8, 0xd9, 0x1c, 0x24, 0x0f, 0x0b])
    #expect(try second.thread.restoreExtendedState(components: saved.components, image: saved.image))
    #expect(try second.thread.savedExtendedState() == saved)
    #expect(try second.run() == .exception(vector: 6, errorCode: 0, address: 0))
    #expect(second.registers.rax == 0x1234_5678_9abc_def0)
    #expect(try second.memory.read(UInt32.self, at: GuestPhysicalAddress(0x8_0000)) == 0x3f80_0000)
    for (components, image) in [
      (saved.components, []), (saved.components, Array(saved.image.prefix(511))), (3, Array(saved.image.prefix(512))),
      (.max, saved.image), (saved.components, saved.image + saved.image),
      (saved.components, [UInt8](repeating: 0xff, count: saved.image.count)),
      (7, [UInt8](repeating: 0xff, count: 832)), (7, [UInt8](repeating: 0, count: 832)),
    ] as [(UInt64, [UInt8])] {
      _ = try second.thread.restoreExtendedState(components: components, image: image)
      second.registers.rip = 0x40_0000
      #expect(try second.run() != .interrupted)
    }
  }

  @Test("set_segment_base by SYSCALL is served in the process where that is asked for, and nothing else is")
  func segmentBases() throws {
    // syscall; rdfsbase %rbx; rdgsbase %r12; ud2
    var fixture = try Fixture([0x0f, 0x05, 0xf3, 0x48, 0x0f, 0xae, 0xc3, 0xf3, 0x49, 0x0f, 0xae, 0xcc, 0x0f, 0x0b])
    func call(_ which: UInt64, _ base: UInt64, number: UInt64 = 25) throws -> SandboxTrap {
      fixture.registers.rip = 0x40_0000
      (fixture.registers.rax, fixture.registers.rdi, fixture.registers.rsi) = (number, which, base)
      return try fixture.run()
    }
    let trap = SandboxTrap.systemCall(rip: 0x40_0002)
    #expect(try call(0, 0x1234_5000) == trap)
    fixture.thread.setServes(true)
    #expect(try call(0, 0x1234_5000) == .exception(vector: 6, errorCode: 0, address: 0))
    #expect(fixture.registers.rax == 0)
    #expect(fixture.registers.rbx == 0x1234_5000)
    #expect(fixture.registers.fsBase == 0x1234_5000)
    #expect(try call(2, 0x6789_a000) == .exception(vector: 6, errorCode: 0, address: 0))
    #expect(fixture.registers.r12 == 0x6789_a000)
    #expect(fixture.thread.takeServed() == .init(segmentBases: 2))
    for which in [1, 3, 4, .max] as [UInt64] { #expect(try call(which, 0x1000) == trap) }
    for base in [1 << 47, 0xffff_8000_0000_0000, .max] as [UInt64] { #expect(try call(0, base) == trap) }
    for number in [24, 26, 25 | 1 << 32] as [UInt64] { #expect(try call(0, 0x1000, number: number) == trap) }
    fixture.thread.setServes(false)
    #expect(try call(0, 0x1234_5000) == trap)
    #expect(fixture.thread.takeServed() == .init())
  }

  /// Loads of a quadword by MOV, all forms of an address; how many bytes, and which register it is loaded into.
  private static let loads: [(code: [UInt8], register: Int)] = [
    ([0x48, 0x8b, 0x03], 0), ([0x48, 0x8b, 0x4b, 0x08], 1), ([0x4c, 0x8b, 0xab, 0x00, 0x01, 0x00, 0x00], 13),
    ([0x48, 0x8b, 0x14, 0xf3], 2), ([0x48, 0x8b, 0x6c, 0xf3, 0x10], 5),
    ([0x48, 0x8b, 0x3c, 0xf5, 0x00, 0x00, 0x00, 0x80], 7), ([0x4a, 0x8b, 0xbc, 0xc3, 0x00, 0x01, 0x00, 0x00], 7),
    ([0x4d, 0x8b, 0x04, 0x24], 8), ([0x4d, 0x8b, 0x7d, 0x00], 15), ([0x48, 0x8b, 0x1b], 3),
  ]

  @Test("loads of quadwords from the window are served where that is asked for, in every form, and nothing else is")
  func window() throws {
    let start: UInt64 = 0xffff_ffff_8000_0000
    let window = UpperWindow(address: start, size: 8192, fileOffset: 0x2000)
    for (code, register) in Self.loads {
      for serves in [true, false] {
        var fixture = try Fixture(code + [0x0f, 0x0b], window: window)
        for place in 0..<1024 as Range<UInt64> {
          try fixture.memory.write(0x1111_0000_0000_0000 | place, at: GuestPhysicalAddress(0x2000 + 8 * place))
        }
        fixture.thread.setServes(serves)
        (fixture.registers.rbx, fixture.registers.rsi, fixture.registers.r8) = (start, 3, 2)
        (fixture.registers.r12, fixture.registers.r13) = (start + 0x20, start + 0x1ff8)
        let displacement: UInt64 =
          switch code.count {
          case 3: 0
          case 4 where register == 1: 1
          case 4 where register == 2: 3
          case 4 where register == 8: 4
          case 4: 0x3ff
          case 5: 5
          case 7: 32
          default: code[3] == 0xf5 ? 3 : 34
          }
        let trap = try fixture.run()
        guard serves else {
          guard case .exception(14, _, start + 8 * displacement) = trap else {
            Issue.record("\(code) without service: \(trap)")
            continue
          }
          continue
        }
        #expect(trap == .exception(vector: 6, errorCode: 0, address: 0), "\(code)")
        #expect(fixture.registers.rip == 0x40_0000 + UInt64(code.count), "\(code)")
        let registers = [
          0: fixture.registers.rax, 1: fixture.registers.rcx, 2: fixture.registers.rdx, 3: fixture.registers.rbx,
          5: fixture.registers.rbp, 7: fixture.registers.rdi, 8: fixture.registers.r8, 13: fixture.registers.r13,
          15: fixture.registers.r15,
        ]
        #expect(registers[register] == 0x1111_0000_0000_0000 | displacement, "\(code)")
        #expect(fixture.thread.takeServed() == .init(loads: 1))
      }
    }
    // A store, a doubleword, a load behind the end, one that is not aligned, another instruction, a single step.
    for (code, address, flags) in [
      ([0x48, 0x89, 0x03], start, 0x202), ([0x8b, 0x03], start, 0x202), ([0x48, 0x8b, 0x03], start + 8192, 0x202),
      ([0x48, 0x8b, 0x03], start + 4, 0x202), ([0x48, 0x03, 0x03], start, 0x202),
      ([0x48, 0x8b, 0x03], start - 8, 0x202), ([0x48, 0x8b, 0x03], start, 0x302), ([0xff, 0xe3], start, 0x202),
    ] as [([UInt8], UInt64, UInt64)] {
      var fixture = try Fixture(code + [0x0f, 0x0b], window: window)
      fixture.thread.setServes(true)
      (fixture.registers.rbx, fixture.registers.rflags) = (address, flags)
      guard case .exception(14, _, address) = try fixture.run() else {
        Issue.record("\(code) at \(address)")
        continue
      }
      #expect(fixture.thread.takeServed() == .init())
    }
  }

  @Test("INT 80h does not reach the host")
  func interrupt80() throws {
    var fixture = try Fixture([0xcd, 0x80])
    fixture.registers.rax = 20
    #expect(try fixture.run() == .foreignSystemCall(architecture: 0x4000_0003))
  }

  @Test("a call into the vsyscall page is a trap with the page's address")
  func vsyscall() throws {
    // mov $0xffffffffff600400, %rax; call *%rax
    var fixture = try Fixture([0x48, 0xc7, 0xc0, 0x00, 0x04, 0x60, 0xff, 0xff, 0xd0])
    switch try fixture.run() {
    case .systemCall(let rip): #expect(rip >> 12 == 0xf_ffff_ffff_f600)
    case .exception(let vector, _, _): #expect(vector == 14)  // a host without the page
    default: Issue.record("not trapped")
    }
  }

  @Test(
    "exceptions come with their vector",
    arguments: [
      ([0x0f, 0x0b], 6), ([0xcc], 3), ([0xf4], 13), ([0x31, 0xc9, 0xf7, 0xf1], 0),
      ([0xa1, 0, 0, 0, 0, 0, 0, 0, 0], 14),
      ([0xfa], 13), ([0xe4, 0x60], 13), ([0x0f, 0x30], 13), ([0xcd, 0x82], 13),
    ] as [([UInt8], UInt8)])
  func exceptions(code: [UInt8], vector: UInt8) throws {
    var fixture = try Fixture(code)
    guard case .exception(let found, _, _) = try fixture.run() else {
      Issue.record("no exception")
      return
    }
    #expect(found == vector)
  }

  @Test("flags that would hurt the handler are the guest's own: AC, DF, NT")
  func flags() throws {
    var fixture = try Fixture([0x0f, 0x05])
    fixture.registers.rflags = 0x202 | 1 << 18 | 1 << 10 | 1 << 14
    #expect(try fixture.run() == .systemCall(rip: 0x40_0002))
    #expect(fixture.registers.rflags & 1 << 18 != 0)
    #expect(fixture.registers.rflags & 1 << 10 != 0)
  }

  @Test("a stack pointer within the alternate stack harms only the guest")
  func stackInFrames() throws {
    var fixture = try Fixture([0x0f, 0x05])
    for offset in [0x100, 0x800, 0x4000, 0x7ff8] as [UInt64] {
      fixture.registers.rip = 0x40_0000
      fixture.registers.rsp = cstubFrames + 0x8000 + offset
      do {
        #expect(try fixture.run() == .systemCall(rip: 0x40_0002))
      } catch is SandboxEnded {
        return
      }
    }
  }

  @Test("an endless loop is interrupted by a kick and goes on where it was")
  func kick() throws {
    var fixture = try Fixture([0xeb, 0xfe])
    let process = fixture.process
    for _ in 0..<3 {
      let kicker = Kicker(process, afterMicroseconds: 2000)
      kicker.start()
      #expect(try fixture.run() == .interrupted)
      #expect(fixture.registers.rip == 0x40_0000)
    }
  }

  @Test("destroying the process ends a guest that runs")
  func destroy() throws {
    var fixture = try Fixture([0xeb, 0xfe])
    let process = fixture.process
    Kicker(process, afterMicroseconds: 2000, kills: true).start()
    #expect(throws: SandboxEnded.self) { try fixture.run() }
    #expect(process.ending == SandboxEnded("the sandboxed process was killed by signal 9"))
  }

  @Test("a jump to the stub's own system call instructions does nothing but futex and sigreturn")
  func jumpsIntoStub() throws {
    // Every byte pair 0f 05 in the stub's page, entered with the number of getpid, and with mmap's and execve's.
    var fixture = try Fixture([0x90])
    var code = [UInt8](repeating: 0, count: 4096)
    _ = code.withUnsafeMutableBytes { $0.count }
    // mov (page) by the guest itself: rep movsb from the stub's page into its memory.
    try fixture.memory.copy([0xf3, 0xa4, 0x0f, 0x0b], to: GuestPhysicalAddress(0))
    fixture.registers.rsi = cstubCode
    fixture.registers.rdi = 0x41_0000
    fixture.registers.rcx = 4096
    _ = try fixture.run()
    code = try fixture.memory.bytes(at: GuestPhysicalAddress(0x1_0000), count: 4096)
    var tried = 0
    for position in 0..<4095 where code[position] == 0x0f && code[position + 1] == 0x05 {
      for number in [39, 9, 59, 0, 1] as [UInt64] {
        var other = try Fixture([0x90])
        other.registers.rip = cstubCode + UInt64(position)
        other.registers.rax = number
        do {
          let trap = try other.run()
          #expect(trap == .systemCall(rip: cstubCode + UInt64(position) + 2))
        } catch is SandboxEnded {}
        tried += 1
      }
    }
    #expect(tried >= 50)
  }

  @Test("guest code can't write to the configuration or the stub's code")
  func readOnlyPages() throws {
    for address in [cstubCode, cstubCode + 0x1_0000, cstubCode + 0x1_1000] {
      var fixture = try Fixture([0x88, 0x07])  // mov %al, (%rdi)
      fixture.registers.rdi = address
      guard case .exception(14, _, address) = try fixture.run() else {
        Issue.record("written")
        return
      }
    }
  }

  @Test("mappings follow the changes: removed, read-only, beyond the guest's part refused")
  func mappings() throws {
    var fixture = try Fixture([0x88, 0x07, 0x0f, 0x0b])  // mov %al, (%rdi); ud2
    let page = MappingChange(
      address: 0x50_0000, size: 4096, target: .init(fileOffset: 0x2000, access: [.read, .write]))
    fixture.registers.rdi = 0x50_0000
    fixture.registers.rax = 0x5a
    #expect(try fixture.run() == .exception(vector: 14, errorCode: 6, address: 0x50_0000))
    try fixture.process.apply([page])
    #expect(try fixture.run() == .exception(vector: 6, errorCode: 0, address: 0))
    #expect(try fixture.memory.read(UInt8.self, at: GuestPhysicalAddress(0x2000)) == 0x5a)
    try fixture.process.apply([MappingChange(address: 0x50_0000, size: 4096, target: nil)])
    fixture.registers.rip = 0x40_0000
    guard case .exception(14, _, _) = try fixture.run() else {
      Issue.record("still mapped")
      return
    }
    #expect(throws: MappingFailure.self) {
      try fixture.process.apply([MappingChange(address: cstubCode, size: 4096, target: nil)])
    }
    #expect(throws: MappingFailure.self) {
      try fixture.process.apply([MappingChange(address: .max - 4095, size: 8192, target: nil)])
    }
  }
}

/// Kicks or kills a process from a thread of its own.
private final class Kicker: Sendable {
  private let process: SandboxProcess
  private let delay: UInt32
  private let kills: Bool

  init(_ process: SandboxProcess, afterMicroseconds delay: UInt32, kills: Bool = false) {
    self.process = process
    self.delay = delay
    self.kills = kills
  }

  func start() {
    var thread = pthread_t()
    let box = Unmanaged.passRetained(self)
    pthread_create(
      &thread, nil,
      { argument in
        if let argument {
          let kicker = Unmanaged<Kicker>.fromOpaque(argument).takeRetainedValue()
          usleep(kicker.delay)
          if kicker.kills { kicker.process.destroy() } else { kicker.process.kick(0) }
        }
        return nil
      }, box.toOpaque())
    pthread_detach(thread)
  }
}
