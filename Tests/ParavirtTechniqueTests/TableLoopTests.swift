import Testing
import TrivisorBoot
import TrivisorDevices
import TrivisorHypercallFuzz
import TrivisorPlatform
import TrivisorVMM

@testable import TrivisorParavirtTechnique

/// A kernel that adds up its machine-to-physical table, and switches off if the sum is right.
@Suite(.serialized)
struct TableLoopTests {
  private static let memory: UInt64 = 32 << 20

  private static func bytes(_ value: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
  }

  /// - Parameter extra: in the function that looks up an entry.
  private static func kernel(count: UInt32, sum: UInt64, extra: [UInt8]) -> [UInt8] {
    // mov rbx, table; xor eax, eax; xor ecx, ecx
    var code: [UInt8] = [0x48, 0xbb, 0, 0, 0, 0, 0, 0x80, 0xff, 0xff, 0x31, 0xc0, 0x31, 0xc9]
    // again: call look_up; add rax, rdx; inc rcx; cmp rcx, count; jne again
    code += [0xe8, 0x42, 0, 0, 0, 0x48, 0x01, 0xd0, 0x48, 0xff, 0xc1, 0x48, 0x81, 0xf9] + bytes(count) + [0x75, 0xec]
    // mov rdx, sum; cmp rax, rdx; mov eax, SHUTDOWN_poweroff; mov ecx, SHUTDOWN_crash; cmovne eax, ecx
    code += [0x48, 0xba] + bytes(sum) + [0x48, 0x39, 0xd0, 0xb8, 0, 0, 0, 0, 0xb9, 3, 0, 0, 0, 0x0f, 0x45, 0xc1]
    // mov [reason], eax; lea rsi, [reason]; mov edi, SCHEDOP_shutdown; mov eax, sched_op; syscall
    code += [0x89, 0x05] + bytes(UInt32(0x1d + extra.count)) + [0x48, 0x8d, 0x35] + bytes(UInt32(0x16 + extra.count))
    code += [0xbf, 2, 0, 0, 0, 0xb8, 29, 0, 0, 0, 0x0f, 0x05]
    // look_up: push rbp; mov rbp, rsp; mov rdx, [rbx + rcx * 8]; leave; ret; reason: 0
    code += [0x55, 0x48, 0x89, 0xe5, 0x48, 0x8b, 0x14, 0xcb] + extra + [0xc9, 0xc3, 0, 0, 0, 0]
    return BlankKernel.image(is64Bit: true, code: code)
  }

  private static func run(extra: [UInt8]) throws -> (result: RunResult, count: UInt64) {
    let guest = try GuestMemory(size: memory)
    let frameCount = memory / GuestMemory.pageSize
    // The domain's frames are numbered as they lie; all others, those below the first one too, are none of its own.
    let own = XenMachine.domainFrameCount(guest)
    let count = XenMachine.firstFrame + frameCount
    let sum = own * (own - 1) / 2 &- (count - own)
    let image = kernel(count: UInt32(count), sum: sum, extra: extra)
    var options = RunOptions()
    options.timeLimit = 60_000_000_000
    let result = try image.withUnsafeBytes { [options] bytes in
      var configuration = PlatformConfiguration(boot: BootRequest(image: try BootImage(name: "adds", bytes: bytes)))
      configuration.machine.memorySize = memory
      return try VirtualMachine(configuration, technique: ParavirtTechnique()).runOnThisThread(options)
    }
    return (result, count)
  }

  @Test("a loop over the table is interpreted, and finds what is there")
  func loop() throws {
    let (result, count) = try Self.run(extra: [])
    #expect(result.outcome == .poweredOff)
    let interpreted = result.details["trap: machine-to-physical table, in code that was interpreted"] ?? 0
    let served = result.details["trap: machine-to-physical table, served in the sandbox"] ?? 0
    let emulated = result.details["trap: machine-to-physical table, emulated"] ?? 0
    #expect(interpreted + served + emulated == count)
    #expect(interpreted > count - 100, "\(result.details)")
  }

  @Test("where something else comes between, it is tried ever more seldom, and the sum is the same")
  func interrupted() throws {
    // LFENCE
    let (result, count) = try Self.run(extra: [0x0f, 0xae, 0xe8])
    #expect(result.outcome == .poweredOff)
    let served = result.details["trap: machine-to-physical table, served in the sandbox"] ?? 0
    #expect(served > count - 100, "\(result.details)")
  }
}
