import Glibc

/// What the process has resident, as the kernel counts it (proc(5), /proc/pid/status).
enum ResidentMemory {
  /// Kept open: a process that has given up the host's files can't open it any more.
  private static let status = Glibc.open("/proc/self/status", O_RDONLY | O_CLOEXEC)

  /// Before the host's files are given up.
  static func open() { _ = status }

  /// The most so far, in bytes; zero where /proc is missing.
  static var peak: UInt64 {
    var bytes = [UInt8](repeating: 0, count: 8192)
    let count = pread(status, &bytes, bytes.count, 0)
    guard count > 0 else { return 0 }
    let text = String(decoding: bytes[..<count], as: UTF8.self)
    guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix("VmHWM:") }) else { return 0 }
    return (UInt64(line.filter(\.isNumber)) ?? 0) << 10
  }
}
