// The serial port of a PC: a 16550A with its interrupt line on one side and the host on the other.
//
//     guest ──THR──▶ transmit ──▶ SerialSink                       a terminal, a pipe, a file, memory
//     guest ◀──RBR── FIFO (16) ◀── receive(_:) ◀── the host's input, on a thread of its own
//
// Output: the byte is given to the sink outside the lock, because a sink may block while its reader sleeps. Until the
// sink has taken it the line status says that the transmitter is busy, so that another processor waits as it would for
// real hardware, and the order of bytes is kept.
//
// Input: nothing is ever lost. `receive` takes what fits and says how much that was; the rest stays with the host, which
// is called back when there is room again. Bytes are also refused as long as nobody reads them: before a driver has
// enabled the receive interrupt, or a guest without interrupts has begun to poll; and what a driver's FIFO reset wipes out
// unread comes again. Otherwise what was piped in would be gone before a program opens the line.
//
// Lock order: the port's lock is held while the interrupt line is driven, so that the line's last level is the right
// one; the sink and the callback are called without it.

import Synchronization
import TrivisorVMM

/// A 16550A: eight ports, one interrupt line.
public final class SerialPort16550: ByteWidePortDevice, ConsoleInput {
  /// How many ports it answers.
  public static let portCount: UInt16 = 8
  /// COM1's first port and interrupt, by PC convention.
  public static let com1: (port: UInt16, interrupt: Int) = (0x3f8, 4)
  /// COM2's first port and interrupt, by PC convention.
  public static let com2: (port: UInt16, interrupt: Int) = (0x2f8, 3)

  private struct State {
    var registers = SerialRegisters()
    var isAsserted = false
    /// Reads of the line status with nothing else between them.
    var statusReadsInARow = 0
    var isPolled = false
    var hasReadInput = false
    /// The host has bytes that were not taken.
    var hasRefusedInput = false
    var whenRoomForInput: (@Sendable () -> Void)?
    var firstInterruptDrivenOutput: UInt64?

    /// Whether bytes would find a reader.
    var acceptsInput: Bool {
      !registers.isLoopedBack && (isPolled || registers.interruptEnable & SerialInterruptEnable.received != 0)
    }
  }

  /// So many looks at the line status, one after the other, are a guest that waits for input: our transmitter is
  /// always ready, so nobody who waits for that needs more than one or two.
  private static let readsThatArePolling = 8

  private let sink: any SerialSink
  private let line: InterruptLine
  private let state = Mutex(State())

  /// - Parameters:
  ///   - sink: gets what the guest transmits.
  ///   - interrupt: driven while an enabled cause is pending and OUT2 is set.
  public init(sink: any SerialSink, interrupt: InterruptLine) {
    self.sink = sink
    line = interrupt
  }

  /// Whether the guest can be said to read what is typed: it has the receive interrupt enabled, polls for input, or has
  /// taken received data before.
  public var isListening: Bool {
    state.withLock { state in
      state.hasReadInput || state.isPolled || state.registers.interruptEnable & SerialInterruptEnable.received != 0
    }
  }

  /// When the guest first transmitted with the transmitter's interrupt enabled, on the host's CLOCK_MONOTONIC, in
  /// nanoseconds. Kernels print their own messages by polling, with that interrupt off, because they must get out in any
  /// state; a driver that serves programs enables it. So under Linux this is the first process's first write.
  public var firstInterruptDrivenOutput: UInt64? { state.withLock { $0.firstInterruptDrivenOutput } }

  /// Calls `hook` each time when bytes will be taken again after `receive` took fewer than offered. On the thread of a
  /// processor, so it should only wake somebody.
  public func whenRoomForInput(_ hook: @escaping @Sendable () -> Void) {
    state.withLock { $0.whenRoomForInput = hook }
  }

  /// Hands the guest input, from any thread.
  /// - Returns: how many bytes were taken, from the first on. When fewer than offered, `whenRoomForInput` follows.
  public func receive(_ bytes: UnsafeRawBufferPointer) -> Int {
    state.withLock { state in
      let taken = state.acceptsInput ? min(bytes.count, state.registers.room) : 0
      for byte in bytes[..<taken] { state.registers.receive(byte) }
      state.hasRefusedInput = taken < bytes.count
      updateLine(&state)
      return taken
    }
  }

  private func updateLine(_ state: inout State) {
    let asserted = state.registers.isInterruptConnected && state.registers.interrupt != .none
    guard asserted != state.isAsserted else { return }
    state.isAsserted = asserted
    line.set(asserted: asserted)
  }

