import Glibc

/// Whose a file is for the guest: what belongs to the user who runs the server belongs to the command's user there; everything
/// else belongs to whom it belongs on the host.
public struct OwnerMap: Sendable, Equatable {
  /// A user and a group by their numbers.
  public struct Owner: Sendable, Equatable {
    /// User.
    public var user: UInt32
    /// Group.
    public var group: UInt32

    /// Takes both.
    public init(user: UInt32, group: UInt32) {
      self.user = user
      self.group = group
    }

    /// Of this process.
    public static var current: Owner { Owner(user: geteuid(), group: getegid()) }
  }

  /// On the host.
  public var host: Owner
  /// In the guest.
  public var guest: Owner

  /// - Parameter guest: the command's user.
  public init(host: Owner = .current, guest: Owner = Owner(user: 0, group: 0)) {
    self.host = host
    self.guest = guest
  }

  func toGuest(_ owner: Owner) -> Owner {
    Owner(
      user: owner.user == host.user ? guest.user : owner.user,
      group: owner.group == host.group ? guest.group : owner.group)
  }

  func toHost(_ owner: Owner) -> Owner {
    Owner(
      user: owner.user == guest.user ? host.user : owner.user,
      group: owner.group == guest.group ? host.group : owner.group)
  }
}
