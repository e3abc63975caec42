// One processor's local APIC: what it remembers and the rules by which it picks the next interrupt.
//
//     message ──▶ IRR ──(highest above PPR)──▶ processor ──▶ ISR ──EOI──▶ gone; level-triggered: tell the I/O APIC
//
// IRR holds what has arrived, ISR what is being served, TMR which of these are level-triggered. A vector's priority is
// its upper four bits; it interrupts if that is above the processor priority PPR, the higher of the task priority and
// the priority of the highest vector in service.
//
// Sources: Intel SDM vol. 3, chapter 11; AMD64 APM vol. 2, chapter 16.

import TrivisorVMM

/// Where registers are, in the page and, divided by 16, above MSR 0x800.
enum LocalRegister {
  static let identifier: UInt16 = 0x20, version: UInt16 = 0x30, taskPriority: UInt16 = 0x80
  static let arbitrationPriority: UInt16 = 0x90, processorPriority: UInt16 = 0xa0, endOfInterrupt: UInt16 = 0xb0
  static let remoteRead: UInt16 = 0xc0, logicalDestination: UInt16 = 0xd0, destinationFormat: UInt16 = 0xe0
  static let spurious: UInt16 = 0xf0
  static let inService: ClosedRange<UInt16> = 0x100...0x17f
  static let triggerMode: ClosedRange<UInt16> = 0x180...0x1ff
  static let request: ClosedRange<UInt16> = 0x200...0x27f
  static let errorStatus: UInt16 = 0x280, command: UInt16 = 0x300, commandHigh: UInt16 = 0x310
  static let timer: UInt16 = 0x320, linePin0: UInt16 = 0x350, error: UInt16 = 0x370
  /// Timer, thermal sensor, performance counters, LINT0, LINT1, error.
  static let vectorTable: ClosedRange<UInt16> = 0x320...0x37f
  static let initialCount: UInt16 = 0x380, currentCount: UInt16 = 0x390, divideConfiguration: UInt16 = 0x3e0
  static let selfInterrupt: UInt16 = 0x3f0
}

/// How an interrupt is delivered: bits 8 to 10 of a message, an entry or a command.
enum DeliveryMode: UInt32 {
  case fixed = 0, lowestPriority = 1, systemManagement = 2, nonMaskable = 4, initialize = 5, startup = 6, external = 7
}

/// A local APIC.
struct LocalAPIC {
  /// Its processor's index.
  let index: UInt32
  /// MSR 0x1b: base, enable (bit 11), x2APIC (10), bootstrap processor (8).
  private(set) var base: UInt64
  /// In xAPIC's form, the eight bits that software can write.
  private(set) var identifier: UInt8
  private(set) var taskPriority: UInt8 = 0
  private(set) var requests = VectorSet()
  private(set) var inService = VectorSet()
  private(set) var levelTriggered = VectorSet()
  var timer = LocalTimer()
  /// What the guest's counter is ahead of the host's.
  var timestampOffset: UInt64 = 0
  /// NMIs that have arrived and that the processor has not come to take.
  private var nonMaskableCount: UInt8 = 0
  /// The processor is in an NMI's handler.
  private(set) var servesNonMaskable = false
  /// INIT and start-up that have arrived.
  var hasInitialize = false
  var startupVector: UInt8?
  /// HLT is to end, or the next one: a guest's call to its monitor, of which the chip itself knows nothing.
  var isKicked = false
  /// After INIT, and before the first one on all processors but the bootstrap one.
  var waitsForStartup: Bool

  private var spurious: UInt32 = 0xff
  private var logicalDestination: UInt32 = 0
  private var destinationFormat: UInt32 = .max
  private var commandLow: UInt32 = 0
  private var commandHigh: UInt32 = 0
  private var vectorTable = InlineArray<6, UInt32>(repeating: Self.masked)
  private var errorStatus: UInt32 = 0
  private var newErrors: UInt32 = 0

  private static let masked: UInt32 = 1 << 16
  private static let levelBit: UInt32 = 1 << 15
  /// Remote IRR, which is read only.
  private static let remoteRequest: UInt32 = 1 << 14
  private static let isEnabledBit: UInt64 = 1 << 11
  private static let isExtendedBit: UInt64 = 1 << 10
  /// Version 0x14: an integrated APIC; six entries in the table. No directed EOI.
  private static let version: UInt32 = 0x0005_0014

