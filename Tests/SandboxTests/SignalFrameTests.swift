import Glibc
import Testing
import TrivisorX86

@testable import TrivisorSandbox

/// What a signal frame means, by frames as the kernel makes them; so also for processors that this host doesn't have.
@Suite
struct SignalFrameTests {
  private static let kernel: Int32 = 0x80  // SI_KERNEL

  private func frame(_ signal: Int32, _ code: Int32, vector: UInt64 = 0, errorCode: UInt64 = 0) -> SignalFrame {
    SignalFrame(
      signal: signal, code: code, address: 0x1234_5000, vector: vector, errorCode: errorCode, rip: 0x40_0000, cs: 0x33)
  }

  @Test("a page fault that a protection key made says so, and no other does")
  func protectionKeys() {
    let present = UInt64(PageFaultError([.present, .user]).rawValue)
    let key = UInt64(PageFaultError.protectionKey.rawValue)
    #expect(
      frame(SIGSEGV, 4, vector: 14, errorCode: present | key).trap
        == .exception(vector: 14, errorCode: present | key, address: 0x1234_5000))
    #expect(
      frame(SIGSEGV, 2, vector: 14, errorCode: present | key).trap
        == .exception(vector: 14, errorCode: present, address: 0x1234_5000))
    #expect(
      frame(SIGSEGV, 1, vector: 14, errorCode: 6).trap == .exception(vector: 14, errorCode: 6, address: 0x1234_5000))
  }

  /// rt_sigreturn of a bad frame, AMX without leave, a bus lock: the trap number is an earlier event's.
  @Test("a signal that comes without a trap number is not the last trap again")
  func staleNumbers() {
    #expect(
      frame(SIGSEGV, Self.kernel, vector: 14, errorCode: 7).trap == .exception(vector: 13, errorCode: 0, address: 0))
    #expect(frame(SIGILL, 2, vector: 14, errorCode: 7).trap == .exception(vector: 6, errorCode: 0, address: 0))
    #expect(frame(SIGBUS, 1, vector: 14, errorCode: 7).trap == .exception(vector: 17, errorCode: 0, address: 0))
    #expect(frame(SIGTRAP, 1, vector: 13, errorCode: 7).trap == .exception(vector: 1, errorCode: 0, address: 0))
    #expect(frame(SIGFPE, 3, vector: 14, errorCode: 7).trap == .exception(vector: 16, errorCode: 0, address: 0))
    #expect(frame(SIGUSR1, 0, vector: 14, errorCode: 7).trap == .interrupted)
    // A forged number is no vector.
    #expect(frame(SIGSEGV, Self.kernel, vector: .max).trap == .exception(vector: 13, errorCode: 0, address: 0))
  }

  @Test(
    "exceptions that come with their number",
    arguments: [
      (SIGSEGV, 13, 0x402), (SIGSEGV, 4, 0), (SIGSEGV, 5, 0), (SIGSEGV, 10, 0x18), (SIGBUS, 11, 0x18), (SIGBUS, 12, 0),
      (SIGFPE, 0, 0), (SIGFPE, 16, 0), (SIGFPE, 19, 0), (SIGTRAP, 1, 0), (SIGTRAP, 3, 0), (SIGILL, 6, 0),
    ] as [(Int32, UInt64, UInt64)])
  func told(signal: Int32, vector: UInt64, errorCode: UInt64) {
    #expect(
      frame(signal, Self.kernel, vector: vector, errorCode: errorCode).trap
        == .exception(vector: UInt8(vector), errorCode: errorCode, address: 0))
  }

  @Test("shadow stacks and bounds have exceptions of their own; memory that the host has lost is none of the guest's")
  func others() {
    #expect(frame(SIGSEGV, 10, vector: 21, errorCode: 2).trap == .exception(vector: 21, errorCode: 2, address: 0))
    #expect(frame(SIGSEGV, 3, vector: 5).trap == .exception(vector: 5, errorCode: 0, address: 0))
    #expect(frame(SIGBUS, 2, vector: 14, errorCode: 6).trap == .memoryFailure(address: 0x1234_5000))
    #expect(frame(SIGBUS, 4, vector: 14, errorCode: 6).trap == .memoryFailure(address: 0x1234_5000))
  }

  /// The kernel's way back from SYSENTER leads to the vDSO, by a signal of the filter or, when it can't read the stack,
  /// by a fault there.
  @Test("an address of the vDSO's in 32-bit code is a system call that lost its place")
  func lostPlace() {
    for signal in [SIGSYS, SIGSEGV, SIGILL, SIGTRAP] {
      var lost = frame(signal, 1, vector: 14, errorCode: 0x15)
      (lost.rip, lost.cs, lost.architecture) = (0x7fff_f7fc_1579, 0x23, 0x4000_0003)
      #expect(lost.trap == .lostSystemCall)
    }
    // INT 80h, and 64-bit code that jumps there itself.
    var call = frame(SIGSYS, 1)
    (call.architecture, call.rip) = (0x4000_0003, 0x40_0002)
    #expect(call.trap == .foreignSystemCall(architecture: 0x4000_0003))
    var jump = frame(SIGSEGV, 1, vector: 14, errorCode: 0x14)
    jump.rip = 0x7fff_f7fc_1579
    #expect(jump.trap == .exception(vector: 14, errorCode: 0x14, address: 0x1234_5000))
  }

  /// The processor fetches from the lower half of that address, and the kernel has put EFAULT into RAX.
  @Test("a fetch from the landing pad's lower half is one, too, where the kernel could not read the stack")
  func lostPlaceWithoutStack() {
    var lost = frame(SIGSEGV, 1, vector: 14, errorCode: 0x14)
    (lost.rip, lost.cs, lost.rax, lost.landingPad) = (0xf7fc_1579, 0x23, UInt64(bitPattern: -14), 0xf7fc_1579)
    #expect(lost.trap == .lostSystemCall)
    #expect(lost.foundLandingPad == 0xf7fc_1579)
    let fault = SandboxTrap.exception(vector: 14, errorCode: 0x14, address: 0x1234_5000)
    // Code of the guest's that was there, on hosts with such a place and without; another place.
    var other = lost
    other.rax = 0xffff_fff2
    #expect(other.trap == fault)
    other = lost
    other.landingPad = nil
    #expect(other.trap == fault)
    other = lost
    other.rip += 1
    #expect(other.trap == fault)
    // The first stop where SYSENTER is no instruction.
    #expect(frame(SIGILL, 2, vector: 6).foundLandingPad == nil)
  }

  @Test("what the host's kernel moves and loses of the registers")
  func registers() {
    var registers = UserRegisters()
    (registers.rip, registers.rsp, registers.rbp, registers.rcx) = (0x7fff_f7fc_1579, 0x1111, 0x2222, 0x3333)
    registers.rax = 0xffff_fff2
    var bySYSENTER = registers
    bySYSENTER.forgetWhatIsLost(bySYSENTER: true)
    #expect((bySYSENTER.rip, bySYSENTER.rsp, bySYSENTER.rbp, bySYSENTER.rcx) == (0, 0, 0x1111, 0x3333))
    #expect(bySYSENTER.rax == 0xffff_fff2)
    // With EFAULT for a stack that could not be read.
    bySYSENTER.rax = UInt64(bitPattern: -14)
    bySYSENTER.forgetWhatIsLost(bySYSENTER: true)
    #expect(bySYSENTER.rax == 0)
    var bySYSCALL = registers
    bySYSCALL.forgetWhatIsLost(bySYSENTER: false)
    #expect((bySYSCALL.rip, bySYSCALL.rsp, bySYSCALL.rbp, bySYSCALL.rcx) == (0, 0x1111, 0x3333, 0))
  }
}

