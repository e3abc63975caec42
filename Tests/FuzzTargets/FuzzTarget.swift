// What reads bytes that somebody else made, each ready to be given any.
//
//     tools/fuzz ──libFuzzer: inputs that reach new code──▶ FuzzTarget.run(_:)
//     FuzzTests  ──the corpus, and the seeds changed──────▶ FuzzTarget.run(_:)
//
// A finding is a trap, a hang, or a precondition of the target's own that does not hold.

import SystemPackage

/// One reader, or one device, that is given bytes.
public protocol FuzzTarget: AnyObject, SendableMetatype {
  /// As `tools/fuzz` and the corpus' folders spell it.
  static var name: String { get }
  /// Sound inputs to begin with, beside the corpus.
  static var seeds: [[UInt8]] { get }
  /// No input is longer.
  static var sizeLimit: Int { get }

  /// What all inputs have in common is made once.
  init() throws

  /// Takes an input; what was made for it is gone afterwards, as far as the next one could tell.
  func run(_ bytes: UnsafeRawBufferPointer)
}

extension FuzzTarget {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public static var seeds: [[UInt8]] { [] }
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public static var sizeLimit: Int { 4096 }
}

/// All of them.
public enum FuzzTargets {
  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  public static var all: [any FuzzTarget.Type] {
    [
      ArchiveTarget.self, ChannelTarget.self, ChipsetTarget.self, FileServerTarget.self, ImageTarget.self,
      InspectionTarget.self, InstructionTarget.self, InterpretationTarget.self, ModuleTarget.self, PortTarget.self,
      SavedStateTarget.self, TAPTarget.self, TranslationTarget.self, VirtioTarget.self,
    ]
  }

  /// The one with this name.
  public static func named(_ name: String) -> (any FuzzTarget.Type)? { all.first { $0.name == name } }

  /// A file's bytes.
  public static func contents(_ path: FilePath) throws -> [UInt8] {
    let file = try FileDescriptor.open(path, .readOnly)
    return try file.closeAfter {
      let size = try file.seek(offset: 0, from: .end)
      return try [UInt8](unsafeUninitializedCapacity: Int(size)) { buffer, count in
        count = try file.read(fromAbsoluteOffset: 0, into: UnsafeMutableRawBufferPointer(buffer))
      }
    }
  }

  /// Inputs that once found something, and those that reach what few others do: a file for each target, an input a line in
  /// hexadecimal digits; behind #, what there is to say.
  public static var corpusFolder: FilePath { FilePath(#filePath).removingLastComponent().appending("corpus") }

  /// Of one target.
  public static func corpus(of name: String) throws -> [[UInt8]] {
    guard let text = try? contents(corpusFolder.appending(name + ".hex")) else { return [] }
    return try text.split(separator: UInt8(ascii: "\n")).compactMap { line in
      let digits = line.prefix { $0 != UInt8(ascii: "#") }.filter { $0 != UInt8(ascii: " ") }
      if line.first == UInt8(ascii: "#") { return nil }
      guard digits.count % 2 == 0 else { throw Errno.invalidArgument }
      return try stride(from: 0, to: digits.count, by: 2).map { place in
        guard let byte = UInt8(String(decoding: digits[place..<(place + 2)], as: UTF8.self), radix: 16) else {
          throw Errno.invalidArgument
        }
        return byte
      }
    }
  }
}
