// Starting other processors by the local APIC (AMD64 APM vol. 2, 16.5 "Interprocessor Interrupts"; Intel SDM vol. 3,
// "MP Initialization"): INIT, then start-up, addressed to all but the sender, so that nobody's APIC number is asked.

import CNative

extension Platform: ProcessorPlatform {
  static var processorCount: UInt64 {
    // The topology leaf's last level counts the package's logical processors.
    if native_cpuid(0, 0).eax >= 0xb {
      var count: UInt32 = 0
      var level: UInt32 = 0
      while level < 8 {
        let leaf = native_cpuid(0xb, level)
        if leaf.ecx >> 8 & 0xff == 0 { break }
        count = leaf.ebx & 0xffff
        level &+= 1
      }
      if count != 0 { return UInt64(count) }
    }
    let features = native_cpuid(1, 0)
    let isMultithreaded = features.edx & 1 << 28 != 0
    return isMultithreaded ? UInt64(max(1, features.ebx >> 16 & 0xff)) : 1
  }

  static func startOtherProcessors(_ function: @escaping @convention(c) (UInt32) -> Void) {
    native_set_processor_function(function)
    UnsafeMutableRawPointer(bitPattern: trampolinePage)?.copyMemory(
      from: native_trampoline_start(), byteCount: Int(native_trampoline_size()))
    LocalAPIC.enable()
    LocalAPIC.sendToOthers(.initialize)
    LocalAPIC.sendToOthers(.startUp(page: trampolinePage))
  }

  static func startOtherProcessorsAgain() {
    LocalAPIC.sendToOthers(.startUp(page: trampolinePage))
  }

  static func pause() { native_pause() }

  static var timestamp: UInt64 { native_rdtsc() }

  /// Where loaders keep nothing: they use the first pages, the firmware the end of the low 640 KiB.
  private static var trampolinePage: UInt { 0x7_0000 }
}

/// The local APIC of the processor that asks.
enum LocalAPIC {
  enum Message {
    case initialize
    case startUp(page: UInt)
  }

  private static var base: UInt64 { native_rdmsr(MSR.apicBase) }

  private static func register(_ offset: UInt64) -> UInt64 { base & 0xf_ffff_f000 &+ offset }

  private static var isX2APIC: Bool { base & 1 << 10 != 0 }

  static func enable() {
    // Spurious interrupt vector register: enabled, vector 255.
    if isX2APIC { native_wrmsr(0x80f, 0x1ff) } else { native_write32(register(0xf0), 0x1ff) }
  }

  /// Sends an interrupt of fixed delivery mode to this processor (shorthand 1).
  static func sendToSelf(vector: UInt32) {
    let command: UInt32 = 1 << 18 | 1 << 14 | vector
    if isX2APIC { native_wrmsr(0x830, UInt64(command)) } else { native_write32(register(0x300), command) }
  }

  static func endInterrupt() {
    if isX2APIC { native_wrmsr(0x80b, 0) } else { native_write32(register(0xb0), 0) }
  }

  static func sendToOthers(_ message: Message) {
    // Interrupt command register: all excluding self (3 << 18), asserted (1 << 14), delivery mode INIT (5) or
    // start-up (6), whose vector is the number of a page.
    let command: UInt32 =
      switch message {
      case .initialize: 3 << 18 | 1 << 14 | 5 << 8
      case .startUp(let page): 3 << 18 | 1 << 14 | 6 << 8 | UInt32(truncatingIfNeeded: page >> 12)
      }
    if isX2APIC {
      native_wrmsr(0x830, UInt64(command))
    } else {
      native_write32(register(0x310), 0)
      native_write32(register(0x300), command)
      while native_read32(register(0x300)) & 1 << 12 != 0 { native_pause() }
    }
  }
}
