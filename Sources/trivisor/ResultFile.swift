import Glibc
import SystemPackage

/// A file that the user asked results to be written to.
enum ResultFile {
  /// A result that can't be written is told before the work; but no file is made before there is something to write.
  /// - Throws: `Refusal` that names the option.
  static func refuseUnwritable(_ file: String?, option: String) throws {
    guard let file, file != "-" else { return }
    let folder = FilePath(file).removingLastComponent()
    let place = access(file, F_OK) == 0 ? file : folder.isEmpty ? "." : folder.string
    guard access(place, W_OK) == 0 else {
      throw Refusal(status: .usage, message: "\(option): \(file) can't be written: \(Errno(rawValue: errno))")
    }
  }

  /// Writes all of `text`; `-` is standard output.
  /// - Throws: `Refusal` that names the option.
  static func write(_ text: String, to file: String, option: String) throws {
    do {
      guard file != "-" else {
        _ = try FileDescriptor.standardOutput.writeAll(text.utf8)
        return
      }
      let descriptor = try FileDescriptor.open(
        FilePath(file), .writeOnly, options: [.create, .truncate, .closeOnExec],
        permissions: [.ownerReadWrite, .groupRead, .otherRead])
      try descriptor.closeAfter { _ = try descriptor.writeAll(text.utf8) }
    } catch {
      throw Refusal(status: .failed, message: "\(option): \(file) could not be written: \(error)")
    }
  }
}