  private enum Problem {
    static let sentIllegalVector: UInt32 = 1 << 5, receivedIllegalVector: UInt32 = 1 << 6,
      illegalRegister: UInt32 = 1 << 7
  }

  init(index: Int) {
    self.index = UInt32(truncatingIfNeeded: index)
    base = 0xfee0_0800 | (index == 0 ? 0x100 : 0)
    identifier = UInt8(truncatingIfNeeded: index)
    waitsForStartup = index != 0
    if index == 0 { connectLegacyController() }
  }

  /// LINT0 as firmware leaves it on the bootstrap processor: the 8259s interrupt through it ("virtual wire mode").
  private mutating func connectLegacyController() { vectorTable[3] = DeliveryMode.external.rawValue << 8 }

  /// What INIT does: all but the identifier, the base and the time (Intel SDM vol. 3, 11.4.7.3).
  mutating func initialize() {
    var fresh = LocalAPIC(index: Int(index))
    fresh.base = base
    fresh.identifier = identifier
    fresh.timestampOffset = timestampOffset
    fresh.servesNonMaskable = servesNonMaskable
    fresh.waitsForStartup = base & 0x100 == 0
    if isExtended { fresh.logicalDestination = 0 }
    self = fresh
  }

  // MARK: State

  /// By MSR 0x1b.
  var isEnabled: Bool { base & Self.isEnabledBit != 0 }
  /// x2APIC: registers are MSRs.
  var isExtended: Bool { base & (Self.isEnabledBit | Self.isExtendedBit) == Self.isEnabledBit | Self.isExtendedBit }
  /// By the spurious vector register.
  var acceptsInterrupts: Bool { isEnabled && spurious & 0x100 != 0 }
  /// Whether the 8259s' output leads to the processor.
  var passesLegacyController: Bool {
    guard isEnabled else { return true }
    let entry = vectorTable[3]
    return entry & Self.masked == 0 && entry >> 8 & 7 == DeliveryMode.external.rawValue
  }

  /// No reserved bit is set: 40 bits of address, and the three flags.
  private static func isPossibleBase(_ value: UInt64) -> Bool { value & ~0x0000_00ff_ffff_fd00 == 0 }

  /// `false` for a value that is #GP.
  mutating func setBase(_ value: UInt64) -> Bool {
    guard Self.isPossibleBase(value) else { return false }
    let (old, new) = (base >> 10 & 3, value >> 10 & 3)
    // 0 disabled, 2 xAPIC, 3 x2APIC; 1 is none (Intel SDM vol. 3, 11.12.5).
    guard new != 1, !(old == 0 && new == 3), !(old == 3 && new == 2) else { return false }
    base = value
    if new == 0 {
      let offset = timestampOffset
      let waits = waitsForStartup
      let (nonMaskable, serves) = (nonMaskableCount, servesNonMaskable)
      let (initialize, startup) = (hasInitialize, startupVector)
      self = LocalAPIC(index: Int(index))
      (base, timestampOffset, waitsForStartup) = (value, offset, waits)
      (nonMaskableCount, servesNonMaskable) = (nonMaskable, serves)
      (hasInitialize, startupVector) = (initialize, startup)
      // Firmware connects the 8259s once; whoever enables the chip again finds all entries masked.
      vectorTable[3] = Self.masked
    }
    return true
  }

  // MARK: Interrupts

  var processorPriority: UInt8 {
    let serving = (inService.highest ?? 0) & 0xf0
    return taskPriority & 0xf0 >= serving ? taskPriority : serving
  }

  /// What interrupts the processor next, if interrupts are not masked there. What had arrived when software disabled the chip is still to
  /// be handled (Intel SDM vol. 3, 11.4.7.2).
  var deliverable: UInt8? {
    guard isEnabled, let vector = requests.highest, vector & 0xf0 > processorPriority & 0xf0 else {
      return nil
    }
    return vector
  }

