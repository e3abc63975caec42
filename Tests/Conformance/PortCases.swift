// Port I/O (Ports.S).

import TrivisorVMM

extension ConformanceSuite {
  private static let immediateResults: [UInt64] = [0x1122_33a0, 0x1122_a3a2, 0xa7a6_a5a4]
  private static let immediateAccesses: [DeviceAccess] = [
    .read(0xb8, 1), .read(0xba, 2), .read(0xbc, 4),
    .write(0xb9, 1, 0x88), .write(0xba, 2, 0x7788), .write(0xbc, 4, 0x5566_7788),
  ]
  private static let registerResults: [UInt64] = [0x1122_33b1, 0x1122_b2b1, 0xb4b3_b2b1]
  private static let registerAccesses: [DeviceAccess] = [
    .read(0x301, 1), .read(0x301, 2), .read(0x301, 4),
    .write(0x301, 1, 0x88), .write(0x301, 2, 0x7788), .write(0x301, 4, 0x5566_7788),
  ]
  private static let stringAccesses: [DeviceAccess] = [
    .read(0x300, 1), .read(0x300, 2), .read(0x300, 4),
    .write(0x300, 1, 0xb0), .write(0x300, 2, 0xb1b0), .write(0x300, 4, 0xb3b2_b1b0),
  ]

  private static func repeated(_ count: Int, _ access: DeviceAccess) -> [DeviceAccess] {
    Array(repeating: access, count: count)
  }

  static let portCases: [ConformanceCase] = [
    ConformanceCase("port-immediate-16", .real, "IN and OUT with an immediate port, 8, 16 and 32 bits, real mode")
      .reporting(immediateResults).journaling(immediateAccesses),
    ConformanceCase("port-immediate-32", .protected, "the same in protected mode")
      .reporting(immediateResults).journaling(immediateAccesses),
    ConformanceCase("port-immediate-64", .long, "the same in 64-bit mode")
      .reporting(immediateResults).journaling(immediateAccesses),
    ConformanceCase("port-immediate-user", .longUser, "the same at CPL 3 with IOPL 3", guest: "port_immediate_64")
      .prepared { state, _ in state.general.rflags |= 3 << 12 }
      .reporting(immediateResults).journaling(immediateAccesses),
    ConformanceCase("port-register-16", .real, "IN and OUT with the port in DX, real mode")
      .reporting(registerResults).journaling(registerAccesses),
    ConformanceCase("port-register-32", .protected, "the same in protected mode")
      .reporting(registerResults).journaling(registerAccesses),
    ConformanceCase("port-register-64", .long, "the same in 64-bit mode")
      .reporting(registerResults).journaling(registerAccesses),
    ConformanceCase("port-register-user", .longUser, "the same at CPL 3 with IOPL 3", guest: "port_register_64")
      .prepared { state, _ in state.general.rflags |= 3 << 12 }
      .reporting(registerResults).journaling(registerAccesses),
    ConformanceCase("port-long-upper-half", .long, "IN EAX clears RAX's upper half, IN AL and IN AX keep it")
      .reporting([0x1122_3344_5566_77b0, 0x1122_3344_5566_b1b0, 0xb3b2_b1b0]),
    ConformanceCase("port-split", .long, "an access over two devices, and over the end of one, goes byte by byte")
      .reporting([0xc1c0_b7b6, 0xffff_c7c6]).journaling([
        .read(0x306, 1), .read(0x307, 1), .read(0x308, 1), .read(0x309, 1),
        .write(0x306, 1, 0x44), .write(0x307, 1, 0x33), .write(0x308, 1, 0x22), .write(0x309, 1, 0x11),
        .read(0x30e, 1), .read(0x30f, 1), .write(0x30e, 1, 0x88), .write(0x30f, 1, 0x77),
      ]),
    ConformanceCase("port-unclaimed", .long, "what no device claims reads as ones and swallows writes")
      .reporting([0x1122_33ff, 0x1122_ffff, 0xffff_ffff]).journaling([]),
    ConformanceCase("port-string-16", .real, "INS and OUTS of 1, 2 and 4 bytes, real mode")
      .reporting([0x7007, 0xb0b1_b0b0, 0x7007]).journaling(stringAccesses),
    ConformanceCase("port-string-32", .protected, "the same in protected mode")
      .reporting([0x2_0007, 0xb0b1_b0b0, 0x2_0007]).journaling(stringAccesses),
    ConformanceCase("port-string-64", .long, "the same in 64-bit mode")
      .reporting([0x2_0007, 0xb0b1_b0b0, 0x2_0007]).journaling(stringAccesses),
    ConformanceCase("port-string-user", .longUser, "the same at CPL 3 with IOPL 3", guest: "port_string_64")
      .prepared { state, _ in state.general.rflags |= 3 << 12 }
      .reporting([0x2_0007, 0xb0b1_b0b0, 0x2_0007]).journaling(stringAccesses),
    ConformanceCase("port-rep", .long, "REP INS and REP OUTS access the port once an element")
      .reporting([0, 0x2_0006, 0, 0x2_0006])
      .journaling(repeated(3, .read(0x300, 2)) + repeated(3, .write(0x300, 2, 0xb1b0))),
    ConformanceCase("port-rep-backwards", .long, "with DF = 1 the pointer moves down")
      .reporting([0x1_fffc, 0x2_00fc, 0xb3b2_b1b0, 0xb3b2_b1b0])
      .journaling(
        [.write(0x300, 4, 0x1111_1111), .write(0x300, 4, 0x2222_2222), .write(0x300, 4, 0x3333_3333)]
          + repeated(3, .read(0x300, 4))),
    ConformanceCase("port-rep-zero", .long, "REP with RCX = 0 touches neither port nor memory")
      .reporting([0x7fff_ffff_0000, 0x7fff_ffff_0000]).journaling([]),
    ConformanceCase("port-rep-across-page", .long, "the elements lie on both sides of a page boundary and across it")
      .reporting([0xb3b2_b1b0, 0x2_1006])
      .journaling(repeated(3, .read(0x300, 4)) + repeated(3, .write(0x300, 4, 0xb3b2_b1b0))),
    ConformanceCase("port-rep-long", .long, "2500 elements: more than a page of them")
      .reporting([0x2_2710, 0xb3b2_b1b0, 0]).journaling(repeated(2500, .read(0x300, 4))),
    ConformanceCase("port-rep-address32", .long, "with the address-size prefix: ECX and EDI, zero-extended")
      .reporting([0, 0x2_0002]).journaling(repeated(2, .read(0x300, 1))),
    ConformanceCase("port-rep-address16", .protected, "16-bit address size: CX and DI, which wraps at 64 KiB")
      .reporting([0x5_0000, 0x6_0001, 0xb0, 0xb0]).journaling(repeated(3, .read(0x300, 1))),
    ConformanceCase("port-string-segment", .real, "a prefix changes the segment of OUTS, never that of INS")
      .reporting([0xb3b2_b1b0, 0]).journaling([.write(0x300, 4, 0x3132_3334), .read(0x300, 4)]),
  ]
}
