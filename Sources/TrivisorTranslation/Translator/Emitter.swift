// Writes host instructions.
//
// Every instruction goes through one of two encoders, legacy and VEX, which take what the encoding is made of: prefixes,
// opcode map, opcode, the register of ModRM.reg and the place that ModRM.rm names. So the same calls serve for the
// translator's own instructions and for the guest's with some operands changed.

import TrivisorInstructionSet

/// What ModRM.rm can name.
enum Place: Equatable {
  case register(UInt8)
  /// base + index × 2^scale + displacement; index 4 is none.
  case memory(base: UInt8, index: UInt8 = 4, scale: UInt8 = 0, displacement: Int32 = 0)
  /// index × 2^scale + displacement, without base.
  case indexed(UInt8, scale: UInt8, displacement: Int32)
  /// %gs:offset.
  case state(Int32)
  /// %gs:offset + index × 8, or × 1.
  case stateIndexed(UInt8, scale: UInt8, offset: Int32)
}

/// Host registers with a purpose of their own.
enum Host {
  static let rax: UInt8 = 0, rcx: UInt8 = 1, rdx: UInt8 = 2, rsp: UInt8 = 4, rbp: UInt8 = 5
  /// The check temporaries.
  static let t1: UInt8 = 10, t2: UInt8 = 15
  /// Where the guest's RAX lives.
  static let guestRAX: UInt8 = 11

  /// The host register in which a guest register lives, or `nil` for the three in the state block.
  static func home(_ register: GeneralRegister) -> UInt8? {
    switch register {
    case .rax: guestRAX
    case .r10, .r11, .r15: nil
    default: register.rawValue
    }
  }
}

/// Legacy prefixes to write.
struct PrefixBits: OptionSet {
  let rawValue: UInt8
  static let operandSize = PrefixBits(rawValue: 1)
  static let repeatZero = PrefixBits(rawValue: 2)
  static let repeatNotZero = PrefixBits(rawValue: 4)
  static let lock = PrefixBits(rawValue: 8)
  static let addressSize = PrefixBits(rawValue: 16)
}

/// Appends to a buffer that is written at one address and executed at another.
struct Emitter {
  /// Where the next byte is written.
  private(set) var cursor: UnsafeMutablePointer<UInt8>
  private let end: UnsafeMutablePointer<UInt8>
  /// Executable address minus writable address.
  private let displacement: Int
  /// The buffer was too small; nothing was written past its end.
  private(set) var isFull = false

  init(cursor: UnsafeMutablePointer<UInt8>, end: UnsafeMutablePointer<UInt8>, executableOffset: Int) {
    self.cursor = cursor
    self.end = end
    displacement = executableOffset
  }

  /// The next instruction's address in execution.
  var address: UInt64 { UInt64(UInt(bitPattern: cursor)) &+ UInt64(bitPattern: Int64(displacement)) }

  @inline(__always)
  mutating func byte(_ value: UInt8) {
    guard cursor < end else {
      isFull = true
      return
    }
    cursor.pointee = value
    cursor += 1
  }

  mutating func word32(_ value: Int32) {
    guard end - cursor >= 4 else {
      isFull = true
      return
    }
    UnsafeMutableRawPointer(cursor).storeBytes(of: value.littleEndian, as: Int32.self)
    cursor += 4
  }

  /// Fills up to a multiple of `alignment`; what is there is never run.
  mutating func align(_ alignment: UInt64) {
    while address & (alignment - 1) != 0, !isFull { byte(0xcc) }
  }

  /// Fills up until the four bytes behind an opcode of this length will lie within eight aligned ones.
  mutating func alignOperand(opcodeLength: UInt64) {
    while (address &+ opcodeLength) & 7 > 4, !isFull { byte(0x90) }
  }

  /// The low bytes of a value; a longest instruction's room is needed.
  @inline(__always)
  mutating func immediate(_ value: Int64, size: UInt8) {
    if size == 0 { return }
    guard hasRoom else {
      isFull = true
      return
    }
    UnsafeMutableRawPointer(cursor).storeBytes(of: value.littleEndian, as: Int64.self)
    cursor += Int(size)
  }

