// What surrounds a command in a Linux guest: which folders of the host's it sees, and what its first process does before.
//
//     --root, --share, --modules ──▶ shares (devices of the machine) + modules (in the archive) + steps (in the order)

import TrivisorBoot
import TrivisorFileServer
import Glibc
import TrivisorKernelModules
import TrivisorPlatform
import SystemPackage
import TrivisorVMM

/// Folders, modules and steps for one command.
struct GuestWorkplace {
  private static let rootTag = "trivisor-root"
  private static let modulesTag = "trivisor-modules"

  let options: WorkplaceOptions
  let user: GuestUser
  var hasDisks = false
  var hasVirtioConsole = false
  private let hasArchives: Bool
  private let image: BootImage
  private let release: String?
  private let abilities: KernelAbilities

  /// Whether the root is the host's folder itself.
  private(set) var hasLiveRoot = false
  private(set) var shares: [SharedFolderConfiguration] = []
  /// In the order in which the kernel takes them.
  private(set) var modules: [ModuleFile] = []
  /// For the guest's first process (guests/linux/setup.swift).
  private(set) var steps: [String] = []

  init(options: WorkplaceOptions, user: GuestUser, request: BootRequest, imagePath: FilePath?) {
    self.options = options
    self.user = user
    image = request.image
    hasArchives = !request.initialRamdisks.isEmpty
    let release = (try? request.linuxRelease()) ?? nil
    self.release = release
    let folder = release.flatMap { release in
      ModuleFolder(
        release: release, image: imagePath, explicit: options.modules.map { FilePath($0) },
        roots: options.root.map { [$0.path] } ?? [])
    }
    abilities = KernelAbilities(request.image, path: imagePath, release: release, modules: folder)
  }

  /// Decides all of it.
  /// - Throws: `Refusal` for what can't be had.
  mutating func prepare() throws {
    if let folder = options.modules, abilities.modules == nil {
      throw Refusal(
        status: .usage,
        message: "--modules: \(folder) holds no modules of this kernel, \(release ?? "which does not say its release")")
    }
    try refuseUnusable()
    var needed: [KernelAbilities.Ability] = []
    if let root = options.root, root.way != .copy { needed += chooseRoot(root) }
    if !options.share.isEmpty {
      needed += [.memoryMappedVirtio, .virtioFileSystem]
      try require(.memoryMappedVirtio, for: "--share")
      try require(.virtioFileSystem, for: "--share")
    }
    if hasDisks { needed += [.memoryMappedVirtio, .virtioBlock] }
    if hasVirtioConsole { needed += [.memoryMappedVirtio, .virtioConsole] }
    if let folder = abilities.modules {
      modules = try folder.loadOrder(of: needed.map(\.module))
    }
    steps = modules.map { "module=\($0.name)" }
    if hasLiveRoot, let root = options.root { try addRoot(root) }
    for share in options.share { try add(share) }
    addModules()
    steps.append("host=trivisor")
    if let folder = options.cwd ?? callersFolder { steps.append("folder=\(folder)") }
    if options.user != nil { steps.append(user.step) }
  }

  private func refuseUnusable() throws {
    if options.rootSize != nil, options.root?.way != .overlay {
      throw Refusal(
        status: .usage, message: "--root-size is for a root whose changes stay in the guest's memory (--root DIR)")
    }
    if let folder = options.cwd, !folder.hasPrefix("/") {
      throw Refusal(status: .usage, message: "--cwd: '\(folder)' is no path from the root on: begin it with a slash")
    }
    let tags = options.share.map(\.tag) + [Self.rootTag, Self.modulesTag]
    for (index, tag) in tags.enumerated() where tags[..<index].contains(tag) {
      throw Refusal(status: .usage, message: "--share: two folders have the tag '\(tag)': give one another with ,tag=")
    }
  }

  // MARK: The root

  /// Whether the root can be the folder itself; where not, that is said, and it will be a copy.
  private mutating func chooseRoot(_ root: RootArgument) -> [KernelAbilities.Ability] {
    var needed: [KernelAbilities.Ability] = [.memoryMappedVirtio, .virtioFileSystem]
    if root.way == .overlay { needed.append(.overlay) }
    var reason: String?
    if hasArchives { reason = "with --initrd the root is in memory" }
    for ability in needed where reason == nil { reason = lack(of: ability) }
    guard let reason else {
      hasLiveRoot = true
      return needed
    }
    Diagnostics.say("--root: \(reason): the guest gets a copy, as with --root \(root.path),copy")
    return []
  }

