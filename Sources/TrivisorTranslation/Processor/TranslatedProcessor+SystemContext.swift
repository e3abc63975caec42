// The processor as privileged instructions see it (`Semantics`).

import TrivisorCWorldSwitch
import TrivisorInstructionSet
import TrivisorVMM
import TrivisorX86

extension TranslatedProcessor: SystemContext {
  // MARK: Control registers

  var cr2: UInt64 {
    get { control.cr2 }
    set { control.cr2 = newValue }
  }

  var cr3: UInt64 { control.cr3 }

  var xcr0: XCR0 {
    get { control.xcr0 }
    set { control.xcr0 = newValue }
  }

  func set(cr0: CR0, efer: EFER) { control.set(cr0: cr0, efer: efer) }
  func set(cr3: UInt64, keepsTranslations: Bool) { control.set(cr3: cr3, keepsTranslations: keepsTranslations) }
  func set(cr4: CR4) { control.set(cr4: cr4) }
  func set(efer: EFER) { control.set(efer: efer) }
  func clearTaskSwitched() { control.clearTaskSwitched() }
  func loadPointerTable(from root: UInt64) throws(GuestException) { try mmu.loadPointerTable(from: root) }
  func invalidate(_ scope: TranslationScope) { translations.flush(scope) }

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  package var fsBase: UInt64 {
    get { control.fsBase }
    set { control.fsBase = newValue }
  }

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  package var gsBase: UInt64 {
    get { control.gsBase }
    set { control.gsBase = newValue }
  }

  var kernelGSBase: UInt64 {
    get { control.kernelGSBase }
    set { control.kernelGSBase = newValue }
  }

  // MARK: Model-specific registers and time

  subscript(modelSpecific index: UInt32) -> UInt64? {
    get { control.modelSpecific[index] }
    set { control.modelSpecific[index] = newValue }
  }

  var timestamp: UInt64 {
    get { cws_timestamp() &+ timestampOffset }
    set { timestampOffset = newValue &- cws_timestamp() }
  }

  var systemTime: UInt64 { surroundings.systemTime }
  var clockPair: (timestamp: UInt64, systemTime: UInt64) {
    let pair = surroundings.clockPair
    return (pair.timestamp &+ timestampOffset, pair.systemTime)
  }
  var timestampFrequency: UInt64 { surroundings.timestampFrequency }

  var taskPriority: UInt8 {
    get { surroundings.taskPriority }
    set { surroundings.taskPriority = newValue }
  }

  var hasLocalAPIC: Bool { surroundings.hasLocalAPIC }

  func readLocalAPIC(_ index: UInt32) -> UInt64? {
    index == MSR.apicBase ? surroundings.localBase : surroundings.readLocal(index)
  }

  func writeLocalAPIC(_ index: UInt32, _ value: UInt64) -> Bool {
    guard index == MSR.apicBase else { return surroundings.writeLocal(index, value) }
    guard surroundings.setLocalBase(value) else { return false }
    linear.localPageChanged()
    translations.flush()
    return true
  }

  func sendInterrupts(_ command: UInt32, to set: [UInt64], first: UInt32) -> Int? {
    surroundings.sendInterrupts(command, to: set, first: first)
  }

  func kickProcessor(_ identifier: UInt32) { surroundings.kickProcessor(identifier) }

  var memoryEnds: (low: UInt64, high: UInt64) { (memory.pieces.0.end, memory.pieces.1.end) }

  // MARK: Physical memory

  func ram(at physical: UInt64, count: Int) -> UnsafeMutableRawPointer? { mmu.host(physical, count: UInt64(count)) }
}
