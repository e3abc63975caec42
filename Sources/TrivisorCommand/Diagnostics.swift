import Glibc
import Synchronization
import SystemPackage
import TrivisorVMM

/// Lines for the person at the terminal: on standard error, each with the program's name; and what was asked for, on
/// standard output.
///
/// What was asked for and can't be written is remembered, wherever it was to be: a command that loses its output must not
/// end as if it had not. What is said of a run unasked is dropped where standard error doesn't take it: there is no other
/// place to say it, and the status tells how the run ended.
enum Diagnostics {
  /// What is known of output that does not arrive.
  private struct State {
    var loss: LostOutput?
    /// Whether something that was asked for is on standard error.
    var hasReported = false
  }

  private static let state = Mutex(State())

  /// What was asked for and is lost, if something is.
  static var lostOutput: LostOutput? { state.withLock { $0.loss } }

  /// Something that was asked for is lost; the first reason counts. Of a file this tells at once, of the others the end.
  static func noteLost(_ place: LostOutput.Place, _ error: Errno) {
    let loss = LostOutput(place: place, error: error)
    state.withLock { $0.loss = $0.loss ?? loss }
    if case .file = place, error != .brokenPipe { say(loss.sentence) }
  }

  /// One sentence, without a newline.
  static func say(_ message: String) { draw(fitted("trivisor: " + message, STDERR_FILENO) + "\n") }

  /// As `say`, of what was asked for: it is output.
  static func report(_ message: String) {
    write(fitted("trivisor: " + message, STDERR_FILENO) + "\n", to: .standardError)
  }

  /// A library's sentence, with settings named by their options.
  static func say(_ sentence: Sentence) { say(sentence.forCommandLine) }

  /// Text for standard output.
  static func print(_ text: String) { write(text + "\n") }

  /// Sentences for standard output, for a person.
  static func tell(_ text: String) { print(fitted(text, STDOUT_FILENO)) }

  /// The parser's text for standard output, whose lines are whole. A help text is made to fit the terminal; completions, and what
  /// else is for programs, stay as they are.
  static func showHelp(_ text: String) {
    let isHelp = text.hasPrefix("OVERVIEW: ") || text.hasPrefix("USAGE: ")
    print(isHelp ? TerminalText.wrappedHelp(text, columns: helpColumns) : text)
  }

  /// What the environment says (COLUMNS), else the terminal's.
  private static var helpColumns: Int {
    if let text = getenv("COLUMNS"), let columns = Int(String(cString: text)), columns > 0 { return columns }
    return HostTerminal.columns(of: STDOUT_FILENO) ?? 80
  }

  /// The parser's lines about a wrong command line.
  static func explain(_ text: String) { draw(fitted(text, STDERR_FILENO) + "\n") }

  /// With lines that fit, if somebody sees them on a terminal.
  private static func fitted(_ text: String, _ descriptor: Int32) -> String {
    guard isatty(descriptor) != 0, let columns = HostTerminal.columns(of: descriptor) else { return text }
    return TerminalText.wrapped(text, columns: columns)
  }

  /// Text for standard output, or for standard error, as it is. After a loss there, nothing more is written: it would not
  /// follow what stands there.
  static func write(_ text: String, to place: LostOutput.Place = .standardOutput) {
    guard lostOutput?.place != place else { return }
    let isForErrors = place == .standardError
    if isForErrors { state.withLock { $0.hasReported = true } }
    guard let error = OutputDescriptor.write(text.utf8, to: isForErrors ? STDERR_FILENO : STDOUT_FILENO) else { return }
    noteLost(place, error)
  }

  /// Text for the terminal on standard error as it is.
  static func draw(_ text: String) { _ = OutputDescriptor.write(text.utf8, to: STDERR_FILENO) }

  /// How far a root folder is packed; the line goes when all is.
  static func showPacking(_ done: UInt64, _ total: UInt64) {
    draw("\rtrivisor: packing \(done >> 20) of \(total >> 20) MiB\u{1b}[K")
    if done >= total { draw("\r\u{1b}[K") }
  }

  /// Ends the process: with `status` if all output is where it was to be, else as a failure of the host's, or as a
  /// program whose reader is gone.
  static func end(_ status: Int32) -> Never {
    // Some file systems tell only now that there was no room.
    if close(STDOUT_FILENO) != 0, errno != EINTR { noteLost(.standardOutput, Errno(rawValue: errno)) }
    if let lostOutput {
      if lostOutput.error == .brokenPipe { exit(ExitStatus.outputClosed.rawValue) }
      if case .file = lostOutput.place {} else { say(lostOutput.sentence) }
      exit(ExitStatus.failed.rawValue)
    }
    let isLost = close(STDERR_FILENO) != 0 && errno != EINTR && state.withLock { $0.hasReported }
    exit(isLost ? ExitStatus.failed.rawValue : status)
  }
}

/// Ends the process through the parser with a status, after the one sentence that says why.
struct Refusal: Error {
  /// What the process ends with.
  let status: ExitStatus
  /// One sentence.
  let message: String

  /// - Parameter message: one sentence.
  init(status: ExitStatus, message: String) {
    self.status = status
    self.message = message
  }

  /// - Parameter sentence: a library's; settings are named by their options.
  init(status: ExitStatus, sentence: Sentence) {
    self.init(status: status, message: sentence.forCommandLine)
  }
}
