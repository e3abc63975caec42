import TrivisorCommandChannel
import TrivisorConfinement
import TrivisorDebugger
import TrivisorLinuxCommands
import TrivisorDevices
import TrivisorFileServer
import Glibc
import Synchronization
import TrivisorGuestProcess
import TrivisorNamedGuests
import TrivisorNetworking
import TrivisorPlatform
import SystemPackage
import TrivisorVMM

/// One run of one guest between the terminal, the machine and the exit status.
struct RunSession {
  let guest: GuestImage
  let choice: TechniqueChoice
  /// When the command began, on the host's monotonic clock.
  let began: UInt64
  /// When the process was made: what it had computed until it began is all that lies between, unless it had to wait.
  let execution: UInt64
  var configuration: PlatformConfiguration
  /// Whether standard input and output are a virtio console's; with a command, whether the kernel's log goes there.
  var usesVirtioConsole = false
  /// What the guest is to run, if its own first process is not to.
  var command: CommandOrder?
  /// Where the kernel's log goes besides, if there is a command.
  var kernelLog: String?
  /// By which further commands reach the guest.
  var name: String?
  /// How those are made like the first one.
  var furtherCommands: FurtherCommands?
  var timeLimit: UInt64?
  var showsStatistics = false
  var isVerbose = false
  /// Whether the line on the technique is left out.
  var isQuiet = false
  var resultFile: String?
  /// Whether the process gives up what the run does not need.
  var isConfined = true
  /// Of the host's files, beside those that the configuration names: packed into archives when the guest's memory is filled.
  var packed: [FilePath] = []
  /// What the guest's network interfaces are plugged into.
  var networks: [GuestNetwork] = []
  var debugger: DebuggerServer?
  /// Which file gets a trace; and what ends it when the guest has run, and says why not all of it is there.
  var trace: (place: LostOutput.Place, finish: () -> Errno?)?
  /// Whether it is a paravirtual domain whose code can't run natively.
  var isTranslated = false

  /// Runs the guest.
  /// - Returns: the process's exit status.
  /// - Throws: `Refusal`, `BootFailure`: nothing ran.
  func run() throws -> Int32 {
    let foreground = HostTerminal.foreground()
    let hasInput = foreground != nil || isatty(STDIN_FILENO) == 0
    // A command whose output goes elsewhere is no dialogue: it gets pipes, and our terminal stays as it is.
    let terminal = command == nil || isatty(STDOUT_FILENO) != 0 ? foreground : nil
    let (machine, lines) = try makeMachine(input: hasInput, isTerminal: terminal != nil)
    // Opened before the guest runs: a result that can't be written is told before the work, not after it.
    let server = try makeServer()
    defer { server?.close() }
    let resultDescriptor = try resultFile.map { try ResultFile.open($0, option: Self.resultOption) }
    HostTerminal.block(EndingSignals.all + [SIGCONT, SIGWINCH])
    var options = RunOptions()
    options.timeLimit = timeLimit
    options.endingSignals = EndingSignals.all
    let confinement = confine(&options)
    if let lines, let server { try start(server, lines.channel, machine) }
    if !isQuiet { announce() }
    if let debugger {
      options.debugger = debugger
      let waiting = debugger.waits ? "the guest waits for the debugger" : "a debugger may come"
      Diagnostics.report("\(waiting): target remote \(debugger.name)")
    }
    defer { debugger?.close() }
    if let terminal {
      HostTerminal.makeRaw(terminal)
      options.whenContinued = { try? terminal.makeRaw() }
      options.whenHelpWanted = { Diagnostics.say("\n" + EscapeFilter.help) }
      if let lines { options.whenResized = { lines.resize() } }
    }
    defer { terminal?.restore() }
    let result: RunResult
    do throws(MachineFailure) {
      result = try machine.runOnThisThread(options)
    } catch {
      terminal?.restore()
      switch error {
      case .boot(let failure): throw failure
      case .device(let failure):
        throw Refusal(status: failure.isShortage ? .failed : .notLoaded, message: failure.description)
      case .memory, .technique, .restore: throw Refusal(status: .failed, sentence: error.sentence)
      }
    }
    terminal?.restore()
    lines?.close()
    if let trace, let failure = trace.finish() { Diagnostics.noteLost(trace.place, failure) }
    // Of lost output, the end of the process tells.
    if Diagnostics.lostOutput == nil {
      explain(result.outcome, timeLimit: timeLimit)
      lines?.explain(result.outcome)
    }
    if isVerbose {
      for note in result.notes { Diagnostics.report(note) }
      let confinement = confinement.value
      Diagnostics.report("confined by \(confinement.title)")
      for shortcoming in confinement.shortcomings { Diagnostics.report("not confined by \(shortcoming)") }
    }
    if showsStatistics { Diagnostics.report(StatisticsText.of(result, since: execution)) }
    let outcome = Self.outcome(result)
    let status = ExitStatus.of(outcome, resetPolicy: configuration.resetPolicy)
    if let resultDescriptor {
      let report = RunReport(
        self, result: result, outcome: outcome, status: status, confinement: confinement.value)
      ResultFile.write(
        try JSONText.of(report) + "\n", to: resultDescriptor, named: resultFile ?? "", option: Self.resultOption)
    }
    return status
  }

