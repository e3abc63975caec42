// The archive that Linux unpacks as its first root: cpio in the "newc" format (Linux: Documentation/driver-api/early-userspace/
// buffer-format.rst). Each entry is a header of thirteen eight-digit hexadecimal fields behind the magic 070701, the name with
// its zero, and the contents, each padded to four bytes; an entry named TRAILER!!! ends it.
//
// An archive of a folder is never held anywhere: only its headers are. What the kernel gets is read from the folder's files
// while guest memory is filled, so 200 MB cost the host nothing but the reading. Which byte belongs to which file is known
// from the sizes that were found; a file that has become shorter since is an error, and of one that grew the rest is left
// out.

import Glibc
import Synchronization
import SystemPackage
import TrivisorVMM

/// An archive as bytes that are made when they are asked for.
public final class InitialArchive: Sendable {
  struct Entry: Sendable {
    enum Contents: Sendable {
      case none
      case bytes([UInt8])
      /// A host file, its path with the closing zero.
      case file([CChar])
    }

    /// Where it begins.
    let offset: UInt64
    /// Header and name, padded.
    let head: [UInt8]
    let contents: Contents
    /// Of the contents.
    let size: UInt64
  }

  private struct OpenFile {
    var index = -1
    var descriptor: Int32 = -1
  }

  /// In bytes.
  public let size: UInt64
  private let entries: [Entry]
  private let openFile = Mutex(OpenFile())
  private let whenRead: (@Sendable (UInt64) -> Void)?

  init(_ entries: [Entry], size: UInt64, whenRead: (@Sendable (UInt64) -> Void)?) {
    self.entries = entries
    self.size = size
    self.whenRead = whenRead
  }

  deinit {
    openFile.withLock { file in
      if file.descriptor >= 0 { close(file.descriptor) }
    }
  }

  /// Makes the bytes from `offset`.
  /// - Throws: `BootFailure` when a file can't be read, or not as much of it as before.
  func fill(_ buffer: UnsafeMutableRawBufferPointer, from offset: UInt64) throws(BootFailure) {
    var done = 0
    var index = entryIndex(at: offset)
    while done < buffer.count {
      guard index < entries.count else { break }
      let entry = entries[index]
      let position = offset + UInt64(done) - entry.offset
      let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
      let headSize = UInt64(entry.head.count)
      if position < headSize {
        let part = entry.head[Int(position)...].prefix(rest.count)
        rest.copyBytes(from: part)
        done += part.count
      } else if position < headSize + entry.size {
        let count = Int(min(headSize + entry.size - position, UInt64(rest.count)))
        try fill(UnsafeMutableRawBufferPointer(rebasing: rest[..<count]), entry, index, from: position - headSize)
        done += count
      } else {
        let end = index + 1 < entries.count ? entries[index + 1].offset : size
        let count = Int(min(end - entry.offset - position, UInt64(rest.count)))
        UnsafeMutableRawBufferPointer(rebasing: rest[..<count]).initializeMemory(as: UInt8.self, repeating: 0)
        done += count
        index += 1
      }
    }
    whenRead?(offset + UInt64(done))
  }

  private func entryIndex(at offset: UInt64) -> Int {
    var (low, high) = (0, entries.count)
    while low < high {
      let middle = (low + high) / 2
      if entries[middle].offset <= offset { low = middle + 1 } else { high = middle }
    }
    return max(low - 1, 0)
  }

  private func fill(
    _ buffer: UnsafeMutableRawBufferPointer, _ entry: Entry, _ index: Int, from position: UInt64
  ) throws(BootFailure) {
    switch entry.contents {
    case .none: break
    case .bytes(let bytes): buffer.copyBytes(from: bytes[Int(position)..<(Int(position) + buffer.count)])
    case .file(let path):
      guard let start = buffer.baseAddress else { return }
      nonisolated(unsafe) let target = start
      let size = buffer.count
      let problem: Errno? = openFile.withLock { file in
        if file.index != index {
          if file.descriptor >= 0 { close(file.descriptor) }
          file.descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
          file.index = index
        }
        guard file.descriptor >= 0 else { return Errno(rawValue: errno) }
        var done = 0
        while done < size {
          let count = pread(file.descriptor, target + done, size - done, off_t(position) + off_t(done))
          if count == 0 { return .noData }
          if count > 0 { done += count } else if errno != EINTR { return Errno(rawValue: errno) }
        }
        return nil
      }
      guard let problem else { return }
      let name = String(decoding: path.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
      throw BootFailure(name, problem == .noData ? .shrank(offset: position) : .cannotRead(offset: position, problem))
    }
  }
}
