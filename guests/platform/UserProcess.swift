import CPlatform

/// A process: an address space with the kernel's user program in it, and the registers to go on with.
///
///     windowStart             code and constants, read-only, shared with the other processes
///     windowStart + 1 MiB     data, zero at first
///     windowStart + 16 MiB    the end of the stack
struct UserProcess {
  let space: Platform.AddressSpace

  /// All registers; in a page of its own, so that it is aligned and stays where it is.
  let frame: UnsafeMutablePointer<TrapFrame>

  static var dataStart: UInt64 { Platform.windowStart &+ 1 << 20 }
  static var stackEnd: UInt64 { Platform.windowStart &+ 16 << 20 }

  /// Nil if there is no memory for it.
  init?(
    argument: UInt64, dataPages: UInt64, stackPages: UInt64, interruptible: Bool = false,
    systemCalls: SystemCallInstruction = .interrupt
  ) {
    guard let space = Platform.makeAddressSpace(), let page = Platform.allocateFrame(), let start = page.bytes else {
      return nil
    }
    self.space = space
    frame = start.assumingMemoryBound(to: TrapFrame.self)
    frame.pointee.rip = Platform.windowStart
    frame.pointee.cs = Platform.userCodeSelector
    frame.pointee.rflags = interruptible ? 0x202 : 0x2
    frame.pointee.ss = Platform.userDataSelector
    frame.pointee.rsp = Self.stackEnd
    frame.pointee.rdi = argument
    frame.pointee.rsi = systemCalls == .syscall ? 1 : 0
    var address = Platform.windowStart
    var source = userProgramStart()
    while source < userProgramEnd() {
      guard Platform.map(address, to: PageFrame(address: source), .readOnly, in: space) else { return nil }
      address &+= 4096
      source &+= 4096
    }
    guard mapZeros(from: Self.dataStart, count: dataPages),
      mapZeros(from: Self.stackEnd &- stackPages &* 4096, count: stackPages)
    else { return nil }
  }

  /// Maps `count` new pages of zeros, readable and writable.
  func mapZeros(from start: UInt64, count: UInt64) -> Bool {
    var address = start
    while address < start &+ count &* 4096 {
      guard let page = Platform.allocateFrame(), Platform.map(address, to: page, .readWrite, in: space) else {
        return false
      }
      address &+= 4096
    }
    return true
  }

  /// Runs the process until it traps.
  func run() -> UserEvent {
    Platform.activate(space)
    Platform.enterUser(frame)
    switch frame.pointee.vector {
    case trapVectorSystemCall:
      return .systemCall(number: frame.pointee.rax, frame.pointee.rdi, frame.pointee.rsi)
    case trapVectorTimer:
      return .timer
    case trapVectorPageFault:
      return .pageFault(address: Platform.faultAddress, errorCode: frame.pointee.errorCode)
    default:
      return .exception(vector: frame.pointee.vector)
    }
  }
}

/// Why user code came back to the kernel.
enum UserEvent {
  /// The number and two arguments; what the process shall see as result goes to the frame's RAX.
  case systemCall(number: UInt64, UInt64, UInt64)
  case timer
  case pageFault(address: UInt64, errorCode: UInt64)
  case exception(vector: UInt64)
}

/// How user code calls the kernel.
///
/// SYSCALL is what operating systems use. The default is the software interrupt 4, because it works even where kernel
/// code is emulated: there SYSCALL was seen to reach the kernel's entry in user mode, and INT with most other vectors
/// to end as an invalid opcode. Nothing else raises vector 4 in 64-bit mode.
enum SystemCallInstruction {
  case interrupt, syscall
}
