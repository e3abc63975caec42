// Getting a processor out of KVM_RUN from another thread.
//
// A signal alone has a race: it may come just before the ioctl and be spent. So the flag `immediate_exit` in the shared
// structure is set first (KVM looks at it on its way in and returns EINTR), then the signal is sent for the case that
// the guest runs already. The handler does nothing; being interrupted is all that is wanted.

import CKVM
import TrivisorCLinux
import Glibc
import Synchronization
import TrivisorVMM

/// Stops one processor; safe to use when the processor is gone.
final class KVMStopHandle: StopHandle {
  /// The signal that interrupts KVM_RUN; the first real-time signals belong to the C library.
  private static let signal = clinux_processor_signal()

  private struct Target: @unchecked Sendable {
    // Unchecked: KVM's shared structure; of it only the one byte `immediate_exit` is written here.
    let run: UnsafeMutablePointer<kvm_run>
    let thread: pthread_t
  }

  private let target: Mutex<Target?>
  private let requested = Atomic(false)
  /// Whether a processor that sleeps outside of KVM is to look again.
  private let isAwakened = Monitor(false)

  /// Must be made on the processor's thread.
  init(run: UnsafeMutablePointer<kvm_run>) {
    var action = sigaction()
    action.__sigaction_handler.sa_handler = { _ in }
    sigaction(Self.signal, &action, nil)
    var unblocked = sigset_t()
    sigemptyset(&unblocked)
    sigaddset(&unblocked, Self.signal)
    pthread_sigmask(SIG_UNBLOCK, &unblocked, nil)
    target = Mutex(Target(run: run, thread: pthread_self()))
  }

  func requestStop() {
    requested.store(true, ordering: .sequentiallyConsistent)
    interrupt()
  }

  /// Chips in software have something for the processor: it is to leave KVM_RUN, or to wake up. Its own thread looks by itself.
  func kick() {
    let isOwn = target.withLock { target in target.map { pthread_equal($0.thread, pthread_self()) != 0 } ?? true }
    if !isOwn { interrupt() }
  }

  private func interrupt() {
    isAwakened.with { $0 = true }
    target.withLock { target in
      guard let target else { return }
      target.run.pointee.immediate_exit = 1
      pthread_kill(target.thread, Self.signal)
    }
  }

  /// On the processor's thread, after an interrupted KVM_RUN: whether it was asked to stop. The next run may then go on.
  func takeRequest() -> Bool {
    // In this order: a request that comes in between leaves the flag up and only costs one empty KVM_RUN.
    target.withLock { $0?.run.pointee.immediate_exit = 0 }
    return requested.exchange(false, ordering: .sequentiallyConsistent)
  }

  /// On the processor's thread: sleeps until `requestStop` or `kick`, which stay in force, or until `deadline` on the monotonic
  /// clock.
  func sleep(until deadline: UInt64) {
    _ = isAwakened.wait(until: deadline) { isAwakened -> Void? in
      defer { isAwakened = false }
      return isAwakened ? () : nil
    }
  }

  var isRequested: Bool { requested.load(ordering: .sequentiallyConsistent) }

  /// On the processor's thread: a KVM_RUN in `body` returns before it runs guest code. A request that comes meanwhile is
  /// kept for the next run.
  func exitingAtOnce(_ body: () -> Void) {
    target.withLock { $0?.run.pointee.immediate_exit = 1 }
    body()
    target.withLock { target in
      if !requested.load(ordering: .sequentiallyConsistent) { target?.run.pointee.immediate_exit = 0 }
    }
  }

  /// The processor goes: later requests do nothing.
  func invalidate() {
    target.withLock { $0 = nil }
  }
}
