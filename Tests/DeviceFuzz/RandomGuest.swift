import TrivisorDevices
import TrivisorVMM

/// A driver that does anything, with a preference for what is nearly right: most requests are sound but for a detail.
struct RandomGuest {
  /// Tables and buffers begin within this.
  static let playground: UInt64 = 0x4_0000
  /// From here on nothing may change. Between both is what a used ring can make of a descriptor's length where their tables lie over
  /// one another.
  static let untouched: UInt64 = playground + 0x1_0000
  static let memorySize: UInt64 = 2 << 20
  /// Queues' tables are below; then come indirect tables, requests' own bytes, room for data, and tables that are where they should
  /// not be. Devices write to none of these but the data, so that a descriptor says what the driver has put there.
  private static let buffers: UInt64 = 0x1_8000
  private static let requests: UInt64 = 0x1_a000
  private static let data: UInt64 = 0x2_6000
  private static let misplaced: UInt64 = 0x3_c000
  private static let tableStride: UInt64 = 0x2800
  private static let bufferMaximum: UInt64 = 0x2000
  private static let requestStride: UInt64 = 0x800

  /// Flags of a descriptor (virtio 1.2, 2.7.5).
  private enum Flag {
    static let next: UInt16 = 1, write: UInt16 = 2, indirect: UInt16 = 4
  }

  private let machine: any FuzzMachine
  private let subject: any FuzzSubject
  private let queueCount: Int
  private var queues: [QueuePlace] = []
  /// By queue: where the next request's descriptors go.
  private var cursors: [Int] = []
  private var takesIndirect = false
  var random: FuzzRandom
  /// What was found wrong, by its kind.
  private(set) var faults: Set<String> = []
  /// Requests that the device has looked at.
  private(set) var served = 0

  init(_ machine: any FuzzMachine, _ subject: any FuzzSubject, seed: UInt64) {
    self.machine = machine
    self.subject = subject
    // So many have room for their tables.
    queueCount = min(subject.device.queueSizes.count, Int(Self.buffers / Self.tableStride))
    random = FuzzRandom(seed: seed)
    openQueues()
  }

  /// Where a buffer is: in the playground, or no memory at all.
  private mutating func address(isWritable: Bool) -> UInt64 {
    if random.chance(100) { return random.pick([Self.memorySize, 1 << 32, UInt64.max, UInt64.max - 15]) }
    // Over tables and requests, once in a while.
    let start = !isWritable && random.chance(20) ? 0 : Self.data
    return start + random.number(below: Self.misplaced - start - Self.bufferMaximum)
  }

  /// Where a table is that lies over others, is not aligned, or is in no memory. Rings lie over one another, and over no descriptors: what
  /// is written to a ring would make addresses and lengths of buffers of them.
  private mutating func tableAddress(ofDescriptors: Bool = false) -> UInt64 {
    if random.chance(8) { return random.pick([Self.memorySize, 1 << 32, UInt64.max, UInt64.max - 15]) }
    let half = (Self.playground - Self.misplaced) / 2
    return Self.misplaced + (ofDescriptors ? half : 0) + random.number(below: half / 2)
  }

  private mutating func openQueues() {
    let common: [VirtioFeatures] = [[], .eventIndex, .indirectDescriptors, [.eventIndex, .indirectDescriptors]]
    try? machine.memory.clear(GuestPhysicalAddress(0), count: Self.buffers)
    let maxima = subject.device.queueSizes
    // Of all tables about one in a few lives is wrong, however many queues there are.
    let rarity = UInt64(10 * queueCount)
    queues = (0..<queueCount).map { index in
      let base = Self.tableStride * UInt64(index)
      var place = QueuePlace(
        index: index, size: min(random.pick([1, 2, 4, 8, 16, 16, 64, 64, 64]), maxima[index]), descriptors: base,
        available: base + 0x1000, used: base + 0x1800)
      if random.chance(rarity) { place.size = UInt16(random.number(below: 300)) }
      if random.chance(rarity) { place.descriptors = tableAddress(ofDescriptors: true) }
      if random.chance(rarity) { place.available = tableAddress() & ~1 }
      if random.chance(rarity) { place.used = tableAddress() & ~3 }
      return place
    }
    cursors = Array(repeating: 0, count: queueCount)
    let own: VirtioFeatures = random.chance(2) ? subject.features : []
    let accepted = random.pick(common).union(own).union(.version1)
    takesIndirect = accepted.contains(.indirectDescriptors)
    machine.negotiate(accepted, &random)
    for queue in queues { machine.place(queue, &random) }
    machine.start()
    subject.opened()
  }

  private mutating func describe(_ place: UInt64, isWritable: Bool, successor: UInt16?) {
    var flags: UInt16 = (isWritable ? Flag.write : 0) | (successor == nil ? 0 : Flag.next)
    var next = successor ?? 0
    let length =
      random.chance(8)
      ? random.pick([0, 1, 16, 17, 511])
      : random.pick([80, 512, 513, 1024, 4096, random.number(below: Self.bufferMaximum)])
    let buffer = address(isWritable: isWritable)
    if random.chance(100) { flags ^= 1 << UInt16(random.number(below: 4)) }
    if random.chance(100) { next = UInt16(random.number(below: 0x1_0000)) }
    machine.describe(at: place, address: buffer, length: UInt32(length), flags: flags, next: next)
  }

