import FoundationEssentials
import TrivisorDevices
import TrivisorVMM

/// Saved states of devices and processors, as another program may hand them in. The first byte is the device's number, the rest JSON.
final class SavedStateTarget: FuzzTarget {
  static let name = "saved-state"
  static let sizeLimit = 16 << 10

  static var seeds: [[UInt8]] {
    guard let target = try? SavedStateTarget() else { return [] }
    return target.devices.enumerated().map { [UInt8($0)] + $1.save() }
  }

  /// One kind of device: its state as JSON, and a fresh device that takes a state and is used.
  private struct Subject {
    let save: () -> [UInt8]
    let restore: (Data) -> Void
  }

  private let devices: [Subject]

  private static func subject<Device: Restorable>(
    _ make: @escaping () -> Device, use: @escaping (Device) -> Void
  ) -> Subject where Device.Saved: SavedState {
    Subject(
      save: { (try? JSONEncoder().encode(Versioned(make().save()))).map { Array($0) } ?? [] },
      restore: { data in
        guard let saved = try? JSONDecoder().decode(Versioned<Device.Saved>.self, from: data) else { return }
        let device = make()
        guard (try? device.restore(saved.state)) != nil else { return }
        use(device)
        let again = device.save()
        guard (try? make().restore(again)) != nil else { preconditionFailure("what was saved can't be restored") }
      })
  }

  init() throws {
    let memory = try GuestMemory(size: 1 << 16, isShareable: false)
    let router = InterruptRouter()
    let line = InterruptLine(4, router: router)
    func ports(_ device: any PortDevice, _ count: UInt16) {
      for offset in 0..<count {
        _ = device.read(at: offset, width: .byte)
        _ = device.write(0x5a, at: offset, width: .byte)
        _ = device.read(at: offset, width: .byte)
      }
    }
    devices = [
      Self.subject({ Chipset(processorCount: 2) }, use: Self.use),
      Self.subject({ SerialPort16550(sink: MemorySink(limit: 64), interrupt: line) }) { ports($0, 8) },
      Self.subject({ CMOSClock(memoryBelow4GiB: 128 << 20) }) { ports($0, 2) },
      Self.subject({ KeyboardController(interrupt: line) }) { ports($0.dataPort, 1) },
      Self.subject({ PCIConfigurationPorts(resetControl: ResetControl()) }) { ports($0, 8) },
      Self.subject({ PowerManagementPorts(interrupt: line) }) { ports($0, 6) },
      Self.subject({ PowerManagementTimer() }) { ports($0, 4) },
      Self.subject({ FirmwareConfiguration(processorCount: 2, memorySize: 1 << 30) }) { ports($0, 2) },
      Self.virtio(memory, line) { VirtioEntropy() },
      Self.virtio(memory, line) { VirtioConsole(sink: MemorySink(limit: 64)) },
      Subject(
        save: { (try? JSONEncoder().encode(Versioned(MachineState()))).map { Array($0) } ?? [] },
        restore: { data in
          guard let state = try? JSONDecoder().decode(Versioned<MachineState>.self, from: data).state else { return }
          _ = try? state.check()
        }),
    ]
  }

  private static func virtio(
    _ memory: GuestMemory, _ line: InterruptLine, _ type: @escaping () -> any VirtioDevice
  ) -> Subject {
    subject(
      {
        guard let device = try? VirtioMMIO(type(), memory: memory, interrupt: line, usesWorker: false) else {
          preconditionFailure("the host gives no event descriptor")
        }
        return device
      },
      use: { device in
        for register in stride(from: UInt64(0), to: 0x100, by: 4) { _ = device.read(at: register, width: .doubleword) }
        device.processQueues()
        device.stop()
      })
  }

  private static func use(_ chipset: Chipset) {
    guard let bus = try? Bus(ports: chipset.portClaims, memory: chipset.memoryClaims) else { return }
    for claim in chipset.portClaims {
      for offset in 0..<claim.count { _ = bus.readPort(claim.base + offset, width: .byte) }
    }
    for line in 0..<24 { chipset.setLine(line, asserted: true) }
    for index in 0..<2 {
      let processor = chipset.processor(index)
      processor.advance()
      for offset in stride(from: UInt64(0), to: 4096, by: 16) { _ = processor.readPage(offset, width: .doubleword) }
      _ = processor.takeEvent(acceptsInterrupts: true, acceptsNonMaskable: true)
      processor.writePage(0, 0xb0, width: .doubleword)
    }
  }

  func run(_ bytes: UnsafeRawBufferPointer) {
    var input = FuzzInput(bytes)
    let subject = devices[Int(input.byte()) % devices.count]
    subject.restore(Data(input.remainder()))
  }
}