  /// For what is written at once, which is no more than an instruction and eight bytes.
  @inline(__always)
  private var hasRoom: Bool { end - cursor >= 32 }

  // MARK: Encoders

  private static let segmentGS: UInt8 = 0x65

  /// An instruction without VEX; without ModRM if there is no place. `needsREX` makes 4–7 mean SPL–DIL.
  mutating func legacy(
    _ prefixes: PrefixBits = [], w: Bool = false, map: UInt8 = 0, _ opcode: UInt8, reg: UInt8, _ place: Place?,
    needsREX: Bool = false
  ) {
    guard hasRoom else {
      isFull = true
      return
    }
    var bytes = cursor
    if place?.isState ?? false { bytes.put(Self.segmentGS) }
    if !prefixes.isEmpty {
      if prefixes.contains(.addressSize) { bytes.put(0x67) }
      if prefixes.contains(.lock) { bytes.put(0xf0) }
      if prefixes.contains(.operandSize) { bytes.put(0x66) }
      if prefixes.contains(.repeatZero) { bytes.put(0xf3) }
      if prefixes.contains(.repeatNotZero) { bytes.put(0xf2) }
    }
    let extensions = place?.extensions ?? (x: 0, b: 0)
    let rex = (w ? 8 : 0) | reg >> 1 & 4 | extensions.x << 1 | extensions.b
    if rex != 0 || needsREX { bytes.put(0x40 | rex) }
    if map > 0 {
      bytes.put(0x0f)
      if map == 2 { bytes.put(0x38) }
      if map == 3 { bytes.put(0x3a) }
    }
    bytes.put(opcode)
    if let place { Self.modRM(reg & 7, place, &bytes) }
    cursor = bytes
  }

  /// A 32-bit instruction of the one-byte map.
  mutating func legacy(_ opcode: UInt8, reg: UInt8, _ place: Place) {
    legacy([], w: false, map: 0, opcode, reg: reg, place)
  }

  /// An instruction with a three-byte VEX prefix; `pp` as in VEX.
  mutating func vex(
    pp: UInt8, map: UInt8, w: Bool, length: UInt8, vvvv: UInt8, _ opcode: UInt8, reg: UInt8, _ place: Place?
  ) {
    guard hasRoom else {
      isFull = true
      return
    }
    var bytes = cursor
    if place?.isState ?? false { bytes.put(Self.segmentGS) }
    let extensions = place?.extensions ?? (x: 0, b: 0)
    bytes.put(0xc4)
    bytes.put((~(reg >> 3) & 1) << 7 | (~extensions.x & 1) << 6 | (~extensions.b & 1) << 5 | map)
    bytes.put((w ? 0x80 : 0) | (~vvvv & 15) << 3 | length << 2 | pp)
    bytes.put(opcode)
    if let place { Self.modRM(reg & 7, place, &bytes) }
    cursor = bytes
  }

  @inline(__always)
  private static func modRM(_ reg: UInt8, _ place: Place, _ bytes: inout UnsafeMutablePointer<UInt8>) {
    switch place {
    case .register(let number):
      bytes.put(0xc0 | reg << 3 | number & 7)
    case .memory(let base, let index, let scale, let displacement):
      let needsSIB = index != 4 || base & 7 == 4
      let mod: UInt8 =
        displacement == 0 && base & 7 != 5 ? 0 : Int32(Int8(truncatingIfNeeded: displacement)) == displacement ? 1 : 2
      bytes.put(mod << 6 | reg << 3 | (needsSIB ? 4 : base & 7))
      if needsSIB { bytes.put(scale << 6 | (index & 7) << 3 | base & 7) }
      if mod == 1 { bytes.put(UInt8(truncatingIfNeeded: displacement)) }
      if mod == 2 { bytes.put(word: displacement) }
    case .indexed(let index, let scale, let displacement), .stateIndexed(let index, let scale, let displacement):
      bytes.put(reg << 3 | 4)
      bytes.put(scale << 6 | (index & 7) << 3 | 5)
      bytes.put(word: displacement)
    case .state(let offset):
      bytes.put(reg << 3 | 4)
      bytes.put(0x25)
      bytes.put(word: offset)
    }
  }

