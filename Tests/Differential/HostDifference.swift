// Where processors differ from the model that guests get, which is AMD's family 1Ah, on every host.
//
// The differential tests run the same code on the host's processor and by the engine. Where the host is another processor than
// the model, both are right and not the same. Each such class is named here, with the vendor whose processors are known
// for it; the tests assert the model's result, and accept the host's only as one of these. An outcome that is of no class
// is a failure, and so is a class on a host of another vendor. Seen on Intel's Emerald Rapids (family 6, model 207) in
// 536,000 cases; docs/hosts.md has the list for readers.

import TrivisorInstructionSet
import TrivisorVMM

/// A class of differences between the host's processor and the model.
public enum HostDifference: String, Sendable, CaseIterable {
  /// 66 before a near branch in 64-bit mode: Intel ignores it (SDM vol. 2, "RET": the operand size is forced to 64 bits); to
  /// AMD it is a 16-bit operand (APM vol. 3, "RET (Near)"). Smallest: `66 c3`.
  case nearBranchOperandSize
  /// PUSH of a segment register with a 32-bit operand writes 2 bytes (SDM vol. 2, "PUSH") instead of 4.
  case segmentPushWidth
  /// Operands of VEX encodings, MOVUPS, MOVUPD, MOVDQU, LDDQU and PCMPxSTRx that are not aligned while AC is 1: no #AC (SDM vol. 2, 2.4).
  case vectorAlignment
  /// A gather that faults leaves its mask in another form: each lane all ones or zeros. It may have cleared what lies above its
  /// destination.
  case gatherMask
  /// A call to an address that is not canonical stores the return address before its #GP.
  case callStoresFirst
  /// An MMX store that faults has made TOP 0 already.
  case multimediaTop
  /// VCVTPS2PH whose store faults has set MXCSR's flags already; where they are not masked, their exception comes first.
  case conversionFlags
  /// MASKMOVDQU, VMASKMOV and VPMASKMOV that fault: CR2 is another address of the operand's, perhaps on its other page.
  case maskedMoveAddress
  /// An x87 store with an unmasked exception and a bad address: the exception only, where the model has the fault.
  case x87StoreOrder
  /// REP SCAS and CMPS that fault: RFLAGS are those before the instruction, not the last iteration's.
  case repeatedCompareFlags
  /// A repeated instruction with 32-bit addresses that faults at its first element: RCX, RSI or RDI is zero-extended.
  case repeatedCounterExtension
  /// FSTP m80 and FBSTP across a page that can't be written: the part before it is stored.
  case x87PartialStore
  /// A 32-bit access across 4 GiB in a flat segment: #PF instead of #GP.
  case addressSpaceEnd
  /// CMPS whose operands both fault: its destination is read first. AMD's family 17h does so always, 19h but for REPE CMPSB, and
  /// Intel's model 207 always.
  case compareOrder
  /// MOVSXD with a 16-bit operand: Intel reads 2 bytes (SDM vol. 2, "MOVSXD"), where the model reads 4. Smallest: `66 63 06`.
  case signExtensionWidth
  /// F2 and F3 before LOOPNE and LOOPE are ignored.
  case loopPrefix
  /// Bit 17 of MXCSR, AMD's misaligned exception mask, is taken; to the model it is reserved.
  case misalignedMask

  /// Whose processors do so.
  package var vendors: [HostProcessor.Vendor] {
    switch self {
    case .compareOrder: [.amd, .intel]
    case .misalignedMask: [.amd]
    default: [.intel]
    }
  }

  /// Classes that an unprejudiced run of some length must have met on a host of this vendor: else what is written here is
  /// no longer true.
  package static func expected(on vendor: HostProcessor.Vendor) -> [HostDifference] {
    switch vendor {
    case .intel:
      allCases.filter {
        ![.segmentPushWidth, .signExtensionWidth, .addressSpaceEnd, .loopPrefix, .misalignedMask].contains($0)
      }
    case .amd, .other: []
    }
  }

  /// The class of a difference on a host of this vendor, if it is one.
  package static func classify(_ observation: HostObservation, on vendor: HostProcessor.Vendor) -> HostDifference? {
    allCases.first { $0.vendors.contains(vendor) && $0.explains(observation) }
  }

  // MARK: By another encoding

