// The user's commands behind GDB's `monitor`: what the remote protocol has no packets for.

import TrivisorVMM
import TrivisorX86

/// Answers a command with text.
enum MonitorCommand {
  private static let help = """
    physical ADDRESS [COUNT]   bytes of guest physical memory
    memory physical|linear     what addresses mean for x, print and the like from now on; at first: linear
    walk ADDRESS               the way of a linear address through the page tables
    registers                  segments, tables, control, debug and model-specific registers
    cpuid [LEAF [INDEX]]       what CPUID answers
    statistics                 what was counted so far
    help                       this

    """

  /// The most bytes that are shown at once.
  private static let mostBytes: UInt64 = 4096

  /// - Parameter text: what the user has typed behind `monitor`.
  static func answer(_ text: String, for session: DebuggerSession) -> String {
    let words = text.split(whereSeparator: \.isWhitespace).map(String.init)
    guard let name = words.first else { return help }
    let arguments = Array(words.dropFirst())
    switch name {
    case "help": return help
    case "physical": return physical(arguments, session)
    case "memory": return memory(arguments, session)
    case "walk": return walk(arguments, session)
    case "registers": return registers(session)
    case "cpuid": return identification(arguments, session)
    case "statistics": return statistics(session)
    default: return "there is no command '\(name)': 'monitor help' lists them\n"
    }
  }

  /// As C writes numbers: 0x for hexadecimal, else decimal.
  static func number(_ text: String) -> UInt64? {
    text.hasPrefix("0x") || text.hasPrefix("0X") ? UInt64(text.dropFirst(2), radix: 16) : UInt64(text)
  }

  private static func number(_ arguments: [String], _ position: Int, default value: UInt64?) -> UInt64? {
    position < arguments.count ? number(arguments[position]) : value
  }

  private static func hexadecimal(_ value: UInt64, digits: Int = 1) -> String {
    let text = HexText.text(value)
    return "0x" + String(repeating: "0", count: max(0, digits - text.count)) + text
  }

  // MARK: Memory

  private static func physical(_ arguments: [String], _ session: DebuggerSession) -> String {
    guard let address = number(arguments, 0, default: nil), let count = number(arguments, 1, default: 16),
      arguments.count <= 2, (1...mostBytes).contains(count)
    else { return "give an address and how many bytes, at most \(mostBytes): monitor physical 0x1000 64\n" }
    let bytes = session.machine.read(at: address, count: Int(count))
    guard !bytes.isEmpty else { return "there is no RAM at \(hexadecimal(address))\n" }
    var text = ""
    for start in stride(from: 0, to: bytes.count, by: 16) {
      let line = bytes[start..<min(start + 16, bytes.count)]
      let digits = line.map { String(decoding: HexText.digits(of: $0), as: UTF8.self) }.joined(separator: " ")
      let shown = String(decoding: line.map { (0x20...0x7e).contains($0) ? $0 : UInt8(ascii: ".") }, as: UTF8.self)
      text += "\(hexadecimal(address &+ UInt64(start), digits: 9))  "
      text += digits + String(repeating: " ", count: 48 - digits.utf8.count) + shown + "\n"
    }
    if bytes.count < Int(count) { text += "there RAM ends\n" }
    return text
  }

  private static func memory(_ arguments: [String], _ session: DebuggerSession) -> String {
    switch arguments {
    case ["physical"]: session.usesPhysicalAddresses = true
    case ["linear"]: session.usesPhysicalAddresses = false
    case []: break
    default: return "addresses are either physical or linear: monitor memory physical\n"
    }
    return "addresses are \(session.usesPhysicalAddresses ? "guest physical" : "linear")\n"
  }

  private static func walk(_ arguments: [String], _ session: DebuggerSession) -> String {
    guard arguments.count == 1, let address = number(arguments[0]) else {
      return "give a linear address: monitor walk 0xffffffff81000000\n"
    }
    let walk: PageWalk
    do throws(TechniqueFailure) {
      walk = try session.machine.walk(address, processor: session.selected)
    } catch {
      return error.description + "\n"
    }
    var text = ""
    for step in walk.steps {
      let name = step.name + String(repeating: " ", count: 5 - min(5, step.name.utf8.count))
      text += "\(name) at \(hexadecimal(step.place)): \(hexadecimal(step.entry.rawValue, digits: 16)) "
      text += flags(step.entry) + "\n"
    }
    guard let physical = walk.physical else {
      return text + "\(hexadecimal(address)) is nowhere\n"
    }
    let way = walk.steps.isEmpty ? "paging is off" : "a page of \(walk.pageSize >> 10) KiB"
    return text + "\(hexadecimal(address)) is guest physical \(hexadecimal(physical)): \(way)\n"
  }

