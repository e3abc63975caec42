// A packed stream, from a range of an image to a sink, in pieces.
//
// Nothing is ever held whole: input is read and output handed over in chunks. The sink bounds what may come out, so a
// stream that unpacks to more than it announced ends in an error long before it has cost anything.

import TrivisorCCompression
import TrivisorVMM

/// Takes what a stream unpacks to, in order.
protocol DecompressionSink {
  /// Takes the next bytes.
  /// - Throws: `BootFailure` when they are more than was announced, or not what they should be.
  mutating func write(_ bytes: UnsafeRawBufferPointer) throws(BootFailure)
}

/// A packed range of an image.
struct PackedStream {
  let image: BootImage
  let format: CompressionFormat
  let offset: UInt64
  let length: UInt64

  private static let chunk = 256 << 10
  /// The largest window of Linux's own packing is 128 MiB.
  static let memoryLimit: UInt64 = 256 << 20

  /// Unpacks up to the stream's end; what follows it in the range is not looked at.
  /// - Throws: `BootFailure` when it is corrupt, cut off, or more than the sink takes.
  func unpack(into sink: inout some DecompressionSink) throws(BootFailure) {
    switch format {
    case .gzip: try pump(GzipDecoder(), &sink)
    case .bzip2: try pump(Bzip2Decoder(), &sink)
    case .xz: try pump(XZDecoder(alone: false), &sink)
    case .lzma: try pump(XZDecoder(alone: true), &sink)
    case .zstd: try pump(ZstandardDecoder(), &sink)
    case .lz4: try LZ4Decoder(stream: self).unpack(into: &sink)
    }
  }

  func corrupt(_ problem: String) -> BootFailure {
    BootFailure(image.name, .malformed(part: "its \(format.rawValue)-packed kernel", problem: problem))
  }

  private func pump(_ decoder: (some StreamDecoder)?, _ sink: inout some DecompressionSink) throws(BootFailure) {
    guard let decoder else { throw corrupt("needs more of the host's memory than there is to unpack it") }
    let input = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.chunk, alignment: 16)
    defer { input.deallocate() }
    let output = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.chunk, alignment: 16)
    defer { output.deallocate() }
    var position: UInt64 = 0
    var available = 0..<0
    while true {
      if available.isEmpty, position < length {
        let count = Int(min(length - position, UInt64(input.count)))
        try image.fill(UnsafeMutableRawBufferPointer(rebasing: input[..<count]), from: offset &+ position)
        position += UInt64(count)
        available = 0..<count
      }
      guard let step = decoder.decode(UnsafeMutableRawBufferPointer(rebasing: input[available]), into: output) else {
        throw corrupt("is not valid \(format.rawValue) data")
      }
      available = (available.lowerBound + step.consumed)..<available.upperBound
      try sink.write(UnsafeRawBufferPointer(rebasing: output[..<step.produced]))
      if step.isAtEnd { return }
      if step.consumed == 0, step.produced == 0 { throw corrupt("is cut off") }
    }
  }
}

/// What one call of a library did.
struct DecoderStep {
  let consumed: Int
  let produced: Int
  let isAtEnd: Bool
}

/// One of the libraries, its state allocated.
protocol StreamDecoder: AnyObject {
  /// Unpacks as much of `input` as fits `output`; `nil` for corrupt data.
  func decode(_ input: UnsafeMutableRawBufferPointer, into output: UnsafeMutableRawBufferPointer) -> DecoderStep?
}
