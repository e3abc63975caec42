import Foundation
import Testing
import TrivisorVMM

@testable import TrivisorDevices

private func sampleMachine(processors: Int = 4, disks: Int = 3) -> ACPIMachine {
  var machine = ACPIMachine(processorCount: processors)
  machine.serialPorts = [.init(base: 0x3f8, interrupt: 4), .init(base: 0x2f8, interrupt: 3)]
  machine.virtioDevices = (0..<disks).map {
    .init(base: 0xd000_0000 + UInt32($0) * 0x1000, size: 0x1000, interrupt: 16 + $0 % 8)
  }
  return machine
}

/// One whose virtio devices are on a PCI bus.
private func machineWithPCI() -> ACPIMachine {
  var machine = sampleMachine(disks: 0)
  var host = ACPIMachine.PCIHost(
    configurationBase: 0xe000_0000, windowBase: 0xd800_0000, windowSize: 0x0800_0000)
  host.interrupts = [.init(device: 1, pin: 1, interrupt: 21), .init(device: 31, pin: 4, interrupt: 18)]
  machine.pciHost = host
  return machine
}

private func number(_ bytes: [UInt8], _ offset: Int, _ count: Int) -> UInt64 {
  (0..<count).reduce(0) { $0 | UInt64(bytes[offset + $1]) << UInt64(8 * $1) }
}

private func sum(_ bytes: some Sequence<UInt8>) -> UInt8 { bytes.reduce(0, &+) }

@Suite("ACPI tables")
struct ACPITableTests {
  @Test(
    "from the RSDP every table is found, with its length and a sum of zero", arguments: [(1, 0), (4, 3), (255, 40)])
  func chain(processors: Int, disks: Int) throws {
    let tables = ACPITables(sampleMachine(processors: processors, disks: disks))
    let bytes = tables.bytes
    let base = Int(tables.base.rawValue)
    #expect(bytes.count <= ACPITables.conventionalLimit)
    #expect(tables.rootPointer == tables.base)
    #expect(Array(bytes[..<8]) == Array("RSD PTR ".utf8))
    #expect(sum(bytes[..<20]) == 0)
    #expect(sum(bytes[..<36]) == 0)

    func table(at address: UInt64) -> [UInt8] {
      let offset = Int(address) - base
      return Array(bytes[offset..<(offset + Int(number(bytes, offset + 4, 4)))])
    }
    let xsdt = table(at: number(bytes, 24, 8))
    #expect(sum(xsdt) == 0)
    let children = stride(from: 36, to: xsdt.count, by: 8).map { table(at: number(xsdt, $0, 8)) }
    #expect(children.map { String(decoding: $0[..<4], as: UTF8.self) } == ["FACP", "APIC"])
    for child in children { #expect(sum(child) == 0) }

    let fadt = children[0]
    #expect(fadt.count == 276)
    let facs = number(fadt, 36, 4)
    #expect(facs % 64 == 0)
    #expect(Array(table(at: facs)[..<4]) == Array("FACS".utf8))
    let dsdt = table(at: number(fadt, 140, 8))
    #expect(number(fadt, 40, 4) == number(fadt, 140, 8))
    #expect(Array(dsdt[..<4]) == Array("DSDT".utf8))
    #expect(sum(dsdt) == 0)
    #expect(number(fadt, 46, 2) == 9)
    #expect(number(fadt, 56, 4) == 0x600)
    #expect(number(fadt, 64, 4) == 0x604)
    #expect(Array(fadt[88...89]) == [4, 2])
    #expect(fadt[108] == 0x32)
    #expect(Array(fadt[116..<129]) == [1, 8, 0, 1, 0xf9, 0x0c, 0, 0, 0, 0, 0, 0, 6])
    #expect(number(fadt, 152, 8) == 0x600)
    #expect(number(fadt, 176, 8) == 0x604)

    let madt = children[1]
    var offset = 44
    var kinds: [UInt8: Int] = [:]
    while offset < madt.count {
      kinds[madt[offset], default: 0] += 1
      offset += Int(madt[offset + 1])
    }
    #expect(offset == madt.count)
    #expect(kinds == [0: processors, 1: 1, 2: 1, 4: 1])
  }

  @Test("numbers, names and lengths are encoded as the specification says")
  func encoding() {
    #expect(AML.integer(0).bytes == [0x00])
    #expect(AML.integer(1).bytes == [0x01])
    #expect(AML.integer(0xff).bytes == [0x0a, 0xff])
    #expect(AML.integer(0x100).bytes == [0x0b, 0x00, 0x01])
    #expect(AML.integer(0x1_0000).bytes == [0x0c, 0x00, 0x00, 0x01, 0x00])
    #expect(AML.integer(1 << 32).bytes == [0x0e, 0, 0, 0, 0, 1, 0, 0, 0])
    #expect(AML.plugAndPlayID("PNP0501").bytes == [0x0c, 0x41, 0xd0, 0x05, 0x01])
    #expect(AML.name("\\_S5", .integer(0)).bytes == [0x08, 0x5c, 0x5f, 0x53, 0x35, 0x5f, 0x00])
    #expect(AML.packageLength(62) == [63])
    #expect(AML.packageLength(63) == [0x41, 0x04])
    #expect(AML.packageLength(4093) == [0x4f, 0xff])
    #expect(AML.packageLength(4094) == [0x81, 0x00, 0x01])
    #expect(AML.packageLength(1 << 20) == [0xc4, 0x00, 0x00, 0x01])
  }

  /// Intel's compiler from Debian's `acpica-tools` as the judge, where it is installed.
  @Test(
    "Intel's compiler reads the tables, and compiles again what it read", .timeLimit(.minutes(15)),
    .enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/iasl"), "acpica-tools is not installed"),
    arguments: [false, true])
  func disassembly(hasPCI: Bool) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("acpi-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }

    func compiler(_ arguments: String...) throws -> String {
      let process = Process()
      let pipe = Pipe()
      process.executableURL = URL(fileURLWithPath: "/usr/bin/iasl")
      process.arguments = arguments
      process.currentDirectoryURL = folder
      process.standardOutput = pipe
      process.standardError = pipe
      try process.run()
      let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      process.waitUntilExit()
      #expect(process.terminationStatus == 0, "\(output)")
      return output
    }

    let tables = ACPITables(hasPCI ? machineWithPCI() : sampleMachine(processors: 3, disks: 9))
    #expect(tables.tables.contains { $0.signature == "MCFG" } == hasPCI)
    for (signature, content) in tables.tables {
      try Data(content).write(to: folder.appendingPathComponent("\(signature).aml"))
      let disassembled = try compiler("-d", "\(signature).aml")
      #expect(!disassembled.contains("Warning") && !disassembled.contains("Error"), "\(disassembled)")
      let source = try String(contentsOf: folder.appendingPathComponent("\(signature).dsl"), encoding: .utf8)
      let compiled = try compiler("-p", "again", "\(signature).dsl")
      #expect(compiled.contains(" 0 Errors") || signature != "DSDT", "\(compiled)")
      #expect(!source.contains("Invalid") && !source.contains("Unknown"), "\(source)")
      switch signature {
      case "DSDT" where hasPCI:
        for text in [
          "PNP0A08", "PNP0A03", "PNP0C02", "_PRT", "_OSC", "0x001FFFFF", "0xD8000000,         // Range Minimum",
          "0xDFFFFFFF,         // Range Maximum", "33db4d5b-1ff7-401c-9657-7441c03dd766", "WordBusNumber",
        ] {
          #expect(source.contains(text), "\(text) is missing in \(source)")
        }
      case "MCFG": #expect(source.contains("Base Address : 00000000E0000000"))
      case "DSDT":
        for text in ["_S5", "PNP0501", "LNRO0005", "0xD0008000", "QEMU0001", "Shared", "Exclusive", "0x00000010,"] {
          #expect(source.contains(text), "\(text) is missing in \(source)")
        }
      case "FACP":
        for text in ["Control Method Power Button (V1) : 0", "8042 Present on ports 60/64 (V2) : 0"] {
          #expect(source.contains(text), "\(text) is missing in \(source)")
        }
        #expect(source.contains("Reset Register Supported (V2) : 1"))
      case "APIC":
        #expect(source.components(separatedBy: "[Processor Local APIC]").count == (hasPCI ? 5 : 4))
        #expect(source.contains("[I/O APIC]"))
      default: break
      }
    }
  }
}

@Suite("Power management ports")
struct PowerManagementTests {
  private let bus: Bus
  private let ports: PowerManagementPorts
  private let lines: RecordingController

