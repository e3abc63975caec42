/// `ucontext_t` of x86-64 (Linux, arch/x86/include/uapi/asm/{ucontext,sigcontext}.h), offsets in bytes.
enum SignalContext {
  static let stack = 16
  static let stackFlags = 24
  static let stackSize = 32
  static let general = 40
  static let rax = 144
  static let rip = 168
  static let rflags = 176
  static let selectors = 184
  static let errorCode = 192
  static let vector = 200
  static let extendedState = 224
  static let signalMask = 296
  static let size = 304
}
