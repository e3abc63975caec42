import Glibc
import SystemPackage

/// What the host's memory can still hold.
enum HostMemory {
  /// Bytes that programs can get without others being swapped out or ended: by the host's own estimate, and the limit of the
  /// container that this runs in. `nil` where neither can be read.
  static var available: UInt64? {
    let estimate = text("/proc/meminfo").flatMap { text in
      text.split(separator: "\n").first { $0.hasPrefix("MemAvailable:") }
        .flatMap { $0.split(separator: " ").dropFirst().first }.flatMap { UInt64($0) }.map { $0 * 1024 }
    }
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
      .compactMap { text($0) }.compactMap { UInt64($0.split(separator: "\n").first ?? "") }
    return (limits + (estimate.map { [$0] } ?? [])).min()
  }

  private static func text(_ path: String) -> String? {
    guard let file = try? FileDescriptor.open(FilePath(path), .readOnly, options: [.closeOnExec]) else { return nil }
    defer { try? file.close() }
    var bytes = [UInt8](repeating: 0, count: 8192)
    guard let count = try? bytes.withUnsafeMutableBytes({ try file.read(into: $0) }), count > 0 else { return nil }
    return String(decoding: bytes[..<count], as: UTF8.self)
  }
}
