import TrivisorCLinux
import Glibc

/// Whose a file is and what its mode is in an image that an ordinary user has unpacked: kept in an extended attribute, as the
/// tools for containers without root keep it (containers/storage, fuse-overlayfs): `UID:GID:MODE`, the mode in octal digits.
///
/// Links and pipes have none (xattr(7)): they are root's.
public struct StoredAttributes: Sendable, Equatable {
  /// The attribute's name.
  public static let name = "user.containers.override_stat"

  /// Owner.
  public var user: UInt32
  /// Group.
  public var group: UInt32
  /// Permissions, with setuid, setgid and the sticky bit.
  public var mode: UInt32

  /// Takes all three.
  public init(user: UInt32, group: UInt32, mode: UInt32) {
    self.user = user
    self.group = group
    self.mode = mode & 0o7777
  }

  /// - Parameter text: an attribute's; what follows a third colon is not looked at.
  init?(_ text: [UInt8]) {
    let words = String(decoding: text, as: UTF8.self).split(separator: ":", omittingEmptySubsequences: false)
    guard words.count >= 3, let user = UInt32(words[0]), let group = UInt32(words[1]),
      let mode = UInt32(words[2], radix: 8)
    else { return nil }
    self.init(user: user, group: group, mode: mode)
  }

  /// The attribute's text.
  public var text: String { "\(user):\(group):0\(String(mode, radix: 8))" }

  /// Puts what is stored into a file's attributes; without, the file is root's.
  /// - Parameter path: a link there is not followed.
  public static func apply(_ path: UnsafePointer<CChar>, to status: inout stat) {
    (status.st_uid, status.st_gid) = (0, 0)
    apply(to: &status) { lgetxattr(path, name, $0, $1) }
  }

  /// The same for what a descriptor stands for, also one with O_PATH.
  static func apply(_ descriptor: Int32, to status: inout stat) {
    (status.st_uid, status.st_gid) = (0, 0)
    apply(to: &status) { getxattr("/proc/self/fd/\(descriptor)", name, $0, $1) }
  }

  private static func apply(to status: inout stat, _ read: (UnsafeMutablePointer<UInt8>, Int) -> Int) {
    guard [S_IFREG, S_IFDIR].contains(status.st_mode & S_IFMT) else { return }
    var buffer = [UInt8](repeating: 0, count: 64)
    let size = buffer.count
    let count = buffer.withUnsafeMutableBufferPointer { room in room.baseAddress.map { read($0, size) } ?? 0 }
    guard count > 0, let stored = StoredAttributes(Array(buffer[..<count])) else { return }
    (status.st_uid, status.st_gid) = (stored.user, stored.group)
    status.st_mode = status.st_mode & S_IFMT | stored.mode
  }
}
