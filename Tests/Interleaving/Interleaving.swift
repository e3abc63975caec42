// A machine and its guest by a seed, run once in the order of that seed, and judged.
//
// Each function has one owner, which makes its versions one after the other. What x86 promises then (Intel SDM vol. 3, 9.1.3 and 9.2.3;
// AMD64 APM vol. 2, 7.6.1):
//
// - a call returns a version that was stored, of the function that was called, and never an older one than the call before;
// - the owner's returns the last one;
// - who has seen the flag that the owner set behind its store, and has serialized since, gets that version or a later one;
// - when all is over, everybody gets the last one;
// - additions with LOCK are all there, though they are on pages of code, or on two.

import Glibc
import TrivisorRewritingTechnique
import TrivisorVMM
import TrivisorX86
import TrivisorCSingleStep

/// Runs machines whose processors change each other's code, each seed's in its own order.
public struct Interleaving {
  /// What has come of one.
  public struct Result: Sendable {
    /// One sentence each; none if all was as it must be.
    public var faults: [String] = []
    /// No processor can go on: what they wait for lasts, and so the process can make no other run.
    public var isStuck = false
    /// The same for the same seed.
    public var fingerprint: UInt64 = 0
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public var changes: UInt64 = 0, interruptions: UInt64 = 0, notes = 0
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public var worldStops: UInt64 = 0, blocksDropped: UInt64 = 0

    /// Nothing yet.
    public init() {}
  }

  /// Which run it is.
  public let seed: UInt64
  private let functions: [Function]
  private let programs: [Program]
  private let rates: Scheduler.Rates
  private let order: RandomNumbers

  /// - Parameter seed: what everything follows from.
  public init(seed: UInt64) {
    self.seed = seed
    var random = RandomNumbers(seed: seed)
    let count = random.chance(60) ? 2 + random.below(2) : random.chance(80) ? 4 + random.below(3) : 7 + random.below(10)
    functions = Self.makeFunctions(count, &random)
    let mover = functions.first { $0.kind == .moving }?.owner
    let rounds = UInt32(1 + random.below(4))
    var programs: [Program] = []
    for processor in 0..<count {
      let isUser = random.chance(50) && processor != mover
      programs.append(
        Program(processor, of: count, functions: functions, isUser: isUser, rounds: rounds, &random))
    }
    self.programs = programs
    rates = Scheduler.Rates(
      change: [1, 1, 2, 4, 16][random.below(5)], step: [0, 2, 3, 6, 12][random.below(5)],
      stop: [0, 4, 16, 64][random.below(4)], full: [0, 0, 50, 400][random.below(4)])
    order = random.split()
  }

  private static func makeFunctions(_ processors: Int, _ random: inout RandomNumbers) -> [Function] {
    var kinds: [Function.Kind] = [.moving]
    if random.chance(50) { kinds.append(.straddling) }
    for _ in 0..<(1 + random.below(6)) { kinds.append([.immediate, .whole, .jump][random.below(3)]) }
    let pages = 1 + random.below(4)
    return kinds.enumerated().map { number, kind in
      // The operand of a MOV or of a jump is aligned, or all of the function is.
      let place = UInt32(4096 * random.below(pages) + 0x100 + 64 * number)
      let address =
        switch kind {
        case .moving: Layout.moving + Layout.movingOffset
        case .straddling: Layout.functions + 0xfff
        case .whole: Layout.functions + place
        case .immediate, .jump: Layout.functions + place + 3
        }
      return Function(number: number, kind: kind, owner: random.below(processors), address: address)
    }
  }

  /// Once a process, before the first run.
  /// - Throws: what the host refuses.
  public static func prepare() throws {
    // The engine's handlers come first.
    _ = try RewritingTechnique().makePartition(
      MachineConfiguration(processorCount: 1, memorySize: Layout.memorySize),
      memory: GuestMemory(size: Layout.memorySize), bus: Bus())
    // One thread goes on at a time: on one processor of the host, the next one follows many times as fast.
    css_stay()
    let error = Scheduler.install()
    guard error == 0 else { throw TechniqueFailure(call: "sigaction", reason: String(cString: strerror(error))) }
  }

