import Foundation
import Testing
import Trivisor

@Suite("The library, as a client meets it")
struct VirtualMachineTests {
  /// Those that this host lets run guests, without a KVM that is slow at that.
  static let techniques = Technique.allCases.filter { technique in
    if case .available = technique.availability { return true } else { return false }
  }

  private static func hello(_ technique: Technique) -> VirtualMachineConfiguration {
    var configuration = VirtualMachineConfiguration(bootLoader: SampleGuest("hello", commandLine: "one two"))
    configuration.technique = .named(technique)
    configuration.timeLimit = .seconds(300)
    return configuration
  }

  @Test("a console as an asynchronous sequence of lines", arguments: techniques)
  func stream(technique: Technique) async throws {
    let console = ByteStream()
    var configuration = Self.hello(technique)
    configuration.serialPorts = [SerialPortConfiguration(output: .stream(console))]
    let machine = VirtualMachine(configuration)
    async let result = machine.run()
    var lines: [String] = []
    for await line in console.lines { lines.append(line) }
    #expect(lines.contains { $0.contains("one two") })
    let ended = try await result
    #expect(ended.outcome == .exited(code: 0) || ended.outcome == .poweredOff)
    #expect(ended.outcome.isSuccess)
    #expect(ended.choice == machine.choice)
    #expect(ended.choice.technique == technique)
    #expect(!ended.choice.reason.isEmpty)
  }

  @Test("a console as a file: a pipe's reader finds its end when the run is over", arguments: techniques)
  func pipe(technique: Technique) async throws {
    var configuration = Self.hello(technique)
    let (port, output) = try SerialPortConfiguration.pipe()
    configuration.serialPorts = [port]
    // The machine lives on behind its run: it must not keep the pipe open.
    let machine = VirtualMachine(configuration)
    let result = try await machine.run()
    let text = try Self.contents(of: output)
    #expect(text.contains("one two"))
    #expect(result.outcome.isSuccess)
    #expect(machine.choice != nil)
  }

  @Test("a descriptor of the caller's stays the caller's, and is not held a second time")
  func callersDescriptor() async throws {
    let (reader, writer) = try FileDescriptor.pipe()
    var configuration = Self.hello(.rewriting)
    configuration.serialPorts = [SerialPortConfiguration(output: .fileDescriptor(writer))]
    let machine = VirtualMachine(configuration)
    _ = try await machine.run()
    try writer.writeAll("behind".utf8)
    try writer.close()
    let text = try Self.contents(of: reader)
    #expect(text.hasSuffix("behind"))
    #expect(machine.choice != nil)
  }

  @Test("the end of the task that runs a machine ends the machine")
  func cancellation() async throws {
    var configuration = VirtualMachineConfiguration(bootLoader: SampleGuest("crash", commandLine: "loop"))
    configuration.technique = .named(.rewriting)
    let machine = VirtualMachine(configuration)
    let task = Task { try await machine.run() }
    for await state in machine.states where state == .running { break }
    task.cancel()
    let result = try await task.value
    #expect(result.outcome == .stopped)
  }

  @Test("pause and resume, as states tell it; a time limit")
  func states() async throws {
    var configuration = VirtualMachineConfiguration(bootLoader: SampleGuest("crash", commandLine: "loop"))
    configuration.technique = .named(.rewriting)
    configuration.timeLimit = .seconds(300)
    let machine = VirtualMachine(configuration)
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
    let result = try await machine.result
    #expect(result.outcome == .stopped)
  }

  @Test("a machine that nobody reads any more ends, and one that is started twice refuses")
  func broken() async throws {
    let (reader, writer) = try FileDescriptor.pipe()
    try reader.close()
    var configuration = Self.hello(.rewriting)
    configuration.serialPorts = [SerialPortConfiguration(output: .fileDescriptor(writer, closesWhenOver: true))]
    let machine = VirtualMachine(configuration)
    let result = try await machine.run()
    // A guest that ended before anybody noticed has ended by itself.
    #expect(result.outcome == .outputClosed || result.outcome.isSuccess)
    await #expect(throws: VirtualMachineError.alreadyStarted) { try await machine.run() }
  }

  @Test("what can't be had is found for each technique, in the configuration's words")
  func findings() async throws {
    var configuration = VirtualMachineConfiguration(bootLoader: SampleGuest("hello"))
    configuration.processorCount = 1000
    configuration.entropyDevices = [EntropyDeviceConfiguration(), EntropyDeviceConfiguration()]
    configuration.serialPorts = [
      SerialPortConfiguration(output: .discarded),
      SerialPortConfiguration(output: .discarded, input: .fileDescriptor(.standardInput)),
    ]
    configuration.directorySharingDevices = [DirectorySharingDeviceConfiguration(path: "/", tag: "a:b")]
    let report = configuration.validate()
    for technique in Technique.allCases {
      let properties = report[technique].map(\.property)
      for property in ["processorCount", "entropyDevices", "serialPorts", "directorySharingDevices"] {
        #expect(properties.contains(property), "\(technique): \(report)")
      }
      #expect(!report[technique].contains { $0.message.contains("--") })
    }
    await #expect(throws: VirtualMachineError.self) { try await VirtualMachine(configuration).run() }
  }