/// Vector registers in signal frames, as the kernel writes them and as guest code may forge them.
@Suite
struct ExtendedStateTests {
  private static let size = 2696 + 4

  /// An image with all components of XCR0 0x2e7: as AVX-512 and protection keys have it.
  private static func image(fill: UInt8, present: UInt64) -> UnsafeMutableRawBufferPointer {
    let image = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 64)
    image.initializeMemory(as: UInt8.self, repeating: fill)
    image.storeBytes(of: 0x1f80, toByteOffset: 24, as: UInt32.self)
    image.storeBytes(of: 0xffff, toByteOffset: 28, as: UInt32.self)
    image.storeBytes(of: 0x4650_5853, toByteOffset: 464, as: UInt32.self)
    image.storeBytes(of: UInt32(size), toByteOffset: 468, as: UInt32.self)
    image.storeBytes(of: 0x2e7, toByteOffset: 472, as: UInt64.self)
    image.storeBytes(of: UInt32(size - 4), toByteOffset: 480, as: UInt32.self)
    image.storeBytes(of: present, toByteOffset: 512, as: UInt64.self)
    for offset in stride(from: 520, to: 576, by: 8) { image.storeBytes(of: 0, toByteOffset: offset, as: UInt64.self) }
    return image
  }

  private func word(_ image: UnsafeMutableRawBufferPointer, _ offset: Int) -> UInt64 {
    image.load(fromByteOffset: offset, as: UInt64.self)
  }

  @Test("PKRU goes back to its reset value, and nothing else of the image changes")
  func keys() {
    let image = Self.image(fill: 0x55, present: 0x2e7)
    defer { image.deallocate() }
    let before = [UInt8](image)
    ExtendedState(image).resetProtectionKeys()
    #expect(word(image, 512) == 0xe7)
    image.storeBytes(of: 0x2e7, toByteOffset: 512, as: UInt64.self)
    #expect([UInt8](image) == before)
    // An image without an XSAVE header has no PKRU.
    image.storeBytes(of: 0, toByteOffset: 464, as: UInt32.self)
    ExtendedState(image).resetProtectionKeys()
    #expect(word(image, 512) == 0x2e7)
  }

  @Test("registers are taken over as they are")
  func taking() {
    let (source, target) = (Self.image(fill: 0xaa, present: 0xe7), Self.image(fill: 0x11, present: 3))
    defer {
      source.deallocate()
      target.deallocate()
    }
    ExtendedState(target).take(ExtendedState(source))
    #expect(word(target, 512) == 0xe7)
    #expect(word(target, 160) == 0xaaaa_aaaa_aaaa_aaaa)
    #expect(word(target, 576) == 0xaaaa_aaaa_aaaa_aaaa)
    #expect(target[Self.size - 1] == 0x11, "the kernel's second mark")
  }

  @Test("a forged image gives nothing that can't be loaded")
  func forged() {
    let (source, target) = (Self.image(fill: 0xff, present: .max), Self.image(fill: 0x11, present: 3))
    defer {
      source.deallocate()
      target.deallocate()
    }
    source.storeBytes(of: .max, toByteOffset: 24, as: UInt32.self)
    source.storeBytes(of: .max, toByteOffset: 520, as: UInt64.self)
    let kernels = [UInt8](target[464..<512])
    ExtendedState(target).take(ExtendedState(source))
    #expect(word(target, 512) == 0xe7, "what the host has, without keys")
    #expect(target.load(fromByteOffset: 24, as: UInt32.self) == 0xffff)
    #expect(target.load(fromByteOffset: 28, as: UInt32.self) == 0xffff)
    #expect([UInt8](target[464..<512]) == kernels)
    for offset in stride(from: 520, to: 576, by: 8) { #expect(word(target, offset) == 0) }
    // One that claims another size gives only what all images have.
    source.storeBytes(of: 600, toByteOffset: 480, as: UInt32.self)
    ExtendedState(target).take(ExtendedState(source))
    #expect(word(target, 512) == 3)
    source.storeBytes(of: UInt32.max, toByteOffset: 480, as: UInt32.self)
    ExtendedState(target).take(ExtendedState(source))
    #expect(word(target, 512) == 3)
  }
}
