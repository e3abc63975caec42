// How fast does this host's KVM run guest *kernel* code?
//
// The API doesn't tell. A KVM inside a virtual machine without nested virtualization may run user code (CPL 3) natively and
// emulate kernel code (CPL 0) in software, a thousand times slower; a machine that runs hello in 10 ms on one host then
// takes a minute to boot Linux on another. So: a loop of two instructions at CPL 0 in long mode, once short and once long;
// the difference over the number of instructions is the price of one.

import CKVM
import Glibc
import VMM

/// Measures the price of one guest kernel instruction.
enum KernelCodeProbe {
  /// Above this, kernel code is being emulated: real KVM takes under 1 ns, nested in a software emulator some 10 ns.
  static let emulationThreshold = 250.0

  /// Nanoseconds for one instruction, or `nil` if it could not be measured.
  static func nanosecondsPerInstruction(system: KVMSystem) -> Double? {
    guard let short = time(system, iterations: 50), let long = time(system, iterations: 550) else { return nil }
    return max(0, long - short) / 1000
  }

  /// Nanoseconds to run the loop, best of two.
  private static func time(_ system: KVMSystem, iterations: UInt64) -> Double? {
    do throws(TechniqueFailure) {
      guard let memory = try? GuestMemory(size: 64 << 10) else { return nil }
      let machine = try system.makeMachine()
      var slot = kvm_userspace_memory_region()
      slot.memory_size = memory.size
      slot.userspace_addr = UInt64(UInt(bitPattern: memory.regions[0].host))
      _ = try kvm("KVM_SET_USER_MEMORY_REGION", kvm_set_user_memory_region(machine.raw, &slot))
      let descriptor = OwnedDescriptor(try kvm("KVM_CREATE_VCPU", kvm_create_vcpu(machine.raw, 0)))
      let list = CPUIDList(try system.supportedCPUID())
      _ = try kvm("KVM_SET_CPUID2", kvm_set_cpuid2(descriptor.raw, list.pointer))
      let code: UInt64 = 0x3000
      do {
        // One 2 MiB page, identity: level 4 at 0x1000, level 3 at 0x2000, level 2 at 0x4000; accessed and dirty set.
        try memory.write(UInt64(0x2023), at: GuestPhysicalAddress(0x1000))
        try memory.write(UInt64(0x4023), at: GuestPhysicalAddress(0x2000))
        try memory.write(UInt64(0xe3), at: GuestPhysicalAddress(0x4000))
        // 1: dec %rcx; jnz 1b; out %al, $0x80; jmp .
        try memory.copy([0x48, 0xff, 0xc9, 0x75, 0xfb, 0xe6, 0x80, 0xeb, 0xfe], to: GuestPhysicalAddress(code))
      } catch { return nil }
      var best: Double?
      for _ in 0..<2 {
        var sregs = kvm_sregs()
        _ = try kvm("KVM_GET_SREGS", kvm_get_sregs(descriptor.raw, &sregs))
        var system = SystemRegisters(sregs)
        system.cs = .flatCode64(selector: 8)
        for segment in [\SystemRegisters.ds, \.es, \.fs, \.gs, \.ss] {
          system[keyPath: segment] = .flatData(selector: 16)
        }
        (system.cr0, system.cr3, system.cr4, system.efer) = (0x8000_0011, 0x1000, 0x20, 0x500)
        system.store(to: &sregs)
        _ = try kvm("KVM_SET_SREGS", kvm_set_sregs(descriptor.raw, &sregs))
        var general = GeneralRegisters()
        (general.rip, general.rcx) = (code, iterations)
        var regs = kvm_regs(general)
        _ = try kvm("KVM_SET_REGS", kvm_set_regs(descriptor.raw, &regs))
        let before = monotonicNanoseconds()
        guard kvm_run(descriptor.raw) == 0 else { return nil }
        let elapsed = Double(monotonicNanoseconds() - before)
        best = min(best ?? elapsed, elapsed)
      }
      return best
    } catch {
      return nil
    }
  }
}