  /// The same instruction as the model would have to be given it to do as the host does: for classes that are a matter of
  /// prefixes. With it, the model's outcome must be the native one.
  package func encodingForModel(_ bytes: [UInt8], _ instruction: Instruction) -> [UInt8]? {
    let ignored: Set<UInt8>
    switch (self, instruction.classification) {
    case (.nearBranchOperandSize, .jump), (.nearBranchOperandSize, .conditionalJump), (.nearBranchOperandSize, .call),
      (.nearBranchOperandSize, .nearReturn), (.nearBranchOperandSize, .indirectJump),
      (.nearBranchOperandSize, .indirectCall), (.nearBranchOperandSize, .loop):
      guard instruction.mode == .bits64 else { return nil }
      ignored = [0x66]
    case (.loopPrefix, .loop): ignored = [0xf2, 0xf3]
    default: return nil
    }
    let prefixes = Int(instruction.prefixCount)
    guard bytes.prefix(prefixes).contains(where: ignored.contains) else { return nil }
    // 3E, an override to DS, means nothing to a branch.
    return bytes.prefix(prefixes).map { ignored.contains($0) ? 0x3e : $0 } + bytes.dropFirst(prefixes)
  }

  // MARK: By what came of it

  /// #SS, #GP, #PF and #AC, as which a bus error of the host's counts, too.
  private static let memoryFaults: Set<UInt64> = [12, 13, 14, 17]

  private func explains(_ seen: HostObservation) -> Bool {
    guard let last = seen.modelLast else { return false }
    switch self {
    case .nearBranchOperandSize, .loopPrefix: return false  // encodingForModel
    case .segmentPushWidth: return explainsSegmentPush(seen, last)
    case .vectorAlignment:
      return seen.model.vector == 17 && seen.model.errorCode == 0 && seen.model.flags & 0x4_0000 != 0
        && !(seen.native.vector == 17 && seen.native.rip == seen.model.rip) && last.toleratesMisalignment
    case .gatherMask: return explainsGather(seen, last)
    case .callStoresFirst: return explainsCall(seen, last)
    case .multimediaTop: return explainsTop(seen, last)
    case .conversionFlags: return explainsConversion(seen, last)
    case .maskedMoveAddress:
      let distance = Int64(bitPattern: seen.native.address &- seen.model.address)
      return last.isMaskedStore && seen.endsAlike(butFor: [.address, .errorCode]) && seen.model.vector == 14
        && -32 < distance && distance < 32
    case .x87StoreOrder: return explainsX87Order(seen, last)
    case .repeatedCompareFlags:
      let changed = seen.native.flags ^ seen.model.flags
      return last.isRepeated && last.comparesStrings && seen.endsAlike(butFor: [.flags]) && changed & ~0x8d5 == 0
        && Self.memoryFaults.contains(seen.model.vector)
    case .repeatedCounterExtension:
      let registers = [1, 6, 7]
      return last.isRepeated && last.addressSize == 4 && last.mode == .bits64
        && seen.endsAlike(butFor: Set(registers.map { .general($0) })) && seen.model.vector == 14
        && registers.allSatisfy {
          let (native, model) = (seen.native.general[$0], seen.model.general[$0])
          return native == model || native == model & 0xffff_ffff
        }
    case .x87PartialStore:
      let start = seen.model.address &- 10
      return last.feature == .x87 && seen.endsAlike(butFor: [.memory]) && seen.model.vector == 14
        && ["fstp", "fbstp"].contains(last.mnemonic) && last.memoryOperand?.size == 10
        && seen.model.address & 0xfff == 0 && seen.memory.allSatisfy { start..<seen.model.address ~= $0.address }
    case .compareOrder: return explainsCompareOrder(seen, last)
    case .signExtensionWidth:
      return last.operation == .movsxd && last.operandSize == 2 && last.hasModRMMemory
        && Self.memoryFaults.contains(seen.model.vector) && seen.native.rip != seen.model.rip
    case .addressSpaceEnd:
      return last.mode != .bits64 && seen.native.vector == 14 && [12, 13, 17].contains(seen.model.vector)
        && seen.native.rip == seen.model.rip
        && (seen.native.address >= 0xffff_ffc0 || seen.native.address < 64)
        && seen.parts.isSubset(of: [.vector, .address, .errorCode])
    case .misalignedMask:
      return ["ldmxcsr", "vldmxcsr"].contains(last.mnemonic) && seen.model.vector == 13
        && seen.native.rip != seen.model.rip
    }
  }

