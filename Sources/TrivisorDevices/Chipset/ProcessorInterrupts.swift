import TrivisorVMM

/// The chips as one processor meets them: what a technique calls from the processor's thread.
///
/// Between instructions the technique looks at `pending`, which costs one load. If there is something that the processor
/// may take now, `takeEvent` gives it. A processor that waits (HLT) sleeps until `pending` has something for it, which the
/// callback of `connect` announces, or until `deadline`; then, as always when the deadline has passed, it calls `advance`.
public struct ProcessorInterrupts: Sendable {
  /// What waits for the processor.
  public struct Pending: OptionSet, Sendable {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public let rawValue: UInt32
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// An interrupt that is above the task priority, and everything that RFLAGS.IF masks.
    public static let interrupt = Pending(rawValue: 1)
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let nonMaskable = Pending(rawValue: 2)
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let initialize = Pending(rawValue: 4)
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let startup = Pending(rawValue: 8)
    /// `deadline` is earlier than it was: `acceptDeadline`.
    public static let deadline = Pending(rawValue: 16)
    /// Somebody has asked for the end of its HLT, or its next one: `takeKick`.
    public static let kick = Pending(rawValue: 32)
  }

  /// What the processor does next.
  public enum Event: Sendable, Equatable {
    /// Goes through the IDT: the interrupt has been acknowledged.
    case interrupt(vector: UInt8)
    /// Vector 2; the processor masks further ones until IRET.
    case nonMaskable
    /// Takes the state after INIT; its local APIC has. All but the bootstrap processor then wait for `startup`.
    case initialize
    /// Begins in real mode at CS base `vector` × 4096.
    case startup(vector: UInt8)
  }

  private let chipset: Chipset
  private let signals: ProcessorSignals
  private let index: Int

  init(chipset: Chipset, signals: ProcessorSignals, index: Int) {
    self.chipset = chipset
    self.signals = signals
    self.index = index
  }

  /// What waits, whether or not the processor may take it now.
  public var pending: Pending { signals.pending }

  /// When `advance` must be called, on the clock's nanoseconds; all ones is never.
  public var deadline: UInt64 { signals.deadline }

  /// The processor's thread has taken note of `deadline`.
  public func acceptDeadline() { signals.acceptDeadline() }

  /// From now on `wake` is called, on any thread and with the chips' lock held, when a bit appears in `pending`.
  public func connect(_ wake: (@Sendable () -> Void)?) { signals.connect(wake) }

  /// Takes note of `deadline`, and calls `advance` if it has come.
  public func letTimePass() {
    acceptDeadline()
    if chipset.clock.nanoseconds >= deadline { advance() }
  }

  /// Lets time pass: timers that have run out interrupt.
  public func advance() { chipset.withState { chipset.advance(&$0, index) } }

  /// The next event, which is thereby taken.
  /// - Parameters:
  ///   - acceptsInterrupts: RFLAGS.IF is set and no instruction before holds interrupts off.
  ///   - acceptsNonMaskable: no NMI's handler runs.
  public func takeEvent(acceptsInterrupts: Bool, acceptsNonMaskable: Bool) -> Event? {
    chipset.withState { state in
      if state.locals[index].hasInitialize {
        let startup = state.locals[index].startupVector
        state.locals[index].initialize()
        state.locals[index].startupVector = startup
        return .initialize
      }
      if state.locals[index].waitsForStartup {
        guard let vector = state.locals[index].startupVector else { return nil }
        state.locals[index].startupVector = nil
        state.locals[index].waitsForStartup = false
        return .startup(vector: vector)
      }
      if acceptsNonMaskable, state.locals[index].hasNonMaskable {
        state.locals[index].takeNonMaskable()
        return .nonMaskable
      }
      guard acceptsInterrupts else { return nil }
      if state.legacy.isInterrupting, state.locals[index].passesLegacyController {
        return .interrupt(vector: state.legacy.acknowledge())
      }
      guard let vector = state.locals[index].deliverable else { return nil }
      state.locals[index].acknowledge(vector)
      return .interrupt(vector: vector)
    }
  }

