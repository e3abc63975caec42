/// Boot sectors that tests make themselves, from a few instructions each.
enum BootSector {
  /// Code that ends with exit code 0: MOV AL, 0; OUT F4h, AL; JMP $.
  static let exit: [UInt8] = [0xb0, 0x00, 0xe6, 0xf4, 0xeb, 0xfe]
  /// Code that spins with interrupts on: STI; JMP $.
  static let spin: [UInt8] = [0xfb, 0xeb, 0xfe]
  /// Code that waits for interrupts: STI; HLT; JMP to the HLT.
  static let idle: [UInt8] = [0xfb, 0xf4, 0xeb, 0xfd]

  /// Sends `text` to COM1 so many times, then runs `code`.
  static func writing(_ text: String, times: UInt16 = 1, then code: [UInt8]) -> [UInt8] {
    let print: [UInt8] = [
      0xb9, UInt8(times & 0xff), UInt8(times >> 8),  // MOV CX, times
      0xbe, 0x00, 0x00,  // again: MOV SI, text
      0xac,  // next: LODSB
      0x84, 0xc0,  // TEST AL, AL
      0x74, 0x06,  // JZ over
      0xba, 0xf8, 0x03,  // MOV DX, 3F8h
      0xee,  // OUT DX, AL
      0xeb, 0xf5,  // JMP next
      0xe2, 0xf0,  // over: LOOP again
    ]
    var bytes = print + code
    let address = UInt16(0x7c00 + bytes.count)
    (bytes[4], bytes[5]) = (UInt8(address & 0xff), UInt8(address >> 8))
    return finished(bytes + Array(text.utf8) + [0])
  }

  /// Sends what arrives at COM1 back, looking for it 20,000 times, and ends with exit code 0.
  static let echo = finished(
    [
      0xb9, 0x20, 0x4e,  // MOV CX, 20000
      0xba, 0xfd, 0x03,  // again: MOV DX, 3FDh
      0xec,  // IN AL, DX
      0xa8, 0x01,  // TEST AL, 1
      0x74, 0x04,  // JZ nothing
      0xb2, 0xf8,  // MOV DL, F8h
      0xec,  // IN AL, DX
      0xee,  // OUT DX, AL
      0xe2, 0xf2,  // nothing: LOOP again
    ] + exit)

  /// Filled up to 512 bytes, with the signature.
  static func finished(_ code: [UInt8]) -> [UInt8] {
    code + [UInt8](repeating: 0, count: max(510 - code.count, 0)) + [0x55, 0xaa]
  }
}
