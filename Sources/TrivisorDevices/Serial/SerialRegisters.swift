// The 16550A's registers as a value: everything that has a rule and no effect outside. `SerialPort16550` adds the lock,
// the sink and the interrupt line.
//
// Source: National Semiconductor, PC16550D data sheet, section 8 ("Registers"); interrupt priorities: its table IV.

import TrivisorVMM

/// Bits of the line status register.
enum LineStatus {
  static let dataReady: UInt8 = 0x01
  static let overrun: UInt8 = 0x02
  static let holdingRegisterEmpty: UInt8 = 0x20
  static let transmitterEmpty: UInt8 = 0x40
}

/// Bits of the interrupt enable register.
enum SerialInterruptEnable {
  static let received: UInt8 = 0x01
  static let holdingRegisterEmpty: UInt8 = 0x02
  static let lineStatus: UInt8 = 0x04
  static let modemStatus: UInt8 = 0x08
}

/// What the interrupt identification register names, in falling priority.
enum SerialInterrupt: UInt8 {
  case lineStatus = 0x06
  case dataAvailable = 0x04
  case characterTimeout = 0x0c
  case holdingRegisterEmpty = 0x02
  case modemStatus = 0x00
  case none = 0x01
}

struct SerialRegisters: Sendable {
  var interruptEnable: UInt8 = 0
  private(set) var isFIFOEnabled = false
  private var trigger = 1
  var lineControl: UInt8 = 0
  private(set) var modemControl: UInt8 = 0
  /// Overrun is the only line error that a wire without noise has.
  private var lineErrors: UInt8 = 0
  /// DCTS, DDSR, TERI and DDCD: what changed since the modem status was last read.
  private var modemChanges: UInt8 = 0
  var scratch: UInt8 = 0
  /// Has no effect: bytes leave as fast as the host takes them.
  var divisor: UInt16 = 1
  private var receiver = ReceiveFIFO()
  /// What a FIFO reset took from the guest before it could read it.
  private var undelivered = ReceiveFIFO()
  /// Bytes handed to the sink that it has not yet taken. The transmitter is empty when there are none.
  private var transmissions = 0
  /// Set when the transmitter runs empty, cleared when IIR has told so or a byte is written.
  private var emptyIsUntold = false

  var divisorLatchAccess: Bool { lineControl & 0x80 != 0 }
  var isLoopedBack: Bool { modemControl & 0x10 != 0 }
  /// OUT2 connects the interrupt to the bus on a PC. Loop-back leaves the gate as it is, so that a self-test sees its
  /// interrupts.
  var isInterruptConnected: Bool { modemControl & 0x08 != 0 }
  /// Bytes that the guest has not read.
  var unreadCount: Int { receiver.count + undelivered.count }

  // MARK: Interrupts

  var interrupt: SerialInterrupt {
    if interruptEnable & SerialInterruptEnable.lineStatus != 0, lineErrors != 0 { return .lineStatus }
    if interruptEnable & SerialInterruptEnable.received != 0, receiver.count > 0 {
      // The time-out (four characters' time without a new one) is taken to be over at once: the host's bytes come in
      // bursts, so what is there is all there is for now.
      return !isFIFOEnabled || receiver.count >= trigger ? .dataAvailable : .characterTimeout
    }
    if interruptEnable & SerialInterruptEnable.holdingRegisterEmpty != 0, emptyIsUntold, transmissions == 0 {
      return .holdingRegisterEmpty
    }
    if interruptEnable & SerialInterruptEnable.modemStatus != 0, modemChanges != 0 { return .modemStatus }
    return .none
  }

  /// IIR. Having read that the holding register is empty takes that interrupt back.
  mutating func readInterruptIdentification() -> UInt8 {
    let interrupt = interrupt
    if interrupt == .holdingRegisterEmpty { emptyIsUntold = false }
    return interrupt.rawValue | (isFIFOEnabled ? 0xc0 : 0)
  }

  /// IER. Enabling the "holding register empty" interrupt while it is empty raises it, even if IIR had told before:
  /// drivers (Linux, Windows) test for this.
  mutating func writeInterruptEnable(_ value: UInt8) {
    let enabled = value & ~interruptEnable
    interruptEnable = value & 0x0f
    if enabled & SerialInterruptEnable.holdingRegisterEmpty != 0, transmissions == 0 { emptyIsUntold = true }
  }

  /// FCR. Switching the FIFOs on or off empties both. What had come from the wire comes again (`deliverAgain`).
  /// - Returns: whether the receiver was emptied.
  mutating func writeFIFOControl(_ value: UInt8) -> Bool {
    let enable = value & 0x01 != 0
    let wasEnabled = isFIFOEnabled
    isFIFOEnabled = enable
    let clearsReceiver = enable != wasEnabled || enable && value & 0x02 != 0
    if clearsReceiver {
      if !isLoopedBack {
        while let byte = undelivered.removeFirst() { receiver.append(byte) }
        undelivered = receiver
      }
      receiver.removeAll()
    }
    if enable {
      trigger =
        switch value >> 6 {
        case 0: 1
        case 1: 4
        case 2: 8
        default: 14
        }
      if value & 0x04 != 0 { emptyIsUntold = true }
    }
    return clearsReceiver
  }

  // MARK: Line and modem

