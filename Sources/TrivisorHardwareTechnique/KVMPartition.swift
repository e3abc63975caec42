// One virtual machine of KVM.
//
// The order of the calls matters (measured, see docs/hardware.md): memory slots before the interrupt chip, because KVM
// waits for a grace period when a slot is added to a machine that has one.
//
//     KVM_CREATE_VM → KVM_SET_TSS_ADDR, KVM_SET_IDENTITY_MAP_ADDR → KVM_SET_USER_MEMORY_REGION (each region)
//       → KVM_CREATE_IRQCHIP → KVM_CREATE_PIT2 → on each processor's thread: KVM_CREATE_VCPU → KVM_SET_CPUID2 → KVM_RUN

import CKVM
import TrivisorDevices
import TrivisorVMM

/// A machine under KVM: its descriptor, its memory slots, its interrupt chips, which are in the kernel unless they are asked
/// for in software.
final class KVMPartition: Partition {
  let interrupts: any InterruptController
  let eventBinding: (any EventBinding)?
  let machine: OwnedDescriptor
  let bus: Bus
  /// The chips, if they are in software.
  let chipset: Chipset?
  let memory: GuestMemory
  /// MSRs that `MachineState` carries and this KVM has.
  let modelSpecificRegisters: [UInt32]
  /// INT3 in guest memory, for a debugger from outside.
  let planted: PlantedBreakpoints
  /// KVM can hold interrupts back while a debugger steps.
  let holdsInterruptsBack: Bool
  /// Bytes of the XSAVE area.
  let extendedStateSize: Int

  private let system: KVMSystem
  private let announcement: ProcessorAnnouncement
  private let processorCount: Int

  /// Intel's real mode needs three pages that the guest doesn't use, and a page for its identity map: in the device
  /// hole, below the place of a firmware ROM.
  private static let identityMapAddress: UInt64 = 0xfffb_c000
  private static let taskStateAddress: UInt = 0xfffb_d000

  init(
    system: KVMSystem, configuration: MachineConfiguration, announcement: ProcessorAnnouncement, memory: GuestMemory,
    bus: Bus
  ) throws(TechniqueFailure) {
    self.system = system
    self.announcement = announcement
    self.memory = memory
    planted = PlantedBreakpoints(memory)
    holdsInterruptsBack = system.check(KVM_CAP_SET_GUEST_DEBUG2) & Int(KVM_GUESTDBG_BLOCKIRQ) != 0
    processorCount = configuration.processorCount
    let offered = try system.modelSpecificRegisterIndices()
    modelSpecificRegisters = KVMProcessorState.carriedModelSpecificRegisters.filter(offered.contains)
    machine = try system.makeMachine()
    _ = try kvm("KVM_SET_TSS_ADDR", kvm_set_tss_addr(machine.raw, Self.taskStateAddress))
    var identityMap = Self.identityMapAddress
    _ = try kvm("KVM_SET_IDENTITY_MAP_ADDR", kvm_set_identity_map_addr(machine.raw, &identityMap))
    for (slot, region) in memory.regions.enumerated() {
      var slotDescription = kvm_userspace_memory_region()
      slotDescription.slot = UInt32(slot)
      slotDescription.guest_phys_addr = region.base.rawValue
      slotDescription.memory_size = region.size
      slotDescription.userspace_addr = UInt64(UInt(bitPattern: region.host))
      _ = try kvm(
        "KVM_SET_USER_MEMORY_REGION", kvm_set_user_memory_region(machine.raw, &slotDescription))
    }
    if configuration.interruptChips == .software {
      guard configuration.processorCount == 1 else {
        throw TechniqueFailure(
          call: "machine assembly", reason: "interrupt chips in software serve one processor under KVM",
          remedy: "set \(Setting.processors) to 1")
      }
      let chipset = Chipset(processorCount: 1)
      do throws(BusConflict) {
        self.bus = try bus.adding(ports: chipset.portClaims, memory: chipset.memoryClaims)
      } catch {
        throw TechniqueFailure(call: "machine assembly", reason: error.description)
      }
      self.chipset = chipset
      interrupts = chipset
      eventBinding = nil
    } else {
      self.bus = bus
      chipset = nil
      _ = try kvm("KVM_CREATE_IRQCHIP", kvm_create_irqchip(machine.raw))
      var timer = kvm_pit_config()
      timer.flags = UInt32(KVM_PIT_SPEAKER_DUMMY)
      _ = try kvm("KVM_CREATE_PIT2", kvm_create_pit2(machine.raw, &timer))
      interrupts = KVMInterruptController(machine: machine)
      eventBinding = KVMEventBinding.isAvailable(system) ? KVMEventBinding(machine: machine) : nil
    }
    extendedStateSize = max(
      MemoryLayout<kvm_xsave>.size, Int(kvm_check_extension(machine.raw, UInt(KVM_CAP_XSAVE2))))
  }

  /// What CPUID says on a processor.
  func announced(index: Int) -> CPUIDTable { announcement.table(processor: index, of: processorCount) }

  func makeProcessor(index: Int) throws(TechniqueFailure) -> any Processor {
    let descriptor = OwnedDescriptor(
      try kvm("KVM_CREATE_VCPU", retryingInterrupts { kvm_create_vcpu(machine.raw, UInt(index)) }))
    let list = CPUIDList(announced(index: index))
    _ = try kvm("KVM_SET_CPUID2", kvm_set_cpuid2(descriptor.raw, list.pointer))
    return try KVMProcessor(descriptor: descriptor, runSize: system.runSize, partition: self)
  }
}