  @Test("numbers of queues that no device has, and disks that may be given twice, are told by name")
  func queues() async throws {
    func findings(_ change: (inout VirtualMachineConfiguration) -> Void, _ technique: Technique = .rewriting)
      -> [String]
    {
      var configuration = VirtualMachineConfiguration(bootLoader: SampleGuest("hello"))
      change(&configuration)
      return configuration.validate()[technique].filter { $0.property != "technique" }.map(\.description)
    }
    for count in [-1, 0, 9, Int.max] {
      let tap = NetworkDeviceConfiguration(attachment: .tap(name: "none"), queueCount: count)
      let found = findings { $0.networkDevices = [tap] }
      #expect(found.contains { $0.contains("networkDevices") && $0.contains("\(count) pairs of queues") }, "\(found)")
    }
    let stream = NetworkDeviceConfiguration(attachment: .user(), queueCount: 2)
    #expect(
      findings { $0.networkDevices = [stream] }.contains { $0.contains("only a tap interface has several pairs") })
    let tap = NetworkDeviceConfiguration(attachment: .tap(name: "none"), queueCount: 8)
    #expect(findings { $0.networkDevices = [tap] }.isEmpty)
    #expect(findings({ $0.networkDevices = [tap] }, .paravirtual).contains { $0.contains("have one pair of queues") })
    for count in [-1, 0, 17, Int.max] {
      let disk = StorageDeviceConfiguration(path: "/no/disk", queueCount: count)
      let found = findings { $0.storageDevices = [disk] }
      #expect(found.contains { $0.contains("storageDevices") && $0.contains("\(count) queues") }, "\(found)")
    }
    let disk = StorageDeviceConfiguration(path: "/no/disk", queueCount: 16)
    #expect(findings { $0.storageDevices = [disk] }.isEmpty)
    #expect(findings({ $0.storageDevices = [disk] }, .paravirtual).contains { $0.contains("disks have one queue") })
    #expect(findings { $0.storageDevices = [disk, disk] }.contains { $0.contains("is given twice") })
    let named = ["hda", "vda", "hda"].enumerated().map {
      StorageDeviceConfiguration(path: FilePath("/no/disk\($0)"), domainName: $1)
    }
    let elsewhere = findings { $0.storageDevices = named }
    #expect(elsewhere.filter { $0.contains("only a paravirtual domain's disk") }.count == 2)
    let ofDomain = findings({ $0.storageDevices = named }, .paravirtual)
    #expect(
      ofDomain == [
        "storageDevices: /no/disk1 can't be called 'vda' by a domain: a disk is xvda to xvdp, hda to hdd or sda to sdp",
        "storageDevices: two disks are called hda: give /no/disk0 another name",
        "storageDevices: two disks are called hda: give /no/disk2 another name",
      ])
    #expect(findings({ $0.storageDevices = [named[0]] }, .paravirtual).isEmpty)
    let snapshot = StorageDeviceConfiguration(path: "/no/disk", isSnapshot: true)
    #expect(findings { $0.storageDevices = [snapshot, snapshot] }.isEmpty)
    #expect(findings { $0.storageDevices = [snapshot, disk] }.contains { $0.contains("is given twice") })
  }

  @Test("what a paravirtual domain can't have is refused by name")
  func domain() async throws {
    var configuration = VirtualMachineConfiguration(bootLoader: SampleGuest("hello"))
    configuration.socketDevices = [SocketDeviceConfiguration(path: "/nowhere/socket")]
    configuration.memoryBalloonDevices = [MemoryBalloonDeviceConfiguration()]
    configuration.directorySharingDevices = [DirectorySharingDeviceConfiguration(path: "/tmp", tag: "tmp")]
    configuration.virtioTransport = .pci
    let properties = Set(configuration.validate()[.paravirtual].map(\.property))
    let wanted: Set = ["socketDevices", "memoryBalloonDevices", "directorySharingDevices", "virtioTransport"]
    #expect(properties.isSuperset(of: wanted), "\(configuration.validate())")
    #expect(wanted.isDisjoint(with: configuration.validate()[.rewriting].map(\.property)))
  }

  @Test("a missing image, and a pipe that ends though nothing ran")
  func missing() async throws {
    var configuration = VirtualMachineConfiguration(bootLoader: LinuxBootLoader(kernel: "/no/such/kernel"))
    let (port, output) = try SerialPortConfiguration.pipe()
    configuration.serialPorts = [port]
    #expect(configuration.validate()[.rewriting].map(\.property) == ["bootLoader"])
    let error = await #expect(throws: VirtualMachineError.self) { try await VirtualMachine(configuration).run() }
    #expect(error?.description.contains("/no/such/kernel: no such file") ?? false)
    #expect(try Self.contents(of: output).isEmpty)
  }

  @Test("a crash report that a person can read")
  func crash() async throws {
    var configuration = VirtualMachineConfiguration(bootLoader: SampleGuest("crash", commandLine: "triple-fault"))
    configuration.technique = .named(.rewriting)
    let result = try await VirtualMachine(configuration).run()
    #expect(result.outcome == .tripleFault)
    #expect(result.description.hasPrefix("the guest crashed: triple fault, after "))
  }

  @Test("a stream holds its writer up, and ends when it should")
  func backPressure() async throws {
    // More than the stream holds comes from a guest that repeats its command line; nothing of it is lost.
    let console = ByteStream()
    var configuration = VirtualMachineConfiguration(
      bootLoader: SampleGuest("hello", commandLine: String(repeating: "x", count: 1500)))
    configuration.technique = .named(.rewriting)
    configuration.serialPorts = [SerialPortConfiguration(output: .stream(console))]
    let result = try await VirtualMachine(configuration).run()
    #expect(result.outcome.isSuccess)
    // What came before the end can be read behind it.
    let text = await console.text()
    #expect(text.contains(String(repeating: "x", count: 1500)))
  }

  static func contents(of descriptor: FileDescriptor) throws -> String {
    try descriptor.closeAfter {
      var all: [UInt8] = []
      var buffer = [UInt8](repeating: 0, count: 4096)
      while true {
        let count = try buffer.withUnsafeMutableBytes { try descriptor.read(into: $0) }
        guard count > 0 else { return String(decoding: all, as: UTF8.self) }
        all += buffer[..<count]
      }
    }
  }
}
