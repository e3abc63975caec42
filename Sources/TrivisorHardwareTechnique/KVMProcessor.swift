// A virtual CPU under KVM: the run loop.
//
// KVM_RUN executes guest code in the processor's guest mode until something happens that the kernel does not do itself.
// It then writes what happened into `kvm_run`, a page shared with us, and returns: an *exit*. Port and device-memory
// accesses are answered from the bus right here and the loop goes on, so that one `in` costs one exit and one call; only
// the reasons that concern the whole machine leave `run()`.
//
//     guest: out dx, al ──▶ CPU leaves guest mode ──▶ KVM fills kvm_run.io ──▶ ioctl returns
//                                                                                │
//     guest goes on ◀── KVM_RUN completes the `out` ◀── loop ◀── Bus.writePort ◀─┘
//
// Nothing on that way allocates memory, or takes a lock of ours unless the interrupt chips are in software.

import CKVM
import TrivisorDevices
import Glibc
import SystemPackage
import TrivisorVMM

/// One virtual CPU of a `KVMPartition`.
final class KVMProcessor: Processor {
  let descriptor: OwnedDescriptor
  let partition: KVMPartition
  private(set) var counters = Counters()
  /// What `readState` gave, while nothing has run since: `writeState` then writes only what differs.
  var lastRead: MachineState?

  let shared: UnsafeMutablePointer<kvm_run>
  private let runSize: Int
  let stop: KVMStopHandle
  /// The side of the chips, if they are in software (`KVMProcessor+SoftwareChips`).
  var chips: SoftwareChips?
  private let bus: Bus
  var lostTime = LostTime()
  /// What a debugger from outside wants (`KVMProcessor+Debugger`).
  var debugger = KVMDebugger()

  /// Must be made on the thread that runs it.
  init(descriptor: OwnedDescriptor, runSize: Int, partition: KVMPartition) throws(TechniqueFailure) {
    let mapping = mmap(nil, runSize, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor.raw, 0)
    guard let mapping, mapping != MAP_FAILED else {
      throw TechniqueFailure(call: "mmap of kvm_run", reason: Errno(rawValue: errno).description)
    }
    self.descriptor = descriptor
    self.partition = partition
    self.runSize = runSize
    bus = partition.bus
    shared = mapping.bindMemory(to: kvm_run.self, capacity: 1)
    stop = KVMStopHandle(run: shared)
    if let chipset = partition.chipset { chips = SoftwareChips(chipset.processor(0), stop) }
  }

  deinit {
    partition.planted.remove(debugger.places)
    chips?.interrupts.connect(nil)
    stop.invalidate()
    munmap(shared, runSize)
  }

  var stopHandle: any StopHandle { stop }

  /// What KVM knows of it.
  var state: KVMProcessorState { KVMProcessorState(of: descriptor, in: partition) }

  func readState() throws(TechniqueFailure) -> MachineState {
    var read = try state.read(hasLocalAPIC: chips == nil)
    if let chips, chips.isHalted { read.activity = .halted }
    lastRead = read
    return read
  }

  func writeState(_ state: MachineState) throws(TechniqueFailure) {
    let known = lastRead
    lastRead = nil
    try self.state.write(state, known: known, hasLocalAPIC: chips == nil)
    restoreChips(state)
  }

  var isHaltedForGood: Bool {
    if let chips, !chips.isHalted { return false }
    return state.isHaltedForGood(isInHalt: chips != nil)
  }

  func run() throws(TechniqueFailure) -> StopReason {
    lastRead = nil
    lostTime.enter(now: monotonicNanoseconds())
    return debugger.isActive ? try runForDebugger() : try runGuest()
  }

  /// Until there is a reason to stop.
  func runGuest() throws(TechniqueFailure) -> StopReason {
    while true {
      if chips != nil, !debugger.holdsInterrupts, let reason = serveChips() { return reason }
      let entered = monotonicNanoseconds()
      let result = kvm_run(descriptor.raw)
      counters.count(.nanosecondsInGuest, monotonicNanoseconds() &- entered)
      counters.count(.exit)
      if chips != nil { noteExit() }
      if result < 0 {
        switch -result {
        case EINTR, EAGAIN:
          counters.count(.exitInterrupted)
          if stop.takeRequest() { return .stopRequested }
          tellOfLostTime()
          continue
        default:
          throw TechniqueFailure(
            call: "KVM_RUN", reason: Errno(rawValue: -result).description,
            remedy: "see dmesg for what KVM says")
        }
      }
      if let reason = handleExit() {
        completeAccess()
        return reason
      }
    }
  }

