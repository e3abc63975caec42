import Glibc
import SystemPackage

/// A folder of its own, with what is in it, for as long as it is needed.
package final class FuzzFolder {
  package let path: FilePath

  /// - Parameter parent: where it is made; TMPDIR or /tmp unless said.
  package init(in parent: String? = nil) throws(Errno) {
    let place = parent ?? getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    var template = Array("\(place)/trivisor-fuzz.XXXXXX\0".utf8CString)
    guard mkdtemp(&template) != nil else { throw Errno(rawValue: errno) }
    path = FilePath(String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))
  }

  deinit { Self.remove(path) }

  package func put(_ name: String, _ bytes: [UInt8]) throws {
    let file = try FileDescriptor.open(
      path.appending(name), .writeOnly, options: [.create, .truncate], permissions: .ownerReadWrite)
    try file.closeAfter { _ = try file.writeAll(bytes) }
  }

  /// Everything in it; links are removed and not followed.
  package func clear() { Self.removeContents(path) }

  private static func removeContents(_ path: FilePath) {
    _ = chmod(path.string, 0o700)
    guard let folder = opendir(path.string) else { return }
    defer { closedir(folder) }
    while let entry = readdir(folder) {
      let name = withUnsafePointer(to: entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != ".", name != ".." { remove(path.appending(name)) }
    }
  }

  private static func remove(_ path: FilePath) {
    var status = stat()
    guard lstat(path.string, &status) == 0 else { return }
    guard status.st_mode & S_IFMT == S_IFDIR else {
      unlink(path.string)
      return
    }
    removeContents(path)
    rmdir(path.string)
  }
}
