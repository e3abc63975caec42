// The paravirtual clock that kernels know as kvm-clock: a structure in guest memory from which the guest computes the time
// out of its time stamp counter, without leaving its code.
//
// Source: Linux, Documentation/virt/kvm/x86/msr.rst and arch/x86/include/asm/pvclock-abi.h.

import Devices
import Glibc
import VMM

/// MSRs of the clock.
enum ClockRegister {
  /// Where the wall-clock time is to be put, once.
  static let wallClock: UInt32 = 0x4b56_4d00
  /// Where the system time is kept; bit 0 enables it.
  static let systemTime: UInt32 = 0x4b56_4d01

  /// CPUID leaf with the name of what the guest runs on.
  static let signatureLeaf: UInt32 = 0x4000_0000
  /// CPUID leaves 0x4000_0000 and 0x4000_0001: KVM's signature, the clock's newer MSRs (bit 3), one time base for all
  /// processors (24), and nothing else.
  static let leaves = [
    CPUIDLeaf(signatureLeaf, eax: 0x4000_0001, ebx: 0x4b4d_564b, ecx: 0x564b_4d56, edx: 0x4d),
    CPUIDLeaf(0x4000_0001, eax: 0x0100_0008),
  ]
}

/// The clock's flags, in the byte at `offset` of its structure.
private enum ClockFlag {
  static let offset: UInt64 = 29
  /// PVCLOCK_TSC_STABLE_BIT: all processors read the same time.
  static let stable: UInt8 = 1
  /// PVCLOCK_GUEST_STOPPED.
  static let guestStopped: UInt8 = 2
}

/// From ticks to nanoseconds: shift left (or, if negative, right), then multiply by a 32-bit fraction.
struct ClockScale: Equatable {
  let multiplier: UInt32
  let shift: Int8

  init(frequency: UInt64) {
    // The fraction 1e9 / frequency, brought into one half to one.
    var numerator: UInt64 = 1_000_000_000
    var denominator = min(max(frequency, 1000), 1 << 40)
    var shift: Int8 = 0
    while numerator >= denominator {
      denominator <<= 1
      shift += 1
    }
    while numerator * 2 < denominator {
      numerator <<= 1
      shift -= 1
    }
    multiplier = UInt32(truncatingIfNeeded: denominator.dividingFullWidth((numerator >> 32, numerator << 32)).quotient)
    self.shift = shift
  }
}

extension RewritingProcessor {
  func writeClockRegister(_ index: UInt32, _ value: UInt64) {
    modelSpecific[index] = value
    if index == ClockRegister.wallClock { storeWallClock(at: value) } else { storeSystemTime() }
  }

  /// Since the machine was made.
  private var systemTime: UInt64 { partition.clock.nanoseconds &- partition.startTime }

  private func storeWallClock(at address: UInt64) {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    let began = UInt64(now.tv_sec) &* 1_000_000_000 &+ UInt64(now.tv_nsec) &- systemTime
    // An even version says that the rest is complete.
    let fields: [UInt32] = [
      2, UInt32(truncatingIfNeeded: began / 1_000_000_000), UInt32(truncatingIfNeeded: began % 1_000_000_000),
    ]
    storeClock(fields, at: address & ~3)
  }

  /// Also when the time stamp counter was set.
  func storeSystemTime() {
    guard let value = modelSpecific[ClockRegister.systemTime], value & 1 != 0 else { return }
    clockVersion &+= 2
    let scale = ClockScale(frequency: partition.clock.timestampFrequency)
    let (stamp, time) = (timestamp, systemTime)
    // What the guest has not taken back yet stays.
    let flags = ClockFlag.stable | (clockFlags(at: value & ~3) ?? 0) & ClockFlag.guestStopped
    let fields: [UInt32] = [
      clockVersion, 0, UInt32(truncatingIfNeeded: stamp), UInt32(truncatingIfNeeded: stamp >> 32),
      UInt32(truncatingIfNeeded: time), UInt32(truncatingIfNeeded: time >> 32), scale.multiplier,
      UInt32(UInt8(bitPattern: scale.shift)) | UInt32(flags) << 8,
    ]
    storeClock(fields, at: value & ~3)
  }

  /// Tells the guest that it was stopped (PVCLOCK_GUEST_STOPPED): its watchdogs then begin anew. The guest takes the flag back.
  func tellOfLostTime() {
    guard let value = modelSpecific[ClockRegister.systemTime], value & 1 != 0 else { return }
    clockVersion &+= 2
    let address = value & ~3
    guard let flags = clockFlags(at: address) else { return }
    storeClock([clockVersion], at: address)
    var told = flags | ClockFlag.guestStopped
    _ = withUnsafeBytes(of: &told) { bytes in
      bytes.baseAddress.map { writePhysical(address &+ ClockFlag.offset, from: $0, count: 1) }
    }
  }

  private func clockFlags(at address: UInt64) -> UInt8? {
    mmu.host(address &+ ClockFlag.offset, count: 1)?.load(as: UInt8.self)
  }

  /// Only into RAM: elsewhere nothing would read it.
  private func storeClock(_ fields: [UInt32], at address: UInt64) {
    fields.withUnsafeBytes { bytes in
      guard let source = bytes.baseAddress, mmu.host(address, count: UInt64(bytes.count)) != nil else { return }
      _ = writePhysical(address, from: source, count: bytes.count)
    }
  }
}
