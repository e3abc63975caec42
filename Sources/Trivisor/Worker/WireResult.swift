import TrivisorVMM

extension TechniqueChoice: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    self.init(technique: try reader.read(), isTranslated: try reader.read(), reason: try reader.read())
  }

  func write(to writer: inout WireWriter) {
    writer.write(technique)
    writer.write(isTranslated)
    writer.write(reason)
  }
}

extension RunResult: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    self.init(
      outcome: try reader.read(), choice: try reader.read(), missingFeatures: try reader.read(),
      setUpTime: try reader.read(), guestTime: try reader.read(), counters: try reader.read(),
      details: try reader.read(), notes: try reader.read(), confinement: try reader.read())
  }

  func write(to writer: inout WireWriter) {
    writer.write(outcome)
    writer.write(choice)
    writer.write(missingFeatures)
    writer.write(setUpTime)
    writer.write(guestTime)
    writer.write(counters)
    writer.write(details)
    writer.write(notes)
    writer.write(confinement)
  }
}

extension CrashReport: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    self.init(
      summary: try reader.read(), registers: try reader.read(), instruction: try reader.raw(),
      description: try reader.read())
  }

  func write(to writer: inout WireWriter) {
    writer.write(summary)
    writer.write(registers)
    writer.write(raw: instruction)
    writer.write(description)
  }
}

extension Outcome: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    switch try reader.read(Int.self) {
    case 0: self = .exited(code: try reader.read())
    case 1: self = .commandEnded(.exited(try reader.read()))
    case 2: self = .commandEnded(.killed(signal: try reader.read()))
    case 3: self = .commandLost(try reader.read())
    case 4: self = .poweredOff
    case 5: self = .reset
    case 6: self = .panicked(reason: try reader.read())
    case 7: self = .tripleFault
    case 8: self = .halted
    case 9: self = .crashed(try reader.read())
    case 10: self = .timedOut
    case 11: self = .stopped
    case 12: self = .outputClosed
    case 13: self = .failed(try reader.read())
    default: throw WireFault()
    }
  }

  func write(to writer: inout WireWriter) {
    switch self {
    case .exited(let code):
      writer.write(0)
      writer.write(code)
    case .commandEnded(.exited(let status)):
      writer.write(1)
      writer.write(status)
    case .commandEnded(.killed(let signal)):
      writer.write(2)
      writer.write(signal)
    case .commandLost(let reason):
      writer.write(3)
      writer.write(reason)
    case .poweredOff: writer.write(4)
    case .reset: writer.write(5)
    case .panicked(let reason):
      writer.write(6)
      writer.write(reason)
    case .tripleFault: writer.write(7)
    case .halted: writer.write(8)
    case .crashed(let report):
      writer.write(9)
      writer.write(report)
    case .timedOut: writer.write(10)
    case .stopped: writer.write(11)
    case .outputClosed: writer.write(12)
    case .failed(let reason):
      writer.write(13)
      writer.write(reason)
    // A worker has no workers.
    case .workerLost(let end):
      writer.write(13)
      writer.write(end.description)
    }
  }
}

extension VirtualMachineError: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    switch try reader.read(Int.self) {
    case 0: self = .configuration(try reader.read())
    case 1: self = .host(try reader.read())
    default: throw WireFault()
    }
  }

  func write(to writer: inout WireWriter) {
    switch self {
    case .configuration(let findings):
      writer.write(0)
      writer.write(findings)
    case .host(let reason):
      writer.write(1)
      writer.write(reason)
    case .alreadyStarted:
      writer.write(1)
      writer.write(description)
    }
  }
}

extension ConfigurationError: WireValue {
  init(from reader: inout WireReader) throws(WireFault) {
    self.init(message: try reader.read(), about: try reader.read())
  }

  func write(to writer: inout WireWriter) {
    writer.write(message)
    writer.write(property)
  }
}
