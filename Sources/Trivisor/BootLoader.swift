import TrivisorBoot
import TrivisorEmbeddedGuests
import TrivisorVMM

/// How a guest comes into its machine. The types of this module are all there are.
public protocol BootLoader: Sendable {
  /// What the machine makes of it.
  var plan: BootPlan { get }
}

/// What a boot loader does, ready for a machine; only this module's boot loaders can make one.
public struct BootPlan: Sendable {
  /// Opens the image; a guest of Trivisor's own has another build for the paravirtual technique.
  let request: @Sendable (_ isParavirtual: Bool) throws(ConfigurationError) -> BootRequest
  /// The image's file, if it is one.
  var imagePath: FilePath?
  /// What it was made from.
  let loader: KnownLoader

  init(
    _ loader: KnownLoader, imagePath: FilePath? = nil,
    _ request: @escaping @Sendable (_ isParavirtual: Bool) throws(ConfigurationError) -> BootRequest
  ) {
    self.loader = loader
    self.imagePath = imagePath
    self.request = request
  }

  /// A plan for an image in a file.
  static func file(
    _ loader: KnownLoader, _ path: FilePath, kind: TrivisorBoot.ImageKind? = nil,
    _ adjust: @escaping @Sendable (inout BootRequest) throws(BootFailure) -> Void
  ) -> BootPlan {
    BootPlan(loader, imagePath: path) { _ throws(ConfigurationError) in
      do throws(BootFailure) {
        var request = BootRequest(image: try BootImage(path: path), kind: kind)
        try adjust(&request)
        return request
      } catch {
        throw ConfigurationError(error.sentence, about: "bootLoader")
      }
    }
  }
}

/// A Linux kernel as packaged (bzImage), or as an ELF with a PVH note.
public struct LinuxBootLoader: BootLoader, Equatable {
  /// The kernel's image.
  public var kernel: FilePath
  /// Behind the words that Trivisor puts in front, unless `addsDefaultCommandLine` is off.
  public var commandLine: String
  /// Archives for Linux's first root, unpacked one over the other in this order.
  public var initialRamdisks: [FilePath]
  /// Whether the console and the way to reset are named for the kernel.
  public var addsDefaultCommandLine = true

  /// - Parameter initialRamdisk: an archive for Linux's first root.
  public init(kernel: FilePath, commandLine: String = "", initialRamdisk: FilePath? = nil) {
    self.kernel = kernel
    self.commandLine = commandLine
    initialRamdisks = initialRamdisk.map { [$0] } ?? []
  }

  /// What the machine makes of it.
  public var plan: BootPlan {
    BootPlan.file(.linux(self), kernel) { [self] request throws(BootFailure) in
      request.commandLine = commandLine
      request.addsDefaultCommandLine = addsDefaultCommandLine
      for path in initialRamdisks { request.initialRamdisks.append(try BootImage(path: path)) }
    }
  }
}

/// A kernel with a multiboot 1 header.
public struct MultibootLoader: BootLoader, Equatable {
  /// A file for the kernel, and its text.
  public struct Module: Sendable, Equatable {
    /// The file.
    public var path: FilePath
    /// What the kernel is told of it.
    public var commandLine: String

    /// - Parameter commandLine: what the kernel is told of it.
    public init(path: FilePath, commandLine: String = "") {
      self.path = path
      self.commandLine = commandLine
    }
  }

  /// The kernel's image.
  public var kernel: FilePath
  /// What it is told.
  public var commandLine: String
  /// In the order in which it finds them.
  public var modules: [Module]

  /// - Parameter modules: in the order in which the kernel finds them.
  public init(kernel: FilePath, commandLine: String = "", modules: [Module] = []) {
    self.kernel = kernel
    self.commandLine = commandLine
    self.modules = modules
  }

  /// What the machine makes of it.
  public var plan: BootPlan {
    BootPlan.file(.multiboot(self), kernel, kind: .multiboot) { [self] request throws(BootFailure) in
      request.commandLine = commandLine
      for module in modules {
        request.modules.append(
          BootModule(image: try BootImage(path: module.path), commandLine: module.commandLine))
      }
    }
  }
}