  /// Takes the guest's name, before there is a guest.
  private func makeServer() throws -> GuestServer? {
    try name.map { name in
      try Self.named { () throws(NamedGuestFailure) in try GuestServer(name, in: try RuntimeFolder()) }
    }
  }

  private func start(_ server: GuestServer, _ channel: CommandChannel, _ machine: VirtualMachine) throws {
    guard let furtherCommands else { return }
    let memory = configuration.machine.memorySize
    try Self.named { () throws(NamedGuestFailure) in
      try server.start(
        channel, completing: { (order) throws(CommandOrder.Refusal) in try furtherCommands.complete(order) },
        answering: { BalloonQuestion.answer($0, machine, memory: memory) })
    }
  }

  private static func named<Result>(_ body: () throws(NamedGuestFailure) -> Result) throws -> Result {
    do throws(NamedGuestFailure) {
      return try body()
    } catch {
      throw Refusal(status: error.kind == .usage ? .usage : .failed, message: "--name: \(error)")
    }
  }

  private static let resultOption = "--json"

  /// What confines the process, from the thread that makes the machine on.
  private final class ConfinementState: Sendable {
    private let confinement = Mutex(Confinement())
    var value: Confinement { confinement.withLock { $0 } }
    func change(_ body: (inout Confinement) -> Void) { confinement.withLock { body(&$0) } }
  }

  /// Gives up the host's files at once, and system calls when the machine is made.
  private func confine(_ options: inout RunOptions) -> ConfinementState {
    let state = ConfinementState()
    // Whoever has a debugger at the guest comes and goes by sockets, and may do anything with it.
    guard isConfined, debugger == nil else { return state }
    // Before there is no such file any more: how much memory was used is read there at the end.
    ResidentMemory.open()
    var needs = ConfinementNeeds(configuration, technique: choice.technique.name, packed: packed)
    if name != nil {
      if let folder = try? RuntimeFolder().path { needs.places.append(Confinement.Place(folder, .change)) }
      needs.opensFiles = true
    }
    needs.takesConnections = name != nil || networks.contains(where: \.acceptsConnections)
    state.change { $0.restrictFiles(to: needs) }
    options.whenAssembled = { [needs] in
      state.change { $0.restrictCalls(needs) }
      #if DEBUG
      Self.runPlantedBug()
      #endif
    }
    return state
  }

  #if DEBUG
  /// The tests' guest that has got out of its machine.
  private static func runPlantedBug() {
    guard let places = getenv("TRIVISOR_PLANTED_BUG").map({ String(cString: $0) }) else { return }
    let words = places.split(separator: ":").map(String.init)
    guard words.count == 2 else { return }
    let isDone = Monitor(false)
    let attempt: @Sendable () -> Void = {
      for line in PlantedBug.attempts(reading: words[0], writing: words[1]) { Diagnostics.say("planted: \(line)") }
      isDone.with { $0 = true }
    }
    guard DetachedThread.start(attempt) else { return }
    isDone.wait { $0 ? () : nil }
  }
  #endif

  /// How the run ended. A guest whose output is lost has not done what it was run for, whatever it made of itself.
  private static func outcome(_ result: RunResult) -> Outcome {
    guard let loss = Diagnostics.lostOutput else { return result.outcome }
    guard loss.error != .brokenPipe else { return .stopped(.outputClosed) }
    return .failed(TechniqueFailure(call: loss.call, reason: loss.error.description))
  }

