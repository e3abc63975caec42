// Where an image's bytes come from.
//
// A file is never mapped: whoever truncates a mapped file sends its reader SIGBUS, and an image is not ours to lock.
// `pread` costs one copy more and turns every such change into an error.
// The same change can make a second look at a structure differ from the first, so each structure is read once, into
// `ImageBytes`, and only that copy is judged and used.

import Glibc
import Synchronization
import SystemPackage
import TrivisorVMM

/// The bytes of one image: a file of the user's, memory of this program, or an archive of ours.
public final class BootImage: Sendable {
  private enum Source {
    case file(Int32)
    case memory(UnsafeRawBufferPointer)
    case archive(InitialArchive)
    case unpacked([UInt8])
  }

  /// As the user named it; messages begin with it.
  public let name: String
  /// Bytes, as of opening.
  public let size: UInt64
  private nonisolated(unsafe) let source: Source
  /// What it holds packed, once it was looked at.
  private let packed = Mutex(Packed.unknown)

  /// What parts of it hold packed, by where they begin, between looking at it and loading it.
  private let parts = Mutex<[UInt64: BootImage]>([:])

  private enum Packed {
    case unknown, nothing
    case image(BootImage)
  }

  /// Opens a regular file for reading.
  /// - Throws: `BootFailure` when it is missing, forbidden, empty, a directory or no regular file.
  public init(path: FilePath) throws(BootFailure) {
    name = path.string
    // Not blocking: opening a pipe that nobody writes would wait for ever.
    let descriptor = path.withPlatformString { open($0, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) }
    guard descriptor >= 0 else { throw BootFailure(name, .cannotOpen(Errno(rawValue: errno))) }
    var status = stat()
    let reason: BootFailure.Reason?
    if fstat(descriptor, &status) != 0 {
      reason = .cannotOpen(Errno(rawValue: errno))
    } else {
      switch status.st_mode & S_IFMT {
      case S_IFDIR: reason = .isDirectory
      case S_IFREG: reason = status.st_size > 0 ? nil : .empty
      default: reason = .notRegularFile
      }
    }
    if let reason {
      close(descriptor)
      throw BootFailure(name, reason)
    }
    size = UInt64(status.st_size)
    source = .file(descriptor)
  }

  /// An image that is part of this program.
  /// - Parameters:
  ///   - name: for messages.
  ///   - bytes: must stay valid and unchanged as long as the program runs.
  /// - Throws: `BootFailure` when there are no bytes.
  public init(name: String, bytes: UnsafeRawBufferPointer) throws(BootFailure) {
    guard !bytes.isEmpty else { throw BootFailure(name, .empty) }
    self.name = name
    size = UInt64(bytes.count)
    source = .memory(bytes)
  }

  /// An archive that is made while it is read.
  /// - Parameter name: for messages.
  public init(name: String, archive: InitialArchive) {
    self.name = name
    size = archive.size
    source = .archive(archive)
  }

  /// What was packed in another image.
  private init(name: String, unpacked bytes: [UInt8]) {
    self.name = name
    size = UInt64(bytes.count)
    source = .unpacked(bytes)
  }

  /// What a file holds that is one packed stream from its first byte on; `nil` for all others.
  /// - Throws: `BootFailure` when the stream is corrupt, or holds more than any kernel has.
  func unpacked() throws(BootFailure) -> BootImage? {
    switch packed.withLock({ $0 }) {
    case .nothing: return nil
    case .image(let image): return image
    case .unknown: break
    }
    let image = try unpacked(at: 0, length: size)
    packed.withLock { $0 = image.map { .image($0) } ?? .nothing }
    return image
  }

  /// What a range holds that is one packed stream; `nil` for all others.
  /// - Throws: `BootFailure` when the stream is corrupt, or holds more than any kernel has.
  func unpacked(at offset: UInt64, length: UInt64) throws(BootFailure) -> BootImage? {
    if let part = parts.withLock({ $0[offset] }) { return part }
    let head = try read("the packed kernel", at: offset, count: Int(min(length, 8)))
    guard let format = CompressionFormat(head) else { return nil }
    var bytes = UnpackedBytes(image: name)
    try PackedStream(image: self, format: format, offset: offset, length: length).unpack(into: &bytes)
    guard !bytes.bytes.isEmpty else { return nil }
    let part = BootImage(name: name, unpacked: bytes.bytes)
    parts.withLock { $0[offset] = part }
    return part
  }

  /// Drops what was unpacked: it is in guest memory.
  func forgetParts() {
    parts.withLock { $0 = [:] }
  }

  deinit {
    if case .file(let descriptor) = source { close(descriptor) }
  }

