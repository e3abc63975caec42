// Traps, user mode and the timer with the processor's own tables. The stubs are in traps.S.

import CNative
import CPlatform

extension Platform: TrapPlatform {
  nonisolated(unsafe) static var trapHandler: TrapHandler?

  static func enterUser(_ frame: UnsafeMutablePointer<TrapFrame>) {
    if !systemCallsEnabled {
      // SYSCALL goes to selectors 0x08 and 0x10, with interrupts and single steps off and the direction flag clear.
      native_wrmsr(MSR.star, 0x0018_0008_0000_0000)
      native_wrmsr(MSR.lstar, native_system_call_address())
      native_wrmsr(MSR.sfmask, 0x4_7700)
      systemCallsEnabled = true
    }
    native_enter_user(frame)
    if frame.pointee.vector == trapVectorTimer { Timer8254.acknowledge() }
    if frame.pointee.vector == trapVectorOverflow { frame.pointee.vector = trapVectorSystemCall }
  }

  nonisolated(unsafe) private static var systemCallsEnabled = false

  static var userCodeSelector: UInt64 { 0x2b }
  static var userDataSelector: UInt64 { 0x23 }

  static var faultAddress: UInt64 { native_read_cr2() }

  static func forgetTraps() { native_load_empty_idt() }

  static func disableInterrupts() { native_cli() }

  static func startTimer(frequency: UInt32) { Timer8254.start(frequency: frequency) }

  static func stopTimer() { Timer8254.stop() }

  static func call(onStack top: UInt64, _ function: @convention(c) () -> Void) {
    native_call_on_stack(top, function)
  }
}

enum MSR {
  static let apicBase: UInt32 = 0x1b
  static let star: UInt32 = 0xc000_0081
  static let lstar: UInt32 = 0xc000_0082
  static let sfmask: UInt32 = 0xc000_0084
}

/// Called by the stubs for every trap that interrupted the kernel itself.
@c(native_kernel_trap)
func kernelTrap(_ frame: UnsafeMutablePointer<TrapFrame>) {
  if frame.pointee.vector == trapVectorTimer { Timer8254.acknowledge() }
  if let handler = Platform.trapHandler {
    handler(frame)
  } else {
    Platform.report(frame)
    Platform.exit(1)
  }
}
