import TrivisorBoot
import TrivisorDevices
import Testing
import TrivisorHypercallFuzz
import TrivisorVMM

@testable import TrivisorXenDomain

/// A domain without an executor: its hypercalls are made by a test, in its kernel's place.
final class DomainHarness {
  /// Rings that nobody hears.
  final class Doorbell: DomainDoorbell {
    func ring() {}
    func silence() {}
    func takeStopRequest() -> Bool { false }
    func sleep(until deadline: UInt64) {}
  }

  let memory: GuestMemory
  let domain: Domain
  let start: XenDomainStart
  let sink = MemorySink()
  /// Where the kernel is mapped: pages from here on are its own, writable.
  static let base = BlankKernel.base
  /// Pages of the kernel's image, which tests use as they like.
  static let pageCount = BlankKernel.pageCount

  init(
    is64Bit: Bool, memory size: UInt64 = 16 << 20, processors: Int = 2, disks: [any BlockStorage] = [],
    networks: [NetworkInterface] = []
  ) throws {
    let memory = try GuestMemory(size: size)
    self.memory = memory
    let image = BlankKernel.image(is64Bit: is64Bit)
    let loaded = try image.withUnsafeBytes { bytes in
      try BootRequest(image: try BootImage(name: "kernel", bytes: bytes), kind: .xen).load(into: memory)
    }
    guard case .xenDomain(let start) = loaded.handover else { throw HarnessFailure.noDomain }
    self.start = start
    domain = try #require(
      Domain(
        memory: memory, console: sink, doorbells: (0..<processors).map { _ in Doorbell() }, disks: disks,
        networks: networks, start: start))
  }

  private enum HarnessFailure: Error { case noDomain }

  var processor: DomainProcessor { domain.processors[0] }
  var isWide: Bool { domain.layout == .bits64 }
  var word: UInt64 { domain.layout.wordSize }

  /// The machine frame of one of the kernel's pages.
  func frame(_ page: UInt64) -> UInt64 { XenMachine.firstFrame + page }
  func address(_ page: UInt64) -> UInt64 { Self.base + page << 12 }

  /// A hypercall. The result is the register's value, negative for errors.
  @discardableResult
  func call(_ number: UInt64, _ arguments: UInt64...) -> Int64 { call(number, arguments) }

  @discardableResult
  func call(_ number: UInt64, _ arguments: [UInt64]) -> Int64 {
    let given = arguments + [UInt64](repeating: 0, count: 6 - arguments.count)
    if isWide {
      processor.registers.rax = number
      (processor.registers.rdi, processor.registers.rsi, processor.registers.rdx) = (given[0], given[1], given[2])
      (processor.registers.r10, processor.registers.r8, processor.registers.r9) = (given[3], given[4], given[5])
    } else {
      processor.registers.rax = number
      (processor.registers.rbx, processor.registers.rcx, processor.registers.rdx) = (given[0], given[1], given[2])
      (processor.registers.rsi, processor.registers.rdi, processor.registers.rbp) = (given[3], given[4], given[5])
    }
    Hypercall.perform(processor)
    let result = processor.registers.rax
    return isWide ? Int64(bitPattern: result) : Int64(Int32(truncatingIfNeeded: result))
  }

  func store<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value, _ address: UInt64) throws {
    try domain.memory.write(value, to: address, root: processor.kernelRoot)
  }

  func load<Value: FixedWidthInteger & BitwiseCopyable>(_ type: Value.Type, _ address: UInt64) throws -> Value {
    try domain.memory.read(type, address, root: processor.kernelRoot)
  }

  /// An unsigned long of the domain's.
  func storeWord(_ value: UInt64, _ address: UInt64) throws {
    if isWide { try store(value, address) } else { try store(UInt32(truncatingIfNeeded: value), address) }
  }

  /// HYPERVISOR_update_va_mapping.
  func map(_ address: UInt64, _ entry: UInt64) -> Int64 {
    isWide ? call(14, address, entry, 2) : call(14, address, entry & 0xffff_ffff, entry >> 32, 2)
  }
}