  private static func flags(_ entry: PageTableEntry) -> String {
    let names: [(PageTableEntry, String)] = [
      (.present, "P"), (.writable, "RW"), (.user, "US"), (.writeThrough, "PWT"), (.cacheDisable, "PCD"),
      (.accessed, "A"), (.dirty, "D"), (.large, "PS"), (.global, "G"), (.noExecute, "NX"),
    ]
    return names.filter { entry.contains($0.0) }.map(\.1).joined(separator: " ")
  }

  // MARK: Registers

  private static func registers(_ session: DebuggerSession) -> String {
    let state: MachineState
    do throws(TechniqueFailure) {
      state = try session.machine.state(of: session.selected)
    } catch {
      return error.description + "\n"
    }
    let system = state.system
    var text = "processor \(session.selected): \(state.activity)\n"
    text += "RIP \(hexadecimal(state.general.rip)) RFLAGS \(hexadecimal(state.general.rflags))"
    text += state.runs64BitCode ? "\n" : ", linear \(hexadecimal(state.linearRIP))\n"
    let segments = [
      ("CS", system.cs), ("SS", system.ss), ("DS", system.ds), ("ES", system.es), ("FS", system.fs), ("GS", system.gs),
      ("TR", system.task), ("LDTR", system.ldt),
    ]
    for (name, segment) in segments {
      text += "\(name) \(hexadecimal(UInt64(segment.selector), digits: 4)) base \(hexadecimal(segment.base)) "
      text += "limit \(hexadecimal(UInt64(segment.limit))) attributes \(hexadecimal(UInt64(segment.attributes)))"
      text += segment.isUnusable ? " unusable\n" : "\n"
    }
    text += "GDTR base \(hexadecimal(system.gdt.base)) limit \(hexadecimal(UInt64(system.gdt.limit)))\n"
    text += "IDTR base \(hexadecimal(system.idt.base)) limit \(hexadecimal(UInt64(system.idt.limit)))\n"
    text += "CR0 \(hexadecimal(system.cr0)) CR2 \(hexadecimal(system.cr2)) CR3 \(hexadecimal(system.cr3)) "
    text += "CR4 \(hexadecimal(system.cr4)) CR8 \(hexadecimal(system.cr8)) EFER \(hexadecimal(system.efer))\n"
    for (number, address) in state.debug.addresses.enumerated() { text += "DR\(number) \(hexadecimal(address)) " }
    text += "DR6 \(hexadecimal(state.debug.dr6)) DR7 \(hexadecimal(state.debug.dr7))\n"
    for register in state.modelSpecific {
      text += "MSR \(hexadecimal(UInt64(register.index))) \(hexadecimal(register.value))\n"
    }
    return text
  }

  private static func identification(_ arguments: [String], _ session: DebuggerSession) -> String {
    func line(_ function: UInt32, _ index: UInt32) -> String? {
      guard let leaf = session.machine.cpuidLeaf(function, index) else { return nil }
      func word(_ value: UInt32) -> String { hexadecimal(UInt64(value), digits: 8) }
      return "\(word(function)).\(index): EAX \(word(leaf.eax)) EBX \(word(leaf.ebx)) ECX \(word(leaf.ecx)) "
        + "EDX \(word(leaf.edx))\n"
    }
    if !arguments.isEmpty {
      guard arguments.count <= 2, let function = number(arguments, 0, default: nil).flatMap({ UInt32(exactly: $0) }),
        let index = number(arguments, 1, default: 0).flatMap({ UInt32(exactly: $0) })
      else { return "give a leaf, and an index where it has some: monitor cpuid 7 0\n" }
      return line(function, index) ?? "the \(session.machine.technique) technique can't say\n"
    }
    var text = ""
    for first: UInt32 in [0, 0x4000_0000, 0x8000_0000] {
      guard let last = session.machine.cpuidLeaf(first, 0)?.eax, last >= first, last - first < 0x100 else { continue }
      for function in first...last { text += line(function, 0) ?? "" }
    }
    return text.isEmpty ? "the \(session.machine.technique) technique can't say\n" : text
  }

  private static func statistics(_ session: DebuggerSession) -> String {
    let counted = session.machine.statistics()
    let width = counted.map { String($0.value).utf8.count }.max() ?? 0
    return "technique \(session.machine.technique)\n"
      + counted.map { name, value in
        String(repeating: " ", count: width - String(value).utf8.count) + "\(value)  \(name)\n"
      }.joined()
  }
}
