// The command line.

import ArgumentParser
import Boot
import Glibc
import Platform
import VMM

/// `trivisor`.
@main
struct Trivisor: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "trivisor",
    abstract: "Run an x86-64 guest under one of three virtualization techniques.",
    discussion: """
      Trivisor runs the same guest by hardware assistance (KVM), by binary rewriting or paravirtually, and says what
      each costs. In this version, rewriting and paravirtual are first steps: they run small guests.

        trivisor run guest:hello                 a guest that is part of this program
        trivisor run kernel.elf --cpus 2         an image of yours
        trivisor test build/*.elf --jobs 2       guests as tests, with verdicts for CI
        trivisor compare guest:compute           the same guest under each technique
        trivisor inspect vmlinuz                 what of it virtualization has to deal with
        trivisor doctor                          what this host offers

      Exit statuses: a guest's own exit code ends the process with it. Otherwise 0 success, 64 the command line,
      121 the guest's first process ended, 122 it reset, 123 its kernel panicked, 124 timed out, 125 Trivisor or the
      host failed, 126 the guest crashed, 127 the image can't be loaded.
      """,
    version: version,
    subcommands: [
      RunCommand.self, TestCommand.self, CompareCommand.self, InspectCommand.self, DoctorCommand.self,
      GuestsCommand.self,
    ])

  /// Of the program.
  static let version = "0.1.0"

  static func main() {
    // Before any thread: signals that end a run are taken by the one that waits for them.
    signal(SIGPIPE, SIG_IGN)
    do {
      var command = try parseAsRoot()
      try command.run()
    } catch let refusal as Refusal {
      Diagnostics.say(refusal.message)
      Glibc.exit(refusal.status.rawValue)
    } catch let failure as BootFailure {
      Diagnostics.say(failure.description)
      Glibc.exit(ExitStatus.notLoaded.rawValue)
    } catch {
      exit(withError: error)
    }
  }
}
