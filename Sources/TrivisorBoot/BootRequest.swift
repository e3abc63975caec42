// From an image file to a guest that can take its first step.
//
//     BootImage ──detect──▶ ImageKind ──loader──▶ GuestMemory + LoadedGuest ──handover──▶ processor 0, or a domain
//
// Each kind has one loader, named in `load` below; all of them share three things. `ImageBytes` reads an image's
// structures without ever leaving them. `GuestLayout` knows who has which part of guest memory, so no image can make a
// loader overwrite another part or leave RAM. `EntryState` holds the processor states that images expect. Images are
// hostile: whatever their bytes are, the result is a loaded guest or a `BootFailure`.

import TrivisorVMM

/// What to boot, and with what.
public struct BootRequest: Sendable {
  /// The image.
  public var image: BootImage
  /// What the image is; detected when `nil`.
  public var kind: ImageKind?
  /// What the guest's command line is to hold; kinds that have none refuse one that is not empty.
  public var commandLine: String = ""
  /// Whether a Linux kernel gets `LinuxCommandLine.defaults` in front of `commandLine`.
  public var addsDefaultCommandLine = true
  /// The console that those defaults name.
  public var linuxConsole = LinuxCommandLine.serialConsole
  /// Whether the guest is to be a paravirtual domain: a kernel that has Xen's door beside others is entered by that.
  public var isForDomain = false
  /// By which door a Linux kernel is entered.
  public var linuxEntry = LinuxEntry.automatic
  /// Archives for Linux's first root, which Linux unpacks one over the other in this order.
  public var initialRamdisks: [BootImage] = []
  /// Where a flat image goes, in guest physical memory; its kind's habit when `nil`.
  public var loadAddress: UInt64?
  /// The guest physical address of a flat image's first instruction; its first byte when `nil`.
  public var entry: UInt64?
  /// Files for a multiboot kernel or a PVH one that is not Linux, in this order.
  public var modules: [BootModule] = []
  /// What the guest is told of its memory; what a machine with this RAM has when `nil`.
  public var memoryMap: MemoryMap?
  /// Where ACPI's root pointer lies, for Linux and PVH kernels; others look for it where a PC's firmware has it.
  public var rootSystemDescriptionPointer: GuestPhysicalAddress?
  /// Bytes that no one else knows, for the random number generator of a Linux kernel entered as packaged (PVH has no
  /// place for them); none if empty.
  public var randomSeed: [UInt8] = []

  /// Where a PC's firmware puts a boot sector.
  public static let bootSectorAddress: UInt64 = 0x7c00

  /// - Parameter kind: detected when `nil`.
  public init(image: BootImage, kind: ImageKind? = nil) {
    self.image = image
    self.kind = kind
  }

  /// Fills guest memory.
  /// - Returns: where the guest begins.
  /// - Throws: `BootFailure`; guest memory may then hold parts of the image.
  public func load(into memory: GuestMemory) throws(BootFailure) -> LoadedGuest {
    let kind: ImageKind
    if let said = self.kind {
      kind = said
    } else {
      kind = try ImageKind.detect(image)
    }
    try refuseUnusable(kind)
    if isForDomain || kind == .xen, let kernel = try domainKernel(kind) {
      defer { image.forgetParts() }
      return try XenDomainLoader(
        image: kernel.image, commandLine: kernel.isLinux ? LinuxCommandLine.combine(self) : commandLine,
        initialRamdisks: initialRamdisks
      ).load(into: memory)
    }
    if isForDomain, kind == .linux || kind == .pvh {
      throw BootFailure(
        image.name,
        .unsupported(
          "has no entry for a Xen PV domain; Linux has one for 64 bits, if built with CONFIG_XEN_PV, and since 5.9 none for 32",
          remedy: "set \(Setting.technique) to hardware or rewriting, or give a kernel that has one"))
    }
    // Before the image, which may want that memory.
    BIOSDataArea.store(in: memory)
    var layout = GuestLayout(memory: memory, map: memoryMap ?? MemoryMap(memory), image: image.name)
    switch kind {
    case .flat16, .flat32, .flat64: return try FlatLoader(request: self, kind: kind).load(&layout)
    case .elf: return try ELFLoader(image: image).load(&layout)
    case .multiboot: return try MultibootLoader(request: self).load(&layout)
    case .pvh: return try PVHLoader(request: self).load(&layout)
    case .linux: return try LinuxLoader(request: self).load(&layout)
    case .xen: throw XenDomainLoader.missingNotes(image.name)
    }
  }

  /// A kernel for Xen's domains, or one for a PC that is one for these, too, unpacked; `nil` for all others.
  func domainKernel(_ kind: ImageKind) throws(BootFailure) -> (image: BootImage, isLinux: Bool)? {
    switch kind {
    case .xen:
      let kernel = try image.unpacked() ?? image
      return try XenNotes.find(kernel).map { (kernel, $0.isLinux) }
    case .pvh: return try XenNotes.find(image).map { (image, $0.isLinux) }
    case .linux:
      guard let payload = try LinuxSetupHeader(image).payload,
        let kernel = try image.unpacked(at: payload.offset, length: payload.length),
        try kernel.begins(with: ELFHeader.magic),
        let notes = try XenNotes.find(kernel)
      else { return nil }
      return (kernel, notes.isLinux)
    default: return nil
    }
  }

  /// Whether it is a kernel of a paravirtual domain that is linked for the upper half of the address space, of which a process of the
  /// host has nothing.
  /// - Throws: `BootFailure` where it is damaged.
  public func isDomainOfUpperHalf() throws(BootFailure) -> Bool {
    guard let kernel = try domainKernel(try imageKind())?.image,
      let base = try XenNotes.find(kernel)?.virtualBase
    else { return false }
    return base >> 47 != 0
  }

  /// Whether a paravirtual domain can begin with it: a kernel for Xen's interface alone, or one for a PC that has an entry for it.
  /// - Throws: `BootFailure` where it is damaged.
  public func hasDomainEntry() throws(BootFailure) -> Bool {
    let kind = try imageKind()
    defer { image.forgetParts() }
    guard kind != .xen else { return true }
    return try domainKernel(kind) != nil
  }

  /// Nothing that was asked for is dropped silently.
  private func refuseUnusable(_ kind: ImageKind) throws(BootFailure) {
    func refuse(_ setting: Setting, _ remedy: Sentence) -> BootFailure {
      BootFailure(image.name, .unusable(setting, kind: kind, remedy: remedy))
    }
    let isFlat = [.flat16, .flat32, .flat64].contains(kind)
    if loadAddress != nil, !isFlat { throw refuse(.loadAddress, "such an image says itself where it goes") }
    if entry != nil, !isFlat { throw refuse(.entry, "such an image says itself where it begins") }
    if !commandLine.isEmpty, isFlat || kind == .elf {
      throw refuse(.commandLine, "leave it out, or give a multiboot or Linux image")
    }
    if commandLine.utf8.contains(0) {
      throw BootFailure(
        image.name, .unsupported("the command line holds a zero byte, which would end it", remedy: "leave it out"))
    }
    if !modules.isEmpty, kind != .multiboot, kind != .pvh {
      throw refuse(.module, kind == .linux ? "give Linux its archives by \(Setting.initialRamdisk)" : "leave it out")
    }
    if !initialRamdisks.isEmpty, kind != .linux, kind != .pvh, kind != .xen {
      throw refuse(.initialRamdisk, kind == .multiboot ? "give files by \(Setting.module)" : "leave it out")
    }
    if linuxEntry != .automatic, kind != .linux { throw refuse(.linuxEntry, "it is for Linux kernels as packaged") }
  }
}
