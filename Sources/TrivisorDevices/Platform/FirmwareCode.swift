import TrivisorVMM
import TrivisorX86

/// The instructions that stand for a PC's firmware, and the interrupt vectors that lead to them.
///
/// Before a guest begins they leave the interrupt controllers and the timer as a BIOS does: IRQ 0 to 7 at vectors 8 to 15, 8 to 15 at
/// 0x70 to 0x77, all masked but the timer's, which ticks 18.2 times a second. Its handler counts the ticks where a BIOS does. All other vectors tell
/// `FirmwareCallPort` of a call that nobody answers.
public enum FirmwareCode {
  /// Where the instructions lie: in a PC's ROM.
  public static let address: UInt64 = 0xf_f000
  private static let segment = UInt16(address >> 4 & 0xf000)
  private static let offset = UInt16(address & 0xffff)

  private static let vectorCount = 256
  private static let entrySize = 5
  /// The vectors of the 8259s' inputs.
  private static let masterVectors: Range<Int> = 8..<16, slaveVectors: Range<Int> = 0x70..<0x78

  /// The 256 vectors, for address 0.
  public static var vectors: [UInt8] {
    (0..<vectorCount).flatMap { vector -> [UInt8] in
      let place = offset + UInt16(vector * entrySize)
      return [UInt8(place & 0xff), UInt8(place >> 8), UInt8(segment & 0xff), UInt8(segment >> 8)]
    }
  }

  /// What they lead to, for `address`: an entry each, the handler of interrupts, the teller of calls.
  public static var code: [UInt8] {
    let handler = vectorCount * entrySize
    let teller = handler + interruptHandler.count
    let entries = (0..<vectorCount).flatMap { vector -> [UInt8] in
      let isInterrupt = masterVectors.contains(vector) || slaveVectors.contains(vector)
      let distance = UInt16((isInterrupt ? handler : teller) - (vector + 1) * entrySize)
      // PUSH vector; JMP to what all share.
      return [0x6a, UInt8(vector), 0xe9, UInt8(distance & 0xff), UInt8(distance >> 8)]
    }
    return entries + interruptHandler + callTeller
  }

  /// Ends an interrupt, if the vector's input is in service; else it is an exception, of which the teller tells.
  private static let interruptHandler: [UInt8] = [
    0x50, 0x51, 0x55, 0x89, 0xe5,  // PUSH AX; PUSH CX; PUSH BP; MOV BP, SP
    0x8a, 0x4e, 0x06, 0x88, 0xcd,  // MOV CL, [BP+6]: the vector; MOV CH, CL
    0xb0, 0x0b, 0x80, 0xf9, 0x70, 0x73, 0x06,  // MOV AL, 0Bh: in service; CMP CL, 70h; JAE slave
    0xe6, 0x20, 0xe4, 0x20, 0xeb, 0x04,  // OUT 20h, AL; IN AL, 20h; JMP look
    0xe6, 0xa0, 0xe4, 0xa0,  // slave: OUT A0h, AL; IN AL, A0h
    0x80, 0xe1, 0x07, 0xd2, 0xe8, 0xa8, 0x01, 0x74, 0x22,  // look: AND CL, 7; SHR AL, CL; TEST AL, 1; JZ exception
    0xb0, 0x20, 0x80, 0xfd, 0x70, 0x72, 0x02, 0xe6, 0xa0,  // MOV AL, 20h: ended; CMP CH, 70h; JB master; OUT A0h, AL
    0xe6, 0x20, 0x80, 0xfd, 0x08, 0x75, 0x0b,  // master: OUT 20h, AL; CMP CH, 8; JNE back
    0x1e, 0x31, 0xc0, 0x8e, 0xd8,  // PUSH DS; XOR AX, AX; MOV DS, AX
    0x66, 0xff, 0x06, 0x6c, 0x04, 0x1f,  // INC DWORD [46Ch]; POP DS
    0x5d, 0x59, 0x58, 0x83, 0xc4, 0x02, 0xcf,  // back: POP BP; POP CX; POP AX; ADD SP, 2; IRET
    0x5d, 0x59, 0x58, 0xe9, 0x00, 0x00,  // exception: POP BP; POP CX; POP AX; JMP to the teller, which is next
  ]

  private static let callTeller: [UInt8] = {
    let port = FirmwareCallPort.conventionalPort
    return [
      0x52, 0x55, 0x89, 0xe5,  // PUSH DX; PUSH BP; MOV BP, SP
      0xba, UInt8(port & 0xff), UInt8(port >> 8), 0xef,  // MOV DX, port; OUT DX, AX
      0x8b, 0x46, 0x04, 0xef,  // MOV AX, [BP+4]: the vector; OUT DX, AX
      0x8b, 0x46, 0x06, 0xef,  // MOV AX, [BP+6]: IP; OUT DX, AX
      0x8b, 0x46, 0x08, 0xef,  // MOV AX, [BP+8]: CS; OUT DX, AX
      0xf4, 0xeb, 0xfd,  // HLT, for ever
    ]
  }()

  // MARK: Before the guest

  /// Where `start` is to lie.
  public static let startAddress = (address + UInt64(code.count) + 15) & ~15

  /// Ports and what is written to them (Intel 8259A and 8254 data sheets).
  private static let setting: [(port: UInt8, value: UInt8)] = [
    // Edges, a slave, a fourth word; the vectors; the slave is at input 2; 8086 mode.
    (0x20, 0x11), (0xa0, 0x11), (0x21, 8), (0xa1, 0x70), (0x21, 4), (0xa1, 2), (0x21, 1), (0xa1, 1),
    // Input 0 and the slave's are open.
    (0x21, 0xfa), (0xa1, 0xff),
    // Counter 0: a square wave of 65,536.
    (0x43, 0x36), (0x40, 0), (0x40, 0),
  ]

  /// Instructions, of 16 and of 32 bits the same, that set the chips and go to the guest's first one. The guest begins with them from then on.
  public static func start(of guest: inout ProcessorStart) -> [UInt8] {
    var code = setting.flatMap { [0xb0, $0.value, 0xe6, $0.port] as [UInt8] }
    // MOV AL: as the guest expects it.
    code += [0xb0, UInt8(truncatingIfNeeded: guest.general.rax)]
    let target = guest.general.rip
    if CR0(rawValue: guest.system.cr0).contains(.protectedMode) {
      // JMP, relative.
      let distance = UInt32(truncatingIfNeeded: target &- (startAddress + UInt64(code.count) + 5))
      code.append(0xe9)
      for byte in 0..<4 { code.append(UInt8(truncatingIfNeeded: distance >> UInt32(8 * byte))) }
      guest.general.rip = startAddress
    } else {
      let selector = guest.system.cs.selector
      code += [0xea, UInt8(target & 0xff), UInt8(target >> 8 & 0xff), UInt8(selector & 0xff), UInt8(selector >> 8)]
      guest.system.cs = .real(segment, code: true)
      guest.general.rip = startAddress & 0xffff
    }
    return code
  }
}
