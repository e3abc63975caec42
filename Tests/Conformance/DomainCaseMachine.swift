// One Xen domain for one case: its guest is user code of a small kernel of ours (DomainKernel.S), which records what happens.
//
// The guest finds the same memory map as on a machine. Its reports are page faults, because a domain has no devices; what they
// and the exceptions say is put into the words of Handlers.S here, where the numbers that are Xen's become those of the map:
// selectors, and the stack that a processor would have changed to.

import TrivisorBoot
import Glibc
import TrivisorVMM

/// Runs one case in a domain.
struct DomainCaseMachine {
  /// As in DomainKernel.S, in bytes.
  private enum Place {
    static let startInfo: UInt64 = 0x50_0000, store: UInt64 = 0x50_1000, console: UInt64 = 0x50_2000
    static let kernel: UInt64 = 0x50_3000, parameters: UInt64 = 0x50_4000, recordCount: UInt64 = 0x50_4020
    static let stack: UInt64 = 0x50_6000, records: UInt64 = 0x51_0000, recordSize: UInt64 = 256
    /// Level 4 to 2, and three tables of level 1, which no address leads to.
    static let tables: UInt64 = 0x60_0000
    static let memorySize: UInt64 = 8 << 20
    /// What there is of the guest's memory, and of the kernel's.
    static let guestPages: Range<UInt64> = 0..<0x400, kernelPages: Range<UInt64> = 0x500..<0x600
    static let report: UInt64 = 0x41_0000, event: UInt64 = 0x41_0010, finish: UInt64 = 0x41_0018
  }

  /// Xen's flat segments (Xen's public header arch-x86/xen-x86_64.h).
  private enum XenSelector {
    static let code: UInt64 = 0xe033, data: UInt64 = 0xe02b
  }

  /// What the kernel has written down of one exception.
  private struct Record {
    let words: [UInt64]
    var vector: UInt64 { words[0] }
    var expected: UInt64 { words[7] }
    var resume: UInt64 { words[8] }
    var faultAddress: UInt64 { words[9] }
    func register(_ number: Int) -> UInt64 { words[10 + number] }

    func byte(_ place: Int) -> UInt8 { UInt8(truncatingIfNeeded: words[26 + place / 8] >> UInt64(place % 8 * 8)) }
  }

  /// How a run ended.
  enum Outcome {
    case finished(Observation)
    case refused(DomainRefusal)
    case failed(String)
  }

  let conformanceCase: ConformanceCase
  private let memory: GuestMemory

  init(_ conformanceCase: ConformanceCase, under technique: any Technique) throws {
    self.conformanceCase = conformanceCase
    memory = try GuestMemory(size: Place.memorySize, isShareable: technique.sharesMemory)
  }

  /// Whether a process of this host may have the page at `address`.
  static func mayHaveMemory(at address: UInt64) -> Bool {
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | fixedNoReplace
    let result = mmap(UnsafeMutableRawPointer(bitPattern: UInt(address)), page, PROT_NONE, flags, -1, 0)
    guard result != MAP_FAILED else { return errno == EEXIST }
    munmap(result, page)
    return true
  }

  /// MAP_FIXED_NOREPLACE (Linux, include/uapi/asm-generic/mman-common.h).
  private static let fixedNoReplace: Int32 = 0x10_0000

  /// - Throws: what the technique throws.
  func run(under technique: any Technique, timeLimit milliseconds: Int) throws -> Outcome {
    guard let code = GuestCode.all[conformanceCase.guest], let kernel = GuestCode.all["domain_kernel"] else {
      return .failed("there is no guest \(conformanceCase.guest)")
    }
    try conformanceCase.mode.writeTables(TableWriter(memory: memory))
    try memory.copy(code, to: GuestPhysicalAddress(Layout.guest))
    try memory.copy(kernel, to: GuestPhysicalAddress(Place.kernel))
    let start = try buildDomain()
    var configuration = MachineConfiguration()
    configuration.memorySize = memory.size
    let partition = try technique.makePartition(configuration, memory: memory, bus: try Bus(ports: []))
    let threads = ProcessorThreads(partition: partition, count: 1, handover: .xenDomain(start), whenEnded: {})
    threads.start()
    threads.resume()
    let deadline = monotonicNanoseconds() + UInt64(milliseconds) * 1_000_000
    while threads.result == nil, monotonicNanoseconds() < deadline { usleep(200) }
    guard threads.result != nil else {
      threads.stop(.cancelled)
      threads.join()
      return .failed("not ended after \(milliseconds) ms")
    }
    guard case .stopped(.shutdown)? = threads.result?.ending else {
      return .failed("the domain ended with \(String(describing: threads.result?.ending))")
    }
    return try judge(
      features: configuration.processorModel.features.subtracting(technique.reductions(for: configuration)))
  }

