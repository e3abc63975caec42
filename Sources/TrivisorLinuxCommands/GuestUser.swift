import TrivisorCLinux
import TrivisorFileServer
import Glibc
import SystemPackage
import TrivisorVMM

/// Who the command runs as in the guest.
struct GuestUser: Equatable {
  var owner = OwnerMap.Owner(user: 0, group: 0)
  /// Further groups.
  var groups: [UInt32] = []
  var name = "root"
  var home = "/root"
  var shell: String?

  /// The guest's root.
  init() {}

  /// - Parameters:
  ///   - text: a name or a number, perhaps with a colon and a group's.
  ///   - root: where /etc/passwd and /etc/group are looked for.
  /// - Throws: `WorkplaceRefusal`.
  init(_ text: String, root: FilePath?) throws {
    let words = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    let users = root.map { Self.table("etc/passwd", in: $0) } ?? []
    let found = users.first { $0.count >= 6 && ($0[0] == words[0] || $0[2] == words[0]) }
    if let found, let user = UInt32(found[2]), let group = UInt32(found[3]) {
      owner = OwnerMap.Owner(user: user, group: group)
      (name, home) = (found[0], found[5])
      shell = found.count > 6 ? found[6] : nil
    } else if let user = UInt32(words[0]) {
      owner = OwnerMap.Owner(user: user, group: user)
      (name, home) = (words[0], "/")
    } else {
      throw WorkplaceRefusal(
        status: .usage,
        message: "\(Setting.user): there is no user '\(words[0])' in the root's etc/passwd: give a number")
    }
    let table = root.map { Self.table("etc/group", in: $0) } ?? []
    if words.count > 1 {
      if let group = UInt32(words[1]) ?? table.first(where: { $0.first == words[1] }).flatMap({ UInt32($0[2]) }) {
        owner.group = group
      } else {
        throw WorkplaceRefusal(
          status: .usage,
          message: "\(Setting.user): there is no group '\(words[1])' in the root's etc/group: give a number")
      }
    }
    let name = name
    groups = table.filter { $0.count > 3 && $0[3].split(separator: ",").contains(Substring(name)) }
      .compactMap { UInt32($0[2]) }
    // More than Linux gives (NGROUPS_MAX) is no group file.
    groups = Array(groups.prefix(1024))
  }

  /// As the guest's first process takes it.
  var step: String { "user=\(owner.user):\(owner.group):" + groups.map(String.init).joined(separator: ",") }

  /// The lines of a file with fields between colons.
  private static func table(_ name: String, in root: FilePath) -> [[String]] {
    let folder = root.withPlatformString { open($0, CLINUX_O_PATH | O_DIRECTORY | O_CLOEXEC) }
    guard folder >= 0 else { return [] }
    defer { close(folder) }
    let descriptor = clinux_read_in_root(folder, name)
    guard descriptor >= 0 else { return [] }
    let file = FileDescriptor(rawValue: descriptor)
    defer { try? file.close() }
    var bytes = [UInt8](repeating: 0, count: 4 << 20)
    var count = 0
    while count < bytes.count {
      let read = bytes.withUnsafeMutableBytes { buffer in
        try? file.read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[count...]))
      }
      guard let read, read > 0 else { break }
      count += read
    }
    return String(decoding: bytes[..<count], as: UTF8.self).split(separator: "\n").map { line in
      line.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
    }
  }
}
