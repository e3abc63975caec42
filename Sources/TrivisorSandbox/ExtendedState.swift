/// The x87 and vector registers in a signal frame: an XSAVE image (Intel SDM vol. 1, 13.4) with what the kernel says of it in
/// its bytes for software (`struct _fpx_sw_bytes`: Linux, arch/x86/include/uapi/asm/sigcontext.h).
///
/// Guest code can write whatever it likes to the frames of its own process. What it wrote there must not reach another
/// process of the same guest, where loading it could fail: that would end the guest's kernel.
struct ExtendedState {
  /// Of the part that FXSAVE has, too.
  static let legacySize = 512

  private enum Offset {
    static let controlAndStatus = 24  // MXCSR
    static let controlMask = 28  // MXCSR_MASK
    static let x87Registers = 32
    static let software = 464
    static let totalSize = 468
    static let features = 472
    static let imageSize = 480
    static let present = 512  // XSTATE_BV
    static let components = 576
  }

  private static let mark: UInt32 = 0x4650_5853  // FP_XSTATE_MAGIC1
  private static let protectionKeys: UInt64 = 1 << 9
  /// TILECFG and TILEDATA: a guest has no leave to use AMX.
  private static let tiles: UInt64 = 3 << 17
  private static let vectorHalves: UInt64 = 1 << 2
  /// Their upper halves, which are behind the header on every processor that has them.
  private static let vectorPlace = 576..<832
  /// x87, SSE: what FXRSTOR loads.
  private static let legacyFeatures: UInt64 = 3

  private let image: UnsafeMutableRawBufferPointer

  /// - Parameter image: as long as `size` says of it.
  init(_ image: UnsafeMutableRawBufferPointer) { self.image = image }

  /// How long an image is, the kernel's second mark behind it included, as it says itself.
  static func size(_ start: UnsafeRawPointer) -> UInt32 {
    guard start.load(fromByteOffset: Offset.software, as: UInt32.self) == mark else { return UInt32(legacySize) }
    return max(UInt32(legacySize), start.load(fromByteOffset: Offset.totalSize, as: UInt32.self))
  }

  private func word(_ offset: Int) -> UInt64 { image.load(fromByteOffset: offset, as: UInt64.self) }
  private func half(_ offset: Int) -> UInt32 { image.load(fromByteOffset: offset, as: UInt32.self) }

  /// How many bytes there are for the processor; 512 without an XSAVE header.
  private var imageSize: Int {
    guard image.count > Offset.components, half(Offset.software) == Self.mark else { return Self.legacySize }
    let size = Int(half(Offset.imageSize))
    return size >= Offset.components && size <= image.count ? size : Self.legacySize
  }

  /// Makes the image say that PKRU has its reset value, which denies nothing.
  func resetProtectionKeys() {
    guard imageSize > Self.legacySize else { return }
    image.storeBytes(of: word(Offset.present) & ~Self.protectionKeys, toByteOffset: Offset.present, as: UInt64.self)
  }

  /// Takes over another image's registers: those that both have, and of them only what loads without a fault. What the
  /// kernel says of the image stays this one's.
  func take(_ other: ExtendedState) {
    guard let target = image.baseAddress, let source = other.image.baseAddress else { return }
    let mask = half(Offset.controlMask) == 0 ? 0xffbf : half(Offset.controlMask)
    let status = other.half(Offset.controlAndStatus) & mask
    target.copyMemory(from: source, byteCount: Offset.controlAndStatus)
    image.storeBytes(of: status, toByteOffset: Offset.controlAndStatus, as: UInt32.self)
    (target + Offset.x87Registers).copyMemory(
      from: source + Offset.x87Registers, byteCount: Offset.software - Offset.x87Registers)
    let size = imageSize
    guard size > Self.legacySize else { return }
    var present = Self.legacyFeatures
    if other.imageSize == size {
      present = other.word(Offset.present) & word(Offset.features) & ~(Self.protectionKeys | Self.tiles)
      (target + Offset.components).copyMemory(
        from: source + Offset.components, byteCount: size - Offset.components)
    }
    image.storeBytes(of: present, toByteOffset: Offset.present, as: UInt64.self)
    // XCOMP_BV, and what is reserved.
    (target + Offset.present + 8).initializeMemory(
      as: UInt8.self, repeating: 0, count: Offset.components - Offset.present - 8)
  }
}

// MARK: Saved form

extension ExtendedState {
  /// The components that there can be, and the image in XSAVE's standard form, without what the kernel says of it.
  var saved: (components: UInt64, image: [UInt8]) {
    let size = imageSize
    var bytes = Array(image[..<size])
    for place in Offset.software..<Offset.present { bytes[place] = 0 }
    return (size > Self.legacySize ? word(Offset.features) : Self.legacyFeatures, bytes)
  }

  /// Takes over such an image.
  /// - Returns: `false` when it has registers that are not here, or elsewhere than here.
  func take(components: UInt64, image saved: [UInt8]) -> Bool {
    guard saved.count >= Self.legacySize else { return false }
    let isLegacy = saved.count < Offset.components
    let present = saved.withUnsafeBytes { bytes in
      isLegacy ? Self.legacyFeatures : bytes.loadUnaligned(fromByteOffset: Offset.present, as: UInt64.self)
    }
    let size = imageSize
    let hasComponents = size > Self.legacySize
    let isAlike = hasComponents && saved.count == size && components == word(Offset.features)
    let common = Self.legacyFeatures | (hasComponents ? word(Offset.features) & Self.vectorHalves : 0)
    guard isAlike || present & ~(common | Self.protectionKeys) == 0,
      isAlike || present & Self.vectorHalves == 0 || saved.count >= Self.vectorPlace.upperBound
    else { return false }
    let other = UnsafeMutableRawBufferPointer.allocate(byteCount: image.count, alignment: 64)
    defer { other.deallocate() }
    other.initializeMemory(as: UInt8.self, repeating: 0)
    let copied = isAlike ? size : min(size, saved.count, Self.vectorPlace.upperBound)
    saved.withUnsafeBytes { other.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[..<copied])) }
    if hasComponents {
      // As if it were another thread's of this host.
      other.copyBytes(at: Offset.software..<Offset.present, from: image)
      other.storeBytes(of: present, toByteOffset: Offset.present, as: UInt64.self)
    }
    take(ExtendedState(other))
    return true
  }
}

extension UnsafeMutableRawBufferPointer {
  fileprivate func copyBytes(at places: Range<Int>, from other: UnsafeMutableRawBufferPointer) {
    for place in places { self[place] = other[place] }
  }
}
