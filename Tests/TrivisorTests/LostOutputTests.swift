import Foundation
import Glibc
import Testing

/// What a shell can do to the first three descriptors. Everything here runs by rewriting, which every host has.
@Suite("closed descriptors and lost output")
final class LostOutputTests {
  private let shell: Shell
  private static let hello = "run guest:hello --technique rewriting"
  /// Every command that prints, and one that only writes what was asked for.
  private static let printing = [
    hello, "test guest:hello --technique rewriting", "compare guest:hello --techniques rewriting --repeat 1",
    "compare guest:hello --techniques rewriting --repeat 1 --json -", "inspect guest:hello",
    "inspect guest:hello --json -",
    "guests", "doctor", "doctor --json", "--help", "run --help", "--version", "--generate-completion-script bash",
    "--generate-completion-script zsh", "--generate-completion-script fish",
  ]

  init() throws { shell = try Shell() }

  @Test("without standard input, a guest reads nothing: neither its own memory nor its image takes the place")
  func closedInput() throws {
    try shell.put(BootSector.echo, as: "echo")
    let result = try shell.run("exec $trivisor run echo --technique rewriting <&-")
    #expect(result.output == [])
    #expect(result.status == 0)
    #expect(result.complaints == [])
    let fed = try shell.run("printf 'twelve bytes' | $trivisor run echo --technique rewriting")
    #expect(fed.text == "twelve bytes")
  }

  @Test("without standard output, the result holds the result and nothing else, and says that the output is lost")
  func closedOutput() throws {
    let result = try shell.run("exec $trivisor \(Self.hello) --json result.json >&-")
    #expect(result.status == 125)
    #expect(result.complaints.count == 1)
    #expect(result.errors.contains("standard output is closed"))
    let bytes = shell.bytes(of: "result.json")
    #expect(bytes.first == UInt8(ascii: "{"))
    #expect(!String(decoding: bytes, as: UTF8.self).contains("Hello"))
    #expect(shell.object("result.json")?["outcome"] as? String == "failed")
    #expect(shell.object("result.json")?["status"] as? Int == 125)
  }

  @Test("on a full device, a run fails with its sentence, also where the guest is already done")
  func fullDevice() throws {
    let result = try shell.run("exec $trivisor \(Self.hello) --json result.json >/dev/full")
    #expect(result.status == 125)
    #expect(result.complaints.count == 1)
    #expect(result.errors.contains("standard output can't be written: No space left on device"))
    #expect(shell.object("result.json")?["status"] as? Int == 125)
    #expect((shell.object("result.json")?["detail"] as? String)?.contains("No space left") == true)
  }

  @Test("on a full device, each command that prints fails with its sentence", arguments: printing)
  func fullDevice(command: String) throws {
    let result = try shell.run("exec $trivisor \(command) >/dev/full")
    #expect(result.status == 125)
    #expect(result.complaints == ["trivisor: standard output can't be written: No space left on device"])
  }

  @Test(
    "without standard output, each command that prints fails, unless there was nothing to print", arguments: printing)
  func closedOutput(command: String) throws {
    let result = try shell.run("exec $trivisor \(command) >&-")
    #expect(result.status == 125)
    #expect(result.complaints.count == 1)
    #expect(result.errors.contains("standard output is closed"))
    try shell.put(BootSector.finished(BootSector.exit), as: "silent")
    #expect(try shell.run("exec $trivisor run silent --technique rewriting >&-").status == 0)
  }

  @Test("a reader that is gone ends each command as it ends other programs, without a sentence", arguments: printing)
  func closedPipe(command: String) throws {
    let result = try shell.run("(sleep 0.5; exec $trivisor \(command)) | true; exit ${PIPESTATUS[0]}")
    #expect(result.status == 141)
    #expect(result.complaints == [])
  }

  @Test("a file for results on a full device fails with a sentence that names it")
  func fullFile() throws {
    for (command, option) in [
      ("run guest:hello --technique rewriting", "--json"), ("test guest:hello --technique rewriting", "--json"),
      ("test guest:hello --technique rewriting", "--junit"), ("inspect guest:hello", "--json"),
      ("compare guest:hello --techniques rewriting --repeat 1 --warm-up 0", "--json"),
      ("compare guest:hello --techniques rewriting --repeat 1 --warm-up 0", "--html"),
      ("test guest:hello --technique rewriting", "--html"), (Self.hello, "--json"), (Self.hello, "--trace"),
    ] {
      let result = try shell.run("exec $trivisor \(command) \(option) /dev/full")
      #expect(result.status == 125, "\(command) \(option)")
      #expect(result.errors.contains("\(option): /dev/full could not be written: No space left on device"))
    }
  }

  @Test("a result for standard output follows what stands there")
  func resultOnOutput() throws {
    #expect(try shell.run("exec $trivisor \(Self.hello) --json /dev/stdout >both").status == 0)
    let text = String(decoding: shell.bytes(of: "both"), as: UTF8.self)
    #expect(text.hasPrefix("Hello from") && text.hasSuffix("}\n"))
  }

  @Test("after one result that is lost, the others are written all the same")
  func otherResults() throws {
    let command = "exec $trivisor test guest:hello --technique rewriting --junit /dev/full --json r.json"
    let result = try shell.run(command)
    #expect(result.status == 125)
    #expect(shell.object("r.json") != nil)
    let traced = try shell.run("exec $trivisor \(Self.hello) --trace /dev/full --json t.json")
    #expect(traced.status == 125)
    #expect(shell.object("t.json")?["status"] as? Int == 125)
    #expect((shell.object("t.json")?["detail"] as? String)?.contains("/dev/full (--trace)") == true)
  }

