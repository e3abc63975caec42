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

  @Test("but not within a multicall, which can't be made again", arguments: [true, false])
  func inner(isWide: Bool) throws {
    let harness = try DomainHarness(is64Bit: isWide)
    for (index, value) in [Self.consoleIO, 0, Command.write, 20_000, harness.address(4)].enumerated() {
      try harness.storeWord(value, harness.address(3) + UInt64(index) * harness.word)
    }
    #expect(harness.call(Self.multicall, harness.address(3), 1) == 0)
    let result = try harness.load(UInt32.self, harness.address(3) + harness.word)
    #expect(Int32(bitPattern: result) == -22 && harness.sink.bytes.isEmpty)
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
