// How fast does this host's KVM run guest *kernel* code?
//
// The API doesn't tell. A KVM inside a virtual machine without nested virtualization may run user code (CPL 3) natively and
// emulate kernel code (CPL 0) in software, a thousand times slower; a machine that runs hello in 10 ms on one host then
// takes a minute to boot Linux on another. So: a loop of two instructions at CPL 0 in long mode, once short and once long;
// the difference over the number of instructions is the price of one.
//
// How much is much depends on the host, which may be a simulator or busy with other work: so the same loop is run by this
// process, too, and it is their ratio that counts. The two differ by at most a few times where guest code runs on the
// processor, and by a thousand where it is emulated. A busy host can only make a run longer, so of several runs of each
// loop the shortest counts: not of several differences, which a delayed short run makes smaller.

import CKVM
import TrivisorCLinux
import Glibc
import TrivisorVMM
import TrivisorX86

/// Measures the price of one guest kernel instruction.
enum KernelCodeProbe {
  /// So many times the price of the host's own, and kernel code is being emulated.
  private static let emulationRatio = 50.0
  /// A difference of less than this many nanoseconds an instruction is none: clocks and interruptions make it up.
  private static let resolution = 20.0
  private static let attempts = 5
  /// So many times more than what counts as emulation, and two runs that agree are enough: a run of emulated code takes long.
  private static let plainly = 4.0
  private static let iterations: (short: UInt64, long: UInt64) = (50, 550)

  /// Nanoseconds for one guest kernel instruction if this KVM emulates them; `nil` if it doesn't, or can't be measured.
  static func priceOfEmulation(system: KVMSystem) -> Double? {
    guard let machine = try? Machine(system) else { return nil }
    var (guest, host) = (LoopTimes(), LoopTimes())
    for _ in 0..<attempts {
      guard let short = machine.time(iterations.short), let long = machine.time(iterations.long) else { return nil }
      guest.record(short: short, long: long)
      if guest.mostPrice < resolution { return nil }
      host.record(short: hostTime(iterations.short), long: hostTime(iterations.long))
      if guest.isSteady, guest.price > max(resolution, host.price * emulationRatio) * Self.plainly {
        return guest.price
      }
    }
    return guest.price < max(resolution, host.price * emulationRatio) ? nil : guest.price
  }

  /// The shortest times of the two loops that were seen, in nanoseconds.
  struct LoopTimes {
    private var short = Double.infinity
    private var long = Double.infinity
    /// The last two runs of the long loop took nearly the same time: nothing has delayed them.
    private(set) var isSteady = false
    private var lastLong = Double.infinity

    mutating func record(short: Double, long: Double) {
      self.short = min(self.short, short)
      self.long = min(self.long, long)
      isSteady = abs(long - lastLong) < min(long, lastLong) / 8
      lastLong = long
    }

    /// Nanoseconds for one instruction.
    var price: Double { max(0, long - short) / Double(2 * (iterations.long - iterations.short)) }
    /// No instruction took more, whatever entry and exit did.
    var mostPrice: Double { long / Double(2 * iterations.long) }
  }

  /// Nanoseconds for the same loop in this process.
  private static func hostTime(_ iterations: UInt64) -> Double {
    let before = monotonicNanoseconds()
    clinux_count_down(iterations)
    return Double(monotonicNanoseconds() - before)
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
      let table: PageTableEntry = [.present, .writable, .accessed]
      try memory.write(0x2000 | table.rawValue, at: GuestPhysicalAddress(0x1000))
      try memory.write(0x4000 | table.rawValue, at: GuestPhysicalAddress(0x2000))
      try memory.write(table.union([.dirty, .large]).rawValue, at: GuestPhysicalAddress(0x4000))
      // 1: dec %rcx; jnz 1b; out %al, $0x80; jmp .
      try memory.copy([0x48, 0xff, 0xc9, 0x75, 0xfb, 0xe6, 0x80, 0xeb, 0xfe], to: GuestPhysicalAddress(Self.code))
    }

    /// Nanoseconds to run the loop.
    func time(_ iterations: UInt64) -> Double? {
      var sregs = kvm_sregs()
      guard kvm_get_sregs(processor.raw, &sregs) == 0 else { return nil }
      var system = SystemRegisters(sregs)
      system.cs = .flatCode64(selector: 8)
      for segment in [\SystemRegisters.ds, \.es, \.fs, \.gs, \.ss] {
        system[keyPath: segment] = .flatData(selector: 16)
      }
      system.cr0 = CR0([.protectedMode, .extensionType, .paging]).rawValue
      system.cr3 = 0x1000
      system.cr4 = CR4.physicalAddressExtension.rawValue
      system.efer = EFER([.longModeEnable, .longModeActive]).rawValue
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
