import Boot
import Sandbox
import Synchronization
import VMM

/// One domain and its processors.
final class ParavirtPartition: Partition {
  private struct Contents {
    var domain: Domain?
    var spaces: AddressSpaceCache?
  }

  private let memory: GuestMemory
  private let bus: Bus
  private let processorCount: Int
  let doorbells: [Doorbell]
  private let contents = Monitor(Contents())
  /// The first processor of the host that takes a virtual one; the others follow.
  private let firstHostProcessor = SandboxProcess.currentProcessor

  init(memory: GuestMemory, bus: Bus, processorCount: Int) {
    self.memory = memory
    self.bus = bus
    self.processorCount = processorCount
    doorbells = (0..<processorCount).map { Doorbell($0) }
  }

  deinit { contents.with { $0.spaces }?.destroy() }

  func makeProcessor(index: Int) throws(TechniqueFailure) -> any Processor {
    ParavirtProcessor(number: index, partition: self, doorbell: doorbells[index])
  }

  var interrupts: any InterruptController { DomainLines(self) }

  var domain: Domain? { contents.with { $0.domain } }
  var spaces: AddressSpaceCache? { contents.with { $0.spaces } }

  /// What the boot loader left becomes a domain.
  /// - Returns: `nil` when the image has spoilt what the domain builder made.
  func makeDomain(_ start: XenDomainStart) -> Domain? {
    guard let domain = Domain(memory: memory, bus: bus, doorbells: doorbells, start: start) else { return nil }
    let spaces = AddressSpaceCache(memory: memory, threadCount: processorCount, is32Bit: domain.layout == .bits32)
    domain.translations = spaces
    contents.with { $0 = Contents(domain: domain, spaces: spaces) }
    return domain
  }

  /// Virtual processors are spread over the host's, each with its guest thread on the same one.
  func hostProcessor(for number: Int) -> Int32 {
    SandboxProcess.hostProcessor(after: firstHostProcessor, number)
  }

  fileprivate func inputArrived() {
    guard let domain else { return }
    domain.inputArrived.store(true, ordering: .releasing)
    doorbells[0].ring()
  }
}

/// What a domain's devices reach it by. The partition has the bus, and the bus the devices, so they don't keep the partition.
private final class DomainLines: InterruptController {
  private weak let partition: ParavirtPartition?

  init(_ partition: ParavirtPartition) { self.partition = partition }

  /// The serial port that is the domain's console is the only device that a domain hears of.
  func setLine(_ line: Int, asserted: Bool) {
    if asserted { partition?.inputArrived() }
  }

  func deliver(_ message: InterruptMessage) {}
}
