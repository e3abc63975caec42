import ArgumentParser
import TrivisorCommandChannel

/// `trivisor shell`.
struct ShellCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "shell",
    abstract: "Open a shell in a guest that runs.",
    usage: "trivisor shell <name> [<options>]",
    discussion: """
      The guest is one that 'trivisor run … --name NAME' runs. The shell is the user's by the root's etc/passwd, or /bin/sh.
      Ctrl-A x leaves it, Ctrl-A h helps.
      """)

  @Argument(help: "The guest's name.")
  var name: String

  @OptionGroup
  var options: GuestCommandOptions

  /// The shell of etc/passwd may not be in the root.
  private static let text = #"[ -x "$SHELL" ] && exec "$SHELL"; exec /bin/sh"#

  func run() throws { Diagnostics.end(try options.run(.shell(Self.text), in: name)) }
}
