import TrivisorInstructionSet
import Testing

@testable import TrivisorTranslation

/// What the emitter writes is read back by the decoder.
struct EmitterTests {
  private func bytes(_ body: (inout Emitter) -> Void) -> [UInt8] {
    let buffer = UnsafeMutablePointer<UInt8>.allocate(capacity: 64)
    defer { buffer.deallocate() }
    var emitter = Emitter(cursor: buffer, end: buffer + 64, executableOffset: 0)
    body(&emitter)
    return Array(UnsafeBufferPointer(start: buffer, count: emitter.cursor - buffer))
  }

  @Test func movesBetweenRegisters() {
    #expect(bytes { $0.move(Host.guestRAX, Host.rax) } == [0x49, 0x89, 0xc3])
    #expect(bytes { $0.legacy(0x89, reg: 10, .register(15)) } == [0x45, 0x89, 0xd7])
  }

  @Test func memoryForms() {
    // mov (%r15,%r10), %rcx
    #expect(bytes { $0.load(1, .memory(base: 15, index: 10)) } == [0x4b, 0x8b, 0x0c, 0x17])
    // R13 and RBP as a base always have a displacement, R12 and RSP a SIB.
    #expect(bytes { $0.load(0, .memory(base: 13)) } == [0x49, 0x8b, 0x45, 0x00])
    #expect(bytes { $0.load(0, .memory(base: 12)) } == [0x49, 0x8b, 0x04, 0x24])
    #expect(bytes { $0.load(0, .memory(base: 4, displacement: 8)) } == [0x48, 0x8b, 0x44, 0x24, 0x08])
    // mov %gs:0x88, %r10
    #expect(bytes { $0.load(10, .state(0x88)) } == [0x65, 0x4c, 0x8b, 0x14, 0x25, 0x88, 0, 0, 0])
  }

  @Test func constantsTakeTheShortestForm() {
    #expect(bytes { $0.loadConstant(10, 1) } == [0x41, 0xba, 1, 0, 0, 0])
    #expect(bytes { $0.loadConstant(0, .max) } == [0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff])
    #expect(bytes { $0.loadConstant(15, 1 << 40) }.count == 10)
  }

  @Test func rotationsLeaveFlagsAlone() throws {
    let code = bytes { $0.rotateRight(15, 10, by: 12) }
    guard case .instruction(let instruction) = code.withUnsafeBytes({ Decoder(mode: .bits64).decode($0) }) else {
      Issue.record("not decoded")
      return
    }
    #expect(instruction.mnemonic == "rorx")
    #expect(instruction.effects.flags.changed.isEmpty)
    #expect(instruction.operand(at: 0)?.kind == .general(.r15))
    #expect(instruction.operand(at: 1)?.kind == .general(.r10))
  }

  @Test func aFullBufferIsNotOverrun() {
    let buffer = UnsafeMutablePointer<UInt8>.allocate(capacity: 8)
    defer { buffer.deallocate() }
    buffer.initialize(repeating: 0xee, count: 8)
    var emitter = Emitter(cursor: buffer, end: buffer + 4, executableOffset: 0)
    emitter.loadConstant(0, 1 << 40)
    #expect(emitter.isFull)
    #expect(buffer[4] == 0xee)
  }
}
