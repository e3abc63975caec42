import Synchronization
import TrivisorBoot
import TrivisorVMM
import TrivisorXenDomain

/// Random hypercalls of one width after another, each domain for so many of them: whatever a kernel asks for, the hypervisor neither
/// traps nor hangs, and no page table is ever one that the kernel could write to.
public struct HypercallSequence {
  /// What went wrong.
  public struct Finding: Error, CustomStringConvertible {
    /// One sentence.
    public let description: String
  }

  private let is64Bit: Bool
  private var random: Random
  private var place: Place
  /// Of the domain that is there.
  private var callsOfDomain = 0
  /// How many were made.
  public private(set) var callCount = 0
  /// How many domains there were.
  public private(set) var domainCount = 1
  /// Calls for one domain, unless it ends before.
  private static let callsPerDomain = 1500
  private static let scratchPages: UInt64 = 4
  private static let memorySize: UInt64 = 4 << 20

  /// A domain and what is where in it.
  private struct Place {
    let memory: GuestMemory
    let domain: Domain
    let kernel: KernelStandIn
    let root: UInt64

    init(_ image: [UInt8]) throws {
      memory = try GuestMemory(size: HypercallSequence.memorySize)
      let memory = memory
      let loaded = try image.withUnsafeBytes { bytes in
        try BootRequest(image: try BootImage(name: "kernel", bytes: bytes), kind: .xen).load(into: memory)
      }
      guard case .xenDomain(let start) = loaded.handover,
        let domain = Domain(
          memory: memory, console: Deaf(), doorbells: [Doorbell(), Doorbell()], disks: [Disk()], start: start)
      else { throw Finding(description: "the blank kernel is no domain") }
      root = start.rootFrame
      self.domain = domain
      kernel = KernelStandIn(domain)
    }

    func frame(_ page: UInt64) -> UInt64 { XenMachine.firstFrame + page }
    func address(_ page: UInt64) -> UInt64 { BlankKernel.base + page << 12 }
  }

  private let image: [UInt8]

  /// - Throws: when there is no memory for a domain.
  public init(is64Bit: Bool, seed: UInt64) throws {
    self.is64Bit = is64Bit
    random = Random(seed: seed)
    image = BlankKernel.image(is64Bit: is64Bit)
    place = try Place(image)
  }

  /// The hypercalls that do something, those of page tables more often.
  private static let numbers: [UInt64] = [
    0, 1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 12, 12, 13, 13, 14, 14, 14, 15, 16, 17, 18, 19, 20, 20, 20, 20, 21,
    22, 23, 24, 24, 25, 26, 26, 26, 28, 29, 30, 32, 32, 32, 33, 34, 35, 40, 41, 48, 63,
  ]

  private static let entryBits: [UInt64] = [0x21, 0x23, 0x25, 0x27, 0x61, 0x63, 0x65, 0x67, 1, 0x81, 0]
  private static let tableBits: [UInt64] = [0x21, 0x23, 0x25, 0x27, 0x65, 0x67]
  private static let domainNumbers: [UInt64] = [0, 1, 0x7ff0, 0x7ff1, 77]
  private static let owners: [UInt64] = [0x7ff0, 0x7ff0, 0, 77]

  /// A word that may mean something: an address, a frame, an entry, a port, a small number.
  private mutating func word() -> UInt64 {
    let page = random.below(BlankKernel.pageCount + 8)
    let root = place.root
    switch random.below(16) {
    case 0: return random.next()
    case 1: return place.address(page) + random.below(4096)
    case 2: return place.address(page)
    case 3: return place.frame(page)
    case 4: return place.frame(page) << 12 | random.one(of: Self.entryBits)
    case 5: return (root + random.below(6)) << 12 | random.one(of: Self.tableBits)
    case 6: return (root + random.below(6)) << 12 | random.below(512) << 3 | random.below(3)
    case 7: return place.frame(page) << 12 | random.below(512) << 3 | random.below(3)
    case 8: return root + random.below(6)
    case 9: return XenMachine.domainFrameCount(place.memory) + XenMachine.firstFrame + random.below(100)
    case 10: return 0x7ff0 | random.below(4) << 16
    case 11: return random.one(of: Self.domainNumbers)
    case 12: return random.below(1 << 12)
    default: return random.below(34)
    }
  }

  /// Most calls of iret and shutdown end a domain: they are made more seldom than others, so that domains grow old.
  private static let endings: UInt64 = 64

  private mutating func someNumber() -> UInt64 {
    let number = random.one(of: Self.numbers)
    return number == 23 && random.below(Self.endings) > 0 ? 1 : number
  }

