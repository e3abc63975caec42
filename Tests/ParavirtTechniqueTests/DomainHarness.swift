import TrivisorBoot
import TrivisorDevices
import Testing
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
  static let base: UInt64 = 0x40_0000
  /// Pages of the kernel's image, which tests use as they like.
  static let pageCount: UInt64 = 64

  init(is64Bit: Bool, memory size: UInt64 = 16 << 20, processors: Int = 2, disks: [any BlockStorage] = []) throws {
    let memory = try GuestMemory(size: size)
    self.memory = memory
    let image = Self.kernel(is64Bit: is64Bit)
    let loaded = try image.withUnsafeBytes { bytes in
      try BootRequest(image: try BootImage(name: "kernel", bytes: bytes), kind: .xen).load(into: memory)
    }
    guard case .xenDomain(let start) = loaded.handover else { throw HarnessFailure.noDomain }
    self.start = start
    domain = try #require(
      Domain(
        memory: memory, console: sink, doorbells: (0..<processors).map { _ in Doorbell() }, disks: disks, start: start))
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
    try domain.write(value, to: address, root: processor.kernelRoot)
  }

  func load<Value: FixedWidthInteger & BitwiseCopyable>(_ type: Value.Type, _ address: UInt64) throws -> Value {
    try domain.read(type, address, root: processor.kernelRoot)
  }

  /// An unsigned long of the domain's.
  func storeWord(_ value: UInt64, _ address: UInt64) throws {
    if isWide { try store(value, address) } else { try store(UInt32(truncatingIfNeeded: value), address) }
  }

  /// HYPERVISOR_update_va_mapping.
  func map(_ address: UInt64, _ entry: UInt64) -> Int64 {
    isWide ? call(14, address, entry, 2) : call(14, address, entry & 0xffff_ffff, entry >> 32, 2)
  }

  /// A kernel of `pageCount` pages, whose first instruction is never executed.
  private static func kernel(is64Bit: Bool) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 0x200)
    func put(_ value: UInt64, _ size: Int, at offset: Int) {
      for byte in 0..<size { bytes[offset + byte] = UInt8(truncatingIfNeeded: value >> UInt64(8 * byte)) }
    }
    func note(_ type: UInt64, _ value: [UInt8], at offset: Int) -> Int {
      put(4, 4, at: offset)
      put(UInt64(value.count), 4, at: offset + 4)
      put(type, 4, at: offset + 8)
      for (position, byte) in (Array("Xen\0".utf8) + value).enumerated() { bytes[offset + 12 + position] = byte }
      return offset + 16 + (value.count + 3) / 4 * 4
    }
    for (position, byte) in [0x7f, 0x45, 0x4c, 0x46, is64Bit ? 2 : 1, 1, 1].enumerated() {
      bytes[position] = UInt8(byte)
    }
    put(2, 2, at: 16)
    put(is64Bit ? 62 : 3, 2, at: 18)
    put(1, 4, at: 20)
    let (header, entrySize, word) = is64Bit ? (64, 56, 8) : (52, 32, 4)
    put(base, word, at: 24)
    put(UInt64(header), word, at: is64Bit ? 32 : 28)
    put(UInt64(header), 2, at: is64Bit ? 52 : 40)
    put(UInt64(entrySize), 2, at: is64Bit ? 54 : 42)
    put(2, 2, at: is64Bit ? 56 : 44)
    var end = note(8, Array("generic\0".utf8), at: 0x100)
    end = note(5, Array("xen-3.0\0".utf8), at: end)
    end = note(3, withUnsafeBytes(of: base) { Array($0) }, at: end)
    let segments: [(type: UInt64, offset: UInt64, fileSize: UInt64, memorySize: UInt64, virtual: UInt64)] = [
      (1, 0, 0, pageCount << 12, base), (4, 0x100, UInt64(end - 0x100), UInt64(end - 0x100), 0),
    ]
    for (index, segment) in segments.enumerated() {
      let place = header + index * entrySize
      put(segment.type, 4, at: place)
      if is64Bit {
        put(segment.offset, 8, at: place + 8)
        put(segment.virtual, 8, at: place + 16)
        put(segment.fileSize, 8, at: place + 32)
        put(segment.memorySize, 8, at: place + 40)
      } else {
        put(segment.offset, 4, at: place + 4)
        put(segment.virtual, 4, at: place + 8)
        put(segment.fileSize, 4, at: place + 16)
        put(segment.memorySize, 4, at: place + 20)
      }
    }
    return bytes
  }
}
