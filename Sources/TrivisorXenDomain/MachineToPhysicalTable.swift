import TrivisorBoot
import TrivisorVMM

/// Which of the domain's own frame numbers each machine frame has. It is the hypervisor's, and lies in frames of its own, where the
/// domain reads it: words of the domain's width, from machine frame 0 on.
struct MachineToPhysicalTable {
  /// Where a 64-bit domain sees it (HYPERVISOR_VIRT_START, Xen's public header xen-x86_64.h).
  static let start64: UInt64 = 0xffff_8000_0000_0000
  /// Where a 32-bit domain sees it (MACH2PHYS_VIRT_START_PAE, xen-x86_32.h).
  static let start32: UInt64 = 0xf580_0000
  /// Behind all that it may ever have there.
  private static let end64: UInt64 = 0xffff_8040_0000_0000
  private static let end32: UInt64 = 0xf680_0000

  /// By frame from `XenMachine.firstFrame` on; all bits set for what is no frame of the domain's.
  private(set) var entries: [UInt64]
  private let layout: SharedLayout
  private let frames: MachineFrames
  /// The first of those that the table lies in.
  let firstFrame: UInt64

  /// Of a new domain, whose frames are numbered as they lie.
  init(_ memory: GuestMemory, _ frames: MachineFrames, _ layout: SharedLayout) {
    self.layout = layout
    self.frames = frames
    firstFrame = XenMachine.tableFrames(memory).lowerBound
    entries = frames.all.map { frames.isHypervisors($0) ? .max : $0 - XenMachine.firstFrame }
    storeAll()
  }

  /// Where the domain's width has it, and where it may go on to.
  static func place(_ layout: SharedLayout) -> Range<UInt64> {
    layout == .bits64 ? start64..<end64 : start32..<end32
  }

  /// The addresses of its entries.
  var addresses: Range<UInt64> {
    let start = Self.place(layout).lowerBound
    return start..<(start + (UInt64(entries.count) + XenMachine.firstFrame) * layout.wordSize)
  }

  /// One entry; `nil` beyond the last.
  subscript(machineFrame: UInt64) -> UInt64? { frames.index(machineFrame).map { entries[$0] } }

  /// MMU_MACHPHYS_UPDATE.
  mutating func set(_ machineFrame: UInt64, _ value: UInt64) {
    guard let index = frames.index(machineFrame) else { return }
    entries[index] = value
    store(machineFrame, value)
  }

  /// Of a saved domain, an entry a frame.
  mutating func restore(_ saved: [UInt64]) {
    entries = saved
    storeAll()
  }

  private func store(_ machineFrame: UInt64, _ value: UInt64) {
    let offset = Int(machineFrame) * Int(layout.wordSize)
    guard let page = frames.bytes(firstFrame + UInt64(offset / 4096)) else { return }
    switch layout {
    case .bits64: page.storeBytes(of: value, toByteOffset: offset % 4096, as: UInt64.self)
    case .bits32:
      page.storeBytes(of: UInt32(truncatingIfNeeded: value), toByteOffset: offset % 4096, as: UInt32.self)
    }
  }

  /// Below the first frame there is nothing.
  private func storeAll() {
    for frame in 0..<XenMachine.firstFrame { store(frame, .max) }
    for (index, value) in entries.enumerated() { store(XenMachine.firstFrame + UInt64(index), value) }
  }
}
