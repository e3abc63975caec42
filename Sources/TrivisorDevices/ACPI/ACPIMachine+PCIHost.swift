// What the tables say of a PCI host bridge (ACPI 6.5, 6.1, 6.2; PCI Firmware Specification 3.3, 4.1 and 4.5).

extension ACPIMachine.PCIHost {
  /// The MCFG table behind its header: segment 0, bus 0.
  var configurationDescription: [UInt8] {
    littleEndian(0, count: 8) + littleEndian(configurationBase, count: 8) + [0, 0, 0, 0, 0, 0, 0, 0]
  }

  /// The bridge, and who keeps the configuration's memory from others: kernels trust MCFG no further than that.
  var devices: [AML] {
    [
      .device(
        "PCI0",
        [
          // A bridge of PCI Express, which a kernel of before may take for one of PCI.
          .name("_HID", .plugAndPlayID("PNP0A08")), .name("_CID", .plugAndPlayID("PNP0A03")),
          .name("_UID", .integer(0)), .name("_SEG", .integer(0)), .name("_BBN", .integer(0)),
          .name("_CCA", .integer(1)),
          .name(
            "_CRS",
            .resourceTemplate([
              AML.passedBuses(0, count: 1), AML.ports(PCIConfigurationPorts.conventionalPort, count: 8),
              AML.passedMemory(windowBase, size: windowSize),
            ])),
          .name("_PRT", routing),
          operatingSystemCapabilities,
        ]),
      .device(
        "MBRD",
        [
          .name("_HID", .plugAndPlayID("PNP0C02")), .name("_UID", .integer(0)),
          .name(
            "_CRS",
            .resourceTemplate([
              AML.memory(
                UInt32(truncatingIfNeeded: configurationBase), size: UInt32(PCIBus.extendedConfigurationSize))
            ])),
        ]),
    ]
  }

  /// Which global system interrupt each device's pins are wired to; all functions of a device together.
  private var routing: AML {
    .package(
      interrupts.map { interrupt in
        .package([
          .integer(UInt64(interrupt.device) << 16 | 0xffff), .integer(UInt64(interrupt.pin) - 1), .integer(0),
          .integer(UInt64(truncatingIfNeeded: interrupt.interrupt)),
        ])
      })
  }

  /// The operating system asks for the control of hot plug, power events, error reports; nothing of that is here, so it gets none.
  private var operatingSystemCapabilities: AML {
    let (status, control) = (AML.reference("CDW1"), AML.reference("CDW3"))
    // 33DB4D5B-1FF7-401C-9657-7441C03DD766, as a buffer has it.
    let identifier = AML.buffer([
      0x5b, 0x4d, 0xdb, 0x33, 0xf7, 0x1f, 0x1c, 0x40, 0x96, 0x57, 0x74, 0x41, 0xc0, 0x3d, 0xd7, 0x66,
    ])
    // Bits of the status: an unknown identifier, an unknown revision, bits of the control that were masked.
    let (unknownIdentifier, unknownRevision, masked): (UInt64, UInt64, UInt64) = (1 << 2, 1 << 3, 1 << 4)
    let answer = AML.argument(3)
    return .method(
      "_OSC", arguments: 4, isSerialized: true,
      [
        .doublewordField(answer, at: 0, "CDW1"),
        .when(
          .isEqual(.argument(0), identifier),
          [
            .doublewordField(answer, at: 8, "CDW3"),
            .when(.not(.isEqual(.argument(1), .integer(1))), [.or(unknownRevision, into: status)]),
            .when(.not(.isEqual(control, .integer(0))), [.or(masked, into: status)]),
            .store(.integer(0), to: control),
          ], otherwise: [.or(unknownIdentifier, into: status)]),
        .giveBack(answer),
      ])
  }
}