  /// LSR. Reading clears the errors.
  mutating func readLineStatus() -> UInt8 {
    var status = lineErrors
    if receiver.count > 0 { status |= LineStatus.dataReady }
    if transmissions == 0 { status |= LineStatus.holdingRegisterEmpty | LineStatus.transmitterEmpty }
    lineErrors = 0
    return status
  }

  /// What the modem's lines say: the host is always there (DCD, DSR, CTS), or, looped back, our own outputs.
  private var modemLines: UInt8 {
    guard isLoopedBack else { return 0xb0 }
    // RTS → CTS, DTR → DSR, OUT1 → RI, OUT2 → DCD.
    return (modemControl & 0x02) << 3 | (modemControl & 0x01) << 5 | (modemControl & 0x04) << 4
      | (modemControl & 0x08) << 4
  }

  /// MSR. Reading clears the changes.
  mutating func readModemStatus() -> UInt8 {
    let status = modemLines | modemChanges
    modemChanges = 0
    return status
  }

  /// MCR.
  mutating func writeModemControl(_ value: UInt8) {
    let before = modemLines
    modemControl = value & 0x1f
    let changed = before ^ modemLines
    // RI counts only its trailing edge.
    modemChanges |= changed >> 4 & 0x0b | (changed & before) >> 4 & 0x04
  }

  // MARK: Data

  /// A byte from the wire or the loop.
  mutating func receive(_ byte: UInt8) {
    let capacity = isFIFOEnabled ? ReceiveFIFO.capacity : 1
    if receiver.count >= capacity {
      lineErrors |= LineStatus.overrun
      // With FIFOs the newcomer is lost; without, it overwrites what nobody took.
      if isFIFOEnabled { return }
      receiver.removeAll()
    }
    receiver.append(byte)
  }

  private var freeCount: Int { max(0, (isFIFOEnabled ? ReceiveFIFO.capacity : 1) - receiver.count) }

  /// How many bytes fit without an overrun: none as long as earlier ones are to be delivered again.
  var room: Int { undelivered.count > 0 ? 0 : freeCount }

  /// Delivers what a FIFO reset had taken, as if it came only now: a driver resets the FIFOs after it has begun to
  /// listen, and a wire that can wait need not lose a byte to that.
  mutating func deliverAgain() {
    while freeCount > 0, let byte = undelivered.removeFirst() { receiver.append(byte) }
  }

  /// RBR; zero when nothing was received.
  mutating func takeReceived() -> UInt8? { receiver.removeFirst() }

  /// THR was written; the byte goes to the loop or, when this returns `true`, to the sink.
  mutating func beginTransmission(_ byte: UInt8) -> Bool {
    if isLoopedBack {
      receive(byte)
      emptyIsUntold = true
      return false
    }
    transmissions &+= 1
    return true
  }

  /// The sink took the byte.
  mutating func endTransmission() {
    transmissions &-= 1
    if transmissions == 0 { emptyIsUntold = true }
  }
}

// MARK: Saved form

extension SerialRegisters {
  struct Saved: Codable, Sendable, Equatable {
    var interruptEnable: UInt8
    var isFIFOEnabled: Bool
    var trigger: Int
    var lineControl: UInt8
    var modemControl: UInt8
    var lineErrors: UInt8
    var modemChanges: UInt8
    var scratch: UInt8
    var divisor: UInt16
    var received: [UInt8]
    var undelivered: [UInt8]
    var emptyIsUntold: Bool
  }

  /// The transmitter is empty: no processor is in the middle of a write.
  func save() -> Saved {
    Saved(
      interruptEnable: interruptEnable, isFIFOEnabled: isFIFOEnabled, trigger: trigger, lineControl: lineControl,
      modemControl: modemControl, lineErrors: lineErrors, modemChanges: modemChanges, scratch: scratch,
      divisor: divisor, received: receiver.list, undelivered: undelivered.list, emptyIsUntold: emptyIsUntold)
  }

  init(_ saved: Saved) throws(RestoreFailure) {
    let subject = "serial port"
    try restoring(
      subject,
      requires: saved.interruptEnable & ~0x0f == 0 && saved.modemControl & ~0x1f == 0
        && saved.lineErrors & ~LineStatus.overrun == 0 && saved.modemChanges & ~0x0f == 0,
      "its registers have bits that they don't keep")
    try restoring(subject, requires: [1, 4, 8, 14].contains(saved.trigger), "its trigger level is \(saved.trigger)")
    try restoring(
      subject,
      requires: saved.received.count <= (saved.isFIFOEnabled ? ReceiveFIFO.capacity : 1)
        && saved.undelivered.count <= ReceiveFIFO.capacity,
      "its receiver holds \(saved.received.count) and \(saved.undelivered.count) bytes")
    interruptEnable = saved.interruptEnable
    isFIFOEnabled = saved.isFIFOEnabled
    trigger = saved.trigger
    lineControl = saved.lineControl
    modemControl = saved.modemControl
    lineErrors = saved.lineErrors
    modemChanges = saved.modemChanges
    scratch = saved.scratch
    divisor = saved.divisor
    for byte in saved.received { receiver.append(byte) }
    for byte in saved.undelivered { undelivered.append(byte) }
    emptyIsUntold = saved.emptyIsUntold
  }
}