/// A kernel for Xen's paravirtual interface: for the paravirtual technique.
public struct XenLoader: BootLoader, Equatable {
  /// The kernel's image.
  public var kernel: FilePath
  /// What it is told.
  public var commandLine: String
  /// An archive for Linux's first root, or what else the kernel takes there.
  public var initialRamdisk: FilePath?

  /// - Parameter initialRamdisk: an archive for Linux's first root, or what else the kernel takes there.
  public init(kernel: FilePath, commandLine: String = "", initialRamdisk: FilePath? = nil) {
    self.kernel = kernel
    self.commandLine = commandLine
    self.initialRamdisk = initialRamdisk
  }

  /// What the machine makes of it.
  public var plan: BootPlan {
    BootPlan.file(.xen(self), kernel, kind: .xen) { [self] request throws(BootFailure) in
      request.commandLine = commandLine
      if let initialRamdisk { request.initialRamdisks = [try BootImage(path: initialRamdisk)] }
    }
  }
}

/// Bytes that are put into memory as they are, and entered.
public struct FlatLoader: BootLoader, Equatable {
  /// In which mode the processor is.
  public enum Mode: Sendable {
    /// As behind a PC's firmware.
    case real
    /// 32-bit, flat segments, no paging.
    case protected
    /// 64-bit, memory mapped one to one.
    case long
  }

  /// The image.
  public var image: FilePath
  /// At its first instruction.
  public var mode: Mode
  /// Its place in guest physical memory; its mode's habit when `nil` (0x7c00 in real mode).
  public var loadAddress: UInt64?
  /// The guest physical address of its first instruction; its first byte when `nil`.
  public var entry: UInt64?

  /// - Parameters:
  ///   - mode: at its first instruction.
  ///   - loadAddress: in guest physical memory.
  ///   - entry: likewise.
  public init(image: FilePath, mode: Mode, loadAddress: UInt64? = nil, entry: UInt64? = nil) {
    self.image = image
    self.mode = mode
    self.loadAddress = loadAddress
    self.entry = entry
  }

  /// What the machine makes of it.
  public var plan: BootPlan {
    let kind: TrivisorBoot.ImageKind =
      switch mode {
      case .real: .flat16
      case .protected: .flat32
      case .long: .flat64
      }
    return BootPlan.file(.flat(self), image, kind: kind) { [self] request throws(BootFailure) in
      request.loadAddress = loadAddress
      request.entry = entry
    }
  }
}

/// An image whose kind is detected, as `trivisor run IMAGE` does.
public struct ImageLoader: BootLoader, Equatable {
  /// The image.
  public var image: FilePath
  /// What it is told, if its kind has a place for that.
  public var commandLine: String

  /// - Parameter commandLine: refused where the image's kind has no place for one.
  public init(image: FilePath, commandLine: String = "") {
    self.image = image
    self.commandLine = commandLine
  }

  /// What the machine makes of it.
  public var plan: BootPlan {
    BootPlan.file(.image(self), image) { [self] request throws(BootFailure) in request.commandLine = commandLine }
  }
}

/// A small guest that is part of this package: something that runs before anything has been fetched.
public struct SampleGuest: BootLoader, Equatable {
  /// As `trivisor run guest:NAME` spells it.
  public var name: String
  /// What it is told.
  public var commandLine: String

  /// - Parameter name: one of `names`.
  public init(_ name: String, commandLine: String = "") {
    self.name = name
    self.commandLine = commandLine
  }

  /// All of them, simplest first.
  public static var names: [String] { EmbeddedGuest.all.map(\.name) }

  /// What the machine makes of it.
  public var plan: BootPlan {
    BootPlan(.sample(self)) { [self] isParavirtual throws(ConfigurationError) in
      guard let guest = EmbeddedGuest.named(name) else {
        throw ConfigurationError(
          "there is no guest '\(name)'; there are \(Self.names.joined(separator: ", "))", about: "bootLoader")
      }
      guard let bytes = isParavirtual ? guest.paravirtualBytes : guest.bytes else {
        throw ConfigurationError("there is no paravirtual build of the guest '\(name)'", about: "bootLoader")
      }
      do throws(BootFailure) {
        var request = BootRequest(image: try BootImage(name: name, bytes: bytes))
        request.commandLine = commandLine
        return request
      } catch {
        throw ConfigurationError(error.sentence, about: "bootLoader")
      }
    }
  }
}
