// How fast does this host's KVM run guest *kernel* code?
//
// The API doesn't tell. A KVM inside a virtual machine without nested virtualization may run user code (CPL 3) natively and
// emulate kernel code (CPL 0) in software, a thousand times slower; a machine that runs hello in 10 ms on one host then
// takes a minute to boot Linux on another. So: a loop of two instructions at CPL 0 in long mode, once short and once long;
// the difference over the number of instructions is the price of one.
//
// How much is much depends on the host, which may be a simulator or busy with other work: so the same loop is run by this
// process, too, and it is their ratio that counts. The two differ by at most a few times where guest code runs on the
// processor, and by a thousand where it is emulated. A busy host can only make a measurement worse, so of several the
// best counts, and measuring ends with the first that is good.

import CKVM
import CLinux
import Glibc
import VMM

/// Measures the price of one guest kernel instruction.
enum KernelCodeProbe {
  /// So many times the price of the host's own, and kernel code is being emulated.
  private static let emulationRatio = 50.0
  /// A difference of less than this many nanoseconds an instruction is none: clocks and interruptions make it up.
  private static let resolution = 20.0
  private static let attempts = 5
  private static let iterations: (short: UInt64, long: UInt64) = (50, 550)

  /// Nanoseconds for one guest kernel instruction if this KVM emulates them; `nil` if it doesn't, or can't be measured.
  static func priceOfEmulation(system: KVMSystem) -> Double? {
    guard let machine = try? Machine(system) else { return nil }
    var (guest, host) = (Double.infinity, Double.infinity)
    for _ in 0..<attempts {
      guard let price = machine.price() else { return nil }
      guest = min(guest, price)
      host = min(host, hostPrice())
      if guest < max(Self.resolution, host * emulationRatio) { return nil }
    }
    return guest
  }

  /// Nanoseconds for one instruction of the same loop in this process.
  private static func hostPrice() -> Double {
    let before = monotonicNanoseconds()
    clinux_count_down(iterations.short)
    let between = monotonicNanoseconds()
    clinux_count_down(iterations.long)
    let after = monotonicNanoseconds()
    let difference = Double(after - between) - Double(between - before)
    return max(0, difference) / Double(2 * (iterations.long - iterations.short))
  }

  /// A machine whose only processor stands before the loop.
  private struct Machine {
    private let memory: GuestMemory
    private let machine: OwnedDescriptor
    private let processor: OwnedDescriptor
    private static let code: UInt64 = 0x3000

    init(_ system: KVMSystem) throws {
      memory = try GuestMemory(size: 64 << 10, isShareable: false)
      machine = try system.makeMachine()
      var slot = kvm_userspace_memory_region()
      slot.memory_size = memory.size
      slot.userspace_addr = UInt64(UInt(bitPattern: memory.regions[0].host))
      _ = try kvm("KVM_SET_USER_MEMORY_REGION", kvm_set_user_memory_region(machine.raw, &slot))
      processor = OwnedDescriptor(try kvm("KVM_CREATE_VCPU", kvm_create_vcpu(machine.raw, 0)))
      let list = CPUIDList(try system.supportedCPUID())
      _ = try kvm("KVM_SET_CPUID2", kvm_set_cpuid2(processor.raw, list.pointer))
      // One 2 MiB page, identity: level 4 at 0x1000, level 3 at 0x2000, level 2 at 0x4000; accessed and dirty set.
      try memory.write(UInt64(0x2023), at: GuestPhysicalAddress(0x1000))
      try memory.write(UInt64(0x4023), at: GuestPhysicalAddress(0x2000))
      try memory.write(UInt64(0xe3), at: GuestPhysicalAddress(0x4000))
      // 1: dec %rcx; jnz 1b; out %al, $0x80; jmp .
      try memory.copy([0x48, 0xff, 0xc9, 0x75, 0xfb, 0xe6, 0x80, 0xeb, 0xfe], to: GuestPhysicalAddress(Self.code))
    }

    /// Nanoseconds for one instruction.
    func price() -> Double? {
      guard let short = time(iterations.short), let long = time(iterations.long) else { return nil }
      return max(0, long - short) / Double(2 * (iterations.long - iterations.short))
    }

    /// Nanoseconds to run the loop.
    private func time(_ iterations: UInt64) -> Double? {
      var sregs = kvm_sregs()
      guard kvm_get_sregs(processor.raw, &sregs) == 0 else { return nil }
      var system = SystemRegisters(sregs)
      system.cs = .flatCode64(selector: 8)
      for segment in [\SystemRegisters.ds, \.es, \.fs, \.gs, \.ss] {
        system[keyPath: segment] = .flatData(selector: 16)
      }
      (system.cr0, system.cr3, system.cr4, system.efer) = (0x8000_0011, 0x1000, 0x20, 0x500)
      system.store(to: &sregs)
      var general = GeneralRegisters()
      (general.rip, general.rcx) = (Self.code, iterations)
      var regs = kvm_regs(general)
      guard kvm_set_sregs(processor.raw, &sregs) == 0, kvm_set_regs(processor.raw, &regs) == 0 else { return nil }
      let before = monotonicNanoseconds()
      guard kvm_run(processor.raw) == 0 else { return nil }
      return Double(monotonicNanoseconds() - before)
    }
  }
}
