import Glibc
import SystemPackage
import TrivisorDevices
import TrivisorPlatform
import TrivisorVMM

/// `--vsock`: a path, and the guest's address behind a comma.
struct SocketArgument {
  let path: FilePath
  private(set) var identifier = VirtioSocket.identifiers.lowerBound

  init(_ text: String) throws(Refusal) {
    let words: TrailingWords
    do throws(TrailingWords.Failure) {
      words = try TrailingWords(text, TrailingWords.Vocabulary(["cid="]))
    } catch {
      throw Refusal(status: .usage, message: "--vsock: \(error)")
    }
    if let digits = words.value("cid=") {
      guard let number = UInt64(digits), VirtioSocket.identifiers.contains(number) else {
        let range = VirtioSocket.identifiers
        throw Refusal(
          status: .usage,
          message:
            "--vsock: the guest can't have the address '\(digits)': give \(range.lowerBound) to \(range.upperBound)")
      }
      identifier = number
    }
    guard !words.rest.isEmpty else {
      throw Refusal(status: .usage, message: "--vsock: '\(text)' names no socket: give a path in front of the comma")
    }
    path = FilePath(words.rest)
    try words.refuseUnknown(at: path, option: "--vsock")
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