  /// For people.
  public var description: String {
    var lines = ["seed \(seed): \(programs.count) processors, \(rates)"]
    for function in functions {
      lines.append(
        "function \(function.number): \(function.kind) at \(hexadecimal(UInt64(function.address))), owner \(function.owner)"
      )
    }
    for program in programs {
      lines.append("processor \(program.processor), CPL \(program.isUser ? 3 : 0), \(program.rounds) rounds:")
      lines += program.text.map { "  \($0)" }
    }
    return lines.joined(separator: "\n")
  }

  // MARK: The run

  /// - Parameter isTold: each change of who goes on is printed.
  /// - Throws: what the host refuses.
  public func run(isTold: Bool = false) throws -> Result {
    let memory = try GuestMemory(size: Layout.memorySize)
    try fill(memory)
    let port = EndPort()
    let bus = try Bus(ports: [.init("end", base: UInt16(Layout.endPort), count: 4, device: port)])
    let scheduler = Scheduler(order, processors: programs.count, rates: rates, isTold: isTold)
    let partition = try RewritingTechnique(schedule: scheduler).makePartition(
      MachineConfiguration(processorCount: programs.count, memorySize: Layout.memorySize), memory: memory, bus: bus)
    var runs: [ProcessorRun] = []
    for program in programs {
      let processor = try partition.makeProcessor(index: program.processor)
      if program.processor != 0 { try startUp(processor, program.processor, partition) }
      var state = try processor.readState()
      set(&state, program)
      try processor.writeState(state)
      runs.append(ProcessorRun(processor, program.processor, scheduler))
    }
    for run in runs { try run.start() }
    var result = Result()
    guard scheduler.run(runs.map { $0.processor.stopHandle }) else {
      result.isStuck = true
      let places = try runs.map { hexadecimal(try $0.processor.readState().general.rip) }
      result.faults = ["\(scheduler.problem ?? ""); last seen at \(places.joined(separator: ", "))"]
      return result
    }
    for run in runs { run.join() }
    for run in runs {
      result.faults += run.faults
      let dropped = run.processor.details["code dropped because it was overwritten, blocks"] ?? 0
      result.blocksDropped = max(result.blocksDropped, dropped)
      result.worldStops += run.processor.details["world stops"] ?? 0
    }
    result.fingerprint = scheduler.fingerprint
    result.changes = scheduler.changes
    result.interruptions = scheduler.interruptions
    if result.faults.isEmpty { try judge(memory, &result) }
    return result
  }

  /// The chips pass nothing on to a processor before a start-up message has come; its first code just ends.
  private func startUp(_ processor: any Processor, _ index: Int, _ partition: any Partition) throws {
    let startup: UInt32 = 0x600
    partition.interrupts.deliver(
      InterruptMessage(address: 0xfee0_0000 | UInt64(index) << 12, data: startup | Layout.firstCode >> 12))
    let reason = try processor.run()
    guard reason == .exited(code: 0) else {
      throw TechniqueFailure(call: "starting processor \(index)", reason: "\(reason)")
    }
  }

