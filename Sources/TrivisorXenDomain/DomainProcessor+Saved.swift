// A domain's processor to and from a value.

import TrivisorVMM
import TrivisorX86

extension DomainProcessor {
  /// What it has beside `vcpu_info`, which is the domain's memory, and the registers that are the executor's.
  struct Saved: Codable, Sendable, Equatable {
    /// `Rest`, with points in time as distances.
    enum Rest: Codable, Sendable, Equatable {
      case none, blocked
      case polling(ports: [UInt32], remaining: Int64?)
    }

    /// Where `vcpu_info` is, once the domain has said that.
    struct Place: Codable, Sendable, Equatable {
      var frame: UInt64
      var offset: Int
    }

    var registers: DomainRegisters
    var start: DomainRegisters?
    var info: Place?
    var isInitialised, isUp: Bool
    var mode: Mode
    var userCode, userStack: UInt64
    var kernelRoot, userRoot: UInt64
    var kernelRootIsCounted: Bool
    var kernelStack: UInt64
    var traps: [TrapEntry]
    var eventCallback, failsafeCallback, systemCallCallback, systemEntryCallback, systemCall32Callback: Callback
    var hasPendingInterrupt, isInInterrupt: Bool
    var ioBitmapAddress: UInt64
    var ioBitmapCount: UInt32
    var timeArea: UInt64
    var ioPrivilege: UInt8
    var isTaskSwitched: Bool
    var faultAddress, control4: UInt64
    var debugRegisters: [UInt64]
    var otherGSBase: UInt64
    var descriptorFrames: [UInt64]
    var descriptorCount: UInt64
    var localDescriptors, localDescriptorCount: UInt64
    /// Nanoseconds until VIRQ_TIMER is due; negative if nobody has noticed it yet.
    var timer: Int64?
    var timerPeriod: UInt64
    var virtualInterruptPorts: [UInt32]
    var rest: Rest
    var runstate: RunState.Saved

    /// Counts what it refers to.
    func getReferences(_ tables: inout PageTables) throws(XenError) {
      if kernelRootIsCounted { try tables.getRoot(kernelRoot) }
      if userRoot != 0 { try tables.getRoot(userRoot) }
      for frame in descriptorFrames { try tables.getDescriptors(frame) }
      if let info { try tables.getWritable(info.frame) }
    }
  }

  /// With the domain's lock held, while no guest code runs.
  func save(at now: UInt64) -> Saved {
    let rest: Saved.Rest =
      switch rest {
      case .none: .none
      case .blocked: .blocked
      case .polling(let ports, let deadline):
        .polling(ports: ports, remaining: SavedTime.distance(to: deadline, from: now))
      }
    return Saved(
      registers: registers, start: start, info: hasOwnInfo ? infoPlace : nil, isInitialised: isInitialised, isUp: isUp,
      mode: mode, userCode: userSelectors.code, userStack: userSelectors.stack, kernelRoot: kernelRoot,
      userRoot: userRoot, kernelRootIsCounted: kernelRootIsCounted, kernelStack: kernelStack, traps: traps,
      eventCallback: eventCallback, failsafeCallback: failsafeCallback, systemCallCallback: systemCallCallback,
      systemEntryCallback: systemEntryCallback, systemCall32Callback: systemCall32Callback,
      hasPendingInterrupt: hasPendingInterrupt, isInInterrupt: isInInterrupt, ioBitmapAddress: ioBitmap.address,
      ioBitmapCount: ioBitmap.count, timeArea: timeArea, ioPrivilege: ioPrivilege, isTaskSwitched: isTaskSwitched,
      faultAddress: faultAddress, control4: control4, debugRegisters: debugRegisters.saved, otherGSBase: otherGSBase,
      descriptorFrames: descriptorFrames, descriptorCount: descriptorCount, localDescriptors: localDescriptors,
      localDescriptorCount: localDescriptorCount, timer: SavedTime.distance(to: timer, from: now),
      timerPeriod: timerPeriod, virtualInterruptPorts: virtualInterruptPorts, rest: rest,
      runstate: runstate.save(at: now))
  }

  private var hasOwnInfo: Bool { info != domain.sharedInfo + 64 * number }

  private var infoPlace: Saved.Place {
    let frame = domain.memory.frames.frame(of: info)
    let offset = domain.memory.frames.bytes(frame).map { info - $0 } ?? 0
    return Saved.Place(frame: frame, offset: offset)
  }

