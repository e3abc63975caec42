// Direct paging: the page tables are the guest's own, with machine frames in them, but the hypervisor writes every entry,
// so that it can refuse. A page becomes a page table by being named as one; by then nobody may be able to write to it.
//
// In 64 bits Xen's hardware can't protect a guest's kernel from its user code by page tables: both run without privilege.
// So an address space has two roots, and the hypervisor changes them when it changes modes:
//
//     kernel root   the kernel, and the window
//     user root     what of the window user code may have

import CXen

extension Platform: PagePlatform {
  struct AddressSpace {
    let kernel: Tables
    let user: Tables
  }

  /// The tables from one root on, as far as they are for the window.
  struct Tables {
    let root: PageFrame
    /// For the window's gigabyte: entries for 2 MiB each.
    let directory: PageFrame
    /// Where this kernel sees the tables that the directory names: the directory itself holds machine frames.
    let addresses: PageFrame
  }

  static var windowStart: UInt64 { 1 << 30 }

  static func allocateFrame() -> PageFrame? {
    guard framesUsed < xenFrameCount else { return nil }
    framesUsed &+= 1
    return PageFrame(address: xen_frame_address(framesUsed &- 1))
  }

  nonisolated(unsafe) private static var framesUsed: UInt64 = 0

  /// Where a page of the kernel's is in the machine.
  static func machineFrame(_ address: UInt64) -> UInt64 {
    xen_load64(xen_start(UInt64(XEN_START_FRAME_LIST)) + (address - UInt64(XEN_VIRTUAL_BASE)) / 4096 * 8)
  }

  /// And the other way round, by the machine-to-physical table that the hypervisor shows every domain.
  static func address(machineFrame: UInt64) -> UInt64 {
    xen_load64(0xffff_8000_0000_0000 + machineFrame * 8) * 4096 + UInt64(XEN_VIRTUAL_BASE)
  }

  static func makeAddressSpace() -> AddressSpace? {
    guard let kernel = makeTables(withKernel: true), let user = makeTables(withKernel: false) else { return nil }
    return AddressSpace(kernel: kernel, user: user)
  }

  private static func makeTables(withKernel: Bool) -> Tables? {
    guard let root = allocateFrame(), let gigabytes = allocateFrame(), let directory = allocateFrame(),
      let addresses = allocateFrame()
    else { return nil }
    xen_store64(root.address, machineFrame(gigabytes.address) << 12 | Entry.forTable)
    if withKernel {
      // The domain builder's first gigabyte, in which the kernel is.
      let built = xen_load64(xen_start(UInt64(XEN_START_PAGE_TABLES)))
      xen_store64(gigabytes.address, xen_load64(address(machineFrame: built >> 12 & 0xff_ffff_ffff)))
    }
    xen_store64(gigabytes.address + 8, machineFrame(directory.address) << 12 | Entry.forTable)
    protect(root)
    protect(gigabytes)
    protect(directory)
    perform(xenPinLevel4, machineFrame(root.address))
    return Tables(root: root, directory: directory, addresses: addresses)
  }

  /// Takes the kernel the right to write to a page.
  private static func protect(_ frame: PageFrame) {
    _ = xen_hypercall(
      xenUpdateVirtualAddressMapping, frame.address, machineFrame(frame.address) << 12 | Entry.readOnly, 2, 0)
  }

  static func perform(_ command: UInt64, _ argument: UInt64) {
    var operation = XenPagingOperation(
      command: UInt32(truncatingIfNeeded: command), padding: 0, first: argument, second: 0)
    _ = withUnsafeMutablePointer(to: &operation) {
      xen_hypercall(xenExtendedPaging, UInt64(UInt(bitPattern: $0)), 1, 0, 0x7ff0)
    }
  }

  nonisolated(unsafe) private static var activeRoot: UInt64 = 0

  static func activate(_ space: AddressSpace) {
    guard activeRoot != space.kernel.root.address else { return }
    activeRoot = space.kernel.root.address
    perform(xenNewRoot, machineFrame(space.kernel.root.address))
    perform(xenNewUserRoot, machineFrame(space.user.root.address))
  }

