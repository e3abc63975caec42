import Glibc
import SystemPackage

/// A file that the user asked results to be written to.
enum ResultFile {
  /// Whether what is written there is on standard output: then nothing else is to be.
  static func isStandardOutput(_ file: String?) -> Bool {
    file.map { inheritedDescriptor($0) == STDOUT_FILENO } ?? false
  }

  /// Two results on standard output would be no result for any reader.
  /// - Throws: `Refusal` that names the options.
  static func refuseSharing(_ files: [(option: String, file: String?)]) throws {
    let shared = files.filter { isStandardOutput($0.file) }.map(\.option)
    guard shared.count < 2 else {
      throw Refusal(
        status: .usage,
        message: "\(shared.joined(separator: " and ")) can't both be standard output: name a file for one")
    }
  }

  /// A result that can't be written is told before the work; but no file is made before there is something to write.
  /// - Throws: `Refusal` that names the option.
  static func refuseUnwritable(_ file: String?, option: String) throws {
    guard let file, file != "-", inheritedDescriptor(file) == nil else { return }
    let folder = FilePath(file).removingLastComponent()
    let place = access(file, F_OK) == 0 ? file : folder.isEmpty ? "." : folder.string
    guard access(place, W_OK) == 0 else {
      throw Refusal(status: .usage, message: "\(option): \(file) can't be written: \(Errno(rawValue: errno))")
    }
  }

  /// Opens a file for a result that comes later.
  /// - Throws: `Refusal` that names the option.
  static func open(_ file: String, option: String) throws -> FileDescriptor {
    do {
      if let number = inheritedDescriptor(file) {
        let copy = fcntl(number, F_DUPFD_CLOEXEC, 0)
        guard copy >= 0 else { throw Errno(rawValue: errno) }
        return FileDescriptor(rawValue: copy)
      }
      return try FileDescriptor.open(
        FilePath(file), .writeOnly, options: [.create, .truncate, .closeOnExec],
        permissions: [.ownerReadWrite, .groupRead, .otherRead])
    } catch {
      throw Refusal(status: .usage, message: "\(option): \(file) can't be written: \(error)")
    }
  }

  /// Writes all of `text`; `-` is standard output. What can't be written is lost output.
  /// - Throws: `Refusal` that names the option, where the file can't be opened.
  static func write(_ text: String, to file: String, option: String) throws {
    guard file != "-" else { return Diagnostics.write(text) }
    write(text, to: try open(file, option: option), named: file, option: option)
  }

  /// Writes all of `text` to a file that was opened before, and closes it. What can't be written is lost output.
  static func write(_ text: String, to descriptor: FileDescriptor, named file: String, option: String) {
    let error = OutputDescriptor.write(text.utf8, to: descriptor.rawValue)
    close(descriptor, after: error, named: file, option: option)
  }

  /// Closes a file, of which some file systems tell only now that there was no room.
  /// - Parameter error: why something could not be written before, if so.
  static func close(_ descriptor: FileDescriptor, after error: Errno? = nil, named file: String, option: String) {
    let isClosed = Glibc.close(descriptor.rawValue) == 0 || errno == EINTR
    if let error = error ?? (isClosed ? nil : Errno(rawValue: errno)) {
      Diagnostics.noteLost(.file(file, option: option), error)
    }
  }

  /// The number in `/dev/fd/3` and the like. The host has these names only where /proc is mounted; and it would open the
  /// file anew, from its beginning, over what stands there already.
  private static func inheritedDescriptor(_ file: String) -> Int32? {
    switch file {
    case "-", "/dev/stdout": return STDOUT_FILENO
    case "/dev/stderr": return STDERR_FILENO
    default:
      let folders = ["/dev/fd/", "/proc/self/fd/"]
      return folders.first { file.hasPrefix($0) }.flatMap { Int32(file.dropFirst($0.count)) }
    }
  }
}
