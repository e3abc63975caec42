/// A guest kernel that gave up: what is known of it.
public struct KernelPanic: Sendable, Equatable {
  /// What the kernel said on its console, if it could be read there.
  public var reason: String?

  /// - Parameter reason: `nil` where only the pvpanic port told.
  public init(reason: String? = nil) { self.reason = reason }

  /// Whether it gave up because the guest's first process ended (Linux, kernel/exit.c).
  public var isEndOfInit: Bool { reason?.hasPrefix("Attempted to kill init!") ?? false }
}
