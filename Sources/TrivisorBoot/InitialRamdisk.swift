import TrivisorVMM

/// One or more archives, in memory one behind the other: Linux unpacks them in this order into its first root.
struct InitialRamdisk {
  let base: UInt64
  let size: UInt64

  private static let part = "the initial ramdisk"

  /// Loads the archives, each at a multiple of 4, as high as a window allows, out of the way of a kernel that grows.
  /// - Parameter windows: where it may lie, tried in this order.
  /// - Returns: `nil` when there are none.
  static func load(
    _ images: [BootImage], in windows: [Range<UInt64>], _ layout: inout GuestLayout
  ) throws(BootFailure) -> InitialRamdisk? {
    guard !images.isEmpty else { return nil }
    var offsets: [UInt64] = []
    var size: UInt64 = 0
    for image in images {
      size = (size + 3) & ~3
      offsets.append(size)
      // More than all of memory can't fit; so the sum can't overflow.
      guard image.size <= layout.memory.size, size <= layout.memory.size else {
        throw BootFailure(
          image.name, .noRoom(part: part, size: image.size, below: windows.map(\.upperBound).max() ?? 0))
      }
      size += image.size
    }
    let base = try layout.place(part, size: size, alignment: 4096, in: windows.map { ($0, .downwards) })
    for (index, image) in images.enumerated() {
      try image.copy(part, at: 0, count: image.size, to: base + offsets[index], of: layout.memory)
      let end = offsets[index] + image.size
      let next = index + 1 < offsets.count ? offsets[index + 1] : end
      try layout.clear(base + end, size: next - end, as: part)
    }
    return InitialRamdisk(base: base, size: size)
  }

  var note: String { "initial ramdisk: \(size) bytes at \(hexadecimal(base))" }
}
