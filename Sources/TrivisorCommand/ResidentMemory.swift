import Glibc

/// What the process has resident, as the kernel counts it (proc(5), /proc/pid/status).
enum ResidentMemory {
  /// The most so far, in bytes; zero where /proc is missing.
  static var peak: UInt64 {
    guard let file = fopen("/proc/self/status", "r") else { return 0 }
    defer { fclose(file) }
    var line: UnsafeMutablePointer<CChar>?
    var capacity = 0
    defer { free(line) }
    while getline(&line, &capacity, file) > 0 {
      guard let line, strncmp(line, "VmHWM:", 6) == 0 else { continue }
      return UInt64(strtoull(line + 6, nil, 10)) << 10
    }
    return 0
  }
}
