import Testing
import TrivisorDevices
import TrivisorVMM

@testable import TrivisorXenDomain

/// What `guest:consoles` can't show of console_io.
@Suite struct ConsoleCallTests {
  private static let consoleIO: UInt64 = 18
  private static let multicall: UInt64 = 13
  private enum Command { static let write: UInt64 = 0, read: UInt64 = 1 }

  @Test("a long text is written in several calls, each with the rest of the one before", arguments: [true, false])
  func long(isWide: Bool) throws {
    let harness = try DomainHarness(is64Bit: isWide)
    let text = (0..<20_000).map { UInt8(ascii: "a") + UInt8($0 % 26) }
    try harness.domain.memory.write(text, to: harness.address(4), root: harness.processor.kernelRoot)
    harness.processor.registers.rip = 0x7000
    var result = harness.call(Self.consoleIO, Command.write, UInt64(text.count), harness.address(4))
    #expect(result == Int64(Self.consoleIO) && harness.processor.registers.rip == 0x6ffe)
    #expect(!harness.sink.bytes.isEmpty && harness.sink.bytes.count < text.count)
    Hypercall.perform(harness.processor)
    result = Int64(bitPattern: harness.processor.registers.rax)
    #expect(result == 0 && harness.processor.registers.rip == 0x6ffe)
    #expect(harness.sink.bytes == text)
  }

  @Test(
    "within a multicall, which goes on with the rest of the text, and then with its other calls",
    arguments: [true, false])
  func inner(isWide: Bool) throws {
    let harness = try DomainHarness(is64Bit: isWide)
    let text = (0..<20_000).map { UInt8(ascii: "a") + UInt8($0 % 26) }
    try harness.domain.memory.write(text, to: harness.address(4), root: harness.processor.kernelRoot)
    let last = harness.address(4) + UInt64(text.count) - 26
    // A call without effect, the text, its last piece once more.
    let texts: [(count: UInt64, place: UInt64)] = [(0, 0), (UInt64(text.count), harness.address(4)), (26, last)]
    for (entry, part) in texts.enumerated() {
      for (index, value) in [Self.consoleIO, 7, Command.write, part.count, part.place].enumerated() {
        try harness.storeWord(value, harness.address(3) + UInt64(8 * entry + index) * harness.word)
      }
    }
    harness.processor.registers.rip = 0x7000
    #expect(harness.call(Self.multicall, harness.address(3), 3) == Int64(Self.multicall))
    #expect(harness.processor.registers.rip == 0x6ffe)
    #expect(!harness.sink.bytes.isEmpty && harness.sink.bytes.count < text.count)
    var executions = 1
    while harness.processor.registers.rax == Self.multicall, executions < 10 {
      harness.processor.registers.rip = 0x7000
      Hypercall.perform(harness.processor)
      executions += 1
    }
    #expect(executions == 2)
    #expect(harness.processor.registers.rax == 0 && harness.processor.registers.rip == 0x7000)
    #expect(harness.sink.bytes == text + text.suffix(26))
    for entry in 0..<3 as Range<UInt64> {
      #expect(try harness.load(UInt32.self, harness.address(3) + (8 * entry + 1) * harness.word) == 0)
    }
  }

  @Test("a multicall of any length is done")
  func manyCalls() throws {
    // Entries of 64 bits would not fit into the kernel's pages.
    let harness = try DomainHarness(is64Bit: false)
    let count = Hypercall.batchLimit + 10
    for entry in 0..<count {
      for (index, value) in [Self.consoleIO, 7, Command.write, 0, 0].enumerated() {
        try harness.storeWord(value, harness.address(3) + (8 * entry + UInt64(index)) * harness.word)
      }
    }
    #expect(harness.call(Self.multicall, harness.address(3), count) == Int64(Self.multicall))
    Hypercall.perform(harness.processor)
    #expect(harness.processor.registers.rax == 0)
    for entry in [0, Hypercall.batchLimit, count - 1] {
      #expect(try harness.load(UInt32.self, harness.address(3) + (8 * entry + 1) * harness.word) == 0)
    }
  }

  @Test("what was typed and could not be delivered is there for the next call", arguments: [true, false])
  func undelivered(isWide: Bool) throws {
    let harness = try DomainHarness(is64Bit: isWide)
    let taken = Array("typed".utf8).withUnsafeBytes { harness.domain.console.receive($0) }
    #expect(taken == 5)
    #expect(harness.call(Self.consoleIO, Command.read, 100, 0x10) == -14)
    #expect(harness.call(Self.consoleIO, Command.read, 3, harness.address(4)) == 3)
    #expect(harness.call(Self.consoleIO, Command.read, 100, harness.address(4) + 3) == 2)
    let text = try (0..<5).map { try harness.load(UInt8.self, harness.address(4) + $0) }
    #expect(text == Array("typed".utf8))
    #expect(harness.call(Self.consoleIO, Command.read, 1 << 31, harness.address(4)) == -7)
  }
}
