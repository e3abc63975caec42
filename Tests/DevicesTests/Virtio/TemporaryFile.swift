import Foundation
import SystemPackage

/// A file that goes with its owner.
final class TemporaryFile: Sendable {
  let path: FilePath

  init(_ content: [UInt8]) throws {
    path = FilePath(FileManager.default.temporaryDirectory.path).appending("trivisor-\(UUID().uuidString)")
    try Data(content).write(to: URL(fileURLWithPath: path.string))
  }

  deinit { try? FileManager.default.removeItem(atPath: path.string) }

  var content: [UInt8] { (FileManager.default.contents(atPath: path.string)).map { [UInt8]($0) } ?? [] }
}