  /// - Returns: whether it is now in IRR.
  @discardableResult
  mutating func accept(_ vector: UInt8, isLevel: Bool) -> Bool {
    guard vector >= 16 else {
      note(Problem.receivedIllegalVector)
      return false
    }
    guard acceptsInterrupts else { return false }
    requests.insert(vector)
    if isLevel { levelTriggered.insert(vector) } else { levelTriggered.remove(vector) }
    return true
  }

  /// An NMI waits.
  var hasNonMaskable: Bool { nonMaskableCount != 0 }

  /// A processor takes an NMI at the next instruction, and keeps one that comes while it serves that (AMD64 APM vol. 2, 8.2.3). Its thread may
  /// take longer to come to that instruction: so the first of two that come meanwhile counts as taken.
  mutating func acceptNonMaskable() {
    nonMaskableCount = min(nonMaskableCount + 1, servesNonMaskable ? 1 : 2)
  }

  /// The processor begins to serve one.
  mutating func takeNonMaskable() { nonMaskableCount -= min(nonMaskableCount, 1) }

  /// Whether the processor is in an NMI's handler: one waits then, however many have come.
  mutating func setServesNonMaskable(_ isServing: Bool) {
    servesNonMaskable = isServing
    if isServing { nonMaskableCount = min(nonMaskableCount, 1) }
  }

  /// The processor takes `deliverable`.
  mutating func acknowledge(_ vector: UInt8) {
    requests.remove(vector)
    inService.insert(vector)
  }

  /// - Returns: the vector whose end the I/O APIC must hear of.
  private mutating func endInterrupt() -> UInt8? {
    guard let vector = inService.highest else { return nil }
    inService.remove(vector)
    return levelTriggered.contains(vector) ? vector : nil
  }

  mutating func setTaskPriority(_ value: UInt8) { taskPriority = value }

  /// An entry of the local vector table has its event.
  mutating func deliverLocal(_ register: UInt16) {
    let entry = vectorTable[Self.entry(register)]
    guard isEnabled, entry & Self.masked == 0 else { return }
    let vector = UInt8(truncatingIfNeeded: entry)
    switch DeliveryMode(rawValue: entry >> 8 & 7) {
    case .fixed: accept(vector, isLevel: register == LocalRegister.linePin0 && entry & Self.levelBit != 0)
    case .nonMaskable: acceptNonMaskable()
    case .initialize: hasInitialize = true
    default: break
    }
  }

  /// LINT0 is a level, whose interrupt has been accepted and has not ended (Intel SDM vol. 3, 11.5.1: remote IRR).
  private var servesLinePin0: Bool {
    let entry = vectorTable[3], vector = UInt8(truncatingIfNeeded: entry)
    return entry & Self.levelBit != 0 && DeliveryMode(rawValue: entry >> 8 & 7) == .fixed
      && (requests.contains(vector) || inService.contains(vector))
  }

  /// LINT0 is a level that interrupts again for as long as it is asserted.
  var repeatsLinePin0: Bool {
    let entry = vectorTable[3]
    return isEnabled && entry & Self.masked == 0 && entry & Self.levelBit != 0
      && DeliveryMode(rawValue: entry >> 8 & 7) == .fixed && !servesLinePin0
  }

  private mutating func note(_ problem: UInt32) {
    let isNew = newErrors & problem == 0
    newErrors |= problem
    let entry = vectorTable[5]
    // Not through `deliverLocal`: an illegal vector there would come back here.
    if isNew, entry & Self.masked == 0, entry & 0xff >= 16, acceptsInterrupts {
      accept(UInt8(truncatingIfNeeded: entry), isLevel: false)
    }
  }

  // MARK: Destinations

  func isPhysicalDestination(_ destination: UInt32, isWide: Bool) -> Bool {
    if destination == (isWide ? .max : 0xff) { return true }
    return isExtended ? destination == index : destination == UInt32(identifier)
  }

