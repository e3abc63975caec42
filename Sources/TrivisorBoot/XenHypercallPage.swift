/// The page of calls that a kernel finds where it says HYPERCALL_PAGE (Xen's arch/x86/pv/hypercall.c), or asks for by a
/// model-specific register: number by number, 32 bytes each.
public enum XenHypercallPage {
  private static let iret = 23
  private static let setSegmentBase = 25
  private static let count = 128
  private static let size = 32
  /// Where there is room for code of more than 32 bytes.
  private static let room = 100

  /// All 4096 bytes of it.
  ///
  /// Of 64 bits RCX and R11, which SYSCALL changes, are kept; `iret` does not come back, and its frame has RAX, too.
  public static func bytes(is64Bit: Bool) -> [UInt8] {
    var page = [UInt8](repeating: 0, count: count * size)
    func put(_ code: [UInt8], _ number: Int) {
      for (position, byte) in code.enumerated() { page[number * size + position] = byte }
    }
    for number in 0..<count {
      let call: [UInt8] = [0xb8, UInt8(number), 0, 0, 0]
      if is64Bit {
        // PUSH RCX; PUSH R11; PUSH RAX; MOV EAX, number; SYSCALL; POP R11; POP RCX; RET
        put(
          [0x51, 0x41, 0x53] + (number == iret ? [0x50] : []) + call + [0x0f, 0x05]
            + (number == iret ? [] : [0x41, 0x5b, 0x59, 0xc3]), number)
      } else {
        // PUSH EAX; MOV EAX, number; INT 82h; RET
        put((number == iret ? [0x50] : []) + call + [0xcd, 0x82, 0xc3], number)
      }
    }
    guard is64Bit else { return page }
    // JMP
    put([0xe9, 0x5b, 0x09, 0, 0], setSegmentBase)
    put(segmentBaseCode, room)
    return page
  }

  /// set_segment_base without the monitor: for FS (0) and the kernel's GS (2) it is one instruction, which every program
  /// may execute where the host lets it; for an address of the upper half, and all else, the call is made.
  private static let segmentBaseCode: [UInt8] = [
    0x85, 0xff,  // test %edi, %edi
    0x74, 0x16,  // je fs
    0x83, 0xff, 0x02,  // cmp $2, %edi
    0x75, 0x22,  // jne call
    0x48, 0x89, 0xf0,  // mov %rsi, %rax
    0x48, 0xc1, 0xe8, 0x2f,  // shr $47, %rax
    0x75, 0x19,  // jne call
    0xf3, 0x48, 0x0f, 0xae, 0xde,  // wrgsbase %rsi
    0x31, 0xc0, 0xc3,  // xor %eax, %eax; ret
    0x48, 0x89, 0xf0,  // fs: mov %rsi, %rax
    0x48, 0xc1, 0xe8, 0x2f,  // shr $47, %rax
    0x75, 0x08,  // jne call
    0xf3, 0x48, 0x0f, 0xae, 0xd6,  // wrfsbase %rsi
    0x31, 0xc0, 0xc3,  // xor %eax, %eax; ret
    // call: as the others
    0x51, 0x41, 0x53, 0xb8, UInt8(setSegmentBase), 0, 0, 0, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3,
  ]
}
