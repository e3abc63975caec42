import Foundation
import Glibc
import Testing

/// What else a shell, a container or a CI job hands to a program.
@Suite("environments")
final class EnvironmentTests {
  private let shell: Shell

  init() throws { shell = try Shell() }

  @Test(
    "a signal that would end the process ends the run in order, with a sentence that names it",
    arguments: [
      ("HUP", SIGHUP), ("QUIT", SIGQUIT), ("ALRM", SIGALRM), ("USR1", SIGUSR1), ("USR2", SIGUSR2),
      ("VTALRM", SIGVTALRM),
      ("PROF", SIGPROF), ("POLL", SIGPOLL), ("PWR", SIGPWR), ("STKFLT", SIGSTKFLT), ("XCPU", SIGXCPU),
    ])
  func signal(name: String, number: Int32) throws {
    try shell.put(BootSector.writing("begun\n", then: BootSector.spin), as: "spin")
    let result = try shell.run(
      """
      $trivisor run spin --technique rewriting --timeout 60s --json result.json >output & process=$!
      until [ -s output ]; do sleep 0.05; done
      kill -\(number) $process; wait $process
      """)
    #expect(result.status == 128 + number)
    #expect(result.complaints.count == 1, "\(result.errors)")
    #expect(result.errors.contains("ended by signal \(number) (SIG\(name)"))
    #expect(shell.object("result.json")?["outcome"] as? String == "signalled")
    #expect(shell.bytes(of: "output") == Array("begun\n".utf8))
  }

  @Test("a real-time signal ends a test run in order")
  func realTimeSignal() throws {
    let result = try shell.run(
      """
      $trivisor test guest:crash --append loop --technique rewriting --timeout 60s & process=$!
      sleep 2; kill -40 $process; wait $process
      """)
    #expect(result.status == 128 + 40)
    #expect(result.text.contains("interrupted"))
  }

  @Test("SIGXFSZ and SIGPIPE end nothing, and an ignored SIGHUP stays ignored")
  func harmlessSignals() throws {
    let result = try shell.run(
      """
      trap '' HUP
      $trivisor run guest:crash --append loop --technique rewriting --timeout 3s & process=$!
      sleep 1; kill -HUP $process; kill -XFSZ $process; kill -PIPE $process; wait $process
      """)
    #expect(result.status == 124)
  }

  @Test("a parent that ignores SIGCHLD changes nothing", arguments: ["test", "run"])
  func ignoredChildSignal(command: String) throws {
    let result = try shell.run("trap '' CHLD; exec timeout 30 $trivisor \(command) guest:ring3 --technique paravirtual")
    #expect(result.status == 0)
  }

  @Test("a limit of file sizes below the guest's memory is named", arguments: ["rewriting", "paravirtual"])
  func fileSizeLimit(technique: String) throws {
    let result = try shell.run("ulimit -f 64; exec $trivisor run guest:hello --technique \(technique)")
    #expect(result.status == 125)
    #expect(result.complaints.count == 1, "\(result.errors)")
    #expect(result.errors.contains("ulimit -f"))
  }

  @Test("a limit of descriptors ends in a run or in a sentence", arguments: ["rewriting", "paravirtual", "hardware"])
  func descriptorLimit(technique: String) throws {
    guard technique != "hardware" || hasKVM else { return }
    // Below eight, the libraries of a build that is not static don't find room.
    for limit in 8...24 {
      let result = try shell.run("ulimit -n \(limit); exec $trivisor run guest:hello --technique \(technique)")
      #expect([0, 125].contains(result.status), "\(limit): \(result.errors)")
      if result.status == 0 { #expect(result.text.contains("Hello from")) }
      if result.status == 125 {
        #expect(result.complaints.count == 1 && result.errors.contains("ulimit -n"), "\(limit): \(result.errors)")
      }
    }
  }

  @Test("where memory can't become executable, translated code runs, and what can't says why")
  func denyWriteExecute() throws {
    // prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN), Linux 6.3 and later.
    let denied = "exec perl -e 'syscall(157, 65, 1, 0, 0, 0) == 0 or exit 99; exec @ARGV' $trivisor run guest:hello"
    let translated = try shell.run("\(denied) --technique rewriting")
    guard translated.status != 99 else { return }
    #expect(translated.status == 0, "\(translated.errors)")
    let native = try shell.run("\(denied) --technique paravirtual")
    #expect(native.status == 125)
    #expect(native.complaints.count == 1)
    #expect(native.errors.contains("PR_SET_MDWE"))
  }

  /// Runs the words behind it where nothing is mounted at /proc.
  private static let hidesProc = """
    unshare --mount --propagation private bash -c 'mount -t tmpfs none /proc && exec "$0" "$@"'
    """

  @Test(
    "without /proc, guests run, and run as tests", .enabled(if: geteuid() == 0),
    arguments: ["run guest:hello", "test guest:hello --json /dev/null", "doctor"],
    ["rewriting", "paravirtual"])
  func noProc(command: String, technique: String) throws {
    guard try shell.run("\(Self.hidesProc) true").status == 0 else { return }
    let words = command == "doctor" ? command : "\(command) --technique \(technique)"
    let result = try shell.run("\(Self.hidesProc) $trivisor \(words)")
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.output.isEmpty == false)
  }
}
