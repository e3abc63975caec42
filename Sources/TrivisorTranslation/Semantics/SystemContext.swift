import TrivisorVMM
import TrivisorX86

/// What privileged instructions need besides: control registers, bases, model-specific registers, time, the local APIC.
///
/// Whoever sets a control register has checked the value; what follows from it is the context's affair.
protocol SystemContext: InstructionContext {
  /// What CPUID says.
  var identification: CPUIDTable { get }

  // MARK: Control registers

  var cr2: UInt64 { get set }
  var cr3: UInt64 { get }
  var xcr0: XCR0 { get set }
  /// CR0, with what it makes of EFER.LMA.
  func set(cr0: CR0, efer: EFER)
  /// - Parameter keepsTranslations: the guest says that what was known of the address space is still true (bit 63, with CR4.PCIDE).
  func set(cr3: UInt64, keepsTranslations: Bool)
  func set(cr4: CR4)
  func set(efer: EFER)
  /// CLTS: address translation stays as it is.
  func clearTaskSwitched()
  /// Reads PAE's four top entries.
  /// - Throws: #GP if one has reserved bits; the old entries stay.
  func loadPointerTable(from root: UInt64) throws(GuestException)
  /// Forgets translations.
  func invalidate(_ scope: TranslationScope)
  var fsBase: UInt64 { get set }
  var gsBase: UInt64 { get set }
  var kernelGSBase: UInt64 { get set }

  // MARK: Model-specific registers and time

  /// What was written to a register that remembers, or `nil`.
  subscript(modelSpecific index: UInt32) -> UInt64? { get set }
  /// The time stamp counter.
  var timestamp: UInt64 { get set }
  /// Of the clock in guest memory; even.
  var clockVersion: UInt32 { get set }
  /// Nanoseconds since the machine began.
  var systemTime: UInt64 { get }
  /// The time stamp counter and the system time at one moment. All processors count from the same one, or a clock that is said to be
  /// one for all would differ from one to the other.
  var clockPair: (timestamp: UInt64, systemTime: UInt64) { get }
  /// Of the time stamp counter, in hertz.
  var timestampFrequency: UInt64 { get }
  /// CR8.
  var taskPriority: UInt8 { get set }
  /// CPUID shows the local APIC, which its base register may have switched off.
  var hasLocalAPIC: Bool { get }
  /// APIC_BASE, TSC_DEADLINE and the registers of x2APIC mode; `nil` if there is no such register now.
  func readLocalAPIC(_ index: UInt32) -> UInt64?
  /// - Returns: whether it can be written so.
  func writeLocalAPIC(_ index: UInt32, _ value: UInt64) -> Bool
  /// Sends an interrupt command to the processors of a set whose bit 0 is the APIC ID `first`.
  /// - Returns: how many there are, or `nil` for another command than a fixed interrupt or an NMI.
  func sendInterrupts(_ command: UInt32, to set: [UInt64], first: UInt32) -> Int?
  /// Ends the HLT of the processor with this APIC ID, or its next one, if there is such a processor.
  func kickProcessor(_ identifier: UInt32)
  /// The ends of memory below 4 GiB and above; the second is 0 if there is none.
  var memoryEnds: (low: UInt64, high: UInt64) { get }

  // MARK: Physical memory

  /// RAM of this process, if all bytes are RAM. `didStore` is to be told of stores.
  func ram(at physical: UInt64, count: Int) -> UnsafeMutableRawPointer?
}

extension SystemContext {
  func modelSpecific(_ index: UInt32) -> UInt64 { self[modelSpecific: index] ?? 0 }
}
