import Glibc
import TrivisorBoot
import TrivisorCWorldSwitch
import TrivisorTranslation
import TrivisorVMM
import TrivisorXenDomain

/// Where the code of a domain runs that is linked for the upper half of the address space: translated, in this process. What is
/// known of its page tables is the processors' own TLBs.
final class TranslatedSpace: TranslationKeeper, @unchecked Sendable {
  // Unchecked: used by the processor whose turn it is, but for the turns themselves.

  /// One virtual processor.
  struct Place {
    let engine: TranslatedProcessor
    let surroundings: DomainSurroundings
    /// Of the kernel's view and of the user's, as they were entered last.
    var kernelRoot: UInt64 = 0
    var userRoot: UInt64 = 0

    var code: DomainCode { DomainCode(engine) }
  }

  /// The most processors.
  static let processorLimit = ProcessorRendezvous.processorLimit

  private(set) var places: [Place] = []
  let turns: DomainTurns
  /// Of all translations: for another root, for much at a known place, for what is at several places.
  private var flushes: (root: UInt64, many: UInt64, all: UInt64) = (0, 0, 0)

  var details: [String: UInt64] {
    [
      "flushes for another root": flushes.root, "flushes for large changes of page tables": flushes.many,
      "flushes for page tables at several places": flushes.all,
    ]
  }

  /// - Throws: `TechniqueFailure` when the host can't do it.
  init(_ memory: GuestMemory, _ model: ProcessorModel, processorCount: Int) throws(TechniqueFailure) {
    let host = HostProcessor.current
    let lacking = NativeFeatures.lackingForEngine(of: host)
    guard lacking.isEmpty else {
      throw TechniqueFailure(
        call: "CPUID",
        reason:
          "translating the guest's code needs \(lacking.map(\.rawValue).joined(separator: ", ")), which the host's"
          + " processor lacks", remedy: "give a Xen kernel that is linked below \(hexadecimal(1 << 47))")
    }
    let error = cws_install_handlers()
    guard error == 0 else { throw TechniqueFailure(call: "sigaction", reason: String(cString: strerror(error))) }
    for region in memory.regions { madvise(region.host, Int(region.size), MADV_DONTFORK) }
    // Keys are no domain's.
    let features = NativeFeatures.announced(model, on: host).subtracting([.pku])
    let physical = PhysicalMemory(memory, from: XenMachine.firstFrame * GuestMemory.pageSize)
    let tables = (0..<processorCount).map { number in
      CPUIDTable(features: features, processor: number, of: processorCount, name: model.name)
    }
    let isShared = processorCount > 1
    let cache = try TranslationCache(announced: AnnouncedFeatures(tables[0]), memory: physical, isShared: isShared)
    // They take turns as a whole, so the engine finds nobody whom it must wait for.
    let rendezvous = isShared ? ProcessorRendezvous(processorCount: processorCount) : nil
    for (number, table) in tables.enumerated() {
      let surroundings = DomainSurroundings(number)
      let turn = ProcessorTurn(rendezvous, index: number)
      turn.enter()
      defer { turn.leave() }
      let engine = try TranslatedProcessor(
        in: surroundings, store: cache, guestMemory: memory, memory: physical, identification: table, turn: turn)
      places.append(Place(engine: engine, surroundings: surroundings))
    }
    turns = DomainTurns(places.map(\.engine.stop))
  }

  /// Makes a domain one whose code is translated.
  func adopt(_ domain: Domain) {
    let (addresses, frame) = domain.machineTable
    domain.abilities = [.taskSwitched, .timeStampDisable, .nestedTask, .segments]
    for (number, place) in places.enumerated() {
      place.code.deprivilege(window: MappedWindow(addresses, at: frame * GuestMemory.pageSize))
      place.surroundings.domain = domain
      domain.identify(number, as: Self.identification(place.engine.identification))
    }
  }

  private static func identification(_ table: CPUIDTable) -> DomainIdentification {
    DomainIdentification { leaf, index in
      guard let answer = table.leaf(leaf, index: index) else { return (0, 0, 0, 0) }
      switch (leaf, index) {
      // CR4.OSXSAVE is set, whatever the domain believes.
      case (1, _): return (answer.eax, answer.ebx, answer.ecx | (table.has(.xsave) ? 1 << 27 : 0), answer.edx)
      // All of XCR0 is on.
      case (0xd, 0): return (answer.eax, answer.ecx, answer.ecx, answer.edx)
      default: return (answer.eax, answer.ebx, answer.ecx, answer.edx)
      }
    }
  }

  /// A processor is to run with a root.
  func enter(_ number: Int, root: UInt64, isKernel: Bool) {
    let place = places[number]
    place.surroundings.isKernel = isKernel
    let known = isKernel ? place.kernelRoot : place.userRoot
    if known != root {
      flushes.root &+= 1
      // What Linux does for each instruction that it patches: another root with the same kernel in it.
      let isSameKernel = !isKernel || place.surroundings.domain?.haveSameUpperHalf(known, root) ?? false
      place.code.flushTranslations(keepsUpperHalf: isSameKernel)
      if isKernel { places[number].kernelRoot = root } else { places[number].userRoot = root }
    }
    place.code.switchView(root: root << 12, isDomainKernel: isKernel)
  }

  /// More pages than this are dearer to forget one by one than to look for again.
  private static let manyPages: UInt64 = 64

  func remove(_ stale: StaleTranslations) {
    var pages: UInt64 = 0
    for range in stale.ranges { pages &+= (range.upperBound &- range.lowerBound) >> 12 }
    guard !stale.isEverything, pages <= Self.manyPages else {
      if stale.isEverything { flushes.all &+= 1 } else { flushes.many &+= 1 }
      for place in places { place.code.flushTranslations() }
      return
    }
    for range in stale.ranges {
      var page = range.lowerBound
      while page < range.upperBound {
        // The domain's tables say 48 bits of addresses.
        let linear = UInt64(bitPattern: Int64(bitPattern: page << 16) >> 16)
        for place in places { place.code.flushTranslation(of: linear) }
        page &+= 4096
      }
    }
  }

  func forget(root: UInt64) {
    for number in places.indices {
      if places[number].kernelRoot == root { places[number].kernelRoot = 0 }
      if places[number].userRoot == root { places[number].userRoot = 0 }
    }
  }
}
