import Glibc
import Synchronization
import TrivisorVMM

/// The region's pages three times: as they are in the beginning of each case, as this process has them at the region's
/// addresses, and as the guest has them.
final class TestMemory {
  let guest: GuestMemory
  let device = PageDevice()
  private let pristine: UnsafeMutableRawPointer
  private let native: UnsafeMutableRawPointer

  /// What is behind the code of each case.
  static let undefinedOpcode: UInt8 = 0x06

  /// Where the region's first page is in guest physical memory.
  static let physicalBase: UInt64 = 0x10_0000
  static let devicePhysical: UInt64 = 0xd000_0000
  private static let tables: UInt64 = 0x1000

  init(seed: UInt64) throws {
    guest = try GuestMemory(size: 4 << 20)
    guard let address = UnsafeMutableRawPointer(bitPattern: UInt(Region.base)),
      let mapped = mmap(
        address, Region.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
      mapped == address
    else {
      throw TechniqueFailure(call: "mmap of the test region", reason: String(cString: strerror(errno)))
    }
    native = mapped
    pristine = .allocate(byteCount: Region.size, alignment: 4096)
    var random = RandomNumbers(seed: seed ^ 0x5eed)
    for word in 0..<Region.size / 8 {
      // Small numbers and zeros among the random ones.
      let value = random.chance(30) ? random.next() >> UInt64(random.below(64)) : random.next()
      pristine.storeBytes(of: value, toByteOffset: 8 * word, as: UInt64.self)
    }
    // Where no code of a case is, a jump ends: undefined in 64-bit mode, whatever comes behind it.
    memset(pristine + Region.firstCodePage * 4096, Int32(Self.undefinedOpcode), Region.codePageCount * 4096)
    for page in 0..<Region.pageCount { copyBack(page) }
    for (number, page) in Region.pages.enumerated() {
      let protection =
        switch page {
        case .none: PROT_NONE
        case .data, .device: PROT_READ | PROT_WRITE
        case .readOnly: PROT_READ
        case .code: PROT_READ | PROT_WRITE | PROT_EXEC
        }
      mprotect(native + number * 4096, 4096, protection)
    }
    try makeTables()
  }

  deinit {
    munmap(native, Region.size)
    pristine.deallocate()
  }

  private func makeTables() throws {
    let present: UInt64 = 1, writable: UInt64 = 2, user: UInt64 = 4, noExecute: UInt64 = 1 << 63
    let all = present | writable | user
    let base = Self.tables
    try guest.write((base + 0x1000) | all, at: GuestPhysicalAddress(base + 8 * (Region.base >> 39 & 511)))
    try guest.write((base + 0x2000) | all, at: GuestPhysicalAddress(base + 0x1000 + 8 * (Region.base >> 30 & 511)))
    try guest.write((base + 0x3000) | all, at: GuestPhysicalAddress(base + 0x2000 + 8 * (Region.base >> 21 & 511)))
    for (number, page) in Region.pages.enumerated() {
      let physical = Self.physicalBase + UInt64(number) * 4096
      let entry: UInt64 =
        switch page {
        case .none: 0
        case .data: physical | all | noExecute
        case .readOnly: physical | present | user | noExecute
        case .code: physical | all
        case .device: Self.devicePhysical | all | noExecute
        }
      let place = base + 0x3000 + 8 * ((Region.base >> 12 & 511) + UInt64(number))
      try guest.write(entry, at: GuestPhysicalAddress(place))
    }
  }

  /// CR3.
  var root: UInt64 { Self.tables }

  private func guestPage(_ page: Int) -> UnsafeMutableRawPointer? {
    if Region.pages[page] == .device { return device.bytes }
    return guest.host(GuestPhysicalAddress(Self.physicalBase + UInt64(page) * 4096), count: 4096)
  }

  private func copyBack(_ page: Int) {
    memcpy(native + page * 4096, pristine + page * 4096, 4096)
    if let guest = guestPage(page) { memcpy(guest, pristine + page * 4096, 4096) }
  }

  /// - Parameter translated: for the guest, if it is to have other code.
  func place(_ code: [UInt8], translated: [UInt8]? = nil, at address: UInt64) {
    let offset = Int(address - Region.base)
    for (index, byte) in code.enumerated() {
      native.storeBytes(of: byte, toByteOffset: offset + index, as: UInt8.self)
    }
    for (index, byte) in (translated ?? code).enumerated() {
      guestPage((offset + index) / 4096)?.storeBytes(of: byte, toByteOffset: (offset + index) % 4096, as: UInt8.self)
    }
  }

  /// The bytes in which the two differ, up to some hundreds.
  func differences() -> [MemoryDifference] {
    var found: [MemoryDifference] = []
    for (number, page) in Region.pages.enumerated() where page != .none && page != .readOnly {
      guard let guest = guestPage(number), memcmp(native + number * 4096, guest, 4096) != 0 else { continue }
      for byte in 0..<4096 where found.count < 512 {
        let wanted = native.load(fromByteOffset: number * 4096 + byte, as: UInt8.self)
        let got = guest.load(fromByteOffset: byte, as: UInt8.self)
        guard wanted != got else { continue }
        found.append(MemoryDifference(address: Region.address(number) + UInt64(byte), native: wanted, model: got))
      }
    }
    return found
  }

  /// What this process has in the region, up to the first page that can't be read.
  func nativeBytes(at address: UInt64, count: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    for index in 0..<UInt64(count) {
      let offset = address &+ index &- Region.base
      guard offset < UInt64(Region.size), Region.pages[Int(offset / 4096)] != .none else { break }
      bytes.append(native.load(fromByteOffset: Int(offset), as: UInt8.self))
    }
    return bytes
  }

  /// As in the beginning. - Returns: pages of code that had changed.
  func reset() -> [Int] {
    var changed: [Int] = []
    for (number, page) in Region.pages.enumerated() where page != .none && page != .readOnly {
      let original = pristine + number * 4096
      guard let guest = guestPage(number),
        memcmp(native + number * 4096, original, 4096) != 0 || memcmp(guest, original, 4096) != 0
      else { continue }
      copyBack(number)
      if page == .code { changed.append(number) }
    }
    return changed
  }
}

/// Device memory that behaves like RAM.
final class PageDevice: MemoryDevice, @unchecked Sendable {
  // Unchecked: one thread uses it.
  let bytes = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 4096)

  deinit { bytes.deallocate() }

  func read(at offset: UInt64, width: AccessWidth) -> UInt64 {
    var value: UInt64 = 0
    memcpy(&value, bytes + Int(offset & 4095), min(width.rawValue, 4096 - Int(offset & 4095)))
    return value
  }

  func write(_ value: UInt64, at offset: UInt64, width: AccessWidth) -> DeviceEffect {
    var value = value
    memcpy(bytes + Int(offset & 4095), &value, min(width.rawValue, 4096 - Int(offset & 4095)))
    return .none
  }
}
