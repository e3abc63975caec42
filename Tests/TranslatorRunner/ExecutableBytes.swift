import Glibc

/// The code of an ELF file: what its executable segments hold.
final class ExecutableBytes {
  private let bytes: UnsafeRawBufferPointer
  private var segments: [Range<Int>] = []

  /// - Returns: `nil` for what is no 64-bit ELF or can't be read.
  init?(path: String) {
    let descriptor = open(path, O_RDONLY)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_size >= 64 else { return nil }
    let mapping = mmap(nil, Int(status.st_size), PROT_READ, MAP_PRIVATE, descriptor, 0)
    guard let mapping, mapping != MAP_FAILED else { return nil }
    bytes = UnsafeRawBufferPointer(start: mapping, count: Int(status.st_size))
    let header = bytes.loadUnaligned(fromByteOffset: 32, as: UInt64.self)
    guard bytes.loadUnaligned(as: UInt32.self) == 0x464c_457f, bytes[4] == 2, header < UInt64(bytes.count) else {
      return nil
    }
    for number in 0..<Int(bytes.loadUnaligned(fromByteOffset: 56, as: UInt16.self)) {
      let place = Int(header) + 56 * number
      guard place + 56 <= bytes.count else { return nil }
      guard bytes.loadUnaligned(fromByteOffset: place, as: UInt32.self) == PT_LOAD,
        bytes.loadUnaligned(fromByteOffset: place + 4, as: UInt32.self) & UInt32(PF_X) != 0
      else { continue }
      let start = bytes.loadUnaligned(fromByteOffset: place + 8, as: UInt64.self)
      let size = bytes.loadUnaligned(fromByteOffset: place + 32, as: UInt64.self)
      guard start < UInt64(bytes.count), size <= UInt64(bytes.count) - start else { return nil }
      segments.append(Int(start)..<Int(start + size))
    }
  }

  deinit { munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count) }

  func forEachPage(_ body: (UnsafeRawBufferPointer) -> Void) {
    for segment in segments {
      for start in stride(from: segment.lowerBound, to: segment.upperBound, by: 4096) {
        body(UnsafeRawBufferPointer(rebasing: bytes[start..<min(start + 4096, segment.upperBound)]))
      }
    }
  }
}
