// What a debugger asks about the target, and the user's own commands (`monitor` in GDB).

import TrivisorVMM

extension DebuggerSession {
  func answerQuery(_ query: PacketText) {
    var text = query
    if text.skip("qSupported") {
      knowsBreakReasons = Self.features(text.remainder).contains("swbreak+")
      send(
        "PacketSize=\(HexText.text(UInt64(Packet.maximumLength)));QStartNoAckMode+;qXfer:features:read+;"
          + "vContSupported+;swbreak+;hwbreak+")
    } else if text.skip("QStartNoAckMode") {
      becomeReliable()
    } else if text.skip("qXfer:features:read:") {
      sendDescription(&text)
    } else if text.skip("qAttached") {
      // What it leaves goes on: it is not its own.
      send("1")
    } else if text.skip("qC"), text.isAtEnd {
      send("QC" + HexText.text(UInt64(selected + 1)))
    } else if text.skip("qfThreadInfo") {
      send("m" + (1...machine.processorCount).map { HexText.text(UInt64($0)) }.joined(separator: ","))
    } else if text.skip("qsThreadInfo") {
      send("l")
    } else if text.skip("qThreadExtraInfo,") {
      sendThreadInformation(&text)
    } else if text.skip("qSymbol") {
      send("OK")
    } else if text.skip("qRcmd,") {
      command(text.remainder)
    } else {
      send("")
    }
  }

  private static func features(_ text: ArraySlice<UInt8>) -> [String] {
    text.drop { $0 == UInt8(ascii: ":") }.split(separator: UInt8(ascii: ";")).map {
      String(decoding: $0, as: UTF8.self)
    }
  }

  private func sendDescription(_ text: inout PacketText) {
    guard text.skip("target.xml:") else { return send("E00") }
    guard let offset = text.number(), text.skip(","), let count = text.number() else { return send("E01") }
    let description = Array(registers.description.utf8)
    guard offset <= UInt64(description.count) else { return send("E01") }
    let rest = description[Int(offset)...]
    let part = rest.prefix(Int(min(count, UInt64(Packet.maximumLength / 2))))
    send([UInt8(ascii: part.count == rest.count ? "l" : "m")] + part)
  }

  private func sendThreadInformation(_ text: inout PacketText) {
    guard let processor = thread(&text), (0..<machine.processorCount).contains(processor),
      let state = try? machine.state(of: processor)
    else { return send("E01") }
    let level = state.system.cs.selector & 3
    let activity =
      switch state.activity {
      case .running: "CPL \(level)"
      case .halted: "halted"
      default: "not started"
      }
    send(HexText.digits(of: Array("processor \(processor) (\(activity))".utf8)))
  }

  private func command(_ digits: ArraySlice<UInt8>) {
    guard let bytes = HexText.bytes(digits) else { return send("E01") }
    let answer = MonitorCommand.answer(String(decoding: bytes, as: UTF8.self), for: self)
    // In pieces that fit a packet.
    var rest = Array(answer.utf8)[...]
    while !rest.isEmpty {
      let part = rest.prefix(Packet.maximumLength / 4)
      send([UInt8(ascii: "O")] + HexText.digits(of: part))
      rest = rest.dropFirst(part.count)
    }
    send("OK")
  }
}
