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

  let channel: CommandChannel
  let log: LogSink
  private let logIsShown: Bool

  /// - Parameters:
  ///   - terminal: whether the command gets one: where a person sits at ours.
  ///   - logFile: gets the whole log.
  ///   - showsLog: the log goes to standard error as it comes.
  /// - Throws: `Refusal`.
  init(
    _ order: CommandOrder, terminal: Bool, output: any SerialSink, logFile: String?, showsLog: Bool,
    whenBroken: @escaping @Sendable (Errno) -> Void
  ) throws {
    var order = order
    order.terminal = terminal ? HostTerminal.size : nil
    let errors = FileDescriptorSink(STDERR_FILENO, whenBroken: whenBroken)
    do throws(CommandOrder.Refusal) {
      channel = try CommandChannel(order, output: output, errorOutput: errors)
    } catch {
      throw Refusal(status: .usage, message: "--exec: \(error)")
    }
    var sinks: [any SerialSink] = showsLog ? [errors] : []
    if let logFile {
      do {
        // Open as long as the process is.
        let descriptor = try FileDescriptor.open(
          FilePath(logFile), .writeOnly, options: [.create, .truncate, .closeOnExec],
          permissions: [.ownerReadWrite, .groupRead, .otherRead])
        sinks.append(
          FileDescriptorSink(descriptor.rawValue) { error in
            Diagnostics.say("--kernel-log: \(logFile) can't be written: \(error)")
          })
      } catch {
        throw Refusal(status: .usage, message: "--kernel-log: \(logFile) can't be written: \(error)")
      }
    }
    log = LogSink(limit: Self.logLimit, sinks: sinks)
    logIsShown = showsLog
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
