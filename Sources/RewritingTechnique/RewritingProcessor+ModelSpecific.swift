// Model-specific registers: those that the engine acts on, and those that only remember what was written. Those that the
// processor's family has besides are in `FamilyRegister`.

import CWorldSwitch
import VMM
import X86

/// MSR numbers (AMD64 APM vol. 2, appendix A).
enum ModelSpecific {
  static let timestamp: UInt32 = 0x10, efer: UInt32 = 0xc000_0080, star: UInt32 = 0xc000_0081
  static let longTarget: UInt32 = 0xc000_0082, compatibilityTarget: UInt32 = 0xc000_0083
  static let flagMask: UInt32 = 0xc000_0084, fsBase: UInt32 = 0xc000_0100, gsBase: UInt32 = 0xc000_0101
  static let kernelGSBase: UInt32 = 0xc000_0102, timestampAuxiliary: UInt32 = 0xc000_0103
  static let microcode: UInt32 = 0x8b, pageAttributes: UInt32 = 0x277
  static let localBase: UInt32 = 0x1b, deadline: UInt32 = 0x6e0
  static let local: ClosedRange<UInt32> = 0x800...0x8ff
  static let systemEnter: ClosedRange<UInt32> = 0x174...0x176
  /// Eight variable ranges, and the default type; the fixed ranges are in `isFixedRange`.
  static let memoryTypeCapability: UInt32 = 0xfe, defaultMemoryType: UInt32 = 0x2ff
  static let variableRanges: ClosedRange<UInt32> = 0x200...0x20f

  static func isFixedRange(_ index: UInt32) -> Bool {
    switch index {
    case 0x250, 0x258, 0x259, 0x268...0x26f: true
    default: false
    }
  }

  /// After RESET: WB, WT, UC-, UC, twice.
  static let resetPageAttributes: UInt64 = 0x0007_0406_0007_0406
}

extension RewritingProcessor {
  func readModelSpecific(_ index: UInt32) throws(Interruption) -> UInt64 {
    switch index {
    case ModelSpecific.timestamp: timestamp
    case ModelSpecific.efer: system.efer
    case ModelSpecific.fsBase: system.fs.base
    case ModelSpecific.gsBase: system.gs.base
    case ModelSpecific.kernelGSBase: kernelGSBase
    case ModelSpecific.star, ModelSpecific.longTarget, ModelSpecific.compatibilityTarget, ModelSpecific.flagMask,
      ModelSpecific.timestampAuxiliary, ModelSpecific.systemEnter,
      ModelSpecific.defaultMemoryType, ModelSpecific.variableRanges:
      modelSpecific[index] ?? 0
    case ModelSpecific.pageAttributes: modelSpecific[index] ?? ModelSpecific.resetPageAttributes
    case ModelSpecific.microcode: 0
    // Eight variable ranges, fixed ranges, write-combining.
    case ModelSpecific.memoryTypeCapability: 0x508
    case ModelSpecific.localBase, ModelSpecific.deadline, ModelSpecific.local: try readLocalRegister(index)
    case ClockRegister.wallClock, ClockRegister.systemTime: modelSpecific[index] ?? 0
    case let index where BranchRecord.contains(index): branchRecord.read(index)
    case let index where ModelSpecific.isFixedRange(index): modelSpecific[index] ?? 0
    default:
      if let value = readFamilyRegister(index) { value } else { throw .exception(.general) }
    }
  }

  func writeModelSpecific(_ index: UInt32, _ value: UInt64) throws(Interruption) {
    switch index {
    case ModelSpecific.timestamp:
      timestampOffset = value &- cws_timestamp()
      storeSystemTime()
    case ModelSpecific.efer: try writeEFER(value)
    case ModelSpecific.fsBase, ModelSpecific.gsBase:
      guard LinearAddress.isCanonical(value) else { throw .exception(.general) }
      if index == ModelSpecific.fsBase { control.fsBase = value } else { control.gsBase = value }
    case ModelSpecific.kernelGSBase:
      guard LinearAddress.isCanonical(value) else { throw .exception(.general) }
      kernelGSBase = value
    case ModelSpecific.longTarget, ModelSpecific.compatibilityTarget:
      guard LinearAddress.isCanonical(value) else { throw .exception(.general) }
      modelSpecific[index] = value
    case ModelSpecific.flagMask, ModelSpecific.timestampAuxiliary:
      modelSpecific[index] = value & 0xffff_ffff
    case ModelSpecific.star:
      modelSpecific[index] = value
    case ModelSpecific.systemEnter: modelSpecific[index] = value
    case ModelSpecific.microcode: break
    case ModelSpecific.pageAttributes:
      for field in 0..<8 {
        let type = value >> UInt64(8 * field) & 0xff
        guard type < 8, type != 2, type != 3 else { throw .exception(.general) }
      }
      modelSpecific[index] = value
    case ModelSpecific.defaultMemoryType:
      guard value & ~0xcff == 0, isMemoryType(value & 0xff) else { throw .exception(.general) }
      modelSpecific[index] = value
    case ModelSpecific.variableRanges:
      // Base and mask in turn; 40 bits of physical address.
      let reserved: UInt64 = index & 1 == 0 ? 0xf00 : 0x7ff
      guard value >> 40 == 0, value & reserved == 0, index & 1 != 0 || isMemoryType(value & 0xff) else {
        throw .exception(.general)
      }
      modelSpecific[index] = value
    case ModelSpecific.localBase, ModelSpecific.deadline, ModelSpecific.local: try writeLocalRegister(index, value)
    case ClockRegister.wallClock, ClockRegister.systemTime: writeClockRegister(index, value)
    case let index where BranchRecord.contains(index):
      guard branchRecord.write(index, value) else { throw .exception(.general) }
    case let index where ModelSpecific.isFixedRange(index):
      for field in 0..<8 {
        guard isMemoryType(value >> UInt64(8 * field) & 0xff) else { throw .exception(.general) }
      }
      modelSpecific[index] = value
    default: try writeFamilyRegister(index, value)
    }
  }

  /// UC, WC, WT, WP, WB: what MTRRs may say. All memory is write-back whatever they say.
  private func isMemoryType(_ value: UInt64) -> Bool { value < 7 && value != 2 && value != 3 }

  private func writeEFER(_ value: UInt64) throws(Interruption) {
    // SCE, LME, LMA, NXE.
    guard value & ~0xd01 == 0 else { throw .exception(.general) }
    let (old, new) = (control.efer, EFER(rawValue: value))
    if control.cr0.contains(.paging), new.symmetricDifference(old).contains(.longModeEnable) {
      throw .exception(.general)
    }
    control.set(efer: new.subtracting(.longModeActive).union(old.intersection(.longModeActive)))
  }
}
