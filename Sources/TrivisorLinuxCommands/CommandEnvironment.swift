import Glibc
import TrivisorVMM

/// The variables of a command in a guest: what its user has anyway, and what somebody asked for.
package struct CommandEnvironment: Sendable {
  /// `NAME=value` each, one a name.
  private var asked: [String] = []
  private let terminal: String

  /// - Parameter arguments: `NAME=value`, or `NAME` for this process's own value.
  /// - Throws: `WorkplaceRefusal` for one without a name.
  package init(_ arguments: [String]) throws {
    terminal = getenv("TERM").map { String(cString: $0) } ?? "dumb"
    for argument in arguments {
      let name = argument.prefix { $0 != "=" }
      guard !name.isEmpty else {
        throw WorkplaceRefusal(
          status: .usage, message: "\(Setting.environment): '\(argument)' names no variable: give NAME=VALUE, or NAME")
      }
      asked.removeAll { $0.hasPrefix(name + "=") }
      if name.endIndex < argument.endIndex {
        asked.append(argument)
      } else if let value = getenv(argument) {
        asked.append("\(argument)=\(String(cString: value))")
      }
    }
  }

  /// What goes to a guest that somebody else runs: the terminal's type and what was asked for.
  package var passing: [String] { Self.merge(["TERM=\(terminal)"], asked) }

  /// All of them.
  /// - Parameter further: prevail.
  func variables(of user: GuestUser, further: [String] = []) -> [String] {
    var own = [
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=\(user.home)", "USER=\(user.name)",
      "LOGNAME=\(user.name)", "TERM=\(terminal)",
    ]
    if let shell = user.shell { own.append("SHELL=\(shell)") }
    return Self.merge(Self.merge(own, asked), further)
  }

  private static func merge(_ variables: [String], _ prevailing: [String]) -> [String] {
    let names = prevailing.map { $0.prefix { $0 != "=" } + "=" }
    return variables.filter { variable in !names.contains { variable.hasPrefix($0) } } + prevailing
  }
}
