// The tables by which a kernel learns its machine, laid out for a place in memory.
//
//     RSDP ──▶ XSDT ──▶ FADT ──▶ DSDT   serial ports, virtio devices, the sleep state "off"
//                 │        └───▶ FACS
//                 ├───▶ MADT            local APICs, I/O APIC, how ISA interrupts are wired
//                 └───▶ MCFG            where the configuration of PCI functions is, if there is a bus
//
// A guest finds the RSDP by what its boot protocol says (PVH, Linux' boot parameters), or by looking for its signature at
// 16-byte boundaries between 0xe0000 and 0xfffff.
//
// Source: ACPI Specification 6.5, chapter 5.

import TrivisorVMM

/// ACPI tables, ready to be copied into guest memory.
public struct ACPITables: Sendable {
  /// Where tables are put by convention: the BIOS area, where kernels look for the RSDP.
  public static let conventionalBase = GuestPhysicalAddress(0xf_0000)
  /// How much fits there.
  public static let conventionalLimit = 0x1_0000

  /// Where `bytes` belong.
  public let base: GuestPhysicalAddress
  /// All tables.
  public let bytes: [UInt8]
  /// The RSDP: what a boot protocol hands to the guest.
  public var rootPointer: GuestPhysicalAddress { base }

  /// Each table's signature and bytes, for tests.
  let tables: [(signature: String, content: [UInt8])]

  /// - Parameter base: a multiple of 64, with room for some kilobytes below 4 GiB.
  public init(_ machine: ACPIMachine, at base: GuestPhysicalAddress = conventionalBase) {
    var layout = Layout(base: base.rawValue)
    var tables: [(signature: String, content: [UInt8])]
    // The RSDP comes first and is filled in last.
    layout.append([UInt8](repeating: 0, count: 36), alignment: 64)
    let facs = layout.append(Self.firmwareControlStructure(), alignment: 64)
    let dsdt = Self.table("DSDT", revision: 2, Self.definitionBlock(machine).bytes)
    let dsdtAddress = layout.append(dsdt)
    let fadt = Self.table("FACP", revision: 6, Self.fixedDescription(machine, facs: facs, dsdt: dsdtAddress))
    let madt = Self.table("APIC", revision: 5, Self.multipleAPICDescription(machine))
    var addresses = [layout.append(fadt), layout.append(madt)]
    tables = [("DSDT", dsdt), ("FACP", fadt), ("APIC", madt)]
    if let host = machine.pciHost {
      let mcfg = Self.table("MCFG", revision: 1, host.configurationDescription)
      addresses.append(layout.append(mcfg))
      tables.append(("MCFG", mcfg))
    }
    let xsdt = Self.table("XSDT", revision: 1, addresses.flatMap { littleEndian($0, count: 8) })
    let xsdtAddress = layout.append(xsdt)
    layout.replace(at: 0, with: Self.rootPointer(xsdt: xsdtAddress))
    self.base = base
    bytes = layout.bytes
    tables.append(("XSDT", xsdt))
    self.tables = tables
  }

  private struct Layout {
    let base: UInt64
    var bytes: [UInt8] = []

    @discardableResult
    mutating func append(_ table: [UInt8], alignment: Int = 16) -> UInt64 {
      while bytes.count % alignment != 0 { bytes.append(0) }
      let address = base &+ UInt64(bytes.count)
      bytes += table
      return address
    }

    mutating func replace(at offset: Int, with table: [UInt8]) {
      bytes.replaceSubrange(offset..<(offset + table.count), with: table)
    }
  }

  // MARK: Headers

  private static let oemIdentifier = Array("TRVSOR".utf8)

  /// A table with the usual header: 36 bytes, checksum at 9.
  private static func table(_ signature: String, revision: UInt8, _ content: [UInt8]) -> [UInt8] {
    var table = Array(signature.utf8) + littleEndian(UInt64(36 + content.count), count: 4) + [revision, 0]
    table += oemIdentifier + Array("TRIVISOR".utf8) + littleEndian(1, count: 4)
    table += Array("TRVS".utf8) + littleEndian(1, count: 4) + content
    table[9] = checksum(table[...])
    return table
  }

