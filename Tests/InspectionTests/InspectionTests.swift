import TrivisorBoot
import TrivisorEmbeddedGuests
import Foundation
import TrivisorInstructionSet
import Testing

@testable import TrivisorInspection

@Suite("a look at an image's code")
struct InspectionTests {
  private func flat(_ bytes: [UInt8], _ mode: CPUMode = .bits64) -> Inspection {
    Inspection(bytes, flatMode: mode, flatAddress: 0x1000)
  }

  @Test("instructions are named, counted and located")
  func named() {
    let found = flat([
      0xfa,  // cli
      0x0f, 0x20, 0xd8,  // mov rax, cr3
      0x44, 0x0f, 0x22, 0xc0,  // mov cr8, rax
      0x9c, 0x9d,  // pushf, popf
      0x66, 0x8c, 0xd8,  // mov ax, ds
      0x48, 0xcf,  // iretq
      0x90, 0xcc, 0xfa,
    ])
    #expect(found.count(of: "cli") == 2)
    #expect(found.findings.first { $0.name == "cli" }?.addresses == [0x1000, 0x1011])
    #expect(found.count(of: "mov from cr3") == 1)
    #expect(found.count(of: "mov to cr8") == 1)
    for name in ["pushf", "popf", "mov from segment register", "iret", "int3"] { #expect(found.count(of: name) == 1) }
    #expect(found.instructionCount == 10)
  }

  @Test(
    "each has its character",
    arguments: [
      ([0x0f, 0x30], "wrmsr", InstructionCharacter.privileged), ([0xe4, 0x60], "in", .inputOutput),
      ([0x0f, 0x01, 0x00], "sgdt", .silent), ([0xcd, 0x80], "int", .transfer), ([0x0f, 0xa2], "cpuid", .identity),
      ([0x0f, 0xae, 0x20], "xsave", .state), ([0x0f, 0x05], "syscall", .transfer), ([0xcb], "far ret", .silent),
      ([0x0f, 0x01, 0xf8], "swapgs", .privileged), ([0x9d], "popf", .silent),
    ] as [([UInt8], String, InstructionCharacter)])
  func character(bytes: [UInt8], name: String, character: InstructionCharacter) {
    let finding = flat(bytes).findings.first
    #expect(finding?.name == name)
    #expect(finding?.character == character)
  }

  @Test("the same bytes are other instructions in other modes")
  func modes() {
    #expect(flat([0x0e], .bits16).count(of: "push segment register") == 1)
    #expect(flat([0x0e]).instructionCount == 0)
  }

  @Test("the sweep goes on behind what is no instruction")
  func data() {
    let found = flat([0x06, 0xff, 0xff, 0xfa, 0x0f, 0x0b, 0xf4, 0x0f])
    #expect(found.count(of: "cli") == 1)
    #expect(found.count(of: "hlt") == 1)
  }

  @Test("nothing that a file may hold makes the look fail", arguments: 0..<200)
  func hostile(seed: Int) throws {
    let guest = try #require(EmbeddedGuest.named("ring3"))
    var bytes = Array(guest.bytes)
    var state = UInt64(seed) &* 0x9e37_79b9_7f4a_7c15 | 1
    func random() -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33)
    }
    for _ in 0..<8 { bytes[random() % 64] = UInt8(truncatingIfNeeded: random()) }
    for _ in 0..<8 { bytes[random() % bytes.count] = UInt8(truncatingIfNeeded: random()) }
    if seed % 4 == 0 { bytes.removeLast(random() % bytes.count) }
    _ = flat(bytes)
  }

  @Test("symbols hold their own range, or all up to the next")
  func symbols() {
    let table = SymbolTable([
      .init(address: 0x100, size: 0x10, name: "a"), .init(address: 0x120, size: 0, name: "b"),
      .init(address: 0x140, size: 4, name: "c"),
    ])
    #expect(
      [0xff, 0x100, 0x10f, 0x110, 0x120, 0x13f, 0x143, 0x144].map { table.symbol(at: $0)?.name }
        == [nil, "a", "a", nil, "b", "b", "c", nil])
  }

  /// Simple ones, whose lines in objdump's output begin with their name.
  private static let compared = ["syscall", "cpuid", "rdtsc", "xgetbv", "hlt", "cli", "sti", "pushf", "popf", "int3"]

  @Test(
    "counts agree with objdump's over programs of this host",
    .enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/objdump")),
    arguments: ["/sbin/ldconfig", "/bin/tar"])
  func objdump(path: String) throws {
    guard let bytes = FileManager.default.contents(atPath: path) else { return }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/objdump")
    process.arguments = ["-d", "--no-show-raw-insn", path]
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let text = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    var counts: [String: Int] = [:]
    for line in String(decoding: text, as: UTF8.self).split(separator: "\n") {
      guard let tab = line.firstIndex(of: "\t") else { continue }
      guard let word = line[line.index(after: tab)...].split(separator: " ").first else { continue }
      counts[String(word), default: 0] += 1
    }
    let found = flat(Array(bytes))
    for name in Self.compared { #expect(found.count(of: name) == counts[name] ?? 0, "\(name)") }
  }
}