  func isLogicalDestination(_ destination: UInt32, isWide: Bool) -> Bool {
    if isExtended {
      if destination == (isWide ? .max : 0xff) { return true }
      let own = extendedLogicalIdentifier
      return destination >> 16 == own >> 16 && destination & own & 0xffff != 0
    }
    let own = logicalDestination >> 24
    let destination = destination & 0xff
    if destination == 0xff { return true }
    // Flat, or clusters of four.
    if destinationFormat >> 28 == 0xf { return own & destination != 0 }
    return destinationFormat >> 28 == 0 && own >> 4 == destination >> 4 && own & destination & 0xf != 0
  }

  private var extendedLogicalIdentifier: UInt32 { (index >> 4) << 16 | 1 << (index & 15) }

  // MARK: Timer

  private var timerMode: LocalTimer.Mode { LocalTimer.Mode(rawValue: vectorTable[0] >> 17 & 3) ?? .oneShot }

  mutating func advanceTimer(_ time: borrowing ChipsetTime) {
    if timer.advance(timerMode, now: time.nanoseconds, timestamp: time.timestamp) {
      deliverLocal(LocalRegister.timer)
    }
  }

  /// In nanoseconds; `nil` if no interrupt comes of it.
  func nextTimerInterrupt(_ time: borrowing ChipsetTime) -> UInt64? {
    guard vectorTable[0] & Self.masked == 0, isEnabled else { return nil }
    return timer.nextExpiry(timerMode, time)
  }

  /// Whether converting the deadline needs the counter's frequency.
  var countsTimestamps: Bool { timerMode == .deadline && timer.deadline != 0 }

  /// MSR 0x6e0, which other modes read as zero.
  var deadline: UInt64 {
    get { timerMode == .deadline ? timer.deadline : 0 }
    set { if timerMode == .deadline { timer.setDeadline(newValue) } }
  }

  // MARK: Registers

  private static func entry(_ register: UInt16) -> Int { Int(register &- LocalRegister.timer) >> 4 }

  /// What the register holds; `nil` if there is none.
  func value(of register: UInt16, now: UInt64) -> UInt32? {
    switch register {
    case LocalRegister.identifier: return isExtended ? index : UInt32(identifier) << 24
    case LocalRegister.version: return Self.version
    case LocalRegister.taskPriority: return UInt32(taskPriority)
    case LocalRegister.arbitrationPriority: return isExtended ? nil : 0
    case LocalRegister.processorPriority: return UInt32(processorPriority)
    case LocalRegister.endOfInterrupt, LocalRegister.remoteRead: return isExtended ? nil : 0
    case LocalRegister.logicalDestination: return isExtended ? extendedLogicalIdentifier : logicalDestination
    case LocalRegister.destinationFormat: return isExtended ? nil : destinationFormat
    case LocalRegister.spurious: return spurious
    case LocalRegister.inService: return inService[word: Int(register >> 4 & 7)]
    case LocalRegister.triggerMode: return levelTriggered[word: Int(register >> 4 & 7)]
    case LocalRegister.request: return requests[word: Int(register >> 4 & 7)]
    case LocalRegister.errorStatus: return errorStatus
    case LocalRegister.command: return commandLow
    case LocalRegister.commandHigh: return commandHigh
    case LocalRegister.vectorTable:
      let isServed = register == LocalRegister.linePin0 && servesLinePin0
      return vectorTable[Self.entry(register)] | (isServed ? Self.remoteRequest : 0)
    case LocalRegister.initialCount: return timer.initialCount
    case LocalRegister.currentCount: return timerMode == .deadline ? 0 : timer.currentCount(now)
    case LocalRegister.divideConfiguration: return timer.divideConfiguration
    default: return nil
    }
  }

  /// What a write wants of the rest of the machine.
  enum Consequence {
    case none
    /// A level-triggered interrupt has ended.
    case ended(UInt8)
    /// An interrupt command.
    case send(low: UInt32, destination: UInt32)
    /// No such register, or a value that it can't have: #GP in x2APIC mode.
    case refused
  }

