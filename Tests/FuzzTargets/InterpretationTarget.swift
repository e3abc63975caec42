import TrivisorInterpretation

/// The interpreter of plain instructions. A byte for each register says which edge of a page it is near; the rest is code.
final class InterpretationTarget: FuzzTarget, InterpretedMemory {
  static let name = "interpretation"
  static let sizeLimit = 256
  /// MOV RAX, [RBX]; ADD [RBX], RAX; PUSH; CALL; RET. A loop. IMUL, SHL, CMOV, SETcc.
  static let seeds: [[UInt8]] = [
    registers + [0x48, 0x8b, 0x03, 0x48, 0x01, 0x03, 0x50, 0xe8, 0, 0, 0, 0, 0xc3],
    registers + [0x48, 0x8b, 0x14, 0xcb, 0x48, 0x01, 0xd0, 0x48, 0xff, 0xc1, 0x48, 0x39, 0xf9, 0x75, 0xf1],
    registers + [0x48, 0x0f, 0xaf, 0xc3, 0xc1, 0xe0, 7, 0x0f, 0x4c, 0xc1, 0x0f, 0x94, 0x03, 0xc9],
  ]
  private static let registers: [UInt8] = [0, 2, 9, 17, 33, 34, 18, 65, 1, 2, 3, 4, 5, 6, 7, 8]

  /// Pages from this address on: code, data, data of which nothing may be stored to, data; around them there is nothing.
  private static let base: UInt64 = 0x40_0000
  private static let pageSize = 4096
  private static let pageCount = 4
  private static let readOnlyPage = 2
  /// Bytes on either side of the pages.
  private static let margin = 64
  private static let marginByte: UInt8 = 0xa5

  private let storage: UnsafeMutableRawPointer
  private var pages: UnsafeMutableRawPointer { storage + Self.margin }
  private var interpreter: Interpreter?

  init() {
    storage = .allocate(byteCount: Self.pageCount * Self.pageSize + 2 * Self.margin, alignment: 64)
  }

  deinit { storage.deallocate() }

  func page(at address: UInt64, for use: PageUse) -> InterpretedPage? {
    let number = (address &- Self.base) >> 12
    guard number < UInt64(Self.pageCount), use != .write || number != UInt64(Self.readOnlyPage) else { return nil }
    return InterpretedPage(host: pages + Int(number) * Self.pageSize, isSought: number == UInt64(Self.readOnlyPage))
  }

  func run(_ bytes: UnsafeRawBufferPointer) {
    var input = FuzzInput(bytes)
    let interpreter = interpreter ?? Interpreter(in: self)
    self.interpreter = interpreter
    for register in 0..<16 {
      let byte = UInt64(input.byte())
      interpreter[general: register] = Self.base &+ (byte >> 4) << 12 &+ (byte & 15) &- 8
    }
    interpreter.rip = Self.base
    interpreter.flags = 0x202
    storage.initializeMemory(
      as: UInt8.self, repeating: Self.marginByte, count: Self.pageCount * Self.pageSize + 2 * Self.margin)
    let code = input.remainder()
    if let start = code.baseAddress { pages.copyMemory(from: start, byteCount: min(code.count, Self.pageSize)) }
    let outcome = interpreter.run(limit: 500, patience: 500)
    precondition(outcome.instructionCount <= 500 && interpreter.rip >> 47 == 0)
    let all = UnsafeRawBufferPointer(start: storage, count: Self.pageCount * Self.pageSize + 2 * Self.margin)
    let readOnly = Self.margin + Self.readOnlyPage * Self.pageSize
    precondition(all[readOnly..<(readOnly + Self.pageSize)].allSatisfy { $0 == Self.marginByte })
    precondition(all.prefix(Self.margin).allSatisfy { $0 == Self.marginByte })
    precondition(all.suffix(Self.margin).allSatisfy { $0 == Self.marginByte })
  }
}