  /// Of a new domain's processor. Its references to page tables and other frames are counted by the domain.
  func restore(_ saved: Saved, at now: UInt64) throws(RestoreFailure) {
    try checkRegisters(saved)
    try checkSettings(saved)
    if let place = saved.info {
      guard let page = domain.memory.frames.bytes(place.frame) else {
        throw RestoreFailure(Domain.savedSubject, "vcpu_info is at \(hexadecimal(place.frame)), which is no frame")
      }
      info = page + place.offset
    }
    (registers, start) = (saved.registers, saved.start)
    (isInitialised, isUp, mode) = (saved.isInitialised, saved.isUp, saved.mode)
    userSelectors = (saved.userCode, saved.userStack)
    (kernelRoot, userRoot, kernelRootIsCounted) = (saved.kernelRoot, saved.userRoot, saved.kernelRootIsCounted)
    (kernelStack, traps) = (saved.kernelStack, saved.traps)
    (eventCallback, failsafeCallback) = (saved.eventCallback, saved.failsafeCallback)
    (systemCallCallback, systemEntryCallback) = (saved.systemCallCallback, saved.systemEntryCallback)
    systemCall32Callback = saved.systemCall32Callback
    (hasPendingInterrupt, isInInterrupt) = (saved.hasPendingInterrupt, saved.isInInterrupt)
    ioBitmap = (saved.ioBitmapAddress, saved.ioBitmapCount)
    timeArea = saved.timeArea
    (ioPrivilege, isTaskSwitched) = (saved.ioPrivilege, saved.isTaskSwitched)
    (faultAddress, control4) = (saved.faultAddress, saved.control4)
    debugRegisters = DebugRegisters(saved: saved.debugRegisters) ?? debugRegisters
    otherGSBase = saved.otherGSBase
    (descriptorFrames, descriptorCount) = (saved.descriptorFrames, saved.descriptorCount)
    (localDescriptors, localDescriptorCount) = (saved.localDescriptors, saved.localDescriptorCount)
    (timer, timerPeriod) = (SavedTime.time(saved.timer, from: now), saved.timerPeriod)
    virtualInterruptPorts = saved.virtualInterruptPorts
    switch saved.rest {
    case .none: rest = .none
    case .blocked: rest = .blocked
    case .polling(let ports, let remaining):
      rest = .polling(ports: ports, deadline: SavedTime.time(remaining, from: now))
    }
    runstate = try RunState(saved.runstate, at: now)
  }

  private func require(_ condition: Bool, _ reason: @autoclosure () -> String) throws(RestoreFailure) {
    try restoring(Domain.savedSubject, requires: condition, "processor \(number): \(reason())")
  }

  private func checkRegisters(_ saved: Saved) throws(RestoreFailure) {
    for registers in [saved.registers, saved.start ?? saved.registers] {
      try require(
        !saved.isInitialised || registers.segments.areGuests(of: layout),
        "a segment register holds what guest code can't have loaded")
      try require(
        LinearAddress.isCanonical(registers.fsBase) && LinearAddress.isCanonical(registers.gsBase)
          && registers.rflags & (Flags.ioPrivilege | Flags.virtual8086) == 0
          && registers.rflags & Flags.interrupt != 0,
        "its registers are not such as guest code can have")
    }
    try require(
      LinearAddress.isCanonical(saved.otherGSBase) && DebugRegisters(saved: saved.debugRegisters) != nil
        && (saved.control4 ^ control4) & ~InstructionEmulation.changeableControl4 == 0 && saved.ioPrivilege <= 3
        && saved.ioBitmapCount <= 65536,
      "its control or debug registers are not such as it can have")
    try require(
      saved.isInitialised || !saved.isUp, "it runs, and nobody has initialised it")
    // A root that no reference keeps may be anything by now; it is looked at with each use.
    try require(
      !saved.isInitialised || domain.memory.frames.index(saved.kernelRoot) != nil, "its kernel has no page tables")
    try require(
      sharesRoot || saved.mode == .kernel || saved.userRoot != 0, "its user code has no page tables")
  }

  private func checkSettings(_ saved: Saved) throws(RestoreFailure) {
    if let place = saved.info {
      try require(
        (0...4096 - 64).contains(place.offset) && place.offset % Int(layout.wordSize) == 0,
        "vcpu_info is at \(place.offset) of a page")
    }
    let callbacks = [
      saved.eventCallback, saved.failsafeCallback, saved.systemCallCallback, saved.systemEntryCallback,
      saved.systemCall32Callback,
    ]
    try require(
      saved.traps.count == traps.count && saved.traps.allSatisfy { LinearAddress.isCanonical($0.address) },
      "its trap table is none")
    try require(
      layout == .bits64 || callbacks.allSatisfy { $0.address >> 32 == 0 }, "a callback is beyond what it can reach")
    try require(
      saved.descriptorCount <= DomainDescriptor.firstReserved
        && saved.descriptorFrames.count == Int((saved.descriptorCount + 511) / 512)
        && saved.localDescriptorCount <= 8192 && saved.localDescriptors & 4095 == 0
        && LinearAddress.isCanonical(saved.localDescriptors), "its descriptor tables are too large")
    try require(
      saved.virtualInterruptPorts.count == Self.virtualInterruptCount
        && saved.virtualInterruptPorts.allSatisfy { $0 < UInt32(EventChannels.limit) },
      "a virtual interrupt leads to no port")
    try require(saved.timerPeriod <= 1 << 61, "its timer has the period \(saved.timerPeriod)")
    if case .polling(let ports, _) = saved.rest {
      try require(ports.count <= EventCalls.pollLimit, "it polls \(ports.count) ports")
    }
  }
}

extension SegmentRegisters {
  /// Whether they are such as guest code can have loaded, or as nobody has loaded yet.
  fileprivate func areGuests(of layout: SharedLayout) -> Bool {
    func isGuests(_ segment: Segment) -> Bool {
      let rights = SegmentAttributes(rawValue: segment.attributes)
      return segment.isUnusable
        || rights.isSuperset(of: [.present, .codeOrData]) && rights.privilege >= (layout == .bits64 ? 3 : 1)
          && rights.isDisjoint(with: .reserved)
    }
    let (code, stack) = (SegmentAttributes(rawValue: cs.attributes), SegmentAttributes(rawValue: ss.attributes))
    return [cs, ss, ds, es, fs, gs].allSatisfy(isGuests) && [cs, ss, ds, es].allSatisfy { $0.base >> 32 == 0 }
      && !cs.isUnusable && code.isCode && !code.contains([.long, .big]) && (layout == .bits64 || !code.contains(.long))
      && !ss.isUnusable && stack.isWritable
  }
}