  /// - Parameter high: the upper half of what WRMSR writes.
  mutating func write(_ value: UInt32, high: UInt32 = 0, to register: UInt16, now: UInt64) -> Consequence {
    if isExtended, register != LocalRegister.command, high != 0 { return .refused }
    switch register {
    case LocalRegister.identifier where !isExtended: identifier = UInt8(truncatingIfNeeded: value >> 24)
    case LocalRegister.taskPriority:
      if isExtended, value > 0xff { return .refused }
      taskPriority = UInt8(truncatingIfNeeded: value)
    case LocalRegister.endOfInterrupt:
      if isExtended, value != 0 { return .refused }
      return endInterrupt().map { .ended($0) } ?? .none
    case LocalRegister.logicalDestination where !isExtended: logicalDestination = value & 0xff00_0000
    case LocalRegister.destinationFormat where !isExtended: destinationFormat = value | 0x0fff_ffff
    case LocalRegister.spurious:
      if isExtended, value & ~0x3ff != 0 { return .refused }
      spurious = value & 0x3ff
      if value & 0x100 == 0 { for entry in 0..<6 { vectorTable[entry] |= Self.masked } }
    case LocalRegister.errorStatus:
      if isExtended, value != 0 { return .refused }
      errorStatus = newErrors
      newErrors = 0
    case LocalRegister.command:
      if isExtended, value & 0xfff3_3000 != 0 { return .refused }
      commandLow = value & 0x000c_cfff
      if isExtended { commandHigh = high }
      return .send(low: commandLow, destination: isExtended ? high : commandHigh >> 24)
    case LocalRegister.commandHigh where !isExtended: commandHigh = value & 0xff00_0000
    case LocalRegister.vectorTable: return writeEntry(register, value)
    case LocalRegister.initialCount:
      if timerMode != .deadline { timer.setInitialCount(value, now: now) }
    case LocalRegister.divideConfiguration:
      if isExtended, value & ~0xb != 0 { return .refused }
      timer.setDivideConfiguration(value, now: now)
    case LocalRegister.selfInterrupt where isExtended:
      if value > 0xff { return .refused }
      return .send(low: 0x4_0000 | value, destination: index)
    case LocalRegister.identifier, LocalRegister.version, LocalRegister.processorPriority,
      LocalRegister.arbitrationPriority, LocalRegister.inService, LocalRegister.triggerMode, LocalRegister.request,
      LocalRegister.currentCount, LocalRegister.logicalDestination:
      if isExtended { return .refused }
    default:
      noteIllegalRegister()
      return .refused
    }
    return .none
  }

  /// Of the vector table's entries. Timer: vector, mask, mode. Pins: delivery, polarity, trigger too. Error: no delivery
  /// mode.
  private static func writableBits(_ number: Int) -> UInt32 {
    switch number {
    case 0: 0x7_00ff
    case 3, 4: 0x1_a7ff
    case 5: 0x1_00ff
    default: 0x1_07ff
    }
  }

  private mutating func writeEntry(_ register: UInt16, _ value: UInt32) -> Consequence {
    let number = Self.entry(register)
    let writable = Self.writableBits(number)
    if isExtended, value & ~(writable | 0x5000) != 0 { return .refused }
    var value = value & writable
    // Disabled by software: masked whatever is written.
    if spurious & 0x100 == 0 { value |= Self.masked }
    let wasDeadline = timerMode == .deadline
    vectorTable[number] = value
    if number == 0, wasDeadline != (timerMode == .deadline) { timer.disarm() }
    return .none
  }

  /// A register was accessed that there is not. In x2APIC mode the #GP says it (Intel SDM vol. 3, 11.5.3).
  mutating func noteIllegalRegister() {
    if !isExtended { note(Problem.illegalRegister) }
  }

  /// Of registers that say which messages it accepts.
  static func decidesAcceptance(_ register: UInt16) -> Bool {
    switch register {
    case LocalRegister.spurious, LocalRegister.identifier, LocalRegister.logicalDestination,
      LocalRegister.destinationFormat:
      true
    default: false
    }
  }

  /// An interrupt command had a vector below 16.
  mutating func noteIllegalVectorSent() { note(Problem.sentIllegalVector) }
}

// MARK: Saved form