  /// The request's own bytes, in one piece or two.
  /// - Returns: where each of them is.
  private mutating func store(_ bytes: [UInt8]) -> [(address: UInt64, length: Int)] {
    let slots = (Self.data - Self.requests) / Self.requestStride
    let start = Self.requests + Self.requestStride * random.number(below: slots)
    try? machine.memory.copy(Array(bytes.prefix(Int(Self.requestStride))), to: GuestPhysicalAddress(start))
    guard bytes.count > 1, random.chance(3) else { return [(start, bytes.count)] }
    let cut = random.number(below: bytes.count + 1)
    return [(start, cut), (start + UInt64(cut), bytes.count - cut)]
  }

  /// A chain in the queue's table or in an indirect one, and its publication.
  private mutating func request() {
    let number = random.number(below: queues.count)
    let queue = queues[number]
    guard queue.size > 0, queue.descriptors < Self.playground, queue.available < Self.playground else { return }
    let isIndirect = random.chance(takesIndirect ? 3 : 200)
    let table = isIndirect ? Self.buffers + 8 * random.number(below: 512 as UInt64) : queue.descriptors
    var count = isIndirect ? 1 + random.number(below: 6) : min(1 + random.number(below: 5), Int(queue.size))
    var readable = random.number(below: count + 1)
    var own: [(address: UInt64, length: Int)] = []
    if !random.chance(20), let request = subject.request(queue: queue.index, &random) {
      own = store(request.bytes)
      // Most drivers leave room for an answer.
      count = max(count, own.count + (random.chance(8) ? 0 : 1))
      if !isIndirect { count = min(count, Int(queue.size)) }
      readable = request.isWhole ? own.count : max(own.count, min(readable, count - 1))
    }
    // Behind those of the request before, as long as there is room.
    let entries = isIndirect ? 1 : count
    if cursors[number] + entries > Int(queue.size) { cursors[number] = 0 }
    let head = cursors[number]
    cursors[number] += entries
    let first = isIndirect ? 0 : head
    for index in 0..<count {
      let successor = index + 1 < count ? UInt16(first + index + 1) : nil
      let place = table + 16 * UInt64(first + index)
      if index < own.count {
        machine.describe(
          at: place, address: own[index].address, length: UInt32(own[index].length),
          flags: successor == nil ? 0 : Flag.next, next: successor ?? 0)
      } else {
        describe(place, isWritable: index >= readable, successor: successor)
      }
    }
    if isIndirect {
      machine.describe(
        at: queue.descriptors + 16 * UInt64(head), address: table, length: UInt32(16 * count),
        flags: random.chance(40) ? Flag.indirect | Flag.next : Flag.indirect, next: 0)
    }
    machine.publish(queue, head: random.chance(100) ? UInt16(random.number(below: 0x1_0000)) : UInt16(head))
    if random.chance(100) { machine.publish(queue, head: UInt16(head)) }
  }

  /// Anything anywhere.
  private mutating func disturb() {
    switch random.number(below: 6) {
    case 0:
      // A small number, which leaves a descriptor's address in the playground and its length as short as it was.
      let place = 2 * random.number(below: Self.buffers / 2)
      machine.store(UInt16(place % 16 == 10 ? 0 : random.number(below: place % 16 == 2 ? 4 : 20)), at: place)
    case 1:
      let value = random.next() << 32 | random.number(below: Self.bufferMaximum)
      machine.store(value, at: 8 * random.number(below: Self.playground / 8))
    case 2: openQueues()
    default: machine.disturb(&random)
    }
  }

  mutating func step() {
    if let fault = machine.fault {
      faults.insert(String("\(fault)".prefix { $0 != "(" }))
      if !random.chance(3) { openQueues() }
    }
    for _ in 0...random.number(below: 3) { request() }
    served += machine.runCounted(queue: random.number(below: queueCount + 1))
    machine.acknowledge(&random)
    if random.chance(8) { disturb() }
    if random.chance(2) { subject.hostStep(&random) }
  }

  /// Whatever went before: the device serves who sets it up anew, and nothing was written where no buffer was.
  mutating func finish() throws(FuzzFinding) {
    let rest = try? machine.memory.bytes(
      at: GuestPhysicalAddress(Self.untouched), count: Int(machine.memory.size - Self.untouched))
    try FuzzFinding.require(rest?.allSatisfy { $0 == 0 } == true, "the device wrote where no buffer was")
    try? machine.memory.clear(GuestPhysicalAddress(0), count: Self.untouched)
    machine.negotiate(.version1, &random)
    for index in 0..<queueCount {
      let base = Self.tableStride * UInt64(index)
      machine.place(
        QueuePlace(index: index, size: 4, descriptors: base, available: base + 0x1000, used: base + 0x1800), &random)
    }
    machine.start()
    try FuzzFinding.require(
      machine.status == DriverStatus.all, "after all that the device can't be set up: \(machine.status)")
    machine.stop()
  }
}