  /// A copy of one structure.
  /// - Throws: `BootFailure` unless the image holds all `count` bytes from `offset`.
  func read(_ part: String, at offset: UInt64, count: Int) throws(BootFailure) -> ImageBytes {
    try check(part, at: offset, count: UInt64(clamping: count))
    var failure: BootFailure?
    let bytes = [UInt8](unsafeUninitializedCapacity: max(count, 0)) { buffer, initialized in
      do throws(BootFailure) {
        try fill(UnsafeMutableRawBufferPointer(start: buffer.baseAddress, count: max(count, 0)), from: offset)
        initialized = max(count, 0)
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
    return ImageBytes(image: name, imageSize: size, part: part, offset: offset, bytes: bytes)
  }

  /// Whether these are its first bytes.
  /// - Throws: `BootFailure` when it can't be read.
  public func begins(with bytes: [UInt8]) throws(BootFailure) -> Bool { try prefix(bytes.count).holds(bytes, at: 0) }

  /// As much of the first `count` bytes as there is.
  func prefix(_ count: Int, as part: String = "the image") throws(BootFailure) -> ImageBytes {
    try read(part, at: 0, count: Int(min(size, UInt64(clamping: count))))
  }

  /// Copies a range of the image into guest memory.
  /// - Throws: `BootFailure` unless the image holds the range and it is RAM.
  func copy(
    _ part: String, at offset: UInt64, count: UInt64, to address: UInt64, of memory: GuestMemory
  ) throws(BootFailure) {
    try check(part, at: offset, count: count)
    // Before the first byte is read, so that a range that is no RAM costs nothing.
    guard memory.host(GuestPhysicalAddress(address), count: count) != nil else {
      throw BootFailure(name, .outsideMemory(part: part, base: address, size: count))
    }
    if case .memory(let bytes) = source {
      let slice = UnsafeRawBufferPointer(rebasing: bytes[Int(offset)..<Int(offset + count)])
      try memory.store(slice, at: address, as: part, of: name)
      return
    }
    let buffer = UnsafeMutableRawBufferPointer.allocate(
      byteCount: Int(min(count, UInt64(Self.copyChunk))), alignment: 4096)
    defer { buffer.deallocate() }
    var done: UInt64 = 0
    while done < count {
      let chunk = UnsafeMutableRawBufferPointer(rebasing: buffer[..<Int(min(count - done, UInt64(buffer.count)))])
      try fill(chunk, from: offset + done)
      try memory.store(UnsafeRawBufferPointer(chunk), at: address + done, as: part, of: name)
      done += UInt64(chunk.count)
    }
  }

  /// Small enough to stay in the processor's cache between reading and storing.
  private static let copyChunk = 256 << 10

  private func check(_ part: String, at offset: UInt64, count: UInt64) throws(BootFailure) {
    guard offset <= size, count <= size - offset else {
      throw BootFailure(name, .truncated(part: part, offset: offset, size: count, imageSize: size))
    }
  }

  /// Fills `buffer` with the bytes from `offset`, which `check` found to be there.
  func fill(_ buffer: UnsafeMutableRawBufferPointer, from offset: UInt64) throws(BootFailure) {
    switch source {
    case .memory(let bytes):
      guard offset <= bytes.count, buffer.count <= bytes.count - Int(offset) else {
        throw BootFailure(name, .shrank(offset: size))
      }
      buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[Int(offset)..<(Int(offset) + buffer.count)]))
    case .archive(let archive): try archive.fill(buffer, from: offset)
    case .unpacked(let bytes):
      guard offset <= bytes.count, buffer.count <= bytes.count - Int(offset) else {
        throw BootFailure(name, .shrank(offset: size))
      }
      bytes.withUnsafeBytes { source in
        buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: source[Int(offset)..<(Int(offset) + buffer.count)]))
      }
    case .file(let descriptor):
      var done = 0
      while done < buffer.count {
        guard let start = buffer.baseAddress, let position = off_t(exactly: offset &+ UInt64(done)) else {
          throw BootFailure(name, .shrank(offset: size))
        }
        let count = pread(descriptor, start + done, buffer.count - done, position)
        if count < 0 {
          let error = Errno(rawValue: errno)
          if error == .interrupted { continue }
          throw BootFailure(name, .cannotRead(offset: offset &+ UInt64(done), error))
        }
        guard count > 0 else { throw BootFailure(name, .shrank(offset: offset &+ UInt64(done))) }
        done += count
      }
    }
  }
}

/// Keeps all that a stream unpacks to, up to a limit.
private struct UnpackedBytes: DecompressionSink {
  /// More than any kernel has.
  private static let limit = 256 << 20

  let image: String
  private(set) var bytes: [UInt8] = []

  init(image: String) { self.image = image }

  mutating func write(_ more: UnsafeRawBufferPointer) throws(BootFailure) {
    guard more.count <= Self.limit - bytes.count else {
      throw BootFailure(
        image, .malformed(part: "the packed image", problem: "unpacks to more than \(Self.limit) bytes"))
    }
    bytes.append(contentsOf: more)
  }
}