  /// What makes the sum of all bytes zero.
  private static func checksum(_ bytes: ArraySlice<UInt8>) -> UInt8 { 0 &- bytes.reduce(0, &+) }

  private static func rootPointer(xsdt: UInt64) -> [UInt8] {
    var pointer = Array("RSD PTR ".utf8) + [0] + oemIdentifier + [2]
    pointer += littleEndian(0, count: 4) + littleEndian(36, count: 4) + littleEndian(xsdt, count: 8) + [0, 0, 0, 0]
    pointer[8] = checksum(pointer[..<20])
    pointer[32] = checksum(pointer[...])
    return pointer
  }

  /// The FACS: only a place for wake-up vectors and a lock that nobody else takes.
  private static func firmwareControlStructure() -> [UInt8] {
    Array("FACS".utf8) + littleEndian(64, count: 4) + [UInt8](repeating: 0, count: 24) + [2]
      + [UInt8](repeating: 0, count: 31)
  }

  // MARK: FADT

  /// The FADT behind its header (ACPI 6.5, 5.2.9); offsets in the comments are the specification's.
  private static func fixedDescription(_ machine: ACPIMachine, facs: UInt64, dsdt: UInt64) -> [UInt8] {
    let event = UInt64(machine.powerManagementPort)
    let control = event + 4
    var table = littleEndian(facs, count: 4) + littleEndian(dsdt, count: 4)
    // 44: reserved; profile "unspecified"; SCI; no SMI command port, so the machine is in ACPI mode.
    table += [0, 0] + littleEndian(UInt64(machine.systemControlInterrupt), count: 2)
    table += littleEndian(0, count: 4) + [0, 0, 0, 0]
    // 56: PM1a and PM1b event, PM1a and PM1b control, PM2 control, PM timer, GPE 0 and 1.
    table += littleEndian(event, count: 4) + littleEndian(0, count: 4)
    table += littleEndian(control, count: 4) + littleEndian(0, count: 4)
    table +=
      littleEndian(0, count: 4) + littleEndian(0, count: 4) + littleEndian(0, count: 4) + littleEndian(0, count: 4)
    // 88: their lengths; GPE 1's base; no _CST.
    table += [4, 2, 0, 0, 0, 0, 0, 0]
    // 96: C2 and C3 latencies that say "not there"; flush size and stride; duty; alarms; century.
    table += littleEndian(101, count: 2) + littleEndian(1001, count: 2)
    table += littleEndian(0, count: 4) + [0, 0, 0, 0]
    table += [machine.hasClock ? CMOSClock.centuryRegister : 0]
    // 109: ISA devices, no keyboard controller (bit 1), no VGA to probe (2), whether there is a clock (5).
    let boot: UInt64 = 1 << 0 | 1 << 2 | (machine.hasClock ? 0 : 1 << 5)
    table += littleEndian(boot, count: 2) + [0]
    // 112: WBINVD works, C1 on every processor, no sleep button, no clock wake-up, reset register, headless.
    let flags: UInt64 = 1 << 0 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 10 | 1 << 12
    table += littleEndian(flags, count: 4)
    // 116: reset register and value; ARM flags; minor version; 64-bit FACS and DSDT.
    table += portAddress(UInt64(machine.resetPort), bits: 8) + [ResetControl.resetValue, 0, 0, 5]
    // Given once: a FACS in both places is two to some kernels.
    table += littleEndian(0, count: 8) + littleEndian(dsdt, count: 8)
    // 148: the blocks of 56 again, as generic addresses.
    table += portAddress(event, bits: 32) + noAddress + portAddress(control, bits: 16) + noAddress
    table += noAddress + noAddress + noAddress + noAddress
    // 244: sleep control and status (hardware-reduced only); hypervisor vendor.
    table += noAddress + noAddress + Array("TRIVISOR".utf8)
    return table
  }