  /// Whether HLT is to end though nothing interrupts, which is thereby answered.
  public func takeKick() -> Bool {
    guard pending.contains(.kick) else { return false }
    return chipset.withState { state in
      defer { state.locals[index].isKicked = false }
      return state.locals[index].isKicked
    }
  }

  // MARK: Registers

  /// MSR 0x1b.
  public var base: UInt64 { chipset.withState { $0.locals[index].base } }

  /// `false`: #GP.
  public func setBase(_ value: UInt64) -> Bool {
    chipset.withState { state in
      guard state.locals[index].setBase(value) else { return false }
      Chipset.repeatInputs(&state)
      return true
    }
  }

  /// Whether the processor is in an NMI's handler: to be told whenever it changes.
  public func setServesNonMaskable(_ isServing: Bool) {
    chipset.withState { $0.locals[index].setServesNonMaskable(isServing) }
  }

  /// Gives MSR 0x1b a value whatever it was, step by step, because the APIC's mode can't change at once to any other.
  public func restoreBase(_ value: UInt64) {
    guard base != value else { return }
    let address = value & ~0xc00
    _ = setBase(address)
    if value & 0x800 != 0 { _ = setBase(address | 0x800) }
    if value & 0xc00 == 0xc00 { _ = setBase(value) }
  }

  /// Where the register page is, if it is to be seen.
  public var page: UInt64? {
    chipset.withState { state in
      let local = state.locals[index]
      return local.isEnabled && !local.isExtended ? local.base & ~4095 : nil
    }
  }

  /// Whether MSR 0x1b says that there is an APIC, as CPUID does.
  public var isEnabled: Bool { chipset.withState { $0.locals[index].isEnabled } }

  /// CR8.
  public var taskPriority: UInt8 {
    get { chipset.withState { $0.locals[index].taskPriority >> 4 } }
    nonmutating set { chipset.withState { $0.locals[index].setTaskPriority((newValue & 15) << 4) } }
  }

  /// Gives CR8 a value. Where it has that value already the lower half of the APIC's register, which CR8 doesn't show,
  /// stays.
  public func restoreTaskPriority(_ value: UInt8) {
    if taskPriority != value & 15 { taskPriority = value & 15 }
  }

  /// What the guest's time stamp counter is ahead of the clock's: set whenever it changes.
  public func setTimestampOffset(_ offset: UInt64) {
    chipset.withState { $0.locals[index].timestampOffset = offset }
  }

  /// A load from the register page: doublewords at multiples of 16, parts of them too; anything else reads as zero.
  public func readPage(_ offset: UInt64, width: AccessWidth) -> UInt64 {
    let part = offset & 15
    guard part &+ UInt64(width.rawValue) <= 4 else { return 0 }
    let register = UInt16(truncatingIfNeeded: offset & 0xff0)
    let value: UInt32 = chipset.withState { state in
      chipset.advance(&state, index)
      guard let value = state.locals[index].value(of: register, now: chipset.clock.nanoseconds) else {
        state.locals[index].noteIllegalRegister()
        return 0
      }
      return value
    }
    return UInt64(value) >> (8 * part) & width.allOnes
  }

  /// A store to the register page: only doublewords at multiples of 16 do anything.
  public func writePage(_ value: UInt64, _ offset: UInt64, width: AccessWidth) {
    guard width == .doubleword, offset & 15 == 0 else { return }
    _ = write(UInt32(truncatingIfNeeded: value), high: 0, to: UInt16(truncatingIfNeeded: offset & 0xff0))
  }

  /// RDMSR of 0x800 to 0x8ff and 0x6e0; `nil`: #GP.
  public func readModelSpecific(_ number: UInt32) -> UInt64? {
    chipset.withState { state in
      chipset.advance(&state, index)
      if number == 0x6e0 { return state.locals[index].deadline }
      guard 0x800...0x8ff ~= number, state.locals[index].isExtended else { return nil }
      let register = UInt16(truncatingIfNeeded: number & 0xff) << 4
      guard register != LocalRegister.commandHigh else { return nil }
      guard let value = state.locals[index].value(of: register, now: chipset.clock.nanoseconds) else { return nil }
      guard register == LocalRegister.command else { return UInt64(value) }
      let high = state.locals[index].value(of: LocalRegister.commandHigh, now: 0) ?? 0
      return UInt64(value) | UInt64(high) << 32
    }
  }

