import Glibc
import SystemPackage
import TrivisorDeviceFuzz
import TrivisorDevices
import TrivisorVMM

/// Console, entropy and block devices, to a driver that does anything: registers, rings and buffers are the input's.
final class VirtioTarget: FuzzTarget {
  static let name = "virtio"
  static let sizeLimit = 2000
  static let seeds: [[UInt8]] = (0..<4).map { device in
    // Queues, a request's header, a chain of three, its publication, and a look at the queue.
    [device, 0, 0, 2, 0x40, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
      + [3, 0, 0, 0x40, 16, 0, 1, 1, 3, 1, 0x10, 0x40, 0, 2, 3, 2, 3, 2, 0x20, 0x40, 1, 0, 2, 0, 4, 0, 0, 5, 0]
  }

  /// Tables and buffers are within this; behind it nothing may change.
  private static let playground: UInt64 = 0x1_0000
  private static let untouched = [UInt8](repeating: 0, count: Int(playground))
  private static let bufferLimit: UInt64 = 0x2000
  private static let queueStride: UInt64 = 0x1000
  private static let queueSize: UInt16 = 8

  private enum Register {
    static let acceptedSelect: UInt64 = 0x24, accepted: UInt64 = 0x20, queueSelect: UInt64 = 0x30
    static let queueSize: UInt64 = 0x38, queueReady: UInt64 = 0x44, notify: UInt64 = 0x50, status: UInt64 = 0x70
    static let descriptors: UInt64 = 0x80, available: UInt64 = 0x90, used: UInt64 = 0xa0
  }

  private static let tableRegisters = Register.descriptors...(Register.used + 4)

  private let memory: GuestMemory
  private let disk: FuzzFolder

  init() throws {
    memory = try GuestMemory(size: 2 * Self.playground, isShareable: false)
    disk = try FuzzFolder()
    try disk.put("disk", [UInt8](repeating: 0, count: 16 * 512))
  }

  func run(_ bytes: UnsafeRawBufferPointer) {
    var input = FuzzInput(bytes)
    let form = input.byte()
    let type: any VirtioDevice
    let console = VirtioConsole(sink: MemorySink(limit: 1024), size: form & 4 == 0 ? nil : .init(columns: 80, rows: 25))
    switch form & 3 {
    case 0: type = VirtioEntropy()
    case 1: type = console
    default:
      guard let image = try? DiskImage(path: disk.path.appending("disk"), isReadOnly: form & 1 == 1) else {
        preconditionFailure("no disk")
      }
      type = VirtioBlock(image, identifier: "fuzz")
    }
    let line = InterruptLine(16, router: InterruptRouter())
    guard let device = try? VirtioMMIO(type, memory: memory, interrupt: line, usesWorker: false) else { return }
    defer { device.stop() }
    try? memory.clear(GuestPhysicalAddress(0), count: Self.playground)
    let queueCount = type.queueSizes.count
    while !input.isEmpty { step(&input, device, console, queueCount) }
    let rest = try? memory.bytes(at: GuestPhysicalAddress(Self.playground), count: Int(Self.playground))
    // Not by a loop of ours, whose every turn the fuzzer would count.
    let isUntouched = rest.map { memcmp($0, Self.untouched, $0.count) == 0 }
    precondition(isUntouched == true, "the device wrote where no buffer is")
  }

  private func step(_ input: inout FuzzInput, _ device: VirtioMMIO, _ console: VirtioConsole, _ queueCount: Int) {
    func write(_ register: UInt64, _ value: UInt64, width: AccessWidth = .doubleword) {
      _ = device.write(value, at: register, width: width)
    }
    /// Of the queue that a byte says.
    func table(_ input: inout FuzzInput) -> UInt64 { Self.queueStride * UInt64(Int(input.byte()) % queueCount) }
    switch input.byte() % 9 {
    case 0:
      let features = 1 << 32 | UInt64(input.byte()) << 28
      for status: UInt64 in [0, 1, 3] { write(Register.status, status) }
      for half: UInt64 in 0...1 {
        write(Register.acceptedSelect, half)
        write(Register.accepted, features >> (32 * half) & 0xffff_ffff)
      }
      write(Register.status, 11)
      for queue in 0..<queueCount {
        let base = Self.queueStride * UInt64(queue)
        write(Register.queueSelect, UInt64(queue))
        write(Register.queueSize, UInt64(Self.queueSize))
        write(Register.descriptors, base)
        write(Register.available, base + 0x400)
        write(Register.used, base + 0x800)
        write(Register.queueReady, 1)
      }
      write(Register.status, 15)
    case 1:
      let register = UInt64(input.byte()) << 2
      let value = UInt64(input.number(UInt32.self))
      // Tables stay in the playground, or are nowhere.
      write(register, Self.tableRegisters.contains(register) && value >> 31 == 0 ? value & 0x7fff : value)
    case 2:
      // A word or two anywhere, a request's header first of all.
      let place = UInt64(input.number(UInt16.self)) & ~7
      try? memory.write(UInt64(input.number(UInt32.self)), at: GuestPhysicalAddress(place))
      try? memory.write(input.number(UInt64.self), at: GuestPhysicalAddress(min(place + 8, Self.playground - 8)))
    case 3:
      let index = input.byte()
      let place = Self.queueStride * UInt64(Int(index >> 4) % queueCount) + 16 * UInt64(index & 7)
      let address = input.number(UInt16.self)
      // No memory there, once in a while.
      let buffer = address == 0xffff ? UInt64.max - 15 : UInt64(address) % (Self.playground - Self.bufferLimit)
      try? memory.write(buffer, at: GuestPhysicalAddress(place))
      try? memory.write(
        UInt32(UInt64(input.number(UInt16.self)) % Self.bufferLimit), at: GuestPhysicalAddress(place + 8))
      try? memory.write(UInt16(input.byte()), at: GuestPhysicalAddress(place + 12))
      try? memory.write(UInt16(input.byte()), at: GuestPhysicalAddress(place + 14))
    case 4:
      let ring = table(&input) + 0x400
      let index: UInt16 = (try? memory.read(at: GuestPhysicalAddress(ring + 2))) ?? 0
      let entry = ring + 4 + 2 * UInt64(index % Self.queueSize)
      try? memory.write(UInt16(input.byte()), at: GuestPhysicalAddress(entry))
      try? memory.write(index &+ 1, at: GuestPhysicalAddress(ring + 2))
    case 5:
      write(Register.notify, UInt64(input.byte()))
      device.processQueues()
    case 6: _ = console.receive([UInt8](repeating: 0x78, count: Int(input.byte())))
    case 7:
      let form = input.byte()
      let width = AccessWidth.allCases[Int(form & 3)]
      _ = device.read(at: UInt64(form >> 2) << 3, width: width)
    default: write(0x100 + UInt64(input.byte()), input.number(), width: .byte)
    }
  }
}