  private func fill(_ memory: GuestMemory) throws {
    func put(_ value: UInt64, at address: UInt32) throws {
      try memory.write(value, at: GuestPhysicalAddress(UInt64(address)))
    }
    func put(_ bytes: [UInt8], at address: UInt32) throws {
      try memory.copy(bytes, to: GuestPhysicalAddress(UInt64(address)))
    }
    try put(UInt64(Layout.level3 | 7), at: Layout.level4)
    try put(UInt64(Layout.level2 | 7), at: Layout.level3)
    try put(UInt64(Layout.level1 | 7), at: Layout.level2)
    for page in UInt32(0)..<256 { try put(UInt64(page << 12 | 7), at: Layout.level1 + 8 * page) }
    for page in UInt32(0)..<5 {
      try put(UInt64(Layout.functions + 4096 * page | 7), at: Layout.level1 + (Layout.alias >> 12 + page) * 8)
    }
    try put(UInt64(Layout.pool | 7), at: Layout.level1 + Layout.moving >> 12 * 8)
    for (number, descriptor) in [
      0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff,
    ].enumerated() { try put(UInt64(descriptor), at: Layout.descriptors + 8 * UInt32(number)) }
    for vector in UInt32(0)..<32 {
      let handler = Layout.handlers + 0x100 + 8 * vector
      try put(UInt64(handler) | 0x8e00_0008_0000, at: Layout.gates + 16 * vector)
      try put([0xb0, UInt8(vector), 0xe6, Layout.exceptionPort, 0xeb, 0xfe], at: handler)
    }
    try put(UInt64(Layout.handlers) | 0x8e00_0008_0000, at: Layout.gates + 16 * UInt32(Layout.vector))
    try put(interruptHandler, at: Layout.handlers)
    try put([0xe6, Layout.endPort], at: Layout.firstCode)
    for version in UInt32(0)..<512 { try put(Function.leafCode(version), at: Layout.leaves + 8 * version) }
    for function in functions {
      guard function.kind == .moving else {
        try put(function.code, at: function.address)
        continue
      }
      for page in 0..<Layout.poolCount {
        var code = function.code
        code[1] = UInt8(page)
        try put(code, at: Layout.pool + 4096 * UInt32(page) + Layout.movingOffset)
      }
    }
    for program in programs {
      let own = Layout.own(program.processor)
      try put(program.code.bytes, at: Layout.program(program.processor))
      try put(UInt64(Layout.acknowledged(program.processor)), at: own + Layout.acknowledgePointer)
      for function in functions { try put(UInt64(function.address), at: own + Layout.pointer(function.number)) }
      // RSP for CPL 0.
      try put(UInt64(own + Layout.kernelStack), at: Layout.taskStates + 128 * UInt32(program.processor) + 4)
    }
  }

  private var interruptHandler: [UInt8] {
    var code = Code(at: Layout.handlers)
    code.add(0x50, 0x51, 0x52, 0x57)  // push rax, rcx, rdx, rdi
    code.loadEAX(Layout.moves)
    code.add(0x89, 0xc7)  // mov edi, eax
    if seed & 1 == 0 {
      code.add([0x0f, 0x01, 0x3c, 0x25], Layout.moving)
    } else {
      code.add(0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8)
    }
    code.add([0x65, 0x48, 0x8b, 0x0c, 0x25], Layout.acknowledgePointer)  // mov rcx, gs:…
    code.add(0x89, 0x39)  // mov [rcx], edi
    code.incrementOwn(Layout.interrupts)
    code.add(0x31, 0xc0)
    code.writeModelSpecific(0x80b)
    code.add(0x5f, 0x5a, 0x59, 0x58, 0x48, 0xcf)
    return code.bytes
  }

  private func set(_ state: inout MachineState, _ program: Program) {
    let mode: CR0 = [.protectedMode, .extensionType, .paging, .writeProtect]
    let extensions: CR4 = [.physicalAddressExtension, .osFXSR, .osXSAVE]
    let features: EFER = [.longModeEnable, .longModeActive]
    let own = UInt64(Layout.own(program.processor))
    state.system.cr0 = mode.rawValue
    state.system.cr3 = UInt64(Layout.level4)
    state.system.cr4 = extensions.rawValue
    state.system.efer = features.rawValue
    state.system.cs = .flatCode64(selector: 8)
    for segment in [\SystemRegisters.ds, \.es, \.ss, \.fs, \.gs] {
      state.system[keyPath: segment] = .flatData(selector: 0x10)
    }
    state.system.gs.base = own
    state.system.gdt = DescriptorTable(base: UInt64(Layout.descriptors), limit: 0x27)
    state.system.idt = DescriptorTable(base: UInt64(Layout.gates), limit: UInt16(16 * Int(Layout.vector) + 15))
    state.system.task.base = UInt64(Layout.taskStates) + 128 * UInt64(program.processor)
    state.system.task.limit = 0x67
    state.system.task.attributes = 0x8b
    state.system.apicBase = 0xfee0_0c00 | (program.processor == 0 ? 0x100 : 0)
    state.extended.xcr0 = 7
    state.general.rip = UInt64(program.code.origin)
    state.general.rsp = own + UInt64(Layout.stack)
    state.general.r14 = own + UInt64(Layout.log)
    state.general.rflags = 2
    state.activity = .running
  }

  // MARK: Judgement

