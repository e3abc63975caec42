import Glibc
import TrivisorCLinux
import TrivisorVMM

/// The pipes between a worker and the streams of its owner, each with a thread.
final class WorkerStreams: Sendable {
  private struct Pumps {
    var pipes: [(stream: ByteStream, reader: FileDescriptor)] = []
    var writers: [FileDescriptor] = []
    var streams: [ByteStream] = []
    var running = 0
  }

  private let pumps = Monitor(Pumps())

  deinit {
    pumps.with { pumps in
      for descriptor in pumps.writers + pumps.pipes.map(\.reader) { try? descriptor.close() }
    }
  }

  /// The attachment as the worker is to have it.
  func replaced(_ attachment: OutputAttachment) throws(Errno) -> OutputAttachment {
    guard case .stream(let stream) = attachment.kind else { return attachment }
    var ends: [Int32] = [-1, -1]
    guard pipe2(&ends, O_CLOEXEC) == 0 else { throw Errno(rawValue: errno) }
    let (reader, writer) = (FileDescriptor(rawValue: ends[0]), FileDescriptor(rawValue: ends[1]))
    pumps.with { pumps in
      pumps.pipes.append((stream, reader))
      pumps.writers.append(writer)
    }
    return .fileDescriptor(writer)
  }

  /// The worker has its ends: what it writes goes to the streams from now on.
  func begin() {
    let pipes = pumps.with { pumps in
      for writer in pumps.writers { try? writer.close() }
      pumps.writers = []
      defer { pumps.pipes = [] }
      pumps.running = pumps.pipes.count
      for (stream, _) in pumps.pipes { pumps.streams.append(stream) }
      return pumps.pipes
    }
    for (stream, reader) in pipes {
      let work: @Sendable () -> Void = { [self] in
        Self.pump(reader, to: stream)
        pumps.with { $0.running -= 1 }
      }
      if !DetachedThread.start(work) {
        stream.finish()
        try? reader.close()
        pumps.with { $0.running -= 1 }
      }
    }
  }

  /// The worker is gone: waits until all that it wrote is in the streams. What a worker that was taken over has left behind may
  /// hold a pipe open; then the streams end all the same.
  func finish() {
    let streams = pumps.with { $0.streams }
    for stream in streams { stream.takeEverything() }
    if pumps.wait(milliseconds: 5000, { $0.running == 0 ? () : nil }) == nil {
      for stream in streams { stream.finish() }
    }
  }

  private static func pump(_ reader: FileDescriptor, to stream: ByteStream) {
    let sink = stream.sink
    withUnsafeTemporaryAllocation(byteCount: 16 << 10, alignment: 16) { buffer in
      while true {
        let count = read(reader.rawValue, buffer.baseAddress, buffer.count)
        if count > 0 {
          sink.write(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
        } else if count == 0 || errno != EINTR {
          break
        }
      }
    }
    try? reader.close()
    sink.close()
  }
}
