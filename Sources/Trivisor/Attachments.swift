import Glibc
import TrivisorDevices
import TrivisorPlatform
import TrivisorVMM

/// Where something that a guest writes goes.
public struct OutputAttachment: Sendable {
  enum Kind {
    case discarded
    case stream(ByteStream)
    case descriptor(FileDescriptor, closesWhenOver: Bool)
  }

  let kind: Kind

  /// Nowhere.
  public static let discarded = OutputAttachment(kind: .discarded)

  /// To this program's tasks.
  public static func stream(_ stream: ByteStream) -> OutputAttachment { OutputAttachment(kind: .stream(stream)) }

  /// To a file, a pipe, a socket or a terminal. It stays the caller's unless `closesWhenOver`: then the run closes it at its
  /// end, so that the reader of a pipe finds the end. A run whose reader is gone ends with `Outcome.outputClosed`.
  ///
  /// SIGPIPE is ignored in this process from then on.
  public static func fileDescriptor(
    _ descriptor: FileDescriptor, closesWhenOver: Bool = false
  ) -> OutputAttachment {
    OutputAttachment(kind: .descriptor(descriptor, closesWhenOver: closesWhenOver))
  }

  /// - Parameter whenBroken: the reader is gone; `nil` where nothing will be written.
  func sink(whenBroken: (@Sendable (Errno) -> Void)?) -> any SerialSink {
    guard let whenBroken else { return NullSink() }
    return switch kind {
    case .discarded: NullSink()
    case .stream(let stream): stream.sink
    case .descriptor(let descriptor, let closesWhenOver):
      DescriptorSink(descriptor, closesWhenOver: closesWhenOver, whenBroken: whenBroken)
    }
  }

  /// There is no run that would write to it.
  func giveUp() {
    switch kind {
    case .discarded, .descriptor(_, closesWhenOver: false): break
    case .stream(let stream): stream.finish()
    case .descriptor(let descriptor, closesWhenOver: true): try? descriptor.close()
    }
  }

  private final class NullSink: SerialSink {
    func write(_ bytes: UnsafeRawBufferPointer) {}
    func finish() {}
    func abandon() {}
  }

  private final class DescriptorSink: SerialSink {
    private let sink: FileDescriptorSink
    private let descriptor: FileDescriptor
    private let closesWhenOver: Bool

    init(_ descriptor: FileDescriptor, closesWhenOver: Bool, whenBroken: @escaping @Sendable (Errno) -> Void) {
      self.descriptor = descriptor
      self.closesWhenOver = closesWhenOver
      sink = FileDescriptorSink(descriptor.rawValue, whenBroken: whenBroken)
    }

    func write(_ bytes: UnsafeRawBufferPointer) { sink.write(bytes) }
    func finish() { sink.finish() }
    func abandon() { sink.abandon() }
    func close() {
      sink.close()
      if closesWhenOver { try? descriptor.close() }
    }
  }
}

/// Where something that a guest reads comes from.
public struct InputAttachment: Sendable {
  enum Kind {
    case stream(ByteInput)
    case descriptor(FileDescriptor)
  }

  let kind: Kind

  /// From this program.
  public static func stream(_ input: ByteInput) -> InputAttachment { InputAttachment(kind: .stream(input)) }

  /// From a file, a pipe or a socket, to its end. It stays the caller's.
  public static func fileDescriptor(_ descriptor: FileDescriptor) -> InputAttachment {
    InputAttachment(kind: .descriptor(descriptor))
  }

  var input: SerialInput {
    switch kind {
    case .stream(let input): SerialInput(fileDescriptor: input.descriptorForGuest.rawValue, isTerminal: false)
    case .descriptor(let descriptor): SerialInput(fileDescriptor: descriptor.rawValue, isTerminal: false)
    }
  }

  func finish() { if case .stream(let input) = kind { input.finish() } }
}