  // MARK: Before

  private static func frame(_ address: UInt64) -> UInt64 { XenMachine.firstFrame + address >> 12 }

  private func write(_ value: UInt64, at address: UInt64) throws {
    try memory.write(value, at: GuestPhysicalAddress(address))
  }

  /// Page tables, start_info, and what the kernel is told.
  private func buildDomain() throws -> XenDomainStart {
    // Present, writable, the user's, accessed, dirty.
    let open: UInt64 = 0x67
    func table(_ number: UInt64) -> UInt64 { Place.tables + number << 12 }
    func entry(_ address: UInt64) -> UInt64 { Self.frame(address) << 12 | open }
    try write(entry(table(1)), at: table(0))
    try write(entry(table(2)), at: table(1))
    for number in UInt64(0)..<3 { try write(entry(table(3 + number)), at: table(2) + 8 * number) }
    for pages in [Place.guestPages, Place.kernelPages] {
      for page in pages { try write(entry(page << 12), at: table(3) + 8 * page) }
    }
    // Of start_info: the frames of both rings (Xen's public header xen.h).
    try write(Self.frame(Place.store), at: Place.startInfo + 56)
    try write(Self.frame(Place.console), at: Place.startInfo + 72)
    var state = MachineState()
    conformanceCase.mode.enter(&state)
    let root = Self.frame(table(0))
    for (place, value) in [root, state.general.rip, state.general.rsp, state.general.rflags].enumerated() {
      try write(value, at: Place.parameters + 8 * UInt64(place))
    }
    return XenDomainStart(
      is64Bit: true, entry: Place.kernel, stack: Place.stack, startInfo: Place.startInfo, rootFrame: root)
  }

  // MARK: Behind

  private func judge(features: Set<ProcessorFeature>) throws -> Outcome {
    var results: [UInt64] = []
    let count = try memory.read(UInt64.self, at: GuestPhysicalAddress(Place.recordCount))
    for number in 0..<count {
      let record = Record(
        words: try (0..<Place.recordSize / 8).map {
          try memory.read(
            UInt64.self, at: GuestPhysicalAddress(Place.records + number * Place.recordSize + 8 * $0))
        })
      if record.vector == 0x100 { return .refused(.ability) }
      if record.vector == 14, (Place.report..<Place.report + 0x20).contains(record.faultAddress) {
        if record.faultAddress == Place.event { return .refused(.devices) }
        guard let value = Self.stored(record) else {
          return .failed("a report by an instruction that is none: \(hexadecimal(record.words[26]))")
        }
        if record.faultAddress == Place.finish {
          return .finished(observation(.exited(code: UInt8(truncatingIfNeeded: value)), results, features))
        }
        results.append(value)
        continue
      }
      if record.vector == 14, record.faultAddress >> 12 == Layout.device >> 12 { return .refused(.devices) }
      results += Self.frame(record)
      if record.resume == 0 { return .finished(observation(.exited(code: 0xee), results, features)) }
    }
    return .failed("it ended without saying so; \(CaseMachine.list(results))")
  }

  private func observation(
    _ reason: StopReason, _ results: [UInt64], _ features: Set<ProcessorFeature>
  ) -> Observation {
    Observation(
      ending: .stopped(reason), results: results, journal: [], features: features, states: [], memory: memory)
  }

  /// What a MOV to an absolute address stores (AMD64 APM vol. 3, "MOV").
  private static func stored(_ record: Record) -> UInt64? {
    let first = record.byte(0)
    let hasREX = first & 0xf0 == 0x40
    let (opcode, modRM) = hasREX ? (record.byte(1), record.byte(2)) : (first, record.byte(1))
    let value = record.register(Int(modRM >> 3 & 7 | (hasREX ? (first & 4) << 1 : 0)))
    switch opcode {
    case 0x89: return hasREX && first & 8 != 0 ? value : value & 0xffff_ffff
    case 0x88: return value & 0xff
    case 0xc6: return UInt64(record.byte(7))
    default: return nil
    }
  }

  /// As Handlers.S says it.
  private static func frame(_ record: Record) -> [UInt64] {
    // TF IF DF IOPL NT VM AC.
    let reported: UInt64 = 0x67700
    let words = record.words
    let code = words[3] & 0xffff, stack = words[6]
    return [
      0xfa00 | record.vector, words[1], words[2] &- record.expected,
      code == XenSelector.code ? UInt64(Layout.userCode64) : code, words[4] & reported, words[5],
      stack == XenSelector.data ? UInt64(Layout.userData) : stack, Layout.rsp0,
    ] + (record.vector == 14 ? [record.faultAddress] : [])
  }
}
