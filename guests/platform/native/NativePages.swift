// Four levels of page tables (AMD64 APM vol. 2, 5.3), in 4 KiB pages for the window; the kernel's own two entries for
// 1 GiB each are those the image was loaded with, shared by all address spaces.

import CNative

extension Platform: PagePlatform {
  struct AddressSpace {
    let root: UInt64
  }

  static var windowStart: UInt64 { 1 << 30 }

  static func allocateFrame() -> PageFrame? {
    guard framesUsed < nativeFrameCount else { return nil }
    framesUsed &+= 1
    return PageFrame(address: native_frame_address(framesUsed &- 1))
  }

  nonisolated(unsafe) private static var framesUsed: UInt64 = 0

  static func makeAddressSpace() -> AddressSpace? {
    guard let root = allocateFrame(), let gigabytes = allocateFrame() else { return nil }
    entry(0, of: root.address).pointee = gigabytes.address | Entry.forTable
    entry(0, of: gigabytes.address).pointee = native_gigabyte_entry(0)
    entry(3, of: gigabytes.address).pointee = native_gigabyte_entry(3)
    return AddressSpace(root: root.address)
  }

  static func activate(_ space: AddressSpace) { native_write_cr3(space.root) }

  static func map(_ address: UInt64, to frame: PageFrame, _ access: PageAccess, in space: AddressSpace) -> Bool {
    guard let entry = leaf(address, in: space, allocating: true) else { return false }
    entry.pointee =
      switch access {
      case .kernelOnly: frame.address | Entry.present | Entry.writable
      case .readOnly: frame.address | Entry.present | Entry.user
      case .readWrite: frame.address | Entry.present | Entry.user | Entry.writable
      }
    native_invlpg(address)
    return true
  }

  static func unmap(_ address: UInt64, in space: AddressSpace) {
    guard let entry = leaf(address, in: space, allocating: false) else { return }
    entry.pointee = 0
    native_invlpg(address)
  }

  private enum Entry {
    static let present: UInt64 = 1 << 0
    static let writable: UInt64 = 1 << 1
    static let user: UInt64 = 1 << 2
    static let forTable = present | writable | user
    static let address: UInt64 = 0x000f_ffff_ffff_f000
  }

  /// The last level's entry for a page of the window.
  private static func leaf(
    _ address: UInt64, in space: AddressSpace, allocating: Bool
  ) -> UnsafeMutablePointer<UInt64>? {
    guard address >> 30 == windowStart >> 30, address & 4095 == 0 else { return nil }
    var table = space.root
    var shift: UInt64 = 39
    while shift > 12 {
      let entry = entry(address >> shift & 511, of: table)
      if entry.pointee & Entry.present == 0 {
        guard allocating, let frame = allocateFrame() else { return nil }
        entry.pointee = frame.address | Entry.forTable
      }
      table = entry.pointee & Entry.address
      shift &-= 9
    }
    return entry(address >> 12 & 511, of: table)
  }

  private static func entry(_ index: UInt64, of table: UInt64) -> UnsafeMutablePointer<UInt64> {
    // Page tables lie in the identity-mapped image and are never at 0.
    UnsafeMutablePointer(bitPattern: UInt(table &+ index &* 8)).unsafelyUnwrapped
  }
}