  /// Ends with the usage status if something can't be honoured: one line each.
  static func refuse(_ findings: [Finding]) throws {
    guard let last = findings.last else { return }
    for finding in findings.dropLast() { Diagnostics.say(finding.sentence) }
    throw Refusal(status: .usage, sentence: last.sentence)
  }

  /// Which technique, why, and what of the processor model is left out: always said.
  private func announce() {
    let reductions = choice.technique.reductions(for: configuration.machine)
    let model = configuration.machine.processorModel
    var line = "technique \(choice.technique.name.rawValue)"
    if isTranslated { line += ", translated" }
    line += " (\(choice.reason.forCommandLine))"
    if !model.isRequired, !reductions.isEmpty {
      let what = reductions.count == 1 ? "1 feature" : "\(reductions.count) features"
      line += ", processor \(model.name) without \(what) that this host lacks"
    }
    Diagnostics.say(line)
    if isVerbose, !model.isRequired, !reductions.isEmpty {
      Diagnostics.report("left out: " + reductions.map(\.rawValue).joined(separator: " "))
    }
  }

  private func makeMachine(input: Bool, isTerminal: Bool) throws -> (VirtualMachine, CommandLines?) {
    let broken = BrokenOutput()
    var configuration = configuration
    let whenBroken: @Sendable (LostOutput.Place, Errno) -> Void = { place, error in
      Diagnostics.noteLost(place, error)
      broken.tell()
    }
    var sink: any SerialSink = FileDescriptorSink(STDOUT_FILENO) { whenBroken(.standardOutput, $0) }
    var consoleInput = input ? SerialInput(fileDescriptor: STDIN_FILENO, isTerminal: isTerminal) : nil
    var lines: CommandLines?
    if let command {
      let made = try CommandLines(
        command, terminal: isTerminal, output: sink, logFile: kernelLog, showsLog: isVerbose, whenBroken: whenBroken)
      configuration.command = CommandConfiguration(channel: made.channel, input: consoleInput)
      (sink, consoleInput, lines) = (made.log, nil, made)
    }
    configuration.serialPorts = [SerialPortConfiguration(output: sink, input: usesVirtioConsole ? nil : consoleInput)]
    if usesVirtioConsole {
      let size = isTerminal ? Terminal.size(of: STDOUT_FILENO) : nil
      configuration.virtioConsole = VirtioConsoleConfiguration(
        output: sink, input: consoleInput, size: size.map { VirtioConsole.Size(columns: $0.columns, rows: $0.rows) })
    }
    try Self.refuse(configuration.validate(for: choice.technique))
    let machine = VirtualMachine(configuration, technique: choice.technique)
    broken.connect { machine.stop(.outputClosed) }
    return (machine, lines)
  }

  /// One line on why the run ended, unless it ended well or the guest said its own code.
  private func explain(_ outcome: Outcome, timeLimit: UInt64?) {
    switch outcome {
    case .exited, .commandEnded, .poweredOff, .stopped(.outputClosed), .stopped(.request): break
    case .commandLost(let reason): Diagnostics.say("there is no status of the command: \(reason)")
    case .reset:
      if command != nil {
        Diagnostics.say("the guest reset the machine before there was a status of the command")
      } else if configuration.resetPolicy == .failure {
        Diagnostics.say("the guest reset the machine without an exit code (--on-reset=success takes that for success)")
      }
    case .panicked(let panic):
      let what =
        panic.isEndOfInit ? "the guest's first process ended, so its kernel panicked" : "the guest's kernel panicked"
      Diagnostics.say(what + (panic.reason.map { ": \($0)" } ?? ""))
    case .tripleFault: Diagnostics.say("the guest crashed: triple fault")
    case .halted:
      Diagnostics.say("the guest halted for good: every processor stands at HLT with interrupts off, and no exit code")
    case .crashed(let report):
      Diagnostics.say("the guest crashed: \(report.summary)")
      if let state = report.state { Diagnostics.say(RegistersText.of(state, instruction: report.instruction)) }
    case .stopped(.timeout):
      Diagnostics.say("the guest was ended: it ran longer than \(Double(timeLimit ?? 0) / 1e9) s")
    case .stopped(.signal(let number)): Diagnostics.say("the guest was ended by signal \(EndingSignals.title(number))")
    case .stopped(.user): Diagnostics.say("the guest was ended at the terminal")
    case .failed(let failure): Diagnostics.say(failure.sentence)
    }
  }
}