  private static let noAddress = [UInt8](repeating: 0, count: 12)

  /// A generic address structure in port space; the access size is the register's, at most a word.
  private static func portAddress(_ port: UInt64, bits: UInt8) -> [UInt8] {
    [1, bits, 0, bits == 8 ? 1 : 2] + littleEndian(port, count: 8)
  }

  // MARK: MADT

  /// The MADT behind its header (ACPI 6.5, 5.2.12).
  private static func multipleAPICDescription(_ machine: ACPIMachine) -> [UInt8] {
    // Local APICs' address; there are 8259s, too.
    var table = littleEndian(0xfee0_0000, count: 4) + littleEndian(1, count: 4)
    for index in 0..<min(max(machine.processorCount, 0), 255) {
      table += [0, 8, UInt8(index), UInt8(index)] + littleEndian(1, count: 4)
    }
    // The I/O APIC: its identifier is one that no processor has when there are fewer than 255.
    table += [1, 12, UInt8(min(max(machine.processorCount, 0), 255)), 0] + littleEndian(0xfec0_0000, count: 4)
    table += littleEndian(0, count: 4)
    if machine.timerInput != 0 { table += override(0, input: machine.timerInput, flags: 0) }
    // Active high, level-triggered; the bus' own convention for it would be active low.
    table += override(machine.systemControlInterrupt, input: machine.systemControlInterrupt, flags: 0x0d)
    // NMI at LINT1 of every processor.
    table += [4, 6, 0xff, 0, 0, 1]
    return table
  }

  /// An ISA interrupt that is not wired to the input of its number, edge-triggered and active high.
  private static func override(_ line: Int, input: Int, flags: UInt64) -> [UInt8] {
    [2, 10, 0, UInt8(truncatingIfNeeded: line)] + littleEndian(UInt64(truncatingIfNeeded: input), count: 4)
      + littleEndian(flags, count: 2)
  }

  // MARK: DSDT

  private static func definitionBlock(_ machine: ACPIMachine) -> AML {
    var devices: [AML] = []
    for (index, port) in machine.serialPorts.enumerated() {
      devices.append(
        .device(
          "COM\(index + 1)",
          [
            .name("_HID", .plugAndPlayID("PNP0501")), .name("_UID", .integer(UInt64(index + 1))),
            .name("_CRS", .resourceTemplate([AML.ports(port.base, count: 8), AML.legacyInterrupt(port.interrupt)])),
          ]))
    }
    for (index, device) in machine.virtioDevices.enumerated() {
      let isShared = machine.virtioDevices.filter { $0.interrupt == device.interrupt }.count > 1
      let number = String(index, radix: 16, uppercase: true)
      devices.append(
        .device(
          "V" + String(repeating: "0", count: max(0, 3 - number.count)) + number,
          [
            // The identifier that kernels know virtio over MMIO by.
            .name("_HID", .string("LNRO0005")), .name("_UID", .integer(UInt64(index))),
            .name("_CCA", .integer(1)),
            .name(
              "_CRS",
              .resourceTemplate([
                AML.memory(device.base, size: device.size),
                AML.interrupt(UInt32(truncatingIfNeeded: device.interrupt), isShared: isShared),
              ])),
          ]))
    }
    if let host = machine.pciHost { devices += host.devices }
    if let port = machine.panicPort {
      devices.append(
        .device(
          "PEVT",
          [
            .name("_HID", .string("QEMU0001")),
            .name("_CRS", .resourceTemplate([AML.ports(port, count: UInt8(PVPanic.portCount))])),
          ]))
    }
    let softOff = AML.integer(UInt64(PowerManagementPorts.softOffSleepType))
    return AML([
      .name("\\_S5", .package([softOff, softOff, .integer(0), .integer(0)])),
      .scope("\\_SB", devices),
    ])
  }
}