  /// Natively two bytes more are as they were; or the model's access reaches where it must not.
  private func explainsSegmentPush(_ seen: HostObservation, _ last: Instruction) -> Bool {
    if last.pushesSegment, last.operandSize == 4, seen.native.rip != seen.model.rip {
      return Self.memoryFaults.contains(seen.model.vector)
    }
    // The instruction is behind both: the bytes are zeros by the model, as the selector's extension.
    return seen.parts == [.memory] && !last.isCall && seen.memory.count <= 2 * 8
      && seen.memory.allSatisfy { $0.model == 0 }
  }

  private func explainsConversion(_ seen: HostObservation, _ last: Instruction) -> Bool {
    let added = seen.native.mxcsr & ~seen.model.mxcsr
    guard last.mnemonic == "vcvtps2ph", seen.native.rip == seen.model.rip, [12, 13, 14].contains(seen.model.vector),
      seen.model.mxcsr & ~seen.native.mxcsr == 0, added & ~0x3f == 0
    else { return false }
    if seen.endsAlike(butFor: [.mxcsr]) { return true }
    let isUnmasked = seen.native.mxcsr & ~(seen.native.mxcsr >> 7) & 0x3f != 0
    return seen.native.vector == 19 && isUnmasked && seen.parts.isSubset(of: [.mxcsr, .vector, .errorCode, .address])
  }

  private func explainsGather(_ seen: HostObservation, _ last: Instruction) -> Bool {
    let mask = Int(last.vvvv), destination = Int(last.rex & 4) << 1 | Int(last.reg)
    guard last.memoryOperand?.source == .gather,
      seen.endsAlike(butFor: [.vectorRegister(mask), .vectorRegister(destination)]),
      [12, 13, 14].contains(seen.model.vector)
    else { return false }
    for word in 4 * destination..<4 * destination + 4 {
      let native = seen.native.vectors[word]
      guard native == seen.model.vectors[word] || native == 0 && word >= 4 * destination + 2 else { return false }
    }
    for word in 4 * mask..<4 * mask + 4 {
      let native = seen.native.vectors[word], model = seen.model.vectors[word]
      let normalised: UInt64
      if last.rexW {
        normalised = model >> 63 == 1 ? .max : 0
      } else {
        normalised = (model >> 63 == 1 ? 0xffff_ffff << 32 : 0) | (model >> 31 & 1 == 1 ? 0xffff_ffff : 0)
      }
      // So may what lies above the mask.
      guard native == normalised || native == model || native == 0 && word >= 4 * mask + 2 else { return false }
    }
    return true
  }

  private func explainsCall(_ seen: HostObservation, _ last: Instruction) -> Bool {
    guard last.isCall, seen.model.vector == 13,
      seen.native.rip == seen.model.rip
    else { return false }
    guard last.mode == .bits64 else { return seen.endsAlike(butFor: [.memory]) && storesReturnAddress(seen, last) }
    let slot = seen.model.general[4] &- 8
    let next = seen.model.rip &+ UInt64(last.length)
    if seen.native.vector == 13 {
      return seen.endsAlike(butFor: [.memory])
        && seen.memory.allSatisfy {
          let offset = $0.address &- slot
          return offset < 8 && $0.native == UInt8(truncatingIfNeeded: next >> (8 * offset))
        }
    }
    // Where it can't be stored, that is the fault.
    return [12, 14, 17].contains(seen.native.vector)
      && seen.parts.isSubset(of: [.vector, .errorCode, .address, .memory])
  }

  /// Outside 64-bit mode, where the stack segment's base is not known here: whether the bytes that differ are natively some of the
  /// return address.
  private func storesReturnAddress(_ seen: HostObservation, _ last: Instruction) -> Bool {
    let next = seen.model.rip &+ UInt64(last.length), size = UInt64(last.operandSize)
    guard let first = seen.memory.map(\.address).min() else { return false }
    return (0..<size).contains { before in
      seen.memory.allSatisfy {
        let offset = $0.address &- (first &- before)
        return offset < size && $0.native == UInt8(truncatingIfNeeded: next >> (8 * offset))
      }
    }
  }

