// A virtual CPU of a domain: the run loop.
//
//     input, upcalls ─▶ guest code (sandbox) ─▶ trap ─┬─ SYSCALL ─▶ Domain.hypercall
//          ▲                                          ├─ #PF: in the guest's tables? map it : bounce
//          │                                          └─ other exceptions: bounce
//          └──── stale translations removed ◀─────────┘

import Boot
import Glibc
import Sandbox
import SystemPackage
import VMM

/// The one virtual CPU of a `ParavirtPartition`.
final class ParavirtProcessor: Processor {
  private let memory: GuestMemory
  private let bus: Bus
  private let space: GuestAddressSpace
  private let doorbell: Doorbell
  private var domain: Domain?
  private var thread: SandboxThread?
  private var registers = UserRegisters()
  private var machine = MachineState()
  private(set) var counters = Counters()

  init(memory: GuestMemory, bus: Bus, space: GuestAddressSpace, doorbell: Doorbell) {
    self.memory = memory
    self.bus = bus
    self.space = space
    self.doorbell = doorbell
  }

  deinit {
    doorbell.disconnect()
    space.destroy()
  }

  var stopHandle: any StopHandle { doorbell }

  /// A domain can always be woken by its console.
  var isHaltedForGood: Bool { false }

  func run() throws(TechniqueFailure) -> StopReason {
    guard domain != nil else {
      return .crashed(CrashReport(summary: "there is no domain: the image is none for Xen's paravirtual interface"))
    }
    if thread == nil {
      // Both sides on one processor of the host: waking the other one costs many times more.
      space.process.pinWithCaller(0, processor: SandboxProcess.currentProcessor)
      do throws(SandboxEnded) {
        thread = try SandboxThread(space.process, index: 0)
      } catch {
        return .crashed(CrashReport(summary: error.description))
      }
    }
    while true {
      if doorbell.takeStopRequest() { return .stopRequested }
      if doorbell.takeInput(), domain?.console.fill() == true { domain?.raise(XenMachine.consolePort) }
      if domain?.isBlocked == true {
        doorbell.sleep()
        continue
      }
      domain?.deliverUpcall(&registers)
      if let reason = step() { return reason }
    }
  }

  /// Runs guest code up to its next trap and answers it.
  private func step() -> StopReason? {
    do {
      try removeStale()
      if let reason = endingReason() { return reason }
      guard let thread else { return nil }
      doorbell.setInGuest(true)
      defer { doorbell.setInGuest(false) }
      let trap = try thread.run(&registers)
      counters.count(.exit)
      try answer(trap)
      return endingReason()
    } catch let failure as MappingFailure {
      if doorbell.takeStopRequest() { return .stopRequested }
      let reason = space.process.ending?.description ?? "the host refuses its mappings: \(failure)"
      return .crashed(crashReport(reason))
    } catch {
      // Killed because it took no notice of a request, or by what the guest did.
      if doorbell.takeStopRequest() { return .stopRequested }
      return .crashed(crashReport("\(error)"))
    }
  }

  private func removeStale() throws(MappingFailure) {
    switch domain?.stale ?? .nothing {
    case .nothing: return
    case .page(let address): try space.remove(address)
    case .everything: try space.removeAll()
    }
    domain?.stale = .nothing
  }

  private func answer(_ trap: SandboxTrap) throws(MappingFailure) {
    switch trap {
    case .interrupted:
      counters.count(.exitInterrupted)
    case .systemCall(let rip):
      // From elsewhere than RIP tells only in the vsyscall page, which is no part of a guest's address space.
      guard rip == registers.rip else {
        domain?.ending = .crashed("a call to the host's vsyscall page at \(hexadecimal(rip))")
        return
      }
      domain?.hypercall(&registers)
    case .foreignSystemCall(let architecture):
      domain?.ending = .crashed("a 32-bit system call (architecture \(hexadecimal(UInt64(architecture))))")
    case .exception(vector: 14, let errorCode, let address):
      try pageFault(address, errorCode)
    case .exception(let vector, let errorCode, _):
      counters.count(.exitOther)
      // Vectors whose frames hold an error code (AMD64 APM vol. 2, 8.2).
      let hasCode = [8, 10, 11, 12, 13, 14, 17].contains(vector)
      domain?.raise(
        vector: vector, errorCode: hasCode ? errorCode : nil, &registers,
        what: "exception \(vector) at \(hexadecimal(registers.rip))")
    }
  }

