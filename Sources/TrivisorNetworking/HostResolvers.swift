import Glibc
import SystemPackage

/// What the host's /etc/resolv.conf says (resolv.conf(5)).
struct HostResolvers: Equatable {
  /// Of the file, no more is read.
  private static let sizeLimit = 64 << 10
  /// So many servers resolvers take (MAXNS).
  private static let serverLimit = 3

  var servers: [InternetAddress] = []
  var searchDomains: [String] = []

  init(_ text: String) {
    for line in text.split(whereSeparator: \.isNewline) {
      let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
      switch words.first {
      case "nameserver" where words.count > 1 && servers.count < Self.serverLimit:
        // A scope of the host's means nothing elsewhere.
        if let server = InternetAddress(String(words[1])) { servers.append(server) }
      case "search", "domain": searchDomains = words.dropFirst().map(String.init)
      default: break
      }
    }
    // One line of the guest's file, without anything but names.
    searchDomains = searchDomains.filter { domain in
      domain.utf8.allSatisfy { byte in
        UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte | 0x20 || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte
          || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_")
      } && domain.utf8.count < 256
    }
    searchDomains = Array(searchDomains.prefix(6))
  }

  /// The host's; nothing where there is no such file.
  static func current() -> HostResolvers {
    guard let file = try? FileDescriptor.open("/etc/resolv.conf", .readOnly, options: [.closeOnExec]) else {
      return HostResolvers("")
    }
    defer { try? file.close() }
    let bytes = [UInt8](unsafeUninitializedCapacity: sizeLimit) { buffer, count in
      while count < buffer.count {
        let rest = UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[count...])
        guard let read = try? file.read(into: rest), read > 0 else { break }
        count += read
      }
    }
    return HostResolvers(String(decoding: bytes, as: UTF8.self))
  }
}
