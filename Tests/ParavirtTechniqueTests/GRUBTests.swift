import TrivisorBoot
import TrivisorDevices
import Foundation
import TrivisorPlatform
import Synchronization
import SystemPackage
import Testing
import TrivisorVMM

@testable import TrivisorParavirtTechnique

/// Debian's GRUB for Xen, unmodified, of 64 and of 32 bits.
@Suite(.serialized)
struct GRUBTests {
  @Test("the prompt, commands typed at the console, halt", arguments: ["x86_64", "i386"])
  func session(architecture: String) throws {
    let image = try Self.image(architecture)
    let typist = try Typist([
      "echo hello there", "set answer=42", "echo $answer", "ls", "if test 2 -lt 3 -a 7 -ne 8; then echo less; fi",
      "help halt", "set", "halt",
    ])
    let outcome = try Self.run(image, typist)
    let screen = typist.screen
    // It is linked at address 0, which only root may have in a process of 64 bits.
    if architecture == "x86_64", geteuid() != 0 {
      guard case .crashed(let report) = outcome else {
        Issue.record("\(outcome)")
        return
      }
      #expect(report.summary.contains("vm.mmap_min_addr"))
      return
    }
    #expect(outcome == .poweredOff)
    #expect(screen.contains("GNU GRUB  version 2"))
    #expect(screen.contains("\nhello there\n"))
    #expect(screen.contains("\n42\n"))
    #expect(screen.contains("(memdisk) (proc)"))
    #expect(screen.contains("\nless\n"))
    #expect(screen.contains("Usage: halt"))
    #expect(screen.contains("\nanswer=42\n"))
    #expect(typist.isDone)
  }

  @Test("a script from a disk, by its own front end", arguments: ["x86_64", "i386"])
  func disk(architecture: String) throws {
    if architecture == "x86_64", geteuid() != 0 { return }
    let path = FileManager.default.temporaryDirectory.appending(path: "grub-disk-\(UUID().uuidString)").path()
    let script = Array("echo read from the disk\nset found=yes\n".utf8)
    let lines = script + [UInt8](repeating: UInt8(ascii: "\n"), count: 512 - script.count)
    #expect(
      FileManager.default.createFile(
        atPath: path, contents: Data(lines + [UInt8](repeating: 0, count: 1 << 20))))
    defer { try? FileManager.default.removeItem(atPath: path) }
    let typist = try Typist(["ls", "source (xen/xvda)0+1", "echo found=$found", "halt"])
    var configuration = Self.configuration(try Self.image(architecture), typist)
    configuration.storageDevices = [StorageDeviceConfiguration(path: FilePath(path), isReadOnly: true)]
    let machine = VirtualMachine(configuration, technique: ParavirtTechnique())
    #expect(try machine.runOnThisThread(Self.options).outcome == .poweredOff)
    #expect(typist.screen.contains("(xen/xvda)"))
    #expect(typist.screen.contains("\nread from the disk\n"))
    #expect(typist.screen.contains("\nfound=yes\n"))
  }

  private static func image(_ architecture: String) throws -> BootImage {
    let folder = GuestRunner.root.appending(path: "guests/fetched/grub-xen")
    let path = folder.appending(path: "grub-\(architecture)-xen.bin").path()
    if !FileManager.default.fileExists(atPath: path) {
      let fetch = try Process.run(GuestRunner.root.appending(path: "tools/fetch-guests"), arguments: ["grub-xen"])
      fetch.waitUntilExit()
      try #require(fetch.terminationStatus == 0, "tools/fetch-guests grub-xen failed")
    }
    return try BootImage(path: FilePath(path))
  }

  @Test("a session that is broken off at the prompt goes on in a new machine", arguments: ["x86_64", "i386"])
  func brokenOff(architecture: String) async throws {
    if architecture == "x86_64", geteuid() != 0 { return }
    let image = try Self.image(architecture)
    let typist = try Typist(["set answer=42", "echo $answer", "halt"], waitsBefore: 1)
    let configuration = Self.configuration(image, typist)
    let machine = VirtualMachine(configuration, technique: ParavirtTechnique())
    async let first = machine.run(Self.options)
    var patience = 60_000
    while !typist.isWaiting, patience > 0 {
      try await Task.sleep(for: .microseconds(1000))
      patience -= 1
    }
    machine.pause()
    let saved = try machine.save()
    machine.stop()
    _ = try await first
    async let second = VirtualMachine(configuration, technique: ParavirtTechnique(), restoring: saved).run(Self.options)
    typist.goOn()
    #expect(try await second.outcome == .poweredOff)
    #expect(typist.screen.contains("\n42\n"))
    #expect(typist.screen.components(separatedBy: "GNU GRUB").count == 2)
  }

  private static func configuration(_ image: BootImage, _ typist: Typist) -> PlatformConfiguration {
    var configuration = PlatformConfiguration(boot: BootRequest(image: image))
    configuration.machine.memorySize = 128 << 20
    configuration.serialPorts = [
      SerialPortConfiguration(
        output: typist, input: SerialInput(fileDescriptor: typist.keyboard, isTerminal: false))
    ]
    return configuration
  }

  private static var options: RunOptions {
    var options = RunOptions()
    options.timeLimit = 300_000_000_000
    return options
  }

  private static func run(_ image: BootImage, _ typist: Typist) throws -> Outcome {
    try VirtualMachine(configuration(image, typist), technique: ParavirtTechnique()).runOnThisThread(options).outcome
  }
}

