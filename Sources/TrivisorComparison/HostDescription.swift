import Glibc

/// The host that a comparison ran on.
public struct HostDescription: Sendable, Encodable {
  /// The processor's name.
  public let processor: String
  /// How many processors are online.
  public let processors: Int
  /// Linux' release.
  public let kernel: String

  /// Any description.
  public init(processor: String, processors: Int, kernel: String) {
    self.processor = processor
    self.processors = processors
    self.kernel = kernel
  }

  /// This one.
  public static var this: HostDescription {
    var name = utsname()
    uname(&name)
    let kernel = withUnsafeBytes(of: &name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    var processor = "unknown"
    if let file = fopen("/proc/cpuinfo", "r") {
      defer { fclose(file) }
      var line: UnsafeMutablePointer<CChar>?
      var capacity = 0
      defer { free(line) }
      while getline(&line, &capacity, file) > 0, let line {
        let text = String(cString: line)
        guard text.hasPrefix("model name"), let colon = text.firstIndex(of: ":") else { continue }
        processor = String(text[text.index(after: colon)...].drop { $0 == " " }.prefix { $0 != "\n" })
        break
      }
    }
    return HostDescription(
      processor: processor, processors: max(sysconf(Int32(_SC_NPROCESSORS_ONLN)), 1), kernel: kernel)
  }
}
