import TrivisorSandbox
import TrivisorVMM

/// The process for the next root of page tables, made while guest code runs: making one takes longer than a root's first use.
final class SpaceReserve: Sendable {
  private enum State {
    case empty, making
    case ready(GuestAddressSpace)
    case ended
  }

  private let state = Monitor(State.empty)
  private let make: @Sendable () -> GuestAddressSpace?

  /// - Parameter make: on a thread of its own; `nil` where the host refuses, which whoever asks for it the other way will hear.
  init(_ make: @escaping @Sendable () -> GuestAddressSpace?) { self.make = make }

  /// The one that is ready, or will be soon. The next one is begun.
  func take() -> GuestAddressSpace? {
    let space: GuestAddressSpace? = state.wait { state -> GuestAddressSpace?? in
      switch state {
      case .making: return nil
      case .ready(let space):
        state = .empty
        return .some(space)
      case .empty, .ended: return .some(nil)
      }
    }
    order()
    return space
  }

  private func order() {
    let mayMake = state.with { state -> Bool in
      guard case .empty = state else { return false }
      state = .making
      return true
    }
    guard mayMake, !DetachedThread.start({ [self] in fill() }) else { return }
    keep(nil)
  }

  private func fill() {
    // Where there is another processor of the host than that of the one who asks.
    SandboxProcess.unpinCaller()
    keep(make())
  }

  private func keep(_ space: GuestAddressSpace?) {
    let left = state.with { state -> GuestAddressSpace? in
      guard case .making = state else { return space }
      state = space.map { .ready($0) } ?? .empty
      return nil
    }
    left?.destroy()
  }

  /// None is made any more, and the one that is ready goes.
  func end() {
    let left = state.with { state -> GuestAddressSpace? in
      defer { state = .ended }
      guard case .ready(let space) = state else { return nil }
      return space
    }
    left?.destroy()
  }
}
