import Synchronization
import TrivisorVMM

/// Stands in the place of a domain's kernel on its first processor: makes its hypercalls and uses its memory, with nobody who would
/// execute code of it. For tools that try the hypervisor's side alone.
package struct KernelStandIn {
  private let domain: Domain
  private let processor: DomainProcessor

  /// - Parameter domain: without an executor.
  package init(_ domain: Domain) {
    self.domain = domain
    processor = domain.processors[0]
  }

  /// The host's width of the domain's words is 64 bits.
  package var isWide: Bool { domain.layout == .bits64 }

  /// Whether the domain has shut down or crashed.
  package var hasEnded: Bool { domain.lock.withLock { _ in domain.ending != nil } }

  /// Makes a hypercall, in kernel mode, awake, with a stack.
  /// - Returns: the register of the result: of 32 bits its lower half.
  @discardableResult
  package func call(_ number: UInt64, _ arguments: InlineArray<6, UInt64>, stack: UInt64) -> UInt64 {
    domain.lock.withLock { _ in
      if processor.mode == .user { processor.switchMode() }
      (processor.rest, processor.isYielding) = (.none, false)
      processor.registers.rsp = stack
      processor.registers.rax = number
      if isWide {
        (processor.registers.rdi, processor.registers.rsi) = (arguments[0], arguments[1])
        (processor.registers.rdx, processor.registers.r10) = (arguments[2], arguments[3])
        (processor.registers.r8, processor.registers.r9) = (arguments[4], arguments[5])
      } else {
        (processor.registers.rbx, processor.registers.rcx) = (arguments[0], arguments[1])
        (processor.registers.rdx, processor.registers.rsi) = (arguments[2], arguments[3])
        (processor.registers.rdi, processor.registers.rbp) = (arguments[4], arguments[5])
      }
      Hypercall.perform(processor)
      return processor.registers.rax
    }
  }

  /// What the hypervisor does before guest code goes on.
  /// - Parameter delivers: interrupts and upcalls, too.
  package func goOn(delivers: Bool) {
    domain.lock.withLock { _ in
      domain.memory.removeStaleTranslations()
      domain.lookAround(processor)
      guard delivers else { return }
      processor.delivery.deliverInterrupt()
      processor.delivery.deliverUpcall()
    }
  }

  /// Stores into the kernel's memory.
  /// - Returns: whether it may be written there.
  @discardableResult
  package func store<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value, _ address: UInt64) -> Bool {
    domain.lock.withLock { _ in
      (try? domain.memory.write(value, to: address, root: processor.kernelRoot)) != nil
    }
  }

  /// Says something in the domain's part of the store, as its drivers do, and lets back ends see it.
  package func announce(_ path: String, _ value: String) {
    domain.lock.withLock { _ in
      domain.store.set("\(domain.store.home)/\(path)", value)
      DiskService(domain: domain).attend()
    }
  }

  /// What is wrong with the page tables, if anything.
  package var inconsistency: String? { domain.lock.withLock { _ in domain.memory.tables.inconsistency } }
}
