// HYPERVISOR_physdev_op (Xen's arch/x86/physdev.c) for a domain without devices: it has I/O privileges that lead nowhere, and no
// interrupts of devices.

import TrivisorVMM
import TrivisorX86

struct DeviceCalls: HypercallSubject {
  let call: Hypercall

  /// PHYSDEVOP_… (Xen's public header physdev.h).
  private enum Command {
    static let unmaskAll: UInt64 = 4
    static let queryInterrupt: UInt64 = 5
    static let setIOPrivilege: UInt64 = 6
    static let setIOBitmap: UInt64 = 7
    static let endOfInterrupt: UInt64 = 12
    static let mapInterrupt: UInt64 = 13
    static let unmapInterrupt: UInt64 = 14
    static let endOfInterruptPageUnmasking: UInt64 = 17
    static let restoreMessageInterrupts: UInt64 = 19
    static let setUpGlobalInterrupt: UInt64 = 21
    static let interruptCount: UInt64 = 22
    static let freeInterrupt: UInt64 = 23
    static let restoreMessageInterruptsExtended: UInt64 = 27
    static let endOfInterruptPage: UInt64 = 28
  }

  /// For the hardware's own domain: the interrupt controller and what is on the bus.
  private static let forOwnersOfHardware: Set<UInt64> = [8, 9, 10, 15, 16, 20, 24, 25, 26, 30, 31]
  /// How many interrupts of devices a domain can name: Xen's static ones and those that it may add.
  private static let interruptCount: UInt32 = 16 + 32
  private static let globalInterruptCount: UInt32 = 24
  private static let portCount: UInt32 = 65536
  /// XENIRQSTAT_needs_eoi.
  private static let needsEndOfInterrupt: UInt32 = 1

  /// HYPERVISOR_physdev_op.
  func physicalDevice(_ command: UInt64, _ argument: UInt64) throws(XenError) {
    switch command & 0xffff_ffff {
    case Command.unmaskAll: break
    case Command.queryInterrupt:
      guard try half(argument) < Self.interruptCount else { throw .invalid }
      try put(Self.needsEndOfInterrupt, argument &+ 4)
    case Command.setIOPrivilege:
      let level = try half(argument)
      guard level <= 3 else { throw .invalid }
      processor.ioPrivilege = UInt8(level)
    case Command.setIOBitmap:
      let (bitmap, count) = (try long(argument), try half(argument &+ layout.wordSize))
      guard count <= Self.portCount, LinearAddress.isCanonical(bitmap) else { throw .invalid }
      processor.ioBitmap = (bitmap, count)
    // None of those that it can name is bound to anything.
    case Command.endOfInterrupt:
      _ = try half(argument)
      throw .invalid
    case Command.mapInterrupt, Command.unmapInterrupt:
      let owner = try short(argument)
      guard domain.isSelf(owner) || owner == 0 else { throw .noSuchProcess }
      throw .notPermitted
    case Command.endOfInterruptPage, Command.endOfInterruptPageUnmasking:
      let frame = try long(argument)
      do throws(XenError) { try tables.getWritable(frame) } catch { throw .invalid }
      guard domain.endOfInterruptPage == nil else {
        tables.put(frame)
        throw .busy
      }
      domain.endOfInterruptPage = frame
    case Command.restoreMessageInterrupts, Command.restoreMessageInterruptsExtended:
      _ = try half(argument)
      throw .noDevice
    case Command.setUpGlobalInterrupt:
      guard try half(argument) < Self.globalInterruptCount else { throw .invalid }
      throw .notPermitted
    case Command.interruptCount: try put(Self.interruptCount, argument)
    case Command.freeInterrupt:
      _ = try half(argument)
      throw .noSpace
    case let command where Self.forOwnersOfHardware.contains(command):
      _ = try byte(argument)
      throw .notPermitted
    default: throw .notImplemented
    }
  }
}