/// Reads what comes and types the next line at each prompt.
private final class Typist: SerialSink {
  private struct State {
    var text: [UInt8] = []
    var lines: [String]
    var prompts = 0
    /// How many lines are left when it waits, instead of typing on.
    var waitsAt: Int
    var isWaiting = false
  }

  /// Where the guest's input comes from.
  let keyboard: Int32
  private let hand: Int32
  private let state: Mutex<State>

  /// - Parameter index: of a line that is typed when `goOn` is called.
  init(_ lines: [String], waitsBefore index: Int? = nil) throws {
    var ends: [Int32] = [0, 0]
    try #require(pipe(&ends) == 0)
    signal(SIGPIPE, SIG_IGN)
    (keyboard, hand) = (ends[0], ends[1])
    state = Mutex(State(lines: lines, waitsAt: index.map { lines.count - $0 } ?? -1))
  }

  deinit {
    Glibc.close(keyboard)
    Glibc.close(hand)
  }

  func write(_ bytes: UnsafeRawBufferPointer) {
    state.withLock { state in
      state.text += bytes
      let seen = Self.plain(state.text)
      let prompts = seen.components(separatedBy: "grub> ").count - 1
      guard seen.hasSuffix("grub> "), prompts > state.prompts, !state.lines.isEmpty else { return }
      state.prompts = prompts
      state.isWaiting = state.lines.count == state.waitsAt
      if !state.isWaiting { type(&state) }
    }
  }

  private func type(_ state: inout State) {
    let line = Array((state.lines.removeFirst() + "\r").utf8)
    _ = line.withUnsafeBytes { Glibc.write(hand, $0.baseAddress, $0.count) }
  }

  var isWaiting: Bool { state.withLock { $0.isWaiting } }

  func goOn() {
    state.withLock { state in
      state.isWaiting = false
      type(&state)
    }
  }

  func finish() {}
  func abandon() {}

  var isDone: Bool { state.withLock { $0.lines.isEmpty } }

  /// What was said, without what moves the cursor.
  var screen: String { state.withLock { Self.plain($0.text) } }

  private static func plain(_ bytes: [UInt8]) -> String {
    var text: [UInt8] = []
    var position = 0
    while position < bytes.count {
      if bytes[position] == 0x1b {
        position += 1
        if position < bytes.count, bytes[position] == UInt8(ascii: "[") {
          position += 1
          while position < bytes.count, !(0x40...0x7e).contains(bytes[position]) { position += 1 }
        }
      } else if bytes[position] != 0x0d {
        text.append(bytes[position])
      }
      position += 1
    }
    return String(decoding: text, as: UTF8.self)
  }
}
