// Registers, memory and breakpoints.

import TrivisorVMM
import TrivisorX86

extension DebuggerSession {
  // MARK: Registers

  func sendRegisters() {
    guard let state = try? machine.state(of: selected) else { return send("E01") }
    send(registers.registers.flatMap { HexText.digits(of: state.value(of: $0)) })
  }

  /// All registers, or as many of the first ones as there are digits for.
  func takeRegisters(_ text: ArraySlice<UInt8>) {
    guard let bytes = HexText.bytes(text), var state = try? machine.state(of: selected) else { return send("E01") }
    var position = 0
    for register in registers.registers {
      guard position + register.byteCount <= bytes.count else { break }
      // Those that can't be replaced stay, as GDB has them in each of these packets.
      _ = state.setValue(of: register, Array(bytes[position..<position + register.byteCount]))
      position += register.byteCount
    }
    adopt(state)
  }

  func sendRegister(_ text: inout PacketText) {
    guard let number = text.number(), number < UInt64(registers.registers.count),
      let state = try? machine.state(of: selected)
    else { return send("E01") }
    send(HexText.digits(of: state.value(of: registers.registers[Int(number)])))
  }

  func takeRegister(_ text: inout PacketText) {
    guard let number = text.number(), number < UInt64(registers.registers.count), text.skip("="),
      let bytes = HexText.bytes(text.remainder), var state = try? machine.state(of: selected),
      state.setValue(of: registers.registers[Int(number)], bytes)
    else { return send("E01") }
    adopt(state)
  }

  private func adopt(_ state: MachineState) { send(change(to: state) ? "OK" : "E01") }

  /// - Returns: whether the selected processor can be in this state.
  func change(to state: MachineState) -> Bool {
    guard (try? state.check()) != nil else { return false }
    var state = state
    // Time has gone on since it was read.
    state[modelSpecific: MSR.timeStampCounter] = nil
    return (try? machine.setState(state, of: selected)) != nil
  }

  // MARK: Memory

  func sendMemory(_ text: inout PacketText) {
    guard let address = text.number(), text.skip(","), let count = text.number(),
      count <= UInt64(Packet.maximumLength / 2)
    else { return send("E01") }
    let bytes = readMemory(address, count: Int(count))
    // As many as there are; none at all is an error.
    send(bytes.isEmpty && count > 0 ? Array("E14".utf8) : HexText.digits(of: bytes))
  }

  func takeMemory(_ text: inout PacketText, isBinary: Bool) {
    guard let address = text.number(), text.skip(","), let count = text.number(), text.skip(":") else {
      return send("E01")
    }
    guard let bytes = isBinary ? Array(text.remainder) : HexText.bytes(text.remainder), UInt64(bytes.count) == count
    else { return send("E01") }
    send(writeMemory(address, bytes) ? "OK" : "E14")
  }

  /// Bytes of memory, as far as they are in RAM.
  func readMemory(_ address: UInt64, count: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    for (physical, part) in pieces(address, count) {
      guard let physical else { break }
      let found = machine.read(at: physical, count: part)
      bytes += found
      if found.count < part { break }
    }
    return bytes
  }

  /// - Returns: whether all of it lies in RAM; if not, nothing is stored beyond what doesn't.
  private func writeMemory(_ address: UInt64, _ bytes: [UInt8]) -> Bool {
    var position = 0
    for (physical, part) in pieces(address, bytes.count) {
      guard let physical, machine.write(Array(bytes[position..<position + part]), at: physical) else { return false }
      position += part
    }
    return true
  }

  /// Where the parts of a range are that lie in one page each.
  private func pieces(_ address: UInt64, _ count: Int) -> [(physical: UInt64?, count: Int)] {
    var pieces: [(physical: UInt64?, count: Int)] = []
    var (position, rest) = (address, count)
    while rest > 0 {
      let part = min(rest, 4096 - Int(position & 4095))
      let physical = usesPhysicalAddresses ? position : (try? machine.walk(position, processor: selected))?.physical
      pieces.append((physical, part))
      if physical == nil { break }
      position &+= UInt64(part)
      rest -= part
    }
    return pieces
  }

  // MARK: Breakpoints

  /// The most of one kind: what a debugger sends must not fill memory.
  private static let mostBreakpoints = 4096, mostWatchpoints = 64
  private static let mostWatchedBytes: UInt64 = 1 << 20

  func changeBreakpoint(_ text: inout PacketText, inserts: Bool) {
    guard let kind = text.number(), text.skip(","), let address = text.number(), text.skip(","),
      let length = text.number()
    else { return send("E01") }
    let before = (breakpoints, hardwareBreakpoints, watchpoints)
    switch kind {
    case 0: change(&breakpoints, address, inserts, most: Self.mostBreakpoints)
    case 1: change(&hardwareBreakpoints, address, inserts, most: Self.mostBreakpoints)
    case 2...4:
      guard (1...Self.mostWatchedBytes).contains(length) else { return send("E16") }
      let use: Watchpoint.Use = kind == 2 ? .write : kind == 3 ? .read : .access
      change(
        &watchpoints, Watchpoint(address: address, length: length, use: use), inserts, most: Self.mostWatchpoints)
    default: return send("")
    }
    guard inserts else { return send("OK") }
    do throws(TechniqueFailure) {
      try machine.check(
        DebuggerOrders(
          breakpoints: breakpoints, hardwareBreakpoints: hardwareBreakpoints, watchpoints: Array(watchpoints)))
      send(before == (breakpoints, hardwareBreakpoints, watchpoints) && !isInserted(kind, address) ? "E16" : "OK")
    } catch {
      (breakpoints, hardwareBreakpoints, watchpoints) = before
      send("E16")
    }
  }

  private func change<Element>(_ set: inout Set<Element>, _ element: Element, _ inserts: Bool, most: Int) {
    if !inserts {
      set.remove(element)
    } else if set.count < most {
      set.insert(element)
    }
  }

  private func isInserted(_ kind: UInt64, _ address: UInt64) -> Bool {
    switch kind {
    case 0: breakpoints.contains(address)
    case 1: hardwareBreakpoints.contains(address)
    default: watchpoints.contains { $0.address == address }
    }
  }
}