  // MARK: The translator's own instructions
  //
  // Each writes one instruction, named as the manuals name it. The operands' width is 32 bits, or 64 with `w`.

  /// ADD and its kin, by their number in an opcode.
  enum Arithmetic: UInt8 {
    case add = 0, or, adc, sbb, and, sub, xor, cmp
  }

  /// SHL, SHR and SAR by a constant, by their number in ModRM.
  enum Shift: UInt8 {
    case shl = 4, shr = 5, sar = 7
  }

  /// The conditions of Jcc that are used, by their number in an opcode.
  enum Condition {
    static let equal: UInt8 = 4, notEqual: UInt8 = 5, above: UInt8 = 7
    static func opposite(of condition: UInt8) -> UInt8 { condition ^ 1 }
  }

  mutating func load(_ register: UInt8, _ place: Place, w: Bool = true) { legacy(w: w, 0x8b, reg: register, place) }
  mutating func store(_ register: UInt8, _ place: Place, w: Bool = true) { legacy(w: w, 0x89, reg: register, place) }
  mutating func move(_ destination: UInt8, _ source: UInt8) { store(source, .register(destination)) }
  mutating func lea(_ register: UInt8, _ place: Place, w: Bool = true) { legacy(w: w, 0x8d, reg: register, place) }

  /// MOV of `size` bytes, 2, 4 or 8, to a register.
  mutating func load(_ register: UInt8, _ place: Place, size: Int) { sized(0x8b, register, place, size) }
  /// MOV of `size` bytes, 2, 4 or 8, from a register.
  mutating func store(_ register: UInt8, _ place: Place, size: Int) { sized(0x89, register, place, size) }
  /// LEA of `size` bytes, 2, 4 or 8.
  mutating func lea(_ register: UInt8, _ place: Place, size: Int) { sized(0x8d, register, place, size) }

  private mutating func sized(_ opcode: UInt8, _ register: UInt8, _ place: Place, _ size: Int) {
    legacy(size == 2 ? .operandSize : [], w: size == 8, opcode, reg: register, place)
  }

  /// MOV or MOVZX of `size` bytes, 2, 4 or 8, into all of a register.
  mutating func loadZeroExtended(_ register: UInt8, _ place: Place, size: Int) {
    if size == 2 { legacy(map: 1, 0xb7, reg: register, place) } else { load(register, place, size: size) }
  }

  /// MOVZX of the low byte of a register.
  mutating func zeroExtendByte(_ destination: UInt8, _ source: UInt8) {
    legacy(map: 1, 0xb6, reg: destination, .register(source), needsREX: true)
  }

  /// MOVSX, MOVSXD or MOV of `size` bytes, 2, 4 or 8, into all of a register.
  mutating func signExtend(_ destination: UInt8, _ source: UInt8, size: Int) {
    switch size {
    case 2: legacy(w: true, map: 1, 0xbf, reg: destination, .register(source))
    case 4: legacy(w: true, 0x63, reg: destination, .register(source))
    default: if source != destination { move(destination, source) }
    }
  }

  /// The register becomes, or is compared with, itself and the place.
  mutating func arithmetic(_ operation: Arithmetic, _ register: UInt8, _ place: Place, w: Bool = false) {
    legacy(w: w, operation.rawValue << 3 | 3, reg: register, place)
  }

  /// The place becomes, or is compared with, itself and the register.
  mutating func arithmetic(_ operation: Arithmetic, _ place: Place, _ register: UInt8, w: Bool = false) {
    legacy(w: w, operation.rawValue << 3 | 1, reg: register, place)
  }

