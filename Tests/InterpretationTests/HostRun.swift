import Glibc

/// The state of a processor, as far as interpreted code changes it.
struct PlainState: Equatable {
  var general = [UInt64](repeating: 0, count: 16)
  var flags: UInt64 = 0x202
}

/// Memory at one address for the host's processor and for the interpreter: a page of code, and behind it data.
final class CodeAndData {
  static let dataSize = 16 * 4096
  private static let stateOffset = 4096
  private static let codeOffset = 512
  let base: UnsafeMutableRawPointer
  let data: UnsafeMutableRawPointer
  private static let size = 2 * 4096 + dataSize

  init() throws {
    let protection = PROT_READ | PROT_WRITE | PROT_EXEC
    guard let mapping = mmap(nil, Self.size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), mapping != MAP_FAILED
    else { throw HostFailure(call: "mmap", error: errno) }
    base = mapping
    data = mapping + 2 * 4096
  }

  deinit { munmap(base, Self.size) }

  var dataAddress: UInt64 { UInt64(UInt(bitPattern: data)) }
  var codeAddress: UInt64 { UInt64(UInt(bitPattern: base)) + UInt64(Self.codeOffset) }

  func bytes() -> [UInt8] { Array(UnsafeRawBufferPointer(start: data, count: Self.dataSize)) }
  func set(_ bytes: [UInt8]) { data.copyMemory(from: bytes, byteCount: Self.dataSize) }

  /// Puts code where it is run, with nothing but NOPs around it.
  func place(_ code: [UInt8]) {
    memset(base, 0x90, 4096)
    (base + Self.codeOffset).copyMemory(from: code, byteCount: code.count)
  }

  /// Runs code that does not fault, branch or touch more than this memory, on this processor.
  func run(_ code: [UInt8], from state: PlainState) -> PlainState {
    place(code)
    let words = (base + Self.stateOffset).assumingMemoryBound(to: UInt64.self)
    for number in 0..<16 { words[number] = state.general[number] }
    words[16] = state.flags
    let address = UInt64(UInt(bitPattern: words))
    var bytes: [UInt8] = []
    // PUSH RBX, RBP, R12 to R15; MOV RAX, state; MOV [RAX + 17 * 8], RSP; PUSH [RAX + 16 * 8]; POPF.
    bytes += [0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57]
    bytes += [0x48, 0xb8] + Self.quadword(address)
    bytes += [0x48, 0x89, 0xa0] + Self.doubleword(17 * 8) + [0xff, 0xb0] + Self.doubleword(16 * 8) + [0x9d]
    // MOV of each register from [RAX + …], RAX itself last.
    for number in Array(1..<16) + [0] {
      bytes += [number < 8 ? 0x48 : 0x4c, 0x8b, UInt8(0x80 | (number & 7) << 3)] + Self.doubleword(number * 8)
    }
    precondition(bytes.count <= Self.codeOffset)
    // What is between is NOPs.
    base.copyMemory(from: bytes, byteCount: bytes.count)
    var end: [UInt8] = []
    // MOV [state], RAX; MOV RAX, state; MOV of each register to [RAX + …].
    end += [0x48, 0xa3] + Self.quadword(address) + [0x48, 0xb8] + Self.quadword(address)
    for number in 1..<16 {
      end += [number < 8 ? 0x48 : 0x4c, 0x89, UInt8(0x80 | (number & 7) << 3)] + Self.doubleword(number * 8)
    }
    // MOV RSP, [RAX + 17 * 8]; PUSHF; POP [RAX + 16 * 8]; POP R15 to R12, RBP, RBX; CLD; RET.
    end += [0x48, 0x8b, 0xa0] + Self.doubleword(17 * 8) + [0x9c, 0x8f, 0x80] + Self.doubleword(16 * 8)
    end += [0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xfc, 0xc3]
    (base + Self.codeOffset + code.count).copyMemory(from: end, byteCount: end.count)
    unsafeBitCast(base, to: (@convention(c) () -> Void).self)()
    return PlainState(general: (0..<16).map { words[$0] }, flags: words[16])
  }

  private static func quadword(_ value: UInt64) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }
  private static func doubleword(_ value: Int) -> [UInt8] { withUnsafeBytes(of: UInt32(value)) { Array($0) } }
}

/// What the host refuses.
struct HostFailure: Error {
  let call: String
  let error: Int32
}
