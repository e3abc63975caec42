/// 64-bit instructions, one behind the other.
struct Code {
  private(set) var bytes: [UInt8] = []
  /// Linear address of the first byte.
  let origin: UInt32

  init(at origin: UInt32) { self.origin = origin }

  var address: UInt32 { origin + UInt32(bytes.count) }

  mutating func add(_ more: UInt8...) { bytes += more }

  mutating func add32(_ value: UInt32) {
    for shift in stride(from: 0, to: 32, by: 8) { bytes.append(UInt8(truncatingIfNeeded: value >> UInt32(shift))) }
  }

  mutating func add64(_ value: UInt64) {
    add32(UInt32(truncatingIfNeeded: value))
    add32(UInt32(truncatingIfNeeded: value >> 32))
  }

  /// Bytes of an instruction and the 32-bit word behind them.
  mutating func add(_ opcode: [UInt8], _ word: UInt32) {
    bytes += opcode
    add32(word)
  }

  /// A jump, call or conditional jump: its last word counts from behind it.
  mutating func add(_ opcode: [UInt8], to target: UInt32) {
    bytes += opcode
    add32(target &- (address &+ 4))
  }

  mutating func set32(_ value: UInt32, at place: UInt32) {
    for byte in 0..<4 { bytes[Int(place - origin) + byte] = UInt8(truncatingIfNeeded: value >> UInt32(8 * byte)) }
  }

  // MARK: Absolute addresses, and those of the processor's own memory, by GS

  mutating func loadEAX(_ place: UInt32) { add([0x8b, 0x04, 0x25], place) }
  mutating func storeEAX(_ place: UInt32) { add([0x89, 0x04, 0x25], place) }
  mutating func loadOwnEAX(_ offset: UInt32) { add([0x65, 0x8b, 0x04, 0x25], offset) }
  mutating func storeOwnEAX(_ offset: UInt32) { add([0x65, 0x89, 0x04, 0x25], offset) }
  mutating func incrementOwn(_ offset: UInt32) { add([0x65, 0xff, 0x04, 0x25], offset) }
  mutating func lockIncrement(_ place: UInt32) { add([0xf0, 0xff, 0x04, 0x25], place) }
  mutating func setEAX(_ value: UInt32) { add([0xb8], value) }
  mutating func setECX(_ value: UInt32) { add([0xb9], value) }
  mutating func setEDI(_ value: UInt32) { add([0xbf], value) }

  mutating func cpuid() { add(0x31, 0xc0, 0x0f, 0xa2) }

  /// WRMSR of EAX.
  mutating func writeModelSpecific(_ index: UInt32) {
    setECX(index)
    add(0x31, 0xd2, 0x0f, 0x30)
  }

  /// IRETQ to the next instruction, with the same privilege.
  mutating func interruptReturn() {
    add(0x48, 0x89, 0xe1)  // mov rcx, rsp
    add(0x8c, 0xd0, 0x50, 0x51, 0x9c)  // mov eax, ss; push rax; push rcx; pushfq
    add(0x8c, 0xc8, 0x50)  // mov eax, cs; push rax
    add([0x48, 0x8d, 0x05], 3)  // lea rax, [behind iretq]
    add(0x50, 0x48, 0xcf)  // push rax; iretq
  }

  /// Waits, by an instruction that leaves translated code, until a word has come to a value that `compare` looks at.
  mutating func wait(until compare: (inout Code) -> Void) {
    let start = address
    cpuid()
    compare(&self)
    // jb
    add([0x0f, 0x82], to: start)
  }
}