  /// Of the host's error code only bit 1 (store) and bit 4 (fetch) say what the guest did; the rest is the host's own.
  private func pageFault(_ address: UInt64, _ hostCode: UInt64) throws(MappingFailure) {
    let isWrite = hostCode & 2 != 0
    let isFetch = hostCode & 16 != 0
    guard let domain else { return }
    let leaf = domain.tables.leaf(address, root: domain.root)
    let isPresent = leaf.map { $0.entry & PageTables.present != 0 } ?? false
    if let leaf, isPresent, address < MappingChange.addressLimit, !isWrite || leaf.isWritable,
      !isFetch || leaf.entry & PageTables.noExecute == 0,
      let offset = domain.frames.fileOffset(PageTables.frame(leaf.entry)),
      let entry = domain.frames.entry(leaf.table, leaf.position)
    {
      let bits = PageTables.accessed | (isWrite ? PageTables.dirty : 0)
      if entry.pointee & bits != bits { entry.pointee |= bits }
      do throws(MappingFailure) {
        try space.map(
          address, fileOffset: offset, writable: leaf.isWritable && entry.pointee & PageTables.dirty != 0,
          executable: leaf.entry & PageTables.noExecute == 0)
      } catch {
        guard case .refused(let reason) = error else { throw error }
        self.domain?.ending = .crashed("the host can't map the guest's page at \(hexadecimal(address)): \(reason)")
      }
      return
    }
    counters.count(.exitOther)
    domain.setFaultAddress(address)
    let code = (isPresent ? 1 : 0) | (isWrite ? 2 : 0) | (isFetch ? 16 : 0) as UInt64
    self.domain?.raise(
      vector: 14, errorCode: code, &registers,
      what: "page fault at \(hexadecimal(registers.rip)), address \(hexadecimal(address))")
  }

  private func endingReason() -> StopReason? {
    guard let domain, let ending = domain.ending else { return nil }
    switch ending {
    case .crashed(let summary): return .crashed(crashReport(summary))
    case .shutdown(let reason):
      domain.console.drain()
      // SHUTDOWN_poweroff, _reboot, _suspend, _crash (sched.h).
      switch reason {
      case 0: return domain.store.exitCode.map { .exited(code: $0) } ?? .shutdown
      case 1: return domain.store.exitCode.map { .exited(code: $0) } ?? .reset
      case 3: return .crashed(crashReport("the guest says that it crashed (SHUTDOWN_crash)"))
      default: return .crashed(crashReport("the guest shut down for reason \(reason), which is not done here"))
      }
    }
  }

  private func crashReport(_ summary: String) -> CrashReport {
    let state = try? readState()
    var instruction: [UInt8] = []
    while instruction.count < 15, let byte = try? domain?.read(registers.rip &+ UInt64(instruction.count), count: 1) {
      instruction += byte
    }
    return CrashReport(summary: summary, state: state, instruction: instruction)
  }

  func readState() throws(TechniqueFailure) -> MachineState {
    var state = machine
    state.general.rax = registers.rax
    state.general.rbx = registers.rbx
    state.general.rcx = registers.rcx
    state.general.rdx = registers.rdx
    state.general.rsi = registers.rsi
    state.general.rdi = registers.rdi
    state.general.rsp = registers.rsp
    state.general.rbp = registers.rbp
    state.general.r8 = registers.r8
    state.general.r9 = registers.r9
    state.general.r10 = registers.r10
    state.general.r11 = registers.r11
    state.general.r12 = registers.r12
    state.general.r13 = registers.r13
    state.general.r14 = registers.r14
    state.general.r15 = registers.r15
    state.general.rip = registers.rip
    state.general.rflags = registers.rflags
    state.system.fs.base = registers.fsBase
    state.system.gs.base = registers.gsBase
    if let domain { state.system.cr3 = domain.root << 12 }
    return state
  }

  /// The first state is a domain's beginning: CR3 its root, RSI its start_info.
  func writeState(_ state: MachineState) throws(TechniqueFailure) {
    machine = state
    let general = state.general
    registers.rax = general.rax
    registers.rbx = general.rbx
    registers.rcx = general.rcx
    registers.rdx = general.rdx
    registers.rsi = general.rsi
    registers.rdi = general.rdi
    registers.rsp = general.rsp
    registers.rbp = general.rbp
    registers.r8 = general.r8
    registers.r9 = general.r9
    registers.r10 = general.r10
    registers.r11 = general.r11
    registers.r12 = general.r12
    registers.r13 = general.r13
    registers.r14 = general.r14
    registers.r15 = general.r15
    registers.rip = general.rip
    registers.rflags = general.rflags
    registers.fsBase = state.system.fs.base
    registers.gsBase = state.system.gs.base
    guard domain == nil else { return }
    domain = Domain(memory: memory, bus: bus, root: state.system.cr3 >> 12, startInfo: general.rsi)
  }
}