  private func judge(_ memory: GuestMemory, _ result: inout Result) throws {
    func word(_ address: UInt32) throws -> UInt32 {
      try memory.read(UInt32.self, at: GuestPhysicalAddress(UInt64(address)))
    }
    var lastVersions: [UInt32] = []
    for function in functions {
      lastVersions.append(try word(Layout.own(function.owner) + Layout.version(function.number)))
    }
    for program in programs {
      let expected = program.rounds * UInt32(program.subjects.count - functions.count) + UInt32(functions.count)
      var newest = [UInt32](repeating: 0, count: functions.count)
      for index in 0..<expected {
        let place = Layout.own(program.processor) + Layout.log + 16 * index
        let (number, floor) = (Int(try word(place)), try word(place + 4))
        let (value, ceiling) = (try word(place + 8), try word(place + 12))
        func fault(_ text: String) {
          result.faults.append(
            "processor \(program.processor), its \(index + 1). note, which is note \(number): \(text)")
        }
        guard program.subjects.indices.contains(number) else {
          fault("there is no such note")
          break
        }
        result.notes += 1
        let (function, isLast): (Function, Bool)
        switch program.subjects[number] {
        case .word, .ownCode:
          if value != floor { fault("\(value) where it had stored \(floor)") }
          continue
        case .function(let number): (function, isLast) = (functions[number], false)
        case .last(let number): (function, isLast) = (functions[number], true)
        }
        let last = lastVersions[function.number]
        guard let version = function.version(of: value), version <= last else {
          fault("function \(function.number) returned \(hexadecimal(UInt64(value))), which it never was")
          continue
        }
        if version < floor { fault("version \(version) of function \(function.number), and \(floor) was known") }
        if version > ceiling { fault("version \(version) of function \(function.number), whose last is \(ceiling)") }
        if version < newest[function.number] {
          fault("version \(version) of function \(function.number) behind \(newest[function.number])")
        }
        newest[function.number] = max(newest[function.number], version)
        if isLast, version != last {
          fault("version \(version) of function \(function.number) at the end, whose last is \(last)")
        }
      }
    }
    for page in 0..<4 {
      let found = try word(Layout.counter(page: page))
      let wanted = programs.reduce(UInt32(0)) { $0 + $1.rounds * $1.additions[page] }
      if found != wanted { result.faults.append("\(found) of \(wanted) additions on page \(page)") }
    }
    let found = try word(Layout.splitCounter)
    let wanted = programs.reduce(UInt32(0)) { $0 + $1.rounds * $1.additions[4] }
    if found != wanted { result.faults.append("\(found) of \(wanted) additions on two pages") }
  }
}

/// Where a guest says that it is done, or what has happened to it.
final class EndPort: PortDevice {
  func read(at offset: UInt16, width: AccessWidth) -> UInt32 { 0 }
  func write(_ value: UInt32, at offset: UInt16, width: AccessWidth) -> DeviceEffect {
    .stop(.exited(code: offset == 0 ? 0 : UInt8(truncatingIfNeeded: value) | 0x80))
  }
}

/// One processor on its thread.
final class ProcessorRun: @unchecked Sendable {
  // Unchecked: the thread has it to itself until `join`.
  let processor: any Processor
  private let index: Int
  private let scheduler: Scheduler
  private(set) var faults: [String] = []
  private var thread = pthread_t()

  init(_ processor: any Processor, _ index: Int, _ scheduler: Scheduler) {
    self.processor = processor
    self.index = index
    self.scheduler = scheduler
  }

  func start() throws {
    let reference = Unmanaged.passRetained(self)
    let body: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = { argument in
      if let argument { Unmanaged<ProcessorRun>.fromOpaque(argument).takeRetainedValue().run() }
      return nil
    }
    let error = pthread_create(&thread, nil, body, reference.toOpaque())
    guard error == 0 else {
      reference.release()
      throw TechniqueFailure(call: "pthread_create", reason: String(cString: strerror(error)))
    }
  }

  func join() { pthread_join(thread, nil) }

  private func run() {
    scheduler.begin(index)
    loop: while true {
      do throws(TechniqueFailure) {
        switch try processor.run() {
        case .stopRequested: continue
        case .exited(code: 0): break loop
        case .exited(let code): faults.append("processor \(index): exception \(code & 0x7f)")
        case let other: faults.append("processor \(index): \(other)")
        }
      } catch {
        faults.append("processor \(index): \(error)")
      }
      break
    }
    scheduler.end(index)
  }
}
