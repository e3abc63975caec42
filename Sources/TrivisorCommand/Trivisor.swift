// The command line.

import ArgumentParser
import TrivisorBoot
import TrivisorLinuxCommands
import Glibc
import TrivisorPlatform
import TrivisorProcessStart
import TrivisorVMM
import TrivisorVersion

/// `trivisor`.
@main
struct Trivisor: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "trivisor",
    abstract: "Run an x86-64 guest under one of three virtualization techniques.",
    discussion: """
      Trivisor runs the same guest by hardware assistance (KVM), by binary rewriting or paravirtually, and says what \
      each costs. Hardware needs /dev/kvm, rewriting needs nothing, paravirtual a guest built for Xen's PV interface.

        trivisor run guest:hello                 a guest that is part of this program
        trivisor run kernel.elf --cpus 2         an image of yours
        trivisor run vmlinuz --root / -- make    a command in Linux, your files
        trivisor shell NAME                      a shell in a running guest
        trivisor balloon NAME 1G                 memory of it goes back to the host
        trivisor test build/*.elf --jobs 2       guests as tests, for CI
        trivisor compare guest:compute           one guest, each technique
        trivisor inspect vmlinuz                 what virtualization has to face
        trivisor doctor                          what this host offers
        trivisor kernel-config                   options for a Linux kernel

      Exit statuses: a guest's own exit code ends the process with it. Otherwise 0 success, 64 the command line, \
      120 the guest ended without its command's status, 121 its first process ended, 122 it reset, 123 its kernel \
      panicked, 124 timed out, 125 Trivisor or the host failed, 126 the guest crashed, 127 the image can't be loaded.
      """,
    version: "trivisor \(TrivisorVersion.text)",
    subcommands: [
      RunCommand.self, ExecCommand.self, ShellCommand.self, BalloonCommand.self, TestCommand.self, CompareCommand.self,
      InspectCommand.self, DoctorCommand.self, GuestsCommand.self, KernelConfigCommand.self, LicensesCommand.self,
    ])

  /// The parser would break examples as it breaks prose: its lines stay whole, and are broken by `TerminalText`.
  static let columnsOfWholeLines = 1 << 20

  static func main() {
    // Before any thread: signals that end a run are taken by the one that waits for them.
    signal(SIGPIPE, SIG_IGN)
    do {
      var command = try parseAsRoot(Array(ProcessStart.arguments.dropFirst()))
      try command.run()
    } catch let refusal as Refusal {
      Diagnostics.say(refusal.message)
      Diagnostics.end(refusal.status.rawValue)
    } catch let refusal as WorkplaceRefusal {
      Diagnostics.say(refusal.sentence)
      let statuses: [WorkplaceRefusal.Cause: ExitStatus] = [.usage: .usage, .commandLost: .commandLost, .host: .failed]
      Diagnostics.end((statuses[refusal.cause] ?? .failed).rawValue)
    } catch let failure as BootFailure {
      Diagnostics.say(failure.sentence)
      Diagnostics.end((failure.isHosts ? ExitStatus.failed : .notLoaded).rawValue)
    } catch {
      // Help, completions and the version are no errors but for the way in which they arrive here.
      let (text, status) = (fullMessage(for: error, columns: columnsOfWholeLines), exitCode(for: error))
      if !text.isEmpty {
        if status.isSuccess { Diagnostics.showHelp(text) } else { Diagnostics.explain(text) }
      }
      Diagnostics.end(status.rawValue)
    }
    Diagnostics.end(ExitStatus.success.rawValue)
  }
}
