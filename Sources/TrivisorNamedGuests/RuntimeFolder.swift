import Glibc
import SystemPackage
import TrivisorCLinux

/// Where the sockets of this user's named guests are: a folder that nobody else can enter.
///
/// `trivisor` in XDG_RUNTIME_DIR (XDG Base Directory Specification), or in /run/user/UID, where a login makes one; otherwise
/// /tmp/trivisor-UID.
public struct RuntimeFolder: Sendable {
  /// A name's most bytes: with the folder's path it must fit into an address (unix(7)).
  private static let nameLimit = 64
  private static let addressLimit = MemoryLayout.size(ofValue: sockaddr_un().sun_path) - 1

  /// The folder.
  public let path: FilePath

  /// Makes the folder if it is not there.
  /// - Throws: `NamedGuestFailure` if it can't be had, or somebody else could enter it.
  public init() throws(NamedGuestFailure) {
    let user = geteuid()
    let variable = getenv("XDG_RUNTIME_DIR").map { String(cString: $0) } ?? ""
    if variable.hasPrefix("/") {
      path = FilePath(variable).appending("trivisor")
    } else if Self.isOwn(FilePath("/run/user/\(user)"), user) {
      path = FilePath("/run/user/\(user)/trivisor")
    } else {
      path = FilePath("/tmp/trivisor-\(user)")
    }
    try Self.make(path, user)
  }

  /// - Parameter path: made if it is not there.
  public init(path: FilePath) throws(NamedGuestFailure) {
    self.path = path
    try Self.make(path, geteuid())
  }

  private static func make(_ path: FilePath, _ user: uid_t) throws(NamedGuestFailure) {
    let made = path.withPlatformString { mkdir($0, 0o700) }
    guard made == 0 || errno == EEXIST else {
      throw NamedGuestFailure(.host, "the folder for named guests, \(path), can't be made: \(Errno(rawValue: errno))")
    }
    guard isOwn(path, user) else {
      throw NamedGuestFailure(
        .host, "\(path), the folder for named guests, is no folder of this user's that nobody else can enter: remove it"
      )
    }
  }

  private static func isOwn(_ path: FilePath, _ user: uid_t) -> Bool {
    var status = stat()
    guard path.withPlatformString({ lstat($0, &status) }) == 0 else { return false }
    return status.st_mode & S_IFMT == S_IFDIR && status.st_uid == user && status.st_mode & 0o077 == 0
  }

  /// The names that there are, of guests that run or were killed.
  public var names: [String] {
    guard let folder = path.withPlatformString({ opendir($0) }) else { return [] }
    defer { closedir(folder) }
    var names: [String] = []
    while let entry = readdir(folder) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if Self.isName(name) { names.append(name) }
    }
    return names.sorted()
  }

  /// Whether a guest can have this name.
  static func isName(_ name: String) -> Bool {
    let bytes = Array(name.utf8)
    guard let first = bytes.first, bytes.count <= nameLimit else { return false }
    func isLetterOrDigit(_ byte: UInt8) -> Bool {
      (0x30...0x39).contains(byte) || (0x41...0x5a).contains(byte) || (0x61...0x7a).contains(byte)
    }
    return isLetterOrDigit(first) && bytes.allSatisfy { isLetterOrDigit($0) || [0x2d, 0x2e, 0x5f].contains($0) }
  }

  /// A name's address.
  func address(_ name: String) throws(NamedGuestFailure) -> sockaddr_un {
    guard Self.isName(name) else {
      throw NamedGuestFailure(
        .usage,
        "'\(name)' is no name for a guest: give letters, digits, '-', '.' and '_', at most \(Self.nameLimit), a letter or"
          + " digit first")
    }
    let bytes = path.appending(name).withPlatformString { Array(UnsafeBufferPointer(start: $0, count: strlen($0))) }
    guard bytes.count <= Self.addressLimit else {
      throw NamedGuestFailure(.usage, "\(path.appending(name)) is too long for a socket: give a shorter name")
    }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { place in
      for (index, byte) in bytes.enumerated() { place[index] = UInt8(bitPattern: byte) }
    }
    return address
  }
}