extension LocalAPIC {
  /// What the guest's time stamp counter is ahead of the host's is the processor's, and so is whether it serves an NMI.
  struct Saved: Codable, Sendable, Equatable {
    var base: UInt64
    var identifier: UInt8
    var taskPriority: UInt8
    var requests: [UInt32]
    var inService: [UInt32]
    var levelTriggered: [UInt32]
    var timer: LocalTimer.Saved
    var hasNonMaskable: Bool
    /// And another one.
    var hasSecondNonMaskable: Bool?
    var hasInitialize: Bool
    var startupVector: UInt8?
    var waitsForStartup: Bool
    var spurious: UInt32
    var logicalDestination: UInt32
    var destinationFormat: UInt32
    var commandLow: UInt32
    var commandHigh: UInt32
    var vectorTable: [UInt32]
    var errorStatus: UInt32
    var newErrors: UInt32
    /// Missing in what was saved of a single processor.
    var isKicked: Bool?
  }

  func save(now: UInt64) -> Saved {
    Saved(
      base: base, identifier: identifier, taskPriority: taskPriority, requests: requests.list,
      inService: inService.list, levelTriggered: levelTriggered.list, timer: timer.save(now: now),
      hasNonMaskable: hasNonMaskable, hasSecondNonMaskable: nonMaskableCount > 1 ? true : nil,
      hasInitialize: hasInitialize, startupVector: startupVector,
      waitsForStartup: waitsForStartup, spurious: spurious, logicalDestination: logicalDestination,
      destinationFormat: destinationFormat, commandLow: commandLow, commandHigh: commandHigh,
      vectorTable: vectorTable.list, errorStatus: errorStatus, newErrors: newErrors,
      isKicked: isKicked ? true : nil)
  }

  /// The state of `self`'s processor, which has its counter, and serves an NMI or not, as before.
  func restored(_ saved: Saved, now: UInt64) throws(RestoreFailure) -> LocalAPIC {
    let subject = "local APIC \(index)"
    try Self.check(saved, subject)
    var local = LocalAPIC(index: Int(index))
    local.timestampOffset = timestampOffset
    local.servesNonMaskable = servesNonMaskable
    local.takeRegisters(saved)
    local.takeSignals(saved)
    try local.takeVectors(saved, subject)
    local.timer = try LocalTimer(saved.timer, now: now)
    return local
  }

  private static func check(_ saved: Saved, _ subject: String) throws(RestoreFailure) {
    try restoring(
      subject, requires: isPossibleBase(saved.base) && saved.base >> 10 & 3 != 1,
      "its base is \(hexadecimal(saved.base))")
    try restoring(
      subject,
      requires: saved.spurious & ~0x3ff == 0 && saved.logicalDestination & ~0xff00_0000 == 0
        && saved.destinationFormat | 0x0fff_ffff == saved.destinationFormat && saved.commandLow & ~0x000c_cfff == 0
        && (saved.errorStatus | saved.newErrors) & ~0xff == 0, "its registers have bits that they don't keep")
  }

  private mutating func takeRegisters(_ saved: Saved) {
    base = saved.base
    identifier = saved.identifier
    taskPriority = saved.taskPriority
    spurious = saved.spurious
    logicalDestination = saved.logicalDestination
    destinationFormat = saved.destinationFormat
    commandLow = saved.commandLow
    commandHigh = saved.commandHigh
    errorStatus = saved.errorStatus
    newErrors = saved.newErrors
  }

  private mutating func takeSignals(_ saved: Saved) {
    nonMaskableCount = saved.hasNonMaskable ? saved.hasSecondNonMaskable ?? false ? 2 : 1 : 0
    hasInitialize = saved.hasInitialize
    startupVector = saved.startupVector
    isKicked = saved.isKicked ?? false
    waitsForStartup = saved.waitsForStartup
  }

  private mutating func takeVectors(_ saved: Saved, _ subject: String) throws(RestoreFailure) {
    requests = try VectorSet(saved.requests, of: "IRR", subject)
    inService = try VectorSet(saved.inService, of: "ISR", subject)
    levelTriggered = try VectorSet(saved.levelTriggered, of: "TMR", subject)
    vectorTable = try fixedStorage(saved.vectorTable, of: "its vector table", subject)
    for number in 0..<6 {
      let entry = vectorTable[number]
      try restoring(
        subject, requires: entry & ~Self.writableBits(number) == 0,
        "entry \(number) of its vector table is \(hexadecimal(UInt64(entry)))")
    }
  }
}