  private func explainsTop(_ seen: HostObservation, _ last: Instruction) -> Bool {
    guard last.storesMultimediaRegister, Self.memoryFaults.contains(seen.model.vector),
      seen.endsAlike(butFor: [.x87Status, .x87Tags, .x87Registers]), seen.native.x87Status & 0x3800 == 0,
      (seen.native.x87Status ^ seen.model.x87Status) & ~0x3800 == 0,
      seen.native.x87Tags == seen.model.x87Tags || seen.native.x87Tags == 0xff
    else { return false }
    // The same physical registers, counted from another top.
    let top = Int(seen.model.x87Status >> 11 & 7)
    return (0..<8).allSatisfy { seen.native.x87Registers[$0] == seen.model.x87Registers[($0 - top) & 7] }
  }

  private func explainsCompareOrder(_ seen: HostObservation, _ last: Instruction) -> Bool {
    guard last.comparesStrings, last.opcode & ~1 == 0xa6, seen.native.rip == seen.model.rip,
      Self.memoryFaults.contains(seen.native.vector), Self.memoryFaults.contains(seen.model.vector)
    else { return false }
    guard
      seen.parts.isSubset(of: [.vector, .errorCode, .address]),
      seen.native.vector != seen.model.vector || seen.native.address != seen.model.address
    else { return false }
    // Outside 64-bit mode segments have bases, which are not known here.
    guard last.mode == .bits64 else { return true }
    let size = last.opcode & 1 == 0 ? 1 : UInt64(last.operandSize)
    func offset(_ register: Int) -> UInt64 {
      last.addressSize == 4 ? seen.native.general[register] & 0xffff_ffff : seen.native.general[register]
    }
    // The host's fault is the destination's, and the model's the source's, which FS or GS may have moved.
    let alignmentIsChecked = seen.native.flags & (1 << 18) != 0
    if seen.native.vector == 17, !alignmentIsChecked || offset(7) % size == 0 { return false }
    if seen.model.vector == 17, !alignmentIsChecked || (last.segmentOverride == nil && offset(6) % size == 0) {
      return false
    }
    return seen.native.vector != 14 || seen.native.address &- offset(7) < UInt64(last.operandSize)
  }

  private func explainsX87Order(_ seen: HostObservation, _ last: Instruction) -> Bool {
    guard last.feature == .x87, last.storesX87Value, Self.memoryFaults.contains(seen.model.vector) else { return false }
    // An exception is pending, unmasked.
    let isPending = seen.native.x87Status & 0x80 != 0 && seen.native.x87Status & ~seen.native.x87Control & 0x3f != 0
    return isPending && (seen.native.rip != seen.model.rip || seen.native.vector == 16)
  }
}

extension Instruction {
  fileprivate var toleratesMisalignment: Bool {
    guard hasModRMMemory else { return false }
    if encoding == .vex { return true }
    return ["movups", "movupd", "movdqu", "lddqu"].contains(mnemonic) || mnemonic.hasPrefix("pcmpestr")
      || mnemonic.hasPrefix("pcmpistr")
  }

  fileprivate var isCall: Bool { classification == .call || classification == .indirectCall }

  fileprivate var isMaskedStore: Bool { mnemonic.contains("maskmov") }

  fileprivate var comparesStrings: Bool {
    encoding == .legacy && opcodeMap == OpcodeMap.oneByte && [0xa6, 0xa7, 0xae, 0xaf].contains(opcode)
  }

  package var pushesSegment: Bool {
    guard encoding == .legacy else { return false }
    return opcodeMap == OpcodeMap.oneByte
      ? [0x06, 0x0e, 0x16, 0x1e].contains(opcode)
      : opcodeMap == OpcodeMap.escape0F && (opcode == 0xa0 || opcode == 0xa8)
  }

  /// MMX, with memory as its destination: MOVD, MOVQ, MOVNTQ, MASKMOVQ.
  fileprivate var storesMultimediaRegister: Bool {
    guard encoding == .legacy, opcodeMap == OpcodeMap.escape0F, !prefixes.contains(.operandSize),
      !prefixes.contains(.rep), !prefixes.contains(.repne)
    else { return false }
    return [0x7e, 0x7f, 0xe7].contains(opcode) && hasModRMMemory || opcode == 0xf7
  }

  /// FST, FSTP, FIST, FISTP, FISTTP, FBSTP to memory.
  fileprivate var storesX87Value: Bool {
    guard hasModRMMemory else { return false }
    return ["fst", "fstp", "fist", "fistp", "fisttp", "fbstp"].contains(mnemonic)
  }
}