  /// With an immediate of 32 bits, whatever its value.
  mutating func arithmetic(_ operation: Arithmetic, _ place: Place, immediate: Int32, w: Bool = false) {
    legacy(w: w, 0x81, reg: operation.rawValue, place)
    word32(immediate)
  }

  /// With an immediate of 8 bits.
  mutating func arithmetic(_ operation: Arithmetic, _ place: Place, short immediate: Int8, w: Bool = false) {
    legacy(w: w, 0x83, reg: operation.rawValue, place)
    byte(UInt8(bitPattern: immediate))
  }

  mutating func test(_ register: UInt8, _ place: Place, w: Bool = false) { legacy(w: w, 0x85, reg: register, place) }

  mutating func test(_ place: Place, immediate: Int32, w: Bool = false) {
    legacy(w: w, 0xf7, reg: 0, place)
    word32(immediate)
  }

  mutating func shift(_ operation: Shift, _ register: UInt8, by count: UInt8, w: Bool = false) {
    legacy(w: w, 0xc1, reg: operation.rawValue, .register(register))
    byte(count)
  }

  /// The shortest `mov` that gives all 64 bits.
  mutating func loadConstant(_ register: UInt8, _ value: UInt64) {
    if value <= UInt64(UInt32.max) {
      if register >= 8 { byte(0x41) }
      byte(0xb8 | register & 7)
      immediate(Int64(bitPattern: value), size: 4)
    } else if let low = Int32(exactly: Int64(bitPattern: value)) {
      storeConstant64(low, .register(register))
    } else {
      byte(register >= 8 ? 0x49 : 0x48)
      byte(0xb8 | register & 7)
      immediate(Int64(bitPattern: value), size: 8)
    }
  }

  /// MOV of 64 bits, the constant sign-extended.
  mutating func storeConstant64(_ value: Int32, _ place: Place) {
    legacy(w: true, 0xc7, reg: 0, place)
    word32(value)
  }

  mutating func storeConstant32(_ value: UInt32, _ place: Place) {
    legacy(0xc7, reg: 0, place)
    word32(Int32(bitPattern: value))
  }

  /// MOV of `size` bytes, 2, 4 or 8, the constant sign-extended from 32 bits.
  mutating func storeConstant(_ value: Int64, _ place: Place, size: Int) {
    legacy(size == 2 ? .operandSize : [], w: size == 8, 0xc7, reg: 0, place)
    immediate(value, size: size == 2 ? 2 : 4)
  }

  /// MOV of 1, 2, 4 or 8 bytes between memory and the guest's RAX.
  mutating func moveAccumulator(_ place: Place, isStore: Bool, size: Int) {
    let opcode: UInt8 = isStore ? 0x88 : 0x8a
    legacy(
      size == 2 ? .operandSize : [], w: size == 8, opcode | (size == 1 ? 0 : 1), reg: Host.guestRAX, place)
  }

  /// LOOP, LOOPE, LOOPNE or JCXZ by its opcode, over the jump that is patched, for where it does not jump.
  mutating func loop(_ opcode: UInt8, isNarrow: Bool, prefixes: Prefixes) -> PatchPoint {
    let lengthOfJump: UInt8 = 5
    if isNarrow { byte(0x67) }
    // To AMD's processors REP and REPNE before LOOPNE and LOOPE say which ZF ends the loop (seen on a Zen 4); Intel's ignore
    // them. LOOP and JCXZ don't look at ZF.
    let looksAtZero = opcode < 0xe2
    byte(looksAtZero && prefixes.contains(.rep) ? 0xe1 : looksAtZero && prefixes.contains(.repne) ? 0xe0 : opcode)
    byte(lengthOfJump)
    return jump32()
  }

  /// LDMXCSR.
  mutating func loadControl(_ place: Place) { legacy(map: 1, 0xae, reg: 2, place) }

  /// RORX: flags untouched.
  mutating func rotateRight(_ destination: UInt8, _ source: UInt8, by count: UInt8) {
    vex(pp: 3, map: 3, w: true, length: 0, vvvv: 0, 0xf0, reg: destination, .register(source))
    byte(count)
  }

