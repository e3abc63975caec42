// The calls that a guest may make of KVM, whose signature its CPUID shows, by VMMCALL or VMCALL: the number in RAX, arguments in
// RBX, RCX, RDX and RSI, the result in RAX. Outside of 64-bit mode all of them have 32 bits.
//
// Source: Linux, Documentation/virt/kvm/x86/hypercalls.rst, include/uapi/linux/kvm_para.h, arch/x86/include/uapi/asm/kvm_para.h.

import CWorldSwitch
import Glibc
import InstructionSet
import VMM

/// Numbers and results of the calls.
enum Hypercall {
  /// KVM_HC_VAPIC_POLL_IRQ: only to let the monitor look at interrupts.
  static let pollInterrupts: UInt64 = 1
  /// KVM_HC_CLOCK_PAIRING: the wall clock and the time stamp counter at one moment.
  static let clockPairing: UInt64 = 9

  /// KVM_CLOCK_PAIRING_WALLCLOCK.
  static let wallClock: UInt64 = 0
  /// Bytes of `struct kvm_clock_pairing`.
  static let clockPairingSize = 64

  /// -KVM_EPERM, -KVM_EFAULT, -KVM_EOPNOTSUPP, -KVM_ENOSYS.
  static let notPermitted: Int64 = -1, fault: Int64 = -14, notSupported: Int64 = -95, unknown: Int64 = -1000
}

extension RewritingProcessor {
  /// VMMCALL, VMCALL.
  func callMonitor() {
    let size = is64 ? 8 : 4
    let result = cpl == 0 ? hypercall(size: size) : Hypercall.notPermitted
    setGeneral(.rax, UInt64(bitPattern: result), size: size)
  }

  private func hypercall(size: Int) -> Int64 {
    switch general(.rax, size: size) {
    case Hypercall.pollInterrupts: 0
    case Hypercall.clockPairing: pairClocks(at: general(.rbx, size: size), type: general(.rcx, size: size))
    default: Hypercall.unknown
    }
  }

  private func pairClocks(at address: UInt64, type: UInt64) -> Int64 {
    guard type == Hypercall.wallClock else { return Hypercall.notSupported }
    var now = timespec()
    let before = timestamp
    clock_gettime(CLOCK_REALTIME, &now)
    let stamp = before &+ (timestamp &- before) / 2
    // Seconds, nanoseconds, the counter; flags and the rest are 0.
    let fields = [UInt64(bitPattern: Int64(now.tv_sec)), UInt64(now.tv_nsec), stamp, 0, 0, 0, 0, 0]
    return fields.withUnsafeBytes { bytes in
      guard let source = bytes.baseAddress, mmu.host(address, count: UInt64(Hypercall.clockPairingSize)) != nil else {
        return Hypercall.fault
      }
      _ = writePhysical(address, from: source, count: Hypercall.clockPairingSize)
      return 0
    }
  }
}
