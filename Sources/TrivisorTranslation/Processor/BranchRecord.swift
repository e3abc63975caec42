// MSR 0x1d9 and its neighbours: single steps from branch to branch, and the addresses of the last branch and the last
// interrupt (AMD64 APM vol. 2, 13.1.2 and 13.1.4).

import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

/// What an instruction holds back until the next one is complete (AMD64 APM vol. 2, 8.2.2 and vol. 3, "STI").
package enum Shadow {
  case none
  /// STI that sets IF: interrupts, but not single steps.
  case interrupts
  /// MOV SS and POP SS: interrupts and every kind of #DB.
  case everything
}

/// DebugCtl, and what the processor records while its LBR bit is set.
struct BranchRecord {
  static let control = MSR.debugControl
  static let indices = MSR.lastBranchFrom...MSR.lastExceptionTo
  private static let records: UInt64 = 1, steps: UInt64 = 2
  /// LBR, BTF, and the four pins of performance counters, which have no effect.
  private static let defined: UInt64 = 0x3f

  private var controlBits: UInt64 = 0
  /// LastBranchFromIP, LastBranchToIP, LastIntFromIP, LastIntToIP.
  private var addresses: [UInt64] = [0, 0, 0, 0]
  /// The instruction in work has branched.
  var hasBranched = false

  /// Branches are recorded.
  var isOn: Bool { controlBits & Self.records != 0 }
  /// The trap flag counts for branches only.
  var stepsBranches: Bool { controlBits & Self.steps != 0 }

  mutating func switchOff() { controlBits &= ~(Self.records | Self.steps) }

  mutating func noteBranch(from source: UInt64, to target: UInt64) {
    if isOn { (addresses[0], addresses[1]) = (source, target) }
  }

  mutating func noteInterrupt(from source: UInt64, to target: UInt64) {
    if isOn { (addresses[2], addresses[3]) = (source, target) }
  }

  static func contains(_ index: UInt32) -> Bool { index == control || indices.contains(index) }

  func read(_ index: UInt32) -> UInt64 {
    index == Self.control ? controlBits : addresses[Int(index - Self.indices.lowerBound)]
  }

  /// The addresses are read-only: what is written to them is lost.
  /// - Returns: whether the value is possible.
  mutating func write(_ index: UInt32, _ value: UInt64) -> Bool {
    guard index == Self.control else { return true }
    guard value & ~Self.defined == 0 else { return false }
    controlBits = value
    return true
  }

  /// As `MachineState` carries them; none in the state after RESET.
  var registers: [ModelSpecificRegister] {
    guard controlBits != 0 || addresses != [0, 0, 0, 0] else { return [] }
    return [ModelSpecificRegister(index: Self.control, value: controlBits)]
      + Self.indices.map { ModelSpecificRegister(index: $0, value: read($0)) }
  }

  mutating func restore(_ register: ModelSpecificRegister) {
    if register.index == Self.control {
      controlBits = register.value & Self.defined
    } else {
      addresses[Int(register.index - Self.indices.lowerBound)] = register.value
    }
  }
}

extension Instruction {
  /// Leads elsewhere, and is carried out by Swift. Not among them: interrupts, which have a record of their own.
  var transfersByCallOut: Bool {
    switch classification {
    case .farJump, .farCall, .farReturn, .interruptReturn, .systemCall: true
    case .privileged: operation == .sysret || operation == .sysexit
    default: false
    }
  }
}