  @Test("a reader of a result that is gone ends a command as one of standard output does")
  func closedResultPipe() throws {
    let command = "exec $trivisor \(Self.hello) --json /dev/fd/3 3>&1 >console"
    let result = try shell.run("(sleep 0.5; \(command)) | true; exit ${PIPESTATUS[0]}")
    #expect(result.status == 141)
    #expect(result.complaints == [])
  }

  @Test(
    "what was asked for on standard error is output, on a full device, a closed descriptor, or a pipe without a reader",
    arguments: ["--stats", "--verbose", "--gdb 0"])
  func lostReports(option: String) throws {
    let command = "$trivisor \(Self.hello) \(option) --json result.json"
    for target in ["/dev/full", "&-"] {
      #expect(try shell.run("exec \(command) 2>\(target)").status == 125, "2>\(target)")
      #expect(shell.object("result.json")?["status"] as? Int == 125)
      #expect((shell.object("result.json")?["detail"] as? String)?.contains("write to standard error") == true)
    }
    #expect(try shell.run("(sleep 0.5; exec \(command) 2>&1 >console) | true; exit ${PIPESTATUS[0]}").status == 141)
  }

  @Test("the lines of a test run that give way to its result are output, too")
  func lostVerdicts() throws {
    let command = "exec $trivisor test guest:hello --technique rewriting --json - >r.json"
    #expect(try shell.run("\(command) 2>/dev/full").status == 125)
    #expect(try shell.run("\(command) 2>&-").status == 125)
    #expect(try shell.run(command).status == 0)
  }

  @Test("what is said unasked may be lost, and the status is the run's")
  func lostSentences() throws {
    #expect(try shell.run("exec $trivisor \(Self.hello) 2>/dev/full").status == 0)
    let crash = "run guest:crash --technique rewriting --append triple-fault"
    #expect(try shell.run("exec $trivisor \(crash) 2>/dev/full").status == 126)
    #expect(try shell.run("exec $trivisor run --no-such-option 2>/dev/full").status == 64)
    #expect(try shell.run("exec $trivisor run no-such-file 2>&-").status == 127)
  }

  @Test("without standard error, only what would be said there is lost")
  func closedErrors() throws {
    let result = try shell.run("exec $trivisor \(Self.hello) --json result.json 2>&-")
    #expect(result.status == 0)
    #expect(result.text.contains("Hello from"))
    #expect(shell.object("result.json")?["outcome"] as? String == "exited")
    #expect(!String(decoding: shell.bytes(of: "result.json"), as: UTF8.self).contains("trivisor:"))
  }

  @Test("without any of the three, a run has the same result", arguments: ["rewriting", "paravirtual"])
  func nothing(technique: String) throws {
    let command = "run guest:hello --technique \(technique) --json result.json"
    #expect(try shell.run("exec $trivisor \(command) <&- >&- 2>&-").status == 125)
    #expect(shell.object("result.json")?["outcome"] as? String == "failed")
    #expect(
      try shell.run("exec $trivisor test guest:hello --technique \(technique) --junit r.xml <&- >&- 2>&-").status == 125
    )
    #expect(String(decoding: shell.bytes(of: "r.xml"), as: UTF8.self).contains("failures=\"0\""))
  }

  @Test("long output arrives whole where somebody made the pipe non-blocking, and where it comes in small pieces")
  func nonBlocking() throws {
    let whole = try shell.run("exec $trivisor --generate-completion-script bash").output
    #expect(whole.count > 8192)
    // The reader of a pipe of 4 KiB takes its time.
    let script = """
      use Fcntl;
      use constant F_SETPIPE_SZ => 1031;
      pipe(my $reader, my $writer);
      fcntl($writer, F_SETPIPE_SZ, 4096) or die;
      fcntl($writer, F_SETFL, O_WRONLY | O_NONBLOCK) or die;
      my $process = fork;
      if ($process == 0) {
        open(STDOUT, '>&', $writer);
        exec $ENV{trivisor}, @ARGV;
      }
      close($writer);
      while (sysread($reader, my $piece, 1000)) {
        syswrite(STDOUT, $piece);
        select(undef, undef, undef, 0.002);
      }
      waitpid($process, 0);
      exit($? >> 8);
      """
    try shell.put(Array(script.utf8), as: "reader")
    let pieces = try shell.run("exec perl reader --generate-completion-script bash")
    #expect(pieces.status == 0)
    #expect(pieces.output == whole)
    try shell.put(BootSector.writing("0123456789abcde\n", times: 8192, then: BootSector.exit), as: "writer")
    let guest = try shell.run("exec perl reader run writer --technique rewriting")
    #expect(guest.status == 0)
    #expect(guest.output == Array(String(repeating: "0123456789abcde\n", count: 8192).utf8))
  }

  @Test("a guest that is done, and whose output nobody takes, is held by the time limit")
  func stalledReader() throws {
    try shell.put(BootSector.writing("0123456789abcde\n", times: 4400, then: BootSector.exit), as: "writer")
    let command = "$trivisor run writer --technique rewriting --timeout 2s --json result.json"
    let result = try shell.run("\(command) | sleep 8; exit ${PIPESTATUS[0]}")
    #expect(result.status == 124)
    #expect(shell.object("result.json")?["outcome"] as? String == "timedOut")
  }

  @Test("the other executables", arguments: ["trivisor-conformance --list", "trivisor-differential --show"])
  func others(command: String) throws {
    let full = try shell.run("exec $bin/\(command) >/dev/full")
    #expect(full.status == 125)
    #expect(full.errors.contains("standard output can't be written"))
    #expect(try shell.run("exec $bin/\(command) <&- >&- 2>&-").status == 125)
    #expect(try shell.run("exec $bin/\(command) <&-").status == 0)
  }
}