  private mutating func fill() {
    for _ in 0..<24 {
      let target = place.address(random.below(Self.scratchPages)) + random.below(32) * 4
      place.kernel.store(word(), target)
      if random.below(4) == 0 { place.kernel.store(UInt32(random.below(24)), target) }
    }
  }

  /// Now and then, what a driver of a disk does before its first request.
  private mutating func announceDisk() {
    place.kernel.announce("device/vbd/51712/ring-ref", "\(random.below(16))")
    place.kernel.announce("device/vbd/51712/event-channel", "\(random.below(16))")
    place.kernel.announce("device/vbd/51712/state", "\(1 + random.below(6))")
  }

  private mutating func step() {
    fill()
    if random.below(64) == 0 { announceDisk() }
    let number = someNumber()
    var arguments: InlineArray<6, UInt64> = InlineArray(repeating: 0)
    for index in arguments.indices { arguments[index] = word() }
    let scratch = place.address(random.below(Self.scratchPages)) + random.below(16) * 8
    switch number {
    // An operation, then its argument.
    case 12, 16, 17, 19, 24, 29, 30, 32, 33: arguments[0] = random.below(36)
    case 20: (arguments[0], arguments[2]) = (random.below(14), random.below(4))
    case 1, 26:
      (arguments[0], arguments[1]) = (scratch, random.below(6))
      (arguments[2], arguments[3]) = (random.below(2) * scratch, random.one(of: Self.owners))
      (arguments[4], arguments[5]) = (0, 0)
    case 13: arguments[1] = random.below(5)
    // It would not end on its own: other threads of its domain would have their turn.
    case 2: arguments[1] &= 0xffff
    default: break
    }
    // SCHEDOP_shutdown, in both its forms.
    if number == 29 || number == 6, arguments[0] == 2, random.below(Self.endings) > 0 { arguments[0] = 0 }
    if [12, 20, 29, 30, 32, 33].contains(number), random.below(8) > 0 { arguments[1] = scratch }
    if number == 24 {
      arguments[1] = random.below(3)
      if random.below(4) > 0 { arguments[2] = scratch }
    }
    if number == 13, random.below(8) > 0 {
      arguments[0] = scratch
      for entry in 0..<4 as Range<UInt64> {
        let (inner, target) = (someNumber(), scratch + entry * 8 * (is64Bit ? 8 : 4))
        if is64Bit { place.kernel.store(inner, target) } else { place.kernel.store(UInt32(inner), target) }
      }
    }
    place.kernel.call(number, arguments, stack: place.address(random.below(16) == 0 ? 0 : 10))
    place.kernel.goOn(delivers: random.below(16) == 0)
  }

  /// Makes one more call.
  /// - Throws: `Finding`.
  public mutating func next() throws {
    step()
    callCount += 1
    callsOfDomain += 1
    guard callsOfDomain >= Self.callsPerDomain || place.kernel.hasEnded else { return }
    try check()
    place = try Place(image)
    callsOfDomain = 0
    domainCount += 1
  }

  /// - Throws: `Finding` when the page tables of the domain that is there are not such as they must be.
  public func check() throws {
    guard let fault = place.kernel.inconsistency else { return }
    throw Finding(description: "after \(callCount) calls of \(is64Bit ? 64 : 32) bits \(fault)")
  }
}

/// Rings that nobody hears.
private final class Doorbell: DomainDoorbell {
  func ring() {}
  func silence() {}
  func takeStopRequest() -> Bool { false }
  func sleep(until deadline: UInt64) {}
}

/// Output that nobody reads.
private final class Deaf: SerialSink {
  func write(_ bytes: UnsafeRawBufferPointer) {}
  func finish() {}
  func abandon() {}
}

/// Sectors that are all zero, whatever is written.
private final class Disk: BlockStorage {
  let sectorCount: UInt64 = 64
  let isReadOnly = false

  private func has(_ sector: UInt64, _ count: Int) -> Bool {
    sector <= sectorCount && UInt64(count) <= (sectorCount - sector) * 512
  }

  func read(_ sector: UInt64, into bytes: UnsafeMutableRawBufferPointer) -> Bool {
    guard has(sector, bytes.count) else { return false }
    bytes.initializeMemory(as: UInt8.self, repeating: 0)
    return true
  }

  func write(_ sector: UInt64, from bytes: UnsafeRawBufferPointer) -> Bool { has(sector, bytes.count) }
  func synchronize() -> Bool { true }
  func forget(_ sector: UInt64, count: UInt64) -> Bool { sector <= sectorCount && count <= sectorCount - sector }
}