  /// After KVM_RUN was interrupted, but by no request: tells the guest if it was stopped meanwhile, so that its watchdogs begin
  /// anew.
  ///
  /// A process that is stopped and continued gets there before the guest runs again. With the chips in the kernel nobody else
  /// interrupts KVM_RUN, and how long the guest was idle in there is not known; with chips in software, kicks do, and the time
  /// that the thread was kept from running tells.
  private func tellOfLostTime() {
    guard chips == nil || lostTime.isLong(now: monotonicNanoseconds()) else { return }
    // Refused while the guest has no clock of KVM's, which then knows of no gap.
    _ = kvm_clock_control(descriptor.raw)
  }

  /// Finishes the instruction whose access to a device ended the run.
  ///
  /// KVM completes an `in`, `out`, load or store only when it is entered again (Documentation/virt/kvm/api.rst, "KVM_RUN"):
  /// until then the registers, RIP among them, are those before the instruction. So it is entered once more, to leave at
  /// once. What it returns does not matter: the run is over.
  private func completeAccess() {
    switch Int32(bitPattern: shared.pointee.exit_reason) {
    case KVM_EXIT_IO, KVM_EXIT_MMIO: stop.exitingAtOnce { _ = kvm_run(descriptor.raw) }
    default: break
    }
  }

  /// Answers what the guest did, or says why the machine is concerned.
  private func handleExit() -> StopReason? {
    switch Int32(bitPattern: shared.pointee.exit_reason) {
    case KVM_EXIT_IO:
      return handlePort()
    case KVM_EXIT_MMIO:
      return handleMemory()
    case KVM_EXIT_INTR, KVM_EXIT_IRQ_WINDOW_OPEN, KVM_EXIT_SET_TPR, KVM_EXIT_IOAPIC_EOI:
      counters.count(.exitInterrupted)
      return stop.takeRequest() ? .stopRequested : nil
    case KVM_EXIT_DEBUG:
      counters.count(.exitOther)
      return handleDebugExit()
    case KVM_EXIT_HLT:
      counters.count(.exitHalt)
      guard chips != nil else { return .halted }
      chips?.isHalted = true
      return nil
    case KVM_EXIT_SHUTDOWN:
      counters.count(.exitOther)
      return .tripleFault
    case KVM_EXIT_SYSTEM_EVENT:
      counters.count(.exitOther)
      switch Int32(bitPattern: shared.pointee.system_event.type) {
      case KVM_SYSTEM_EVENT_SHUTDOWN: return .shutdown
      case KVM_SYSTEM_EVENT_RESET: return .reset
      default: return .crashed(crashReport("the guest told KVM that it crashed"))
      }
    case KVM_EXIT_INTERNAL_ERROR where debugger.isActive:
      counters.count(.exitOther)
      return handleRefusedInstruction() ?? .crashed(crashReport(exitDescription()))
    default:
      counters.count(.exitOther)
      return .crashed(crashReport(exitDescription()))
    }
  }

  /// `in`, `out` and their string forms; with `rep`, KVM hands over as many elements as fit a page.
  private func handlePort() -> StopReason? {
    let io = shared.pointee.io
    let data = UnsafeMutableRawPointer(shared) + Int(io.data_offset)
    guard let width = AccessWidth(rawValue: Int(io.size)) else { return nil }
    for element in 0..<Int(io.count) {
      let place = data + element * width.rawValue
      if Int32(io.direction) == KVM_EXIT_IO_IN {
        counters.count(.portRead)
        let value = bus.readPort(io.port, width: width)
        switch width {
        case .byte: place.storeBytes(of: UInt8(truncatingIfNeeded: value), as: UInt8.self)
        case .word: place.storeBytes(of: UInt16(truncatingIfNeeded: value), as: UInt16.self)
        default: place.storeBytes(of: value, as: UInt32.self)
        }
      } else {
        counters.count(.portWrite)
        let value =
          switch width {
          case .byte: UInt32(place.load(as: UInt8.self))
          case .word: UInt32(place.loadUnaligned(as: UInt16.self))
          default: place.loadUnaligned(as: UInt32.self)
          }
        if case .stop(let reason) = bus.writePort(io.port, value, width: width) { return reason }
      }
    }
    return nil
  }

