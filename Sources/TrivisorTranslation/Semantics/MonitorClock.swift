// The paravirtual clock that kernels know as kvm-clock: a structure in guest memory from which the guest computes the time
// out of its time stamp counter, without leaving its code.
//
// Source: Linux, Documentation/virt/kvm/x86/msr.rst and arch/x86/include/asm/pvclock-abi.h.

import Glibc
import Synchronization
import TrivisorVMM
import TrivisorX86

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

/// The clock that `MSR.kvmWallClock` and `MSR.kvmSystemTime` have switched on.
struct MonitorClock<Context: SystemContext> {
  let context: Context

  /// Where the system time goes, if the guest wants it: bit 0 of the register enables it.
  private var place: UInt64? {
    let value = context.modelSpecific(MSR.kvmSystemTime)
    return value & 1 != 0 ? value & ~3 : nil
  }

  func storeWallClock(at address: UInt64) {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    let began = UInt64(now.tv_sec) &* 1_000_000_000 &+ UInt64(now.tv_nsec) &- context.systemTime
    // An even version says that the rest is complete.
    let fields: InlineArray<3, UInt32> = [
      2, UInt32(truncatingIfNeeded: began / 1_000_000_000), UInt32(truncatingIfNeeded: began % 1_000_000_000),
    ]
    store(fields, at: address & ~3)
  }

  /// Also when the time stamp counter was set.
  func storeSystemTime() {
    guard let place else { return }
    let scale = ClockScale(frequency: context.timestampFrequency)
    let (stamp, time) = context.clockPair
    // What the guest has not taken back yet stays.
    let flags = ClockFlag.stable | (flags(at: place)?.load(as: UInt8.self) ?? 0) & ClockFlag.guestStopped
    let fields: InlineArray<8, UInt32> = [
      beginUpdate(), 0, UInt32(truncatingIfNeeded: stamp), UInt32(truncatingIfNeeded: stamp >> 32),
      UInt32(truncatingIfNeeded: time), UInt32(truncatingIfNeeded: time >> 32), scale.multiplier,
      UInt32(UInt8(bitPattern: scale.shift)) | UInt32(flags) << 8,
    ]
    store(fields, at: place)
    endUpdate(at: place)
  }

  /// Another processor may read the clock meanwhile: an odd version says that the rest is not complete.
  private func beginUpdate() -> UInt32 { context.clockVersion &+ 1 }

  private func endUpdate(at place: UInt64) {
    context.clockVersion &+= 2
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    store([context.clockVersion] as InlineArray<1, UInt32>, at: place)
  }

  /// Tells the guest that it was stopped (PVCLOCK_GUEST_STOPPED): its watchdogs then begin anew. The guest takes the flag back.
  func tellOfLostTime() {
    guard let place else { return }
    guard let flags = flags(at: place) else { return }
    store([beginUpdate()] as InlineArray<1, UInt32>, at: place)
    flags.storeBytes(of: flags.load(as: UInt8.self) | ClockFlag.guestStopped, as: UInt8.self)
    context.didStore(to: flags, count: 1)
    endUpdate(at: place)
  }

  /// The guest's clock goes on from the time stamp counter and the system time at hand, with this host's frequency. What
  /// the guest has of it counts on: versions never come twice.
  func resume() {
    guard let place, let version = context.ram(at: place, count: 4) else { return }
    context.clockVersion = version.loadUnaligned(as: UInt32.self) & ~1
    storeSystemTime()
  }

  private func flags(at place: UInt64) -> UnsafeMutableRawPointer? {
    context.ram(at: place &+ ClockFlag.offset, count: 1)
  }

  /// Only into RAM: elsewhere nothing would read it.
  private func store<let count: Int>(_ fields: InlineArray<count, UInt32>, at address: UInt64) {
    guard let place = context.ram(at: address, count: 4 * count) else { return }
    for index in 0..<count {
      if index == 1 { atomicMemoryFence(ordering: .sequentiallyConsistent) }
      place.storeBytes(of: fields[index], toByteOffset: 4 * index, as: UInt32.self)
    }
    context.didStore(to: place, count: 4 * count)
  }
}