  /// One access to a register: afterwards the line is right, and the host hears if it can go on.
  private func access<Result>(_ body: (inout State) -> Result) -> Result where Result: Sendable {
    let (result, hook) = state.withLock { state -> (Result, (@Sendable () -> Void)?) in
      let result = body(&state)
      if state.acceptsInput { state.registers.deliverAgain() }
      updateLine(&state)
      guard state.hasRefusedInput, state.acceptsInput, state.registers.unreadCount == 0 else { return (result, nil) }
      state.hasRefusedInput = false
      return (result, state.whenRoomForInput)
    }
    hook?()
    return result
  }

  func readByte(at offset: UInt16) -> UInt8 {
    access { state in
      let readsInARow = state.statusReadsInARow
      state.statusReadsInARow = 0
      switch offset {
      case 0 where state.registers.divisorLatchAccess: return UInt8(truncatingIfNeeded: state.registers.divisor)
      case 0:
        guard let byte = state.registers.takeReceived() else { return 0 }
        state.hasReadInput = true
        return byte
      case 1 where state.registers.divisorLatchAccess: return UInt8(truncatingIfNeeded: state.registers.divisor >> 8)
      case 1: return state.registers.interruptEnable
      case 2: return state.registers.readInterruptIdentification()
      case 3: return state.registers.lineControl
      case 4: return state.registers.modemControl
      case 5:
        state.statusReadsInARow = min(readsInARow + 1, Self.readsThatArePolling)
        if state.statusReadsInARow == Self.readsThatArePolling { state.isPolled = true }
        return state.registers.readLineStatus()
      case 6: return state.registers.readModemStatus()
      case 7: return state.registers.scratch
      default: return 0xff
      }
    }
  }

  func writeByte(_ value: UInt8, at offset: UInt16) -> DeviceEffect {
    if offset == 0 {
      transmit(value)
      return .none
    }
    access { state in
      state.statusReadsInARow = 0
      switch offset {
      case 1 where state.registers.divisorLatchAccess:
        state.registers.divisor = state.registers.divisor & 0x00ff | UInt16(value) << 8
      case 1: state.registers.writeInterruptEnable(value)
      case 2:
        // A driver takes over: what polled before it is gone.
        if state.registers.writeFIFOControl(value) { state.isPolled = false }
      case 3: state.registers.lineControl = value
      case 4: state.registers.writeModemControl(value)
      case 7: state.registers.scratch = value
      default: break
      }
    }
    return .none
  }

  /// Offset 0: the divisor's low byte, or a byte to transmit.
  private func transmit(_ value: UInt8) {
    let goesToSink = state.withLock { state in
      state.statusReadsInARow = 0
      if state.registers.divisorLatchAccess {
        state.registers.divisor = state.registers.divisor & 0xff00 | UInt16(value)
        return false
      }
      let goesToSink = state.registers.beginTransmission(value)
      // While the sink has the byte the line stays as it is: lowering it only to raise it again right after would
      // cost two calls into the interrupt controller for each byte.
      if !goesToSink { updateLine(&state) }
      if goesToSink, state.firstInterruptDrivenOutput == nil,
        state.registers.interruptEnable & SerialInterruptEnable.holdingRegisterEmpty != 0
      {
        state.firstInterruptDrivenOutput = monotonicNanoseconds()
      }
      return goesToSink
    }
    guard goesToSink else { return }
    withUnsafeBytes(of: value) { sink.write($0) }
    state.withLock { state in
      state.registers.endTransmission()
      updateLine(&state)
    }
  }
}

extension SerialPort16550: Restorable {
  /// The registers with both FIFOs, and what is known of whether the guest listens.
  public struct Saved: SavedState {
    // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
    public static let version = 1
    var registers: SerialRegisters.Saved
    var statusReadsInARow: Int
    var isPolled: Bool
    var hasReadInput: Bool
  }

  /// What was transmitted is the sink's, and what was not taken from the host stays there.
  public func save() -> Saved {
    state.withLock { state in
      Saved(
        registers: state.registers.save(), statusReadsInARow: state.statusReadsInARow, isPolled: state.isPolled,
        hasReadInput: state.hasReadInput)
    }
  }

  /// - Throws: `RestoreFailure` for values that no register has.
  public func restore(_ saved: Saved) throws(RestoreFailure) {
    let registers = try SerialRegisters(saved.registers)
    try restoring(
      "serial port", requires: 0...Self.readsThatArePolling ~= saved.statusReadsInARow,
      "its status was read \(saved.statusReadsInARow) times in a row")
    let hook = state.withLock { state -> (@Sendable () -> Void)? in
      state.registers = registers
      state.statusReadsInARow = saved.statusReadsInARow
      state.isPolled = saved.isPolled
      state.hasReadInput = saved.hasReadInput
      updateLine(&state)
      line.set(asserted: state.isAsserted)
      guard state.hasRefusedInput, state.acceptsInput else { return nil }
      state.hasRefusedInput = false
      return state.whenRoomForInput
    }
    hook?()
  }
}
