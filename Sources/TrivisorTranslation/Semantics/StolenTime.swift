// What a processor tells in guest memory of the host's time: for how long it wanted to run and could not, and that it sleeps.
// So the guest's scheduler knows whom not to wait for, and its TLB shoot-downs leave sleeping processors alone: they ask for
// the flush by a bit here, which is looked at before the processor runs on.
//
// Source: Linux, Documentation/virt/kvm/x86/msr.rst (MSR_KVM_STEAL_TIME) and arch/x86/include/uapi/asm/kvm_para.h.

import Synchronization
import TrivisorCWorldSwitch
import TrivisorX86

/// The structure that `MSR.kvmStealTime` has switched on.
struct StolenTime<Context: SystemContext> {
  let context: Context

  /// Bytes of `struct kvm_steal_time`, to which it is aligned.
  private static var size: UInt64 { 64 }
  private static var versionOffset: Int { 8 }
  private static var preemptedOffset: Int { 16 }
  /// KVM_VCPU_PREEMPTED, KVM_VCPU_FLUSH_TLB.
  private static var preempted: UInt8 { 1 }
  private static var mustFlush: UInt8 { 2 }
  /// KVM_MSR_ENABLED, and the bits that must be 0.
  private static var isEnabled: UInt64 { 1 }
  private static var reserved: UInt64 { 0x3e }

  /// Whether the register can be written so.
  static func isPossible(_ value: UInt64) -> Bool { value & reserved == 0 }

  private var place: UnsafeMutableRawPointer? {
    let value = context.modelSpecific(MSR.kvmStealTime)
    guard value & Self.isEnabled != 0 else { return nil }
    return context.ram(at: value & ~(Self.size - 1), count: Int(Self.size))
  }

  /// - Parameter nanoseconds: for which the processor could not run, since the last time.
  func add(_ nanoseconds: UInt64) {
    guard let place else { return }
    let version = place.load(fromByteOffset: Self.versionOffset, as: UInt32.self) & ~1
    // An odd version says that the rest is not complete.
    place.storeBytes(of: version &+ 1, toByteOffset: Self.versionOffset, as: UInt32.self)
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    place.storeBytes(of: place.load(as: UInt64.self) &+ nanoseconds, as: UInt64.self)
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    place.storeBytes(of: version &+ 2, toByteOffset: Self.versionOffset, as: UInt32.self)
    context.didStore(to: place, count: Int(Self.size))
  }

  /// The processor is about to sleep.
  func fallAsleep() {
    guard let place else { return }
    place.storeBytes(of: Self.preempted, toByteOffset: Self.preemptedOffset, as: UInt8.self)
    context.didStore(to: place + Self.preemptedOffset, count: 1)
  }

  /// It has slept.
  func wakeUp() {
    guard let place else { return }
    let byte = (place + Self.preemptedOffset).assumingMemoryBound(to: UInt8.self)
    let told = cws_exchange8(byte, 0)
    context.didStore(to: byte, count: 1)
    if told & Self.mustFlush != 0 { context.invalidate(.all) }
  }
}
