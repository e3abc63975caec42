// Bus 0 of a PC's PCI: its functions, the two ways to their configuration, and the window of memory in which they answer.
//
//     0xcf8, 0xcfc ─▶ PCIConfigurationPorts ─┐
//     ECAM, 1 MiB ──────────────────────────▶┴▶ PCIBus ──▶ PCIFunction.readConfiguration
//     window of memory ──▶ PCIMemoryMap ───────▶ PCIBus ──▶ PCIFunction.readRegion
//
// There is one bus and no bridge to another. What a function writes to its base address registers goes to the map.
//
// Sources: PCI Local Bus Specification 3.0, 3.2.2.3; PCI Express Base Specification 5.0, 7.2.2 (ECAM).

import TrivisorVMM

/// A host bridge and what is behind it.
public final class PCIBus: Sendable {
  /// Bytes of memory that lead to the configuration of one bus.
  public static let extendedConfigurationSize: UInt64 = 1 << 20

  /// Where the functions answer.
  public let map: PCIMemoryMap
  /// By `PCIAddress.number`.
  private let functions: [(any PCIFunction)?]
  private let hostBridge = PCIHostBridge()

  /// - Parameters:
  ///   - functions: all but device 0, which is the host bridge. Of a device with several, one is function 0.
  ///   - map: the functions'.
  public init(_ functions: [PCIAddress: any PCIFunction], map: PCIMemoryMap) {
    var list: [(any PCIFunction)?] = Array(repeating: nil, count: 256)
    for (address, function) in functions { list[address.number] = function }
    list[0] = hostBridge
    self.functions = list
    self.map = map
  }

  // MARK: Configuration

  /// A register of a function on bus 0; all ones where there is none.
  func readConfiguration(_ number: Int, at offset: Int, width: AccessWidth) -> UInt32 {
    let ones = UInt32(truncatingIfNeeded: width.allOnes)
    guard width != .quadword, functions.indices.contains(number), let function = functions[number],
      (0...(PCIRegister.spaceSize - width.rawValue)).contains(offset)
    else { return ones }
    guard offset % width.rawValue == 0 else {
      // In pieces, as a bridge makes them.
      return (0..<width.rawValue).reduce(0) { value, byte in
        value | (function.readConfiguration(at: offset + byte, width: .byte) & 0xff) << UInt32(8 * byte)
      }
    }
    return function.readConfiguration(at: offset, width: width) & ones
  }

  func writeConfiguration(_ number: Int, _ value: UInt32, at offset: Int, width: AccessWidth) {
    guard width != .quadword, functions.indices.contains(number), let function = functions[number],
      (0...(PCIRegister.spaceSize - width.rawValue)).contains(offset)
    else { return }
    guard offset % width.rawValue == 0 else {
      for byte in 0..<width.rawValue {
        function.writeConfiguration(value >> UInt32(8 * byte) & 0xff, at: offset + byte, width: .byte)
      }
      return
    }
    function.writeConfiguration(value, at: offset, width: width)
  }

  /// The memory that leads to the functions' configuration.
  public var extendedConfiguration: any MemoryDevice { ExtendedConfiguration(bus: self) }

  private final class ExtendedConfiguration: MemoryDevice {
    private let bus: PCIBus
    init(bus: PCIBus) { self.bus = bus }

    private static func split(_ offset: UInt64) -> (number: Int, register: Int) {
      (Int(truncatingIfNeeded: offset >> 12 & 0xff), Int(truncatingIfNeeded: offset & 0xfff))
    }

    func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
      let (number, register) = Self.split(offset)
      guard width == .quadword else { return UInt64(bus.readConfiguration(number, at: register, width: width)) }
      return UInt64(bus.readConfiguration(number, at: register, width: .doubleword))
        | UInt64(bus.readConfiguration(number, at: register + 4, width: .doubleword)) << 32
    }

    func write(_ value: UInt64, at offset: UInt64, width: AccessWidth) -> DeviceEffect {
      let (number, register) = Self.split(offset)
      let low = UInt32(truncatingIfNeeded: value)
      guard width == .quadword else {
        bus.writeConfiguration(number, low, at: register, width: width)
        return .none
      }
      bus.writeConfiguration(number, low, at: register, width: .doubleword)
      bus.writeConfiguration(number, UInt32(value >> 32), at: register + 4, width: .doubleword)
      return .none
    }
  }

  // MARK: Memory

  /// The window in which the functions answer.
  public var memoryWindow: any MemoryDevice { MemoryWindow(bus: self) }

  private final class MemoryWindow: MemoryDevice {
    private let bus: PCIBus
    init(bus: PCIBus) { self.bus = bus }

    func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
      let address = UInt64(bus.map.base) &+ offset
      guard let place = bus.map.find(address, width: width), let function = bus.functions[place.function] else {
        return width.allOnes
      }
      return function.readRegion(place.region, at: address - place.base, width: width)
    }

    func write(_ value: UInt64, at offset: UInt64, width: AccessWidth) -> DeviceEffect {
      let address = UInt64(bus.map.base) &+ offset
      guard let place = bus.map.find(address, width: width), let function = bus.functions[place.function] else {
        return .none
      }
      return function.writeRegion(value, place.region, at: address - place.base, width: width)
    }
  }
}

/// Device 0: what kernels look for to know that there is PCI at all. It decodes nothing itself.
final class PCIHostBridge: PCIFunction {
  private let space = PCIConfigurationSpace(
    // Red Hat's number of a generic host bridge (QEMU, docs/specs/pci-ids.rst), which no kernel has quirks for; class "host bridge".
    .init(vendor: 0x1b36, device: 0x0008, classCode: 0x06_0000))

  func readConfiguration(at offset: Int, width: AccessWidth) -> UInt32 { space.read(at: offset, width: width) }
  func writeConfiguration(_ value: UInt32, at offset: Int, width: AccessWidth) {}
  func readRegion(_ region: Int, at offset: UInt64, width: AccessWidth) -> UInt64 { width.allOnes }
  func writeRegion(_ value: UInt64, _ region: Int, at offset: UInt64, width: AccessWidth) -> DeviceEffect { .none }
}
