// What a guest's user code can execute without leave, to take its kernel with it: the kernel is told of an exception, or of
// nothing, and goes on.

import CAttack
import CPlatform
import CXen

enum UserAttack {
  nonisolated(unsafe) static var process = Attack.makeProcess()

  /// What came of it, and with what.
  struct Result {
    let vector, errorCode, rip: UInt64
  }

  /// Runs a piece of user code with two registers.
  static func attempt(_ piece: UInt64, _ first: UInt64 = 0, _ second: UInt64 = 0) -> Result {
    let frame = process.frame
    frame.pointee.rip = Platform.windowStart &+ piece
    frame.pointee.cs = Platform.userCodeSelector
    frame.pointee.ss = Platform.userDataSelector
    frame.pointee.rsp = UserProcess.stackEnd
    frame.pointee.rflags = 0x202
    frame.pointee.rdi = first
    frame.pointee.rsi = second
    return goOn()
  }

  static func goOn() -> Result {
    _ = process.run()
    let frame = process.frame.pointee
    return Result(vector: frame.vector, errorCode: frame.errorCode, rip: frame.rip)
  }

  /// One of these vectors, at an address of the guest's or none.
  static func judge(_ what: StaticString, _ result: Result, _ expected: Vectors) {
    let isExpected = expected.contains(Vectors(result.vector))
    let isGuests = result.rip == 0 || result.rip >> 30 == Platform.windowStart >> 30
    if !isExpected || !isGuests {
      Console.print("vector \(result.vector), code \(result.errorCode), at \(result.rip)")
    }
    Attack.judge(what, isExpected && isGuests)
  }

  /// What user code may come back with. A set of bits, because guests have no heap.
  struct Vectors {
    let bits: UInt64

    init(bits: UInt64) { self.bits = bits }

    init(_ vector: UInt64) { bits = vector == trapVectorSystemCall ? 1 << 63 : vector < 63 ? 1 << vector : 0 }

    func contains(_ other: Vectors) -> Bool { bits & other.bits != 0 }

    static func | (left: Vectors, right: Vectors) -> Vectors { Vectors(bits: left.bits | right.bits) }

    static var debug: Vectors { Vectors(1) }
    static var invalid: Vectors { Vectors(6) }
    static var segment: Vectors { Vectors(10) | Vectors(11) | Vectors(12) }
    static var protection: Vectors { Vectors(13) }
    static var page: Vectors { Vectors(14) }
    static var x87: Vectors { Vectors(16) }
    static var simd: Vectors { Vectors(19) }
    static var call: Vectors { Vectors(trapVectorSystemCall) }
  }

  static func run() {
    systemCalls()
    keys()
    state()
    transfers()
    frames()
    Console.print("The kernel is still there.")
  }

  /// SYSENTER works on Intel's processors, SYSCALL in 32-bit code on AMD's, INT 80h on all; with and without a stack that
  /// the host could read.
  static func systemCalls() {
    for stack in [UserProcess.stackEnd &- 64, 0, 0xffff_fff8] as InlineNumbers {
      // QEMU's processors of Intel's vendor execute it, which brings Linux down.
      if !Arguments.contains("without-syscall32") {
        judge("SYSCALL of 32-bit code", attempt(user_compatibility_offset(), 0, stack), .invalid)
      }
      judge("SYSENTER of 32-bit code", attempt(user_compatibility_offset(), 1, stack), .invalid | .protection)
      judge("INT 80h of 32-bit code", attempt(user_compatibility_offset(), 2, stack), .protection)
    }
    // Plain; TF, AC, NT, DF.
    for flags in [0x202, 0x302, 0x4_0202, 0x4202, 0x602] as InlineNumbers {
      judge("SYSENTER", attempt(user_sysenter_offset(), flags), .invalid | .protection | .debug)
    }
    callback(xen_system_call_address())
    judge("SYSENTER with a callback", attempt(user_sysenter_offset(), 0x202), .invalid | .call)
    callback(0)
    judge("SYSENTER without it again", attempt(user_sysenter_offset(), 0x202), .invalid | .protection)
  }

  /// Registers the callback for SYSENTER; address 0 for none, because it can't be unregistered.
  static func callback(_ address: UInt64) {
    var callback = XenCallback(type: 5, flags: 1, padding: 0, address: address)
    let result = withUnsafeMutablePointer(to: &callback) {
      xen_hypercall(xenCallbackOperation, 0, UInt64(UInt(bitPattern: $0)), 0, 0)
    }
    Attack.judge("the callback for SYSENTER can be changed", result == 0)
  }

  /// Each right of key 0 denied, and of others: an invalid instruction where there are no keys, a page fault that names them,
  /// or, of a host that can't tell it, general protection.
  static func keys() {
    for denied in [0, 1, 2, 3, 0x5555_5554, 0x5555_5555, 0xffff_ffff] as InlineNumbers {
      let result = attempt(user_keys_offset(), denied, UserProcess.dataStart)
      if denied & 3 == 0 {
        judge("keys that deny nothing of the user's", result, .invalid | .call)
      } else {
        judge("keys that deny all", result, .invalid | .protection | .page)
        Attack.judge("and the fault says so", result.vector != 14 || result.errorCode & 0x21 == 0x21)
      }
    }
  }

