import Foundation
import Testing
import Trivisor

@Suite("Machines in workers", .timeLimit(.minutes(15)))
struct WorkerTests {
  static let techniques = VirtualMachineTests.techniques

  private static func machine(
    _ loader: any BootLoader, _ technique: Technique, _ change: (inout VirtualMachineConfiguration) -> Void = { _ in }
  ) -> VirtualMachine {
    var configuration = VirtualMachineConfiguration(bootLoader: loader)
    configuration.technique = .named(technique)
    configuration.timeLimit = .seconds(300)
    configuration.isolation = .worker
    change(&configuration)
    return VirtualMachine(configuration)
  }

  /// The worker that has this pipe.
  private static func worker(with pipe: FileDescriptor) -> pid_t? {
    var status = stat()
    guard fstat(pipe.rawValue, &status) == 0 else { return nil }
    let wanted = "pipe:[\(status.st_ino)]"
    let numbers = (try? FileManager.default.contentsOfDirectory(atPath: "/proc"))?.compactMap { pid_t($0) } ?? []
    return numbers.first { number in
      let status = try? String(contentsOfFile: "/proc/\(number)/status", encoding: .utf8)
      guard status?.contains("PPid:\t\(getpid())\n") == true else { return false }
      let files = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(number)/fd")) ?? []
      return files.contains {
        (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(number)/fd/\($0)")) == wanted
      }
    }
  }

  @Test("console, outcome, choice and confinement cross", arguments: techniques)
  func hello(technique: Technique) async throws {
    let console = ByteStream()
    let machine = Self.machine(SampleGuest("hello", commandLine: "one two"), technique) {
      $0.serialPorts = [SerialPortConfiguration(output: .stream(console))]
    }
    async let result = machine.run()
    let text = await console.text()
    #expect(text.contains("one two"))
    let ended = try await result
    #expect(ended.outcome.isSuccess)
    #expect(ended.choice == machine.choice)
    #expect(ended.choice.technique == technique)
    #expect(ended.counters["exits"] ?? 1 > 0)
    #expect(ended.guestTime > .zero)
    // What this host's kernel has of it; a test's own sandbox may allow nothing more.
    #expect(ended.confinement != "unknown")
  }

  @Test("descriptors: a pipe's reader finds its end; a descriptor of the caller's stays the caller's")
  func descriptors() async throws {
    let (port, output) = try SerialPortConfiguration.pipe()
    let piped = try await Self.machine(SampleGuest("hello", commandLine: "piped"), .rewriting) {
      $0.serialPorts = [port]
    }.run()
    #expect(piped.outcome.isSuccess)
    #expect(try VirtualMachineTests.contents(of: output).contains("piped"))
    let (reader, writer) = try FileDescriptor.pipe()
    _ = try await Self.machine(SampleGuest("hello", commandLine: "kept"), .rewriting) {
      $0.serialPorts = [SerialPortConfiguration(output: .fileDescriptor(writer))]
    }.run()
    try writer.writeAll("behind".utf8)
    try writer.close()
    let text = try VirtualMachineTests.contents(of: reader)
    #expect(text.contains("kept"))
    #expect(text.hasSuffix("behind"))
  }

  @Test("a stream that nobody reads holds nobody up when the machine is stopped; what came can be read")
  func unread() async throws {
    let console = ByteStream()
    let machine = Self.machine(SampleGuest("hello"), .rewriting) {
      $0.serialPorts = [SerialPortConfiguration(output: .stream(console))]
    }
    #expect(try await machine.run().outcome.isSuccess)
    #expect(await console.text().isEmpty == false)
  }

  @Test("a killed worker is an outcome by name")
  func killed() async throws {
    let (reader, writer) = try FileDescriptor.pipe()
    defer { for end in [reader, writer] { try? end.close() } }
    let machine = Self.machine(SampleGuest("crash", commandLine: "loop"), .rewriting) {
      $0.serialPorts = [SerialPortConfiguration(output: .fileDescriptor(writer))]
    }
    let states = machine.states
    try machine.start()
    for await state in states where state == .running { break }
    let worker = try #require(Self.worker(with: writer))
    kill(worker, SIGKILL)
    let result = try await machine.result
    #expect(result.outcome == .workerLost(.killed(signal: SIGKILL)))
    #expect(result.choice.technique == .rewriting)
    #expect("\(result.outcome)" == "the worker process was lost: signal 9 killed it")
    var last: VirtualMachine.State?
    for await state in machine.states { last = state }
    #expect(last == .ended(.workerLost(.killed(signal: SIGKILL))))
  }

  @Test("pause, resume and stop, as states tell it")
  func states() async throws {
    let machine = Self.machine(SampleGuest("crash", commandLine: "loop"), .rewriting)
    let states = machine.states
    try machine.start()
    var seen: [VirtualMachine.State] = []
    for await state in states {
      seen.append(state)
      switch state {
      case .created: break
      case .running where seen.contains(.paused): machine.stop()
      case .running: await machine.pause()
      case .paused: machine.resume()
      case .ended: break
      }
    }
    #expect(seen == [.created, .running, .paused, .running, .ended(.stopped)])
    #expect(try await machine.result.outcome == .stopped)
  }

  @Test("a machine that is paused and stopped before there is one")
  func early() async throws {
    let machine = Self.machine(SampleGuest("crash", commandLine: "loop"), .rewriting)
    await machine.pause()
    machine.stop()
    #expect(try await machine.run().outcome == .stopped)
  }

  @Test("a time limit, and a guest that crashes: its registers cross")
  func endings() async throws {
    let late = Self.machine(SampleGuest("crash", commandLine: "loop"), .rewriting) { $0.timeLimit = .milliseconds(300) }
    #expect(try await late.run().outcome == .timedOut)
    let crashed = try await Self.machine(SampleGuest("crash", commandLine: "triple-fault"), .rewriting).run()
    #expect(crashed.outcome == .tripleFault)
  }

  @Test("what can't be had is told as in process")
  func findings() async throws {
    do {
      _ = try await Self.machine(LinuxBootLoader(kernel: "/nonexistent/vmlinuz"), .rewriting).run()
      Issue.record("a kernel that is not there")
    } catch {
      guard case .configuration(let findings) = error else {
        Issue.record("\(error)")
        return
      }
      #expect(findings.first?.property == "bootLoader")
    }
  }

  @Test("eight at a time")
  func many() async throws {
    try await withThrowingTaskGroup { group in
      for number in 0..<8 {
        group.addTask {
          let console = ByteStream()
          let machine = Self.machine(SampleGuest("hello", commandLine: "number \(number)"), .rewriting) {
            $0.serialPorts = [SerialPortConfiguration(output: .stream(console))]
          }
          async let result = machine.run()
          let text = await console.text()
          #expect(text.contains("number \(number)"))
          let ended = try await result
          #expect(ended.outcome.isSuccess)
        }
      }
      try await group.waitForAll()
    }
  }

  #if DEBUG
  @Test("what a guest that has taken its worker over can do outside: nothing", arguments: techniques)
  func plantedBug(technique: Technique) async throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "trivisor-worker-\(UUID())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    setenv("TRIVISOR_PLANTED_BUG", "/etc/hostname:\(folder.path)", 1)
    defer { unsetenv("TRIVISOR_PLANTED_BUG") }
    let result = try await Self.machine(SampleGuest("hello"), technique).run()
    guard result.confinement.contains("seccomp") else { return }
    let attempts = result.notes.filter { $0.hasPrefix("planted: ") }
    #expect(attempts.count > 40)
    // Whoever may raise limits can do so where the technique's processes set theirs.
    let allowed = technique == .hardware ? [] : technique == .rewriting ? ["code"] : ["code", "kill", "limit"]
    for attempt in attempts where attempt.hasSuffix(": done") {
      let name = attempt.dropFirst("planted: ".count).prefix { $0 != ":" }
      #expect(allowed.contains(String(name)), "\(attempt)")
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
  }
  #endif

  private static let kernel = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appending(path: "../../guests/fetched/debian-cloud/vmlinuz").standardized.path

  @Test("a command in Linux, its streams and its status", .enabled(if: FileManager.default.fileExists(atPath: kernel)))
  func linux() async throws {
    let (output, errors, input) = (ByteStream(), ByteStream(), try ByteInput())
    let folder = FileManager.default.temporaryDirectory.appending(path: "trivisor-worker-\(UUID())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try Data("shared\n".utf8).write(to: folder.appending(path: "file"))
    let machine = Self.machine(LinuxBootLoader(kernel: FilePath(Self.kernel)), .rewriting) { configuration in
      var command = LinuxCommand(shell: "cat; echo wrong >&2; cat /mnt/own/file; echo new > /mnt/own/made; exit 7")
      command.standardOutput = .stream(output)
      command.standardError = .stream(errors)
      command.standardInput = .stream(input)
      configuration.linuxCommand = command
      configuration.directorySharingDevices = [
        DirectorySharingDeviceConfiguration(path: FilePath(folder.path), tag: "own")
      ]
    }
    async let result = machine.run()
    await input.send("typed\n")
    input.end()
    #expect(await output.text() == "typed\nshared\n")
    #expect(await errors.text() == "wrong\n")
    #expect(try await result.outcome == .commandEnded(.exited(7)))
    #expect(try String(contentsOf: folder.appending(path: "made"), encoding: .utf8) == "new\n")
  }

  @Test(
    "the same kernel as a Xen domain says that it is translated, in a worker and in this process",
    .enabled(if: FileManager.default.fileExists(atPath: kernel)), arguments: [true, false])
  func domain(isApart: Bool) async throws {
    let output = ByteStream()
    let machine = Self.machine(LinuxBootLoader(kernel: FilePath(Self.kernel)), .paravirtual) { configuration in
      var command = LinuxCommand(shell: "cat /sys/hypervisor/type; exit 7")
      command.standardOutput = .stream(output)
      configuration.linuxCommand = command
      if !isApart { configuration.isolation = .inProcess }
      #expect(configuration.validate()[.paravirtual].isEmpty, "\(configuration.validate())")
    }
    async let result = machine.run()
    #expect(await output.text() == "xen\n")
    let ended = try await result
    #expect(ended.outcome == .commandEnded(.exited(7)))
    #expect(ended.choice.isTranslated && "\(ended.choice)".hasPrefix("paravirtual, translated ("))
  }
}
