import Glibc
import TrivisorVMM

// Attachments cross as descriptors. A stream of the caller's is a pipe to the worker, see `WorkerStreams`.

extension OutputAttachment: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    // The worker's copy; the caller's is the caller's to close.
    self = try reader.read(Bool.self) ? .fileDescriptor(try reader.descriptor(), closesWhenOver: true) : .discarded
  }

  func write(to writer: inout WireWriter) {
    guard case .descriptor(let descriptor, _) = kind else { return writer.write(false) }
    writer.write(true)
    writer.write(descriptor: descriptor)
  }
}

extension InputAttachment: WireValue {
  init(from reader: inout WireReader) throws(WireFault) { self = .fileDescriptor(try reader.descriptor()) }

  func write(to writer: inout WireWriter) {
    switch kind {
    case .stream(let input): writer.write(descriptor: input.descriptorForGuest)
    case .descriptor(let descriptor): writer.write(descriptor: descriptor)
    }
  }
}