  /// WRMSR of 0x800 to 0x8ff and 0x6e0; `false`: #GP.
  public func writeModelSpecific(_ number: UInt32, _ value: UInt64) -> Bool {
    if number == 0x6e0 {
      chipset.withState { state in
        state.locals[index].deadline = value
        chipset.advance(&state, index)
      }
      return true
    }
    guard 0x800...0x8ff ~= number else { return false }
    let register = UInt16(truncatingIfNeeded: number & 0xff) << 4
    return write(
      UInt32(truncatingIfNeeded: value), high: UInt32(truncatingIfNeeded: value >> 32), to: register,
      onlyIfExtended: true)
  }

  private func write(_ value: UInt32, high: UInt32, to register: UInt16, onlyIfExtended: Bool = false) -> Bool {
    chipset.withState { state in
      if onlyIfExtended, !state.locals[index].isExtended || register == LocalRegister.commandHigh { return false }
      chipset.advance(&state, index)
      switch state.locals[index].write(value, high: high, to: register, now: chipset.clock.nanoseconds) {
      case .none: break
      case .refused: return false
      case .ended(let vector): Chipset.end(&state, vector)
      case .send(let low, let destination): send(&state, low, destination)
      }
      if LocalAPIC.decidesAcceptance(register) { Chipset.repeatInputs(&state) }
      return true
    }
  }

  /// Sends one interrupt to each processor of a set, as a monitor's call does it for a guest.
  /// - Parameters:
  ///   - command: vector and delivery mode, as in the interrupt command register; without a destination.
  ///   - set: bit n is the processor with the APIC ID `first` + n.
  /// - Returns: how many of the processors there are, or `nil` for a command that has a destination or another delivery mode than fixed
  ///   and NMI.
  public func send(_ command: UInt32, to set: [UInt64], first: UInt32) -> Int? {
    guard command & 0xc_0800 == 0, let mode = DeliveryMode(rawValue: command >> 8 & 7) else { return nil }
    guard mode == .fixed || mode == .nonMaskable else { return nil }
    return chipset.withState { state in
      var count = 0
      for (position, word) in set.enumerated() {
        for bit in 0..<64 where word >> UInt64(bit) & 1 != 0 {
          let (identifier, isTooLarge) = first.addingReportingOverflow(UInt32(64 * position + bit))
          guard !isTooLarge, Int(identifier) < state.locals.count else { continue }
          count += 1
          Chipset.route(
            &state,
            IOAPIC.Message(
              vector: UInt8(truncatingIfNeeded: command), mode: mode, isLogical: false, destination: identifier,
              isWide: true, isLevel: false))
        }
      }
      return count
    }
  }

  /// Carries out an interrupt command (Intel SDM vol. 3, 11.6.1).
  private func send(_ state: inout Chipset.State, _ low: UInt32, _ destination: UInt32) {
    guard let mode = DeliveryMode(rawValue: low >> 8 & 7), mode != .external else { return }
    // INIT with the level de-asserted only synchronized the arbitration of old APICs.
    if mode == .initialize, low & 0xc000 == 0x8000 { return }
    if mode == .fixed || mode == .lowestPriority, low & 0xff < 16 {
      state.locals[index].noteIllegalVectorSent()
    }
    var message = IOAPIC.Message(
      vector: UInt8(truncatingIfNeeded: low), mode: mode, isLogical: low & 1 << 11 != 0, destination: destination,
      isWide: state.locals[index].isExtended, isLevel: false)
    switch low >> 18 & 3 {
    case 0: Chipset.route(&state, message)
    case 1:
      if mode == .fixed { state.locals[index].accept(message.vector, isLevel: false) }
    case 2:
      message = IOAPIC.Message(
        vector: message.vector, mode: mode, isLogical: false, destination: .max, isWide: true, isLevel: false)
      Chipset.route(&state, message)
    default:
      message.mode = mode == .lowestPriority ? .fixed : mode
      Chipset.routeToOthers(&state, message, than: index)
    }
  }
}
