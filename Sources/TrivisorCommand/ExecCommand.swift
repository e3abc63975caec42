import ArgumentParser
import TrivisorCommandChannel

/// `trivisor exec`.
struct ExecCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "exec",
    abstract: "Run one more command in a guest that runs, and end with its status.",
    usage: "trivisor exec --into <name> [<options>] -- <command> ...",
    discussion: """
      The guest is one that 'trivisor run … --name NAME' runs. Standard input, output and error are the command's; between
      terminals it gets a terminal. A signal to this process is the command's; the second of a kind ends this process.

        trivisor run vmlinuz --root / --name build -- make check &
        trivisor exec --into build -- ps ax
      """)

  @Option(name: .customLong("into"), help: ArgumentHelp("The guest's name.", valueName: "name"))
  var name: String

  @OptionGroup
  var options: GuestCommandOptions

  @Argument(
    parsing: .postTerminator,
    help: ArgumentHelp("Behind --: the program and its arguments.", valueName: "command"))
  var command: [String] = []

  func run() throws {
    guard !command.isEmpty else {
      throw Refusal(
        status: .usage,
        message: "exec: there is no command: give a program and its arguments behind --, or take"
          + " 'trivisor shell \(name)'")
    }
    Diagnostics.end(try options.run(.words(RawWords.last(command)), in: name))
  }
}
