// The calls that a guest may make of KVM, whose signature its CPUID shows, by VMMCALL or VMCALL: the number in RAX, arguments in
// RBX, RCX, RDX and RSI, the result in RAX. Outside of 64-bit mode all of them have 32 bits.
//
// Source: Linux, Documentation/virt/kvm/x86/hypercalls.rst, include/uapi/linux/kvm_para.h, arch/x86/include/uapi/asm/kvm_para.h.

import Glibc
import TrivisorInstructionSet
import TrivisorVMM

/// Numbers and results of the calls.
enum Hypercall {
  /// KVM_HC_VAPIC_POLL_IRQ: only to let the monitor look at interrupts.
  static let pollInterrupts: UInt64 = 1
  /// KVM_HC_KICK_CPU: wakes a processor that has halted, whatever it waits for.
  static let kickProcessor: UInt64 = 5
  /// KVM_HC_CLOCK_PAIRING: the wall clock and the time stamp counter at one moment.
  static let clockPairing: UInt64 = 9
  /// KVM_HC_SEND_IPI: one interrupt command for many processors.
  static let sendInterrupts: UInt64 = 10

  /// KVM_CLOCK_PAIRING_WALLCLOCK.
  static let wallClock: UInt64 = 0
  /// Bytes of `struct kvm_clock_pairing`.
  static let clockPairingSize = 64

  /// -KVM_EPERM, -KVM_EFAULT, -KVM_EINVAL, -KVM_EOPNOTSUPP, -KVM_ENOSYS.
  static let notPermitted: Int64 = -1, fault: Int64 = -14, invalid: Int64 = -22, notSupported: Int64 = -95,
    unknown: Int64 = -1000
}

/// VMMCALL and VMCALL.
struct MonitorCall<Context: SystemContext> {
  let context: Context

  func execute() {
    let size = context.is64 ? 8 : 4
    let result = context.cpl == 0 ? answer(size: size) : Hypercall.notPermitted
    context.setGeneral(.rax, UInt64(bitPattern: result), size: size)
  }

  private func answer(size: Int) -> Int64 {
    switch context.general(.rax, size: size) {
    case Hypercall.pollInterrupts: 0
    case Hypercall.clockPairing:
      pairClocks(at: context.general(.rbx, size: size), type: context.general(.rcx, size: size))
    case Hypercall.sendInterrupts: sendInterrupts(size: size)
    case Hypercall.kickProcessor where MonitorSignature.announces(.unhalt, context.identification):
      kickProcessor(size: size)
    default: Hypercall.unknown
    }
  }

  /// RBX and RCX are a bitmap of APIC IDs, of which RDX is the first; RSI is the interrupt command register.
  private func sendInterrupts(size: Int) -> Int64 {
    let (low, high) = (context.general(.rbx, size: size), context.general(.rcx, size: size))
    let set = size == 8 ? [low, high] : [high << 32 | low]
    let first = UInt32(truncatingIfNeeded: context.general(.rdx, size: size))
    let command = UInt32(truncatingIfNeeded: context.general(.rsi, size: size))
    return context.sendInterrupts(command, to: set, first: first).map { Int64($0) } ?? Hypercall.invalid
  }

  /// RCX is its APIC ID.
  private func kickProcessor(size: Int) -> Int64 {
    context.kickProcessor(UInt32(truncatingIfNeeded: context.general(.rcx, size: size)))
    return 0
  }

  private func pairClocks(at address: UInt64, type: UInt64) -> Int64 {
    guard type == Hypercall.wallClock else { return Hypercall.notSupported }
    var now = timespec()
    let before = context.timestamp
    clock_gettime(CLOCK_REALTIME, &now)
    let stamp = before &+ (context.timestamp &- before) / 2
    guard let place = context.ram(at: address, count: Hypercall.clockPairingSize) else { return Hypercall.fault }
    // Seconds, nanoseconds, the counter; flags and the rest are 0.
    place.initializeMemory(as: UInt8.self, repeating: 0, count: Hypercall.clockPairingSize)
    place.storeBytes(of: Int64(now.tv_sec), as: Int64.self)
    place.storeBytes(of: Int64(now.tv_nsec), toByteOffset: 8, as: Int64.self)
    place.storeBytes(of: stamp, toByteOffset: 16, as: UInt64.self)
    context.didStore(to: place, count: Hypercall.clockPairingSize)
    return 0
  }
}
