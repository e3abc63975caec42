import Glibc
import SystemPackage
import TrivisorDevices
import TrivisorPlatform

/// `--vsock`: a path, and the guest's address behind a comma.
struct SocketArgument {
  let path: FilePath
  private(set) var identifier = VirtioSocket.identifiers.lowerBound

  init(_ text: String) throws(Refusal) {
    var rest = Substring(text)
    if let comma = rest.lastIndex(of: ","), rest[comma...].hasPrefix(",cid=") {
      let digits = rest[rest.index(comma, offsetBy: 5)...]
      guard let number = UInt64(digits), VirtioSocket.identifiers.contains(number) else {
        let range = VirtioSocket.identifiers
        throw Refusal(
          status: .usage,
          message:
            "--vsock: the guest can't have the address '\(digits)': give \(range.lowerBound) to \(range.upperBound)")
      }
      identifier = number
      rest = rest[..<comma]
    }
    guard !rest.isEmpty else {
      throw Refusal(status: .usage, message: "--vsock: '\(text)' names no socket: give a path in front of the comma")
    }
    path = FilePath(String(rest))
  }

  /// With the socket made.
  func configuration() throws(Refusal) -> SocketDeviceConfiguration {
    // Each connection is a descriptor.
    var limit = rlimit()
    if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
      limit.rlim_cur = min(limit.rlim_max, max(limit.rlim_cur, UInt(2 * VirtioSocket.connectionLimit)))
      setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
    do throws(DeviceFailure) {
      return SocketDeviceConfiguration(gate: try SocketGate(path: path), identifier: identifier)
    } catch {
      throw Refusal(status: error.isShortage ? .failed : .usage, message: "--vsock: \(error)")
    }
  }
}
