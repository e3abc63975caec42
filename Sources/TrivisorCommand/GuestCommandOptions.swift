import ArgumentParser
import Glibc
import TrivisorCommandChannel
import TrivisorLinuxCommands
import TrivisorDevices
import TrivisorNamedGuests

/// What a further command in a running guest can have, and its run.
struct GuestCommandOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp("The command's folder in the guest. Default: the first command's.", valueName: "path"))
  var cwd: String?

  @Option(
    help: ArgumentHelp(
      "A variable for the command's environment, beside the first command's; without a value, this one's.",
      valueName: "name[=value]"))
  var env: [String] = []

  @Option(
    help: ArgumentHelp(
      "Who runs the command, by the root's etc/passwd or by number. Default: the first command's user.",
      valueName: "user[:group]"))
  var user: String?

  /// Runs a command in a guest.
  /// - Returns: the process's exit status.
  func run(_ command: CommandOrder.Command, in name: String) throws -> Int32 {
    var order = CommandOrder(command, environment: try CommandEnvironment(env).passing)
    if let cwd {
      guard cwd.hasPrefix("/") else {
        throw Refusal(status: .usage, message: "--cwd: '\(cwd)' is no path from the root on: begin it with a slash")
      }
      order.steps.append(FurtherCommands.folderStep + cwd)
    }
    if let user { order.steps.append(FurtherCommands.userStep + user) }
    let client: GuestClient
    do throws(NamedGuestFailure) {
      client = try GuestClient(name, in: try RuntimeFolder())
    } catch {
      throw Refusal(status: error.kind == .usage ? .usage : .failed, message: error.description)
    }
    let foreground = HostTerminal.foreground()
    let terminal = isatty(STDOUT_FILENO) != 0 ? foreground : nil
    if terminal != nil { order.terminal = HostTerminal.size }
    let hasInput = foreground != nil || isatty(STDIN_FILENO) == 0
    HostTerminal.block(GuestClient.awaitedSignals)
    let ends = GuestClient.Ends(
      input: hasInput ? STDIN_FILENO : nil, isTerminal: terminal != nil, size: { HostTerminal.size },
      whenContinued: { try? terminal?.makeRaw() },
      whenHelpWanted: { Diagnostics.say("\n" + EscapeFilter.help) })
    if let terminal { HostTerminal.makeRaw(terminal) }
    defer { terminal?.restore() }
    let outcome: GuestClient.Outcome
    do throws(CommandOrder.Refusal) {
      outcome = try client.run(
        order, output: FileDescriptorSink(STDOUT_FILENO) { Diagnostics.noteLost(.standardOutput, $0) },
        errorOutput: FileDescriptorSink(STDERR_FILENO) { Diagnostics.noteLost(.standardError, $0) }, ends)
    } catch {
      throw Refusal(status: .usage, message: "the command can't be given: \(error)")
    }
    terminal?.restore()
    switch outcome {
    case .ended(let status): return Int32(status.code)
    case .refused(let reason): throw Refusal(status: .usage, message: reason)
    case .lost(let reason): throw Refusal(status: .commandLost, message: reason)
    case .left: return ExitStatus.interrupted.rawValue
    case .interrupted(let signal): return 128 + signal
    }
  }
}
