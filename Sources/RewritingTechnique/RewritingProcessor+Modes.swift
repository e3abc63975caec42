// The mode of the code that runs, where translated code changes it without Swift: system calls, the returns from them and
// from interrupts, STAC and CLAC (helpers.c). What they need to know is in the state block; what they have changed there
// is adopted when translated code is left.

import CWorldSwitch
import InstructionSet
import VMM

/// Ways from one mode to another that translated code goes by itself, once it knows the other's number.
enum ModeChange {
  case systemCall, returnToUser, otherAccess
}

extension RewritingProcessor {
  /// A return to CPL 3 makes the segment null.
  private static func isInner(_ segment: Segment) -> Bool {
    segment.selector & 0xfffc != 0 && segment.attributes & 0x60 != 0x60
  }

  /// What SYSCALL in long mode makes of CS and SS.
  func callSegments() -> (Segment, Segment) {
    let selector = UInt16(truncatingIfNeeded: (modelSpecific[ModelSpecific.star] ?? 0) >> 32) & 0xfffc
    return (.flatCode64(selector: selector), .flatData(selector: selector &+ 8))
  }

  /// And SYSRET to 64-bit mode.
  func returnSegments() -> (Segment, Segment) {
    let base = UInt16(truncatingIfNeeded: (modelSpecific[ModelSpecific.star] ?? 0) >> 48)
    var code = Segment.flatCode64(selector: (base &+ 16) | 3)
    code.attributes |= 0x60
    var data = Segment.flatData(selector: (base &+ 8) | 3)
    data.attributes |= 0x60
    return (code, data)
  }

  /// Tells translated code the registers that it works with, whenever the mode is looked at.
  func publishSystem() {
    block.state.pointee.fs_base = system.fs.base
    block.state.pointee.gs_base = system.gs.base
    let place = block.system
    place.pointee.mode = UInt64(modeNumber)
    place.pointee.segments = CWS_SEGMENTS_KEPT
    place.pointee.controls = (system.cr0, 0, system.cr2, system.cr3, system.cr4)
    place.pointee.selectors = (
      UInt64(system.es.selector), UInt64(system.cs.selector), UInt64(system.ss.selector), UInt64(system.ds.selector),
      UInt64(system.fs.selector), UInt64(system.gs.selector)
    )
    place.pointee.gdt_base = system.gdt.base
    place.pointee.gdt_limit = UInt64(system.gdt.limit)
    let hasPlainStack =
      system.ss == .flatData(selector: system.ss.selector)
      || system.ss == Segment(selector: 0, base: 0, limit: .max, attributes: 0xc093, isUnusable: true)
    place.pointee.segments_are_plain =
      cpl == 0 && system.cs == .flatCode64(selector: system.cs.selector) && hasPlainStack ? 1 : 0
    hasInnerDataSegments =
      Self.isInner(system.ds) || Self.isInner(system.es) || Self.isInner(system.fs) || Self.isInner(system.gs)
    let controls = (system.cr0, system.cr4, system.efer, xcr0)
    if controls != neighbourhood {
      neighbourhood = controls
      forgetNeighbours()
    }
  }

  /// After the MSRs of system calls changed.
  func publishSystemCalls() {
    let place = block.system
    place.pointee.timestamp_auxiliary = modelSpecific[ModelSpecific.timestampAuxiliary] ?? 0
    place.pointee.call_target = modelSpecific[ModelSpecific.longTarget] ?? 0
    place.pointee.call_flags = ~(modelSpecific[ModelSpecific.flagMask] ?? 0)
    let (call, back) = (callSegments(), returnSegments())
    place.pointee.call_selectors = (UInt64(call.0.selector), UInt64(call.1.selector))
    place.pointee.return_selectors = (UInt64(back.0.selector), UInt64(back.1.selector))
  }

  /// The modes' numbers begin anew: everything goes that was noted or translated under a number.
  func forgetModes() {
    modes.removeAll()
    forgetNeighbours()
    // Blocks and jump caches.
    store.removeAll()
  }

  private func forgetNeighbours() {
    let none = cws_neighbours(kernel: CWS_NO_MODE, user: CWS_NO_MODE, other_access: CWS_NO_MODE, reserved: 0)
    withUnsafeMutableBytes(of: &block.system.pointee.neighbours) { bytes in
      let table = bytes.bindMemory(to: cws_neighbours.self)
      for number in table.indices { table[number] = none }
    }
  }

  /// Notes that an instruction which Swift has just carried out leads from one mode to the one there is now. The modes say
  /// all that the way depends on, but for the control registers.
  func noteNeighbour(_ change: ModeChange, of number: UInt8, _ from: CodeMode) throws(Interruption) {
    try establishMode()
    guard Int(number) < modes.count, modes[Int(number)] == from, from.bits == .bits64, mode.bits == .bits64 else {
      return
    }
    guard !from.isSingleStepping, !mode.isSingleStepping, !from.checksAccesses, !mode.checksAccesses else { return }
    let isRight =
      switch change {
      case .systemCall: mode.isKernel && !mode.overridesSMAP
      case .returnToUser: from.isKernel && mode.isUser
      case .otherAccess: from.isKernel && mode.isKernel && from.overridesSMAP != mode.overridesSMAP
      }
    guard isRight else { return }
    withUnsafeMutableBytes(of: &block.system.pointee.neighbours) { bytes in
      let table = bytes.bindMemory(to: cws_neighbours.self)
      switch change {
      case .systemCall: table[Int(number)].kernel = modeNumber
      case .returnToUser: table[Int(number)].user = modeNumber
      case .otherAccess: table[Int(number)].other_access = modeNumber
      }
    }
  }

  /// Translated code has changed the mode, or CS and SS.
  func adoptMode() {
    let place = block.system
    switch place.pointee.segments {
    case CWS_SEGMENTS_OF_CALL: (system.cs, system.ss) = callSegments()
    case CWS_SEGMENTS_OF_RETURN: (system.cs, system.ss) = returnSegments()
    default: break
    }
    place.pointee.segments = CWS_SEGMENTS_KEPT
    let number = Int(truncatingIfNeeded: place.pointee.mode)
    guard number < modes.count else { return }
    modeNumber = UInt8(truncatingIfNeeded: number)
    mode = modes[number]
    cpl = mode.isUser ? 3 : 0
  }
}