  init() throws {
    let (line, controller) = recordedLine(9)
    lines = controller
    ports = PowerManagementPorts(interrupt: line)
    bus = try Bus(ports: [.init("PM1", base: 0x600, count: PowerManagementPorts.portCount, device: ports)])
  }

  @Test("sleep type 5 with the enable bit switches off, nothing else does")
  func softOff() {
    #expect(bus.readPort(0x604, width: .word) & 1 == 1)
    #expect(bus.writePort(0x604, 5 << 10, width: .word) == DeviceEffect.none)
    #expect(bus.writePort(0x604, 1 << 10 | 1 << 13, width: .word) == DeviceEffect.none)
    #expect(bus.writePort(0x604, 5 << 10 | 1 << 13, width: .word) == .stop(.shutdown))
    #expect(bus.writePort(0x605, 0x34, width: .byte) == .stop(.shutdown))
  }

  @Test("the power button interrupts a guest that asked for it until the guest clears it")
  func powerButton() {
    #expect(!ports.pressPowerButton())
    #expect(bus.readPort(0x600, width: .word) == 0)
    _ = bus.writePort(0x602, 0xffff, width: .word)
    #expect(bus.readPort(0x602, width: .word) == 0x0720)
    #expect(ports.pressPowerButton())
    #expect(lines.level(9))
    #expect(bus.readPort(0x600, width: .doubleword) == 0x0720_0100)
    _ = bus.writePort(0x600, 0x0100, width: .word)
    #expect(!lines.level(9))
    #expect(bus.readPort(0x600, width: .word) == 0)
  }
}
