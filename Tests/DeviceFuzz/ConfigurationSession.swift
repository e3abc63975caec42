import TrivisorDevices
import TrivisorVMM

/// A guest that does anything to configuration space, MSI-X tables and regions of two functions. Each access is an input.
struct ConfigurationSession {
  private static let accessesOfAStep = 7
  private static let stepsOfARound = 50
  /// Where the queue's tables and its buffer are.
  private static let buffer: UInt64 = 0x2_0000

  private let memory: GuestMemory
  private let machine: PCIMachine
  private var random: FuzzRandom
  private(set) var accesses = 0

  init(seed: UInt64) throws {
    memory = try GuestMemory(size: RandomGuest.memorySize)
    machine = try PCIMachine([VirtioEntropy(), VirtioConsole(sink: MemorySink(limit: 4096))], memory: memory)
    random = FuzzRandom(seed: seed)
  }

  private mutating func value(_ width: AccessWidth) -> UInt64 {
    let value: UInt64 =
      switch random.number(below: 5) {
      case 0: random.number(below: 256)
      case 1: random.pick([0, .max, 0xffff_ffff, 0xffff, 1 << 31, 1 << 15])
      case 2: PCIMachine.window + random.number(below: PCIMachine.windowSize)
      default: random.next()
      }
    return value & width.allOnes
  }

  /// A place in the window, where a region may be.
  private mutating func touch(_ width: AccessWidth) throws(FuzzFinding) {
    let register = random.chance(2) ? PCIMachine.Register.structures : PCIMachine.Register.messages
    let place = PCIMachine.configurationPlace(register, device: 1 + random.number(below: 2))
    let base = machine.bus.readMemory(GuestPhysicalAddress(place), width: .doubleword) & ~0xf
    let offset = random.chance(2) ? random.number(below: 0x40 as UInt64) : random.number(below: 0x5000)
    let address = GuestPhysicalAddress(random.chance(8) ? value(.quadword) | 1 << 31 : base + offset)
    if random.chance(2) {
      let found = machine.bus.readMemory(address, width: width)
      try FuzzFinding.require(found <= width.allOnes, "\(width.rawValue) bytes read hold \(found)")
    } else {
      _ = machine.bus.writeMemory(address, value(width), width: width)
    }
  }

  /// What a sound driver does, from wherever the function is.
  private mutating func serve() throws(FuzzFinding) {
    try? memory.clear(GuestPhysicalAddress(0), count: RandomGuest.playground)
    machine.negotiate(.version1, &random)
    let queue = QueuePlace(index: 0, size: 16, descriptors: 0x1_0000, available: 0x1_4000, used: 0x1_8000)
    machine.place(queue, &random)
    machine.start()
    machine.describe(at: queue.descriptors, address: Self.buffer, length: 64, flags: 2, next: 0)
    machine.publish(queue, head: 0)
    machine.run(queue: 0)
    let used = machine.load(UInt16.self, at: queue.used + 2)
    let length = machine.load(UInt32.self, at: queue.used + 8)
    try FuzzFinding.require(used == 1 && length == 64, "after all that the function serves nobody")
  }

  /// So many steps, and that the function serves in between.
  mutating func run(steps: Int) throws(FuzzFinding) {
    for step in 1...max(1, steps) {
      for _ in 0..<Self.accessesOfAStep {
        let width = random.pick(AccessWidth.allCases)
        if random.chance(2) {
          let value = value(width)
          machine.disturbConfiguration(&random, width, value)
        } else {
          try touch(width)
        }
      }
      accesses += Self.accessesOfAStep
      machine.run(queue: 0)
      if step % Self.stepsOfARound == 0 { try serve() }
    }
    try serve()
    machine.stop()
    let rest = try? memory.bytes(
      at: GuestPhysicalAddress(RandomGuest.untouched), count: Int(RandomGuest.memorySize - RandomGuest.untouched))
    try FuzzFinding.require(rest?.allSatisfy { $0 == 0 } == true, "the device wrote where no buffer was")
  }
}