  /// A load or store outside RAM. Of one that crosses a page KVM makes two, so any length from 1 to 8 can come.
  private func handleMemory() -> StopReason? {
    let length = min(Int(shared.pointee.mmio.len), 8)
    let address = GuestPhysicalAddress(shared.pointee.mmio.phys_addr)
    let isWrite = shared.pointee.mmio.is_write != 0
    counters.count(isWrite ? .memoryWrite : .memoryRead)
    if let chips, address.rawValue & ~4095 == chips.page {
      accessLocal(chips, address, length, isWrite)
      return nil
    }
    return withUnsafeMutableBytes(of: &shared.pointee.mmio.data) { data in
      guard let width = AccessWidth(rawValue: length) else {
        for byte in 0..<length {
          let place = GuestPhysicalAddress(address.rawValue &+ UInt64(byte))
          if isWrite {
            if case .stop(let reason) = bus.writeMemory(place, UInt64(data[byte]), width: .byte) { return reason }
          } else {
            data[byte] = UInt8(truncatingIfNeeded: bus.readMemory(place, width: .byte))
          }
        }
        return nil
      }
      if isWrite {
        let value = data.loadUnaligned(as: UInt64.self)
        if case .stop(let reason) = bus.writeMemory(address, value, width: width) { return reason }
      } else {
        data.storeBytes(of: bus.readMemory(address, width: width), as: UInt64.self)
      }
      return nil
    }
  }

  /// What an exit that ends the guest means.
  private func exitDescription() -> String {
    switch Int32(bitPattern: shared.pointee.exit_reason) {
    case KVM_EXIT_INTERNAL_ERROR:
      switch Int32(bitPattern: shared.pointee.`internal`.suberror) {
      case KVM_INTERNAL_ERROR_EMULATION:
        return "KVM can't emulate the guest's instruction (internal error 1)"
      case KVM_INTERNAL_ERROR_SIMUL_EX:
        return "exceptions while KVM delivered an exception (internal error 2)"
      case KVM_INTERNAL_ERROR_DELIVERY_EV:
        return "KVM could not deliver an event (internal error 3)"
      default:
        return "KVM internal error \(shared.pointee.`internal`.suberror)"
      }
    case KVM_EXIT_FAIL_ENTRY:
      let reason = shared.pointee.fail_entry.hardware_entry_failure_reason
      return "the processor refused to enter the guest's state (hardware reason \(hexadecimal(reason)))"
    case KVM_EXIT_UNKNOWN:
      return "KVM stopped for hardware reason \(hexadecimal(shared.pointee.hw.hardware_exit_reason))"
    default:
      return "KVM stopped for exit reason \(shared.pointee.exit_reason), which Trivisor doesn't ask for"
    }
  }

  /// Everything that can still be read of the processor.
  func crashReport(_ summary: String) -> CrashReport {
    let state = try? readState()
    return CrashReport(summary: summary, state: state, instruction: state.map(instructionBytes) ?? [])
  }

  /// The bytes at CS:RIP through the guest's own page tables, until the first that is not RAM.
  private func instructionBytes(_ state: MachineState) -> [UInt8] {
    var bytes: [UInt8] = []
    while bytes.count < 15 {
      var translation = kvm_translation()
      translation.linear_address = state.system.cs.base &+ state.general.rip &+ UInt64(bytes.count)
      guard kvm_translate(descriptor.raw, &translation) == 0, translation.valid != 0,
        let byte = try? partition.memory.read(
          UInt8.self, at: GuestPhysicalAddress(translation.physical_address))
      else { break }
      bytes.append(byte)
    }
    return bytes
  }
}
