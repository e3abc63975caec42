// A processor of a paravirtual domain: its kernel and its user code are both at CPL 3, with page tables each, and whatever they
// may not do themselves comes back as an exception. The vector table and the bitmap of ports are empty, so software interrupts and
// accesses to ports are exceptions, too. Segment registers are loaded as on any processor, from tables that the hypervisor keeps
// (`DescriptorKeeper`).

import TrivisorVMM
import TrivisorX86

/// The side of a translated processor that a domain's executor needs.
package struct DomainCode {
  private let processor: TranslatedProcessor

  // swift-format-ignore: AllPublicDeclarationsHaveDocumentation
  package init(_ processor: TranslatedProcessor) { self.processor = processor }

  /// Once, before it runs: long mode at CPL 3. Its segments are still to be set.
  /// - Parameter window: what it can read beside what its tables say.
  package func deprivilege(window: MappedWindow?) {
    var registers = SystemRegisters()
    let cr0: CR0 = [
      .protectedMode, .monitorCoprocessor, .extensionType, .numericError, .writeProtect, .alignmentMask, .paging,
    ]
    var cr4: CR4 = [.physicalAddressExtension, .osFXSR, .osXMMExceptions]
    if processor.identification.has(.xsave) { cr4.insert(.osXSAVE) }
    if processor.identification.has(.fsgsbase) { cr4.insert(.fsgsbase) }
    let efer: EFER = [.longModeEnable, .longModeActive, .noExecute]
    (registers.cr0, registers.cr4, registers.efer) = (cr0.rawValue, cr4.rawValue, efer.rawValue)
    let none = DescriptorTable(base: 0, limit: 0)
    (registers.gdt, registers.idt) = (none, none)
    (registers.ldt.limit, registers.task.limit) = (0, 0)
    processor.mmu.window = window
    processor.mmu.localPage = .max
    processor.control.restore(registers, privilege: 3)
    processor.control.xcr0 = processor.identification.stateComponents
    processor.flags = [.alwaysOne, .interrupt]
    processor.activity = .running
  }

  /// Makes it run with a root of page tables from now on, as the domain's kernel or as its user code. What is translated by the
  /// other's root stays.
  package func switchView(root: UInt64, isDomainKernel: Bool) {
    processor.control.switchView(root: root, isDomainKernel: isDomainKernel)
  }

  /// CR0.TS.
  package func setTaskSwitched(_ isSet: Bool) { processor.control.setTaskSwitched(isSet) }

  /// CR4.TSD.
  package func setTimeStampDisabled(_ isSet: Bool) { processor.control.setTimeStampDisabled(isSet) }

  /// Forgets every translation, but perhaps those of the upper half that are the kernel's.
  package func flushTranslations(keepsUpperHalf: Bool = false) {
    processor.translations.flush(keepsGlobal: keepsUpperHalf)
  }

  /// Forgets those of a page.
  package func flushTranslation(of linear: UInt64) { processor.translations.flush(page: linear) }

  /// The segment registers, with all that was loaded into them.
  package var segments: SegmentRegisters {
    get { processor.control.system.segments }
    nonmutating set { processor.control.load(newValue) }
  }

  /// Whether SYSCALL has ended the run, behind which RIP is; asked once.
  package func takeSystemCall() -> Bool {
    defer { processor.hasSystemCall = false }
    return processor.hasSystemCall
  }

  /// x87 and vector registers.
  package var extendedState: ExtendedState {
    var state = ExtendedState()
    (state.xcr0, state.area) = (processor.control.xcr0.rawValue, StateTransfer(processor: processor).extendedArea())
    return state
  }

  /// - Returns: whether the processor has all of it.
  package func setExtendedState(_ state: ExtendedState) -> Bool {
    guard XCR0(rawValue: state.xcr0).isSubset(of: processor.identification.stateComponents) else { return false }
    StateTransfer(processor: processor).setExtendedArea(state.area)
    return true
  }

  /// The byte at RIP, if it can be executed.
  package var nextByte: UInt8? {
    guard
      let physical = try? processor.mmu.translate(
        processor.linearRIP, .execute, isUser: processor.cpl == 3, overridesSMAP: false)
    else {
      return nil
    }
    return processor.mmu.host(physical, count: 1)?.load(as: UInt8.self)
  }
}