  /// LAHF; SETO %al.
  mutating func saveFlags() {
    byte(0x9f)
    legacy(map: 1, 0x90, reg: 0, .register(Host.rax))
  }

  /// ADD $0x7f, %al, which overflows if AL is 1; SAHF.
  mutating func restoreFlags() {
    byte(0x04)
    byte(0x7f)
    byte(0x9e)
  }

  /// MOVZX %ah, %eax.
  mutating func moveHighByteOfRAX() {
    byte(0x0f)
    byte(0xb6)
    byte(0xc4)
  }

  /// BSWAP, whose register is in the opcode.
  mutating func byteSwap(_ register: UInt8, _ prefixes: PrefixBits, w: Bool) {
    let rex: UInt8 = (w ? 8 : 0) | register >> 3
    if prefixes.contains(.operandSize) { byte(0x66) }
    if rex != 0 { byte(0x40 | rex) }
    byte(0x0f)
    byte(0xc8 | register & 7)
  }

  mutating func rdtsc() {
    byte(0x0f)
    byte(0x31)
  }

  mutating func pause() {
    byte(0xf3)
    byte(0x90)
  }

  mutating func fwait() { byte(0x9b) }

  mutating func jump(_ place: Place) { legacy(0xff, reg: 4, place) }

  /// JMP through a word at a distance from RIP, which is patched as a jump's is.
  mutating func jumpThroughWord() -> PatchPoint {
    byte(0xff)
    byte(0x25)
    return patchPoint()
  }

  static let jumpOpcode: UInt8 = 0xe9

  /// CMP of T2 with a word at a distance from RIP, which is patched as a jump's target is.
  mutating func compareWithWord() -> PatchPoint {
    byte(0x4c)
    byte(0x3b)
    byte(0x3d)
    return patchPoint()
  }

  /// LEA of an address of code into T2, which is patched as a jump's target is.
  mutating func loadCodeAddress() -> PatchPoint {
    byte(0x4c)
    byte(0x8d)
    byte(0x3d)
    return patchPoint()
  }

  /// A jump whose target is patched; returns where.
  mutating func jump32() -> PatchPoint {
    byte(Self.jumpOpcode)
    return patchPoint()
  }

  mutating func jump32(condition: UInt8) -> PatchPoint {
    byte(0x0f)
    byte(0x80 | condition)
    return patchPoint()
  }

  private mutating func patchPoint() -> PatchPoint {
    let place = cursor
    word32(0)
    return PatchPoint(place: place, next: address)
  }
}

extension UnsafeMutablePointer<UInt8> {
  @inline(__always)
  fileprivate mutating func put(_ value: UInt8) {
    pointee = value
    self += 1
  }

  @inline(__always)
  fileprivate mutating func put(word value: Int32) {
    UnsafeMutableRawPointer(self).storeBytes(of: value.littleEndian, as: Int32.self)
    self += 4
  }
}

extension Place {
  fileprivate var isState: Bool {
    switch self {
    case .state, .stateIndexed: true
    default: false
    }
  }

  /// Two registers form the address.
  var isIndexed: Bool {
    if case .memory(_, let index, _, _) = self { index != 4 } else { false }
  }

  /// REX.X and REX.B.
  fileprivate var extensions: (x: UInt8, b: UInt8) {
    switch self {
    case .register(let number): (0, number >> 3)
    case .memory(let base, let index, _, _): (index >> 3, base >> 3)
    case .indexed(let index, _, _), .stateIndexed(let index, _, _): (index >> 3, 0)
    case .state: (0, 0)
    }
  }
}

/// The four bytes of a jump's offset.
struct PatchPoint {
  let place: UnsafeMutablePointer<UInt8>
  let next: UInt64

  /// The bytes are written one by one before the code first runs, or by the only thread that runs it.
  func patch(to target: UInt64) {
    let offset = Int32(truncatingIfNeeded: Int64(bitPattern: target &- next))
    UnsafeMutableRawPointer(place).storeBytes(of: offset, as: Int32.self)
  }
}
