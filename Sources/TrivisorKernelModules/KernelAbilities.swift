// What a kernel has of what a guest is to use, known before it runs where anything tells: the list of what is built in, a
// configuration beside the image or in it, and, where neither is there, the names that drivers leave in the image.

import TrivisorBoot
import SystemPackage

/// What a kernel can do, by itself or by its modules.
public struct KernelAbilities: Sendable {
  /// A driver or a file system.
  public struct Ability: Sendable, Equatable {
    /// The module's name, if it is one.
    public let module: String
    /// The option that makes it, without CONFIG_.
    public let option: String
    /// What the kernel calls it, which is found in an image that has it.
    let word: String
    /// For a sentence.
    public let title: String

    /// Devices at addresses.
    public static let memoryMappedVirtio = Ability(
      module: "virtio_mmio", option: "VIRTIO_MMIO", word: "virtio-mmio", title: "virtio over MMIO")
    /// Devices on a PCI bus.
    public static let virtioOverPCI = Ability(
      module: "virtio_pci", option: "VIRTIO_PCI", word: "virtio-pci", title: "virtio over PCI")
    /// The host's folders.
    public static let virtioFileSystem = Ability(
      module: "virtiofs", option: "VIRTIO_FS", word: "virtiofs", title: "virtio-fs")
    /// One folder over another.
    public static let overlay = Ability(
      module: "overlay", option: "OVERLAY_FS", word: "overlay", title: "overlay file systems")
    /// Disks.
    public static let virtioBlock = Ability(
      module: "virtio_blk", option: "VIRTIO_BLK", word: "virtio_blk", title: "virtio disks")
    /// Disks of a Xen domain.
    public static let xenBlock = Ability(
      module: "xen-blkfront", option: "XEN_BLKDEV_FRONTEND", word: "xen-blkfront", title: "Xen's disks")
    /// Sockets between guest and host.
    public static let virtioSocket = Ability(
      module: "vmw_vsock_virtio_transport", option: "VIRTIO_VSOCKETS", word: "virtio_transport",
      title: "virtio sockets")
    /// Memory that goes back to the host.
    public static let virtioBalloon = Ability(
      module: "virtio_balloon", option: "VIRTIO_BALLOON", word: "virtio_balloon", title: "virtio memory balloons")
    /// Network interfaces.
    public static let virtioNetwork = Ability(
      module: "virtio_net", option: "VIRTIO_NET", word: "virtio_net", title: "virtio network interfaces")
    /// Network interfaces of a Xen domain.
    public static let xenNetwork = Ability(
      module: "xen-netfront", option: "XEN_NETDEV_FRONTEND", word: "vif", title: "Xen's network interfaces")
    /// Consoles.
    public static let virtioConsole = Ability(
      module: "virtio_console", option: "VIRTIO_CONSOLE", word: "virtio_console", title: "virtio consoles")
  }

  /// How a kernel has it.
  public enum State: Sendable, Equatable {
    /// In itself.
    case builtIn
    /// As a module that was found.
    case module
    /// As a module, where no modules were found.
    case missingModule
    /// Not at all.
    case absent
    /// Nothing tells.
    case unknown
  }

  /// Its modules, if they were found.
  public let modules: ModuleFolder?
  private let configuration: KernelConfiguration?
  private let image: BootImage

  /// - Parameters:
  ///   - path: the image's, if it is a file.
  ///   - modules: of this kernel.
  public init(_ image: BootImage, path: FilePath?, release: String?, modules: ModuleFolder?) {
    self.image = image
    self.modules = modules
    configuration = KernelConfiguration(image: path, release: release, modules: modules)
  }

  /// Whether virtio devices must be on a PCI bus for this kernel: where they need not, it finds them sooner at addresses.
  public var needsVirtioOverPCI: Bool {
    switch state(of: .memoryMappedVirtio) {
    case .builtIn, .module, .unknown: false
    case .absent, .missingModule: [.builtIn, .module].contains(state(of: .virtioOverPCI))
    }
  }

  /// How the kernel has it.
  public func state(of ability: Ability) -> State {
    switch modules?.presence(of: ability.module) {
    case .module: return .module
    case .builtIn: return .builtIn
    case .unknown, nil: break
    }
    switch configuration?[ability.option] {
    case .builtIn?: return .builtIn
    case .module?: return .missingModule
    case .absent?: return .absent
    case nil: break
    }
    // A list of what is built in that does not name it, beside modules that don't either.
    if let modules, modules.knowsBuiltIn { return .absent }
    guard let contents = try? ImageContents(image).bytes else { return .unknown }
    return contents.firstIndex(of: [0] + Array(ability.word.utf8) + [0]) != nil ? .builtIn : .absent
  }
}
