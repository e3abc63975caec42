import TrivisorCommandChannel
import TrivisorDevices
import Glibc
import TrivisorPlatform
import SystemPackage
import TrivisorVMM

/// What a command in a guest reads and writes, and where its kernel's log goes.
struct CommandLines {
  /// So much of the log is kept, and so much of it shown when a run fails.
  private static let logLimit = 64 << 10
  private static let linesShown = 24
  private static let logOption = "--kernel-log"

  let channel: CommandChannel
  let log: LogSink
  private let logIsShown: Bool
  /// A file that gets the log, and its name.
  private let file: (descriptor: FileDescriptor, name: String)?

  /// - Parameters:
  ///   - terminal: whether the command gets one: where a person sits at ours.
  ///   - logFile: gets the whole log.
  ///   - showsLog: the log goes to standard error as it comes.
  /// - Throws: `Refusal`.
  init(
    _ order: CommandOrder, terminal: Bool, output: any SerialSink, logFile: String?, showsLog: Bool,
    whenBroken: @escaping @Sendable (LostOutput.Place, Errno) -> Void
  ) throws {
    var order = order
    order.terminal = terminal ? HostTerminal.size : nil
    let errors = FileDescriptorSink(STDERR_FILENO) { whenBroken(.standardError, $0) }
    do throws(CommandOrder.Refusal) {
      channel = try CommandChannel(order, output: output, errorOutput: errors)
    } catch {
      throw Refusal(status: .usage, message: "--exec: \(error)")
    }
    var sinks: [any SerialSink] = showsLog ? [errors] : []
    file = try logFile.map { (try ResultFile.open($0, option: Self.logOption), $0) }
    if let file {
      // The guest goes on without it.
      sinks.append(
        FileDescriptorSink(file.descriptor.rawValue) { [name = file.name] error in
          Diagnostics.noteLost(.file(name, option: Self.logOption), error)
        })
    }
    log = LogSink(limit: Self.logLimit, sinks: sinks)
    logIsShown = showsLog
  }

  /// When the log is written.
  func close() {
    guard let file else { return }
    log.close()
    ResultFile.close(file.descriptor, named: file.name, option: Self.logOption)
  }

  /// Tells the command of a change.
  func resize() { channel.resize(HostTerminal.size) }

  /// What the kernel said last, where the command's end is not what ended the guest.
  func explain(_ outcome: Outcome) {
    switch outcome {
    case .commandEnded, .stopped(.user), .stopped(.signal), .stopped(.request), .stopped(.outputClosed), .failed: return
    case .stopped(.timeout):
      guard channel.progress == .waiting else { return }
      Diagnostics.say("the guest had not come as far as to begin the command")
    default: break
    }
    guard !logIsShown else { return }
    let lines = log.lastLines(Self.linesShown)
    guard !lines.isEmpty else { return }
    Diagnostics.say("the guest's kernel said last:\n" + lines.map { "  " + $0 }.joined(separator: "\n"))
  }
}
