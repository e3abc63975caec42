import TrivisorDevices
import TrivisorVMM

/// A device over MMIO.
final class MMIOMachine: FuzzMachine {
  private typealias Register = MMIORegister
  private static let tables = Register.descriptors..<(Register.used + 8)

  let memory: GuestMemory
  private let device: VirtioMMIO

  init(_ type: any VirtioDevice, memory: GuestMemory) throws {
    self.memory = memory
    device = try VirtioMMIO(
      type, memory: memory, interrupt: InterruptLine(16, router: InterruptRouter()), usesWorker: false)
  }

  var fault: VirtioFault? { device.fault }
  var usedIndices: [UInt16?] { device.usedIndices }
  var status: UInt64 { device.read(at: Register.status, width: .doubleword) }

  private func write(_ register: UInt64, _ value: UInt64, width: AccessWidth = .doubleword) {
    _ = device.write(value, at: register, width: width)
  }

  func negotiate(_ features: VirtioFeatures, _ random: inout FuzzRandom) {
    write(Register.status, 0)
    write(Register.status, DriverStatus.acknowledge)
    write(Register.status, DriverStatus.acknowledge | DriverStatus.driver)
    for half: UInt64 in 0...1 {
      write(Register.acceptedSelect, half)
      write(Register.accepted, features.rawValue >> (32 * half) & 0xffff_ffff)
    }
    write(Register.status, DriverStatus.all & ~DriverStatus.driverOK)
  }

  func place(_ queue: QueuePlace, _ random: inout FuzzRandom) {
    for (register, value) in queue.registersOverMMIO { write(register, value) }
  }

  func start() { write(Register.status, DriverStatus.all) }

  func run(queue: Int) {
    write(Register.notify, UInt64(queue))
    device.processQueues()
  }

  func acknowledge(_ random: inout FuzzRandom) {
    write(Register.interruptAcknowledge, random.number(below: 4 as UInt64))
  }

  func disturb(_ random: inout FuzzRandom) {
    let width = random.pick(AccessWidth.allCases)
    switch random.number(below: 4) {
    case 0:
      let register = random.number(below: 0x200 as UInt64)
      var value = random.chance(2) ? random.number(below: 256 as UInt64) : random.next()
      // Tables are in the playground, or in no memory.
      if Self.tables.contains(register), value & 0xffff_ffff < RandomGuest.memorySize {
        value %= RandomGuest.playground
      }
      write(register, value & width.allOnes, width: width)
    case 1: _ = device.read(at: random.number(below: 0x1000 as UInt64), width: width)
    case 2:
      write(Register.configuration + random.number(below: 64 as UInt64), random.next() & width.allOnes, width: width)
    default: write(Register.queueReady, random.number(below: 2 as UInt64))
    }
  }

  func stop() { device.stop() }
}