  /// What the kernel lacks, if that is known.
  private func lack(of ability: KernelAbilities.Ability) -> String? {
    switch abilities.state(of: ability) {
    case .builtIn, .module, .unknown: nil
    case .missingModule:
      "the kernel has \(ability.title) as a module, and its modules were not found (--modules)"
    case .absent: "the kernel has no \(ability.title) (CONFIG_\(ability.option))"
    }
  }

  /// Refuses what the kernel lacks, with the status that its own first process would end with.
  private func require(_ ability: KernelAbilities.Ability, for option: String) throws {
    guard let reason = lack(of: ability) else { return }
    throw Refusal(
      status: .commandLost,
      message: "\(option): \(reason): 'trivisor kernel-config' prints the options that a kernel needs")
  }

  private mutating func addRoot(_ root: RootArgument) throws {
    let isWritable = root.way == .writable
    shares.append(
      SharedFolderConfiguration(
        folder(root.path, isReadOnly: !isWritable, freshness: isWritable ? .live : .snapshot), tag: Self.rootTag,
        setting: .root))
    if isWritable {
      steps.append("root=share")
    } else {
      steps.append("root=overlay:\(options.rootSize.map { "\($0.bytes)" } ?? "50%")")
    }
    guard !root.writable.isEmpty else { return }
    let top = Self.real(root.path)
    for (index, path) in root.writable.enumerated() {
      let inside = Self.real(path)
      guard inside.starts(with: top) else {
        throw Refusal(status: .usage, message: "--root: \(path) is not in \(root.path): give it with --share")
      }
      let names = inside.components.dropFirst(top.components.count).map(\.string)
      let place = "/" + names.joined(separator: "/")
      add(folder(path), tag: "trivisor-rw\(index)", at: place, isReadOnly: false, setting: .root)
    }
  }

  private static func real(_ path: FilePath) -> FilePath {
    guard let real = path.withPlatformString({ realpath($0, nil) }) else { return path }
    defer { free(real) }
    return FilePath(platformString: real)
  }

  /// Where this process is, if that is in the root.
  private var callersFolder: String? {
    guard let root = options.root else { return nil }
    let (top, here) = (Self.real(root.path), Self.real(FilePath(".")))
    guard here != top, here.starts(with: top) else { return nil }
    return "/" + here.components.dropFirst(top.components.count).map(\.string).joined(separator: "/")
  }

  // MARK: Shares

  private func folder(
    _ path: FilePath, isReadOnly: Bool = false, freshness: SharedFolder.Freshness = .live
  ) -> SharedFolder {
    SharedFolder(
      path: path, isReadOnly: isReadOnly, freshness: freshness, owners: OwnerMap(guest: user.owner),
      hidden: options.hide.map { FilePath($0) })
  }

  private mutating func add(_ share: ShareArgument) throws {
    add(
      folder(share.path, isReadOnly: share.isReadOnly), tag: share.tag, at: share.place, isReadOnly: share.isReadOnly,
      setting: .share)
  }

  private mutating func add(_ folder: SharedFolder, tag: String, at place: String, isReadOnly: Bool, setting: Setting) {
    shares.append(SharedFolderConfiguration(folder, tag: tag, setting: setting))
    steps.append("share=\(isReadOnly ? "ro" : "rw"):\(tag):\(place)")
  }

  /// The modules' folder at its usual place, where virtio-fs is used anyway and the root has none of its own.
  private mutating func addModules() {
    guard let folder = abilities.modules, let release, !shares.isEmpty else { return }
    let place = "lib/modules/\(release)"
    if hasLiveRoot, let root = options.root {
      let inRoot = root.path.appending(place)
      // Nothing is made on the host for it.
      let isThere = inRoot.withPlatformString { access($0, X_OK) } == 0
      if root.way == .writable, !isThere { return }
      if inRoot.appending("modules.dep.bin").withPlatformString({ access($0, R_OK) }) == 0 { return }
    }
    var shared = self.folder(folder.path, isReadOnly: true, freshness: .snapshot)
    shared.extraFiles = ModuleIndex.files(of: folder).map { file in
      SharedFolder.ExtraFile(name: file.name, contents: file.contents)
    }
    add(shared, tag: Self.modulesTag, at: "/" + place, isReadOnly: true, setting: .share)
  }
}