  static func map(_ address: UInt64, to frame: PageFrame, _ access: PageAccess, in space: AddressSpace) -> Bool {
    let machine = machineFrame(frame.address) << 12
    let user: UInt64 =
      switch access {
      case .kernelOnly: 0
      case .readOnly: machine | Entry.readOnly
      case .readWrite: machine | Entry.readWrite
      }
    let kernel = access == .readOnly ? machine | Entry.readOnly : machine | Entry.readWrite
    return set(address, kernel, in: space.kernel) && (user == 0 || set(address, user, in: space.user))
  }

  static func unmap(_ address: UInt64, in space: AddressSpace) {
    _ = set(address, 0, in: space.kernel)
    _ = set(address, 0, in: space.user)
  }

  /// Present, writable, user, accessed, dirty.
  private enum Entry {
    static let readOnly: UInt64 = 0x65
    static let readWrite: UInt64 = 0x67
    static let unused: UInt64 = 0x07
    static let forTable: UInt64 = 0x67
  }

  private static func set(_ address: UInt64, _ value: UInt64, in tables: Tables) -> Bool {
    guard address >> 30 == windowStart >> 30, address & 4095 == 0 else { return false }
    let slot = (address >> 21 & 511) * 8
    var table = xen_load64(tables.addresses.address + slot)
    if table == 0 {
      guard value != 0 else { return true }
      guard let frame = allocateFrame() else { return false }
      protect(frame)
      update(tables.directory.address + slot, machineFrame(frame.address) << 12 | Entry.forTable)
      xen_store64(tables.addresses.address + slot, frame.address)
      table = frame.address
    }
    let entry = table + (address >> 12 & 511) * 8
    let wasPresent = xen_load64(entry) & 1 != 0
    update(entry, value)
    if wasPresent { perform(xenInvalidatePage, address) }
    return true
  }

  /// Makes a filled page the last-level table for the 2 MiB of the window from `address` on, in kernel mode.
  static func setTable(_ address: UInt64, _ table: PageFrame, in space: AddressSpace) -> Bool {
    guard address >> 30 == windowStart >> 30 else { return false }
    let slot = (address >> 21 & 511) * 8
    protect(table)
    update(space.kernel.directory.address + slot, machineFrame(table.address) << 12 | Entry.forTable)
    xen_store64(space.kernel.addresses.address + slot, table.address)
    return true
  }

  /// All 512 entries of the table for `address` in one call, each for the same page, as if they had been used or not. The list takes two pages, one behind
  /// the other.
  static func updateMany(
    _ address: UInt64, _ frame: PageFrame, isUsed: Bool, list: PageFrame, in space: AddressSpace
  ) {
    let table = xen_load64(space.kernel.addresses.address + (address >> 21 & 511) * 8)
    let target = machineFrame(table) << 12
    let value = machineFrame(frame.address) << 12 | (isUsed ? Entry.readWrite : Entry.unused)
    for position in 0..<512 as Range<UInt64> {
      xen_store64(list.address + position * 16, target + position * 8)
      xen_store64(list.address + position * 16 + 8, value)
    }
    _ = xen_hypercall(xenUpdatePageTables, list.address, 512, 0, 0x7ff0)
  }

  /// The entry for `address` again, in kernel mode, and nothing else.
  static func rewrite(_ address: UInt64, _ frame: PageFrame, in space: AddressSpace) {
    let table = xen_load64(space.kernel.addresses.address + (address >> 21 & 511) * 8)
    update(table + (address >> 12 & 511) * 8, machineFrame(frame.address) << 12 | Entry.readWrite)
  }

  /// One entry, named by its machine address.
  private static func update(_ entry: UInt64, _ value: UInt64) {
    var request = XenPageTableUpdate(pointer: machineFrame(entry) << 12 | entry & 0xfff, value: value)
    _ = withUnsafeMutablePointer(to: &request) {
      xen_hypercall(xenUpdatePageTables, UInt64(UInt(bitPattern: $0)), 1, 0, 0x7ff0)
    }
  }
}
