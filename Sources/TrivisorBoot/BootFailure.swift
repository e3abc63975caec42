import SystemPackage
import TrivisorVMM

/// An image can't be had, understood or placed. Always the image's or the request's fault, never a trap of ours.
public struct BootFailure: Error, Hashable, Sendable, CustomStringConvertible {
  /// The image, as the user named it.
  public let image: String
  /// What is wrong with it.
  public let reason: Reason

  /// - Parameter image: as the user named it.
  public init(_ image: String, _ reason: Reason) {
    self.image = image
    self.reason = reason
  }

  /// One sentence for the user: the image, what is wrong and where, what to do.
  public var description: String { sentence.description }

  /// The same, with the settings that it names.
  public var sentence: Sentence { "\(image): \(reason.sentence)" }

  /// Whether the host has no more of what is needed: then nothing is wrong with the image.
  public var isHosts: Bool {
    switch reason {
    case .cannotOpen(let error): HostRemedy.isShortage(error)
    case .hostRefused: true
    default: false
    }
  }

  /// What can be wrong. Parts are named as the formats' manuals name them: "segment 2", "the setup header".
  public enum Reason: Hashable, Sendable {
    /// The file can't be opened.
    case cannotOpen(Errno)
    /// The path names a directory.
    case isDirectory
    /// The path names a device, a pipe or a socket.
    case notRegularFile
    /// There is not one byte in it.
    case empty
    /// The host could not read at this offset.
    case cannotRead(offset: UInt64, Errno)
    /// The file became shorter while it was read.
    case shrank(offset: UInt64)
    /// No format that is known; what the first bytes look like.
    case unknownKind(found: Sentence)
    /// The user named a kind that the bytes are not.
    case notOfKind(ImageKind, problem: String)
    /// A part of the request that this kind of image has no place for.
    case unusable(Setting, kind: ImageKind, remedy: Sentence)
    /// A structure reaches past the image's end.
    case truncated(part: String, offset: UInt64, size: UInt64, imageSize: UInt64)
    /// A structure that contradicts its format.
    case malformed(part: String, problem: String)
    /// Something valid that is not done here.
    case unsupported(String, remedy: Sentence)
    /// A range that is not wholly usable RAM.
    case outsideMemory(part: String, base: UInt64, size: UInt64)
    /// A range that passes the end of the address space.
    case wraps(part: String, base: UInt64, size: UInt64)
    /// Two parts that want the same memory.
    case overlap(part: String, base: UInt64, size: UInt64, other: String)
    /// No free range is left for a part.
    case noRoom(part: String, size: UInt64, below: UInt64)
    /// The host did not give the memory that a part needs.
    case hostRefused(part: String, Errno)
    /// The first instruction would not be in the image.
    case entryOutsideImage(entry: UInt64)
    /// More characters than the guest can take.
    case commandLineTooLong(count: Int, limit: Int)
  }
}

extension BootFailure.Reason: CustomStringConvertible {
  /// The sentence without the image's name.
  public var description: String { sentence.description }

  /// The same, with the settings that it names.
  public var sentence: Sentence {
    switch self {
    case .cannotOpen(.noSuchFileOrDirectory):
      "no such file; check the path"
    case .cannotOpen(.permissionDenied):
      "no permission to read it; check its mode and the mode of the directories above it"
    case .cannotOpen(let error) where HostRemedy.isShortage(error):
      "can't be opened (\(error)); \(HostRemedy.of(error))"
    case .cannotOpen(let error):
      "can't be opened (\(error)); check the path"
    case .isDirectory:
      "is a directory; give the image file in it"
    case .notRegularFile:
      "is a device, a pipe or a socket; copy its contents to a file and give that"
    case .empty:
      "is empty; check how it was made or copied"
    case .cannotRead(let offset, let error):
      "can't be read at offset \(hexadecimal(offset)) (\(error)); check the disk and the file system"
    case .shrank(let offset):
      "ended at offset \(hexadecimal(offset)) while it was read; wait until nobody writes it and try again"
    case .unknownKind(let found):
      found
    case .notOfKind(let kind, let problem):
      "is not of the kind \(kind.rawValue): \(problem); leave \(Setting.imageKind) out to have it detected"
    case .unusable(let setting, let kind, let remedy):
      "\(setting) means nothing to an image of the kind \(kind.rawValue); \(remedy)"
    case .truncated(let part, let offset, let size, let imageSize):
      """
      \(part) (offset \(hexadecimal(offset)), \(size) bytes) reaches past the image's end at \(hexadecimal(imageSize)); \
      the file is cut off or corrupt
      """
    case .malformed(let part, let problem):
      "\(part) \(problem); the file is corrupt or was built wrongly"
    case .unsupported(let what, let remedy):
      "\(what); \(remedy)"
    case .outsideMemory(let part, let base, let size):
      """
      \(part) (\(size) bytes at \(hexadecimal(base))) is not within the guest's usable memory; raise \
      \(Setting.memory), or link it elsewhere
      """
    case .wraps(let part, let base, let size):
      """
      \(part) (\(hexadecimal(size)) bytes at \(hexadecimal(base))) passes the end of the address space; the file is \
      corrupt or was linked wrongly
      """
    case .overlap(let part, let base, let size, let other):
      "\(part) (\(size) bytes at \(hexadecimal(base))) overlaps \(other); link or place it elsewhere"
    case .noRoom(let part, let size, let limit):
      """
      no room for \(part) (\(size) bytes) in the guest's memory below \(hexadecimal(limit)); raise \(Setting.memory), or \
      make it smaller
      """
    case .hostRefused(let part, let error):
      "the host has no memory for \(part) (\(error)); end other programs, or raise the limits of this one"
    case .entryOutsideImage(let entry):
      """
      the entry point \(hexadecimal(entry)) is in no loaded part of the image; give the address of its first \
      instruction when linking, or set \(Setting.entry)
      """
    case .commandLineTooLong(let count, let limit):
      "a command line of \(count) bytes is more than the \(limit) that the guest takes; shorten \(Setting.commandLine)"
    }
  }
}