  static func state() {
    for offset in 0..<512 as Range<UInt64> { xen_store64(UserProcess.dataStart &+ offset &* 8, 0) }
    judge("XRSTOR of all components", attempt(user_restore_offset(), 0, UserProcess.dataStart), .invalid | .call)
    // With PKRU as it denies all, where there is one.
    xen_store64(UserProcess.dataStart &+ 512, 1 << 9)
    for offset in 72..<512 as Range<UInt64> { xen_store64(UserProcess.dataStart &+ offset &* 8, 0xffff_ffff) }
    let result = attempt(user_restore_offset(), 0, UserProcess.dataStart)
    judge("XRSTOR of keys", result, .invalid | .protection | .page | .call)
    judge("a pending x87 exception", attempt(user_x87_offset()), .call)
    judge("its delivery", goOn(), .x87)
    judge("vector exceptions that are not masked", attempt(user_simd_offset()), .call)
    judge("their delivery", goOn(), .simd | .invalid)
    judge("AMX", attempt(user_amx_offset(), 0, UserProcess.dataStart), .invalid | .protection | .call)
    judge("shadow stacks", attempt(user_shadow_offset()), .invalid | .call)
    for base in [0, 0x1234, 0x7fff_ffff_ffff, 0xffff_8000_0000_0000, 1 << 63] as InlineNumbers {
      judge("segment bases", attempt(user_bases_offset(), base), .invalid | .protection)
    }
    judge("SGDT, SMSW, STR", attempt(user_status_offset()), .call | .protection)
  }

  static func transfers() {
    for selector in [0, 3, 7, 0x0f, 0x10, 0x2b, 0xe02b, 0xffff] as InlineNumbers {
      for way in 0..<2 as Range<UInt64> {
        judge("a far return", attempt(user_far_offset(), selector, way), .protection | .page | .segment)
      }
    }
    // Behind it is UD2, for QEMU's processors, on which nothing comes of INT1.
    judge("INT1", attempt(user_int1_offset()), .debug | .invalid)
    for flags in [0x202, 0x4_0202, 0x4202, 0x602, 0x4_4602] as InlineNumbers {
      judge("flags at a trap", attempt(user_trap_offset(), UserProcess.stackEnd &- 8, flags), .invalid)
    }
    judge("a single step", attempt(user_trap_offset(), UserProcess.stackEnd &- 8, 0x302), .debug)
  }

  /// The frames of its own thread, the alternate stack, a false stop, signals blocked.
  static func frames() {
    let area = Stub.frames &+ Stub.areaSize
    for offset in [0, 0x100, 0x108, 0x800, 0x4000, 0x7ff8, 0x8000] as InlineNumbers {
      judge("RSP in the alternate stack", attempt(user_trap_offset(), area &+ offset, 0x202), .invalid)
    }
    judge("RSP at no address", attempt(user_trap_offset(), 1 << 63, 0x202), .invalid | .protection)
    for offset in stride(from: 8 as UInt64, to: 0x58, by: 8) {
      for value in [0, 1 << 63, .max] as InlineNumbers {
        judge("what the frames say", attempt(user_store_offset(), area &+ offset, value), .invalid | .protection)
      }
    }
    // The handler's end: MOV $1, EAX; XCHG EAX, (RBX).
    for offset in 0x100..<4080 as Range<UInt64> {
      let place = Stub.code &+ offset
      guard xen_load32(place) == 0x1b8, xen_load32(place &+ 3) == 0x0387_0000 else { continue }
      for value in [1 << 63, 0x1234] as InlineNumbers {
        _ = attempt(user_store_offset(), area &+ 0x28, value)
        for _ in 0..<4 {
          let result = attempt(user_stop_offset(), place, area)
          Attack.judge("a false stop is an exception", result.vector < 32 || result.vector == trapVectorSystemCall)
        }
      }
    }
    touchFrame()
    forge(Platform.windowStart &+ user_trap_offset())
    judge("a trap with all signals blocked", sigreturn(), .protection)
    judge("and the next one is as ever", attempt(user_trap_offset(), UserProcess.stackEnd &- 8, 0x202), .invalid)
    // No frame at all, and one whose vector registers can't be loaded.
    for frame in [0, UserProcess.stackEnd &- 8, Stub.code, 1 << 63] as InlineNumbers {
      let result = attempt(user_sigreturn_offset(), Attack.sigreturnAddress(), frame)
      Attack.judge("a frame that is none", result.vector < 32)
    }
  }

  /// The host's kernel reads the frame, and brings in no page of the guest's.
  static func touchFrame() { _ = attempt(user_store_offset(), UserProcess.dataStart, 0) }

  static func sigreturn() -> Result {
    attempt(user_sigreturn_offset(), Attack.sigreturnAddress(), UserProcess.dataStart &+ 64)
  }

  static func forge(_ rip: UInt64) {
    for offset in 0..<512 as Range<UInt64> { xen_store64(UserProcess.dataStart &+ offset &* 8, 0) }
    Attack.writeFrame(at: UserProcess.dataStart &+ 64, rip: rip, rsp: UserProcess.stackEnd)
  }

  /// User code that blocks all signals and keeps the processor: the kernel's timer still comes.
  static func spin() {
    touchFrame()
    forge(Platform.windowStart &+ user_spin_offset())
    Platform.startTimer(frequency: 10)
    var result = sigreturn()
    // Upcalls from before.
    while result.vector == trapVectorTimer, result.rip != Platform.windowStart &+ user_spin_offset() { result = goOn() }
    judge("user code that can't be interrupted is ended", result, .protection)
    Platform.stopTimer()
    judge("and its processor goes on", attempt(user_trap_offset(), UserProcess.stackEnd &- 8, 0x202), .invalid)
  }
}
