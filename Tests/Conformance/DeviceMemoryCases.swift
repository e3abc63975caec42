// Device memory (DeviceMemory.S).

import TrivisorVMM

extension ConformanceSuite {
  private typealias Case = ConformanceCase

  private static let base = Layout.device
  private static let edge = Layout.memorySize

  static let deviceMemoryCases: [ConformanceCase] = [
    Case.both("device-read", "loads of 1, 2, 4 and 8 bytes; the narrow ones keep the rest of the register") {
      $0.reporting([0x1122_3344_5566_7780, 0x1122_3344_5566_8382, 0x8786_8584, 0x8f8e_8d8c_8b8a_8988])
        .journaling([.read(base, 1), .read(base + 2, 2), .read(base + 4, 4), .read(base + 8, 8)])
    },
    Case.both("device-write", "stores of 1, 2, 4 and 8 bytes from registers and immediates, without a read") {
      $0.journaling([
        .write(base, 1, 0x88), .write(base + 1, 1, 0x77), .write(base + 2, 2, 0x7788),
        .write(base + 4, 4, 0x5566_7788), .write(base + 8, 8, 0x1122_3344_5566_7788),
        .write(base + 1, 1, 0x5a), .write(base + 2, 2, 0x5a5b), .write(base + 4, 4, 0x5a5b_5c5d),
        .write(base + 8, 8, 0xffff_ffff_ffff_fffe),
      ])
    },
    Case.both("device-extend", "MOVZX and MOVSX from device memory read only what they extend") {
      $0.reporting([
        0x80, 0x8382, 0xffff_ff81, 0xffff_ffff_ffff_ff81, 0xffff_ffff_ffff_8382, 0xffff_ffff_8786_8584,
      ])
      .journaling([
        .read(base, 1), .read(base + 2, 2), .read(base + 1, 1), .read(base + 1, 1), .read(base + 2, 2),
        .read(base + 4, 4),
      ])
    },
    Case.both("device-modify", "a read-modify-write is one read and one write, with and without LOCK") {
      $0.reporting([0x8786_8584, 0x8786_8584]).journaling([
        .read(base + 4, 4), .write(base + 4, 4, 0x8786_8585), .read(base + 1, 1), .write(base + 1, 1, 0x8f),
        .read(base + 8, 8), .write(base + 8, 8, 0x8f8e_8d8c_8b8a_8989), .read(base + 2, 2),
        .write(base + 2, 2, 0x7c7d), .read(base + 4, 4), .write(base + 4, 4, 0x1234_5678),
        .read(base + 4, 4), .write(base + 4, 4, 0x8786_8594), .read(base + 4, 4), .write(base + 4, 4, 0x8786_8580),
      ])
    },
    Case.both("device-compare", "CMP and TEST only read; CMPXCHG writes what it exchanged") {
      $0.reporting([0x101, 1]).journaling([
        .read(base + 4, 4), .read(base + 1, 1), .read(base + 4, 4), .write(base + 4, 4, 0x0102_0304),
      ])
    },
    Case.both("device-misaligned", "an unaligned access within a page reaches the device with all its bytes") {
      $0.with { $0.journalsBytes = true }
        .reporting([0x8483_8281, 0x8a89_8887_8685_8483])
        .journaling([.read(base + 1, 4), .read(base + 3, 8), .write(base + 7, 2, 0x8483)])
    },
    Case.both("device-unclaimed", "where nobody answers, loads give ones and stores are lost") {
      $0.reporting([0xff, 0xffff, 0xffff_ffff, .max]).journaling([])
    },
    Case.both("device-end", "an access over the end of a device's page: its part to the device, ones for the rest") {
      $0.with { $0.journalsBytes = true }
        .reporting([0xffff_7f7e]).journaling([.read(base + 0xffe, 2), .write(base + 0xffe, 2, 0x3344)])
    },
    Case.both("device-after-memory", "an access over the end of RAM into a device does both its parts") {
      $0.with { $0.journalsBytes = true }
        .reporting([0x8180_6162, 0x3344]).journaling([.read(edge, 2), .write(edge, 2, 0x1122)])
    },
    Case.both("device-string", "MOVS, STOS and LODS on device memory, an access an element") {
      $0.reporting([base + 8, 0x8b8a_8988, 0, 0x9392_9190]).journaling([
        .write(base, 4, 0x4142_4344), .write(base + 4, 4, 0x4546_4748), .read(base + 8, 2), .read(base + 10, 2),
        .write(base + 0x20, 1, 0x77), .write(base + 0x21, 1, 0x77), .write(base + 0x22, 1, 0x77),
        .read(base + 0x10, 4),
      ])
    },
    Case.both("device-vector", "16 bytes arrive as two accesses of 8, ascending") {
      $0.reporting([0x8786_8584_8382_8180, 0x8f8e_8d8c_8b8a_8988]).journaling([
        .read(base, 8), .read(base + 8, 8), .write(base + 0x20, 8, 0x8786_8584_8382_8180),
        .write(base + 0x28, 8, 0x8f8e_8d8c_8b8a_8988),
      ])
    },
    Case.both("device-paged", "what a device sees is the physical address, wherever paging put it") {
      $0.reporting([0x8382_8180]).journaling([.read(base, 4), .write(base + 4, 4, 0x8382_8180)])
        .prepared { _, tables in try tables.map(0x3_0000, to: base, flags: 7) }
    },
    [
      ConformanceCase("device-32", .protected, "loads and stores of 1, 2 and 4 bytes in protected mode")
        .reporting([0x8786_8584, 0x8b8a_8988]).journaling([
          .read(base, 1), .read(base + 2, 2), .read(base + 4, 4), .write(base, 1, 0x84),
          .write(base + 2, 2, 0x8584), .write(base + 4, 4, 0x8786_8584), .read(base + 8, 4),
        ])
    ],
  ].flatMap(\.self)
}
