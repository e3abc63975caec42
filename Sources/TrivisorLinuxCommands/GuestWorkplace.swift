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

  let options: Workplace
  /// Told what a person should know of what was chosen, a sentence each.
  var say: (Sentence) -> Void = { _ in }
  let user: GuestUser
  var hasDisks = false
  var isDomain = false
  var hasVirtioConsole = false
  var hasSockets = false
  var hasBalloon = false
  /// How the guest is to reach virtio devices; without, as its kernel can.
  var transport: VirtioTransportKind?
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

  init(options: Workplace, user: GuestUser, request: BootRequest, imagePath: FilePath?) {
    self.options = options
    self.user = user
    image = request.image
    hasArchives = !request.initialRamdisks.isEmpty
    let release = (try? request.linuxRelease()) ?? nil
    self.release = release
    let folder = release.flatMap { release in
      ModuleFolder(
        release: release, image: imagePath, explicit: options.modules,
        roots: options.root.map { [$0.path] } ?? [])
    }
    abilities = KernelAbilities(request.image, path: imagePath, release: release, modules: folder)
  }

  /// Decides all of it.
  /// - Throws: `WorkplaceRefusal` for what can't be had.
  mutating func prepare() throws {
    if let folder = options.modules, abilities.modules == nil {
      throw WorkplaceRefusal(
        status: .usage,
        message:
          "\(Setting.modulesFolder): \(folder) holds no modules of this kernel, \(release ?? "which does not say its release")"
      )
    }
    try refuseUnusable()
    var needed: [KernelAbilities.Ability] = []
    if let root = options.root, root.way != .copy { needed += chooseRoot(root) }
    if !options.shares.isEmpty {
      needed += [transportAbility, .virtioFileSystem]
      try require(transportAbility, for: .share)
      try require(.virtioFileSystem, for: .share)
    }
    if hasDisks { needed += isDomain ? [.xenBlock] : [transportAbility, .virtioBlock] }
    if !options.networks.isEmpty {
      let abilities: [KernelAbilities.Ability] = isDomain ? [.xenNetwork] : [transportAbility, .virtioNetwork]
      for ability in abilities { try require(ability, for: .network) }
      needed += abilities
    }
    if hasVirtioConsole { needed += [transportAbility, .virtioConsole] }
    if hasSockets {
      needed += [transportAbility, .virtioSocket]
      if !isDomain { try require(.virtioSocket, for: .socket) }
    }
    if hasBalloon {
      needed += [transportAbility, .virtioBalloon]
      if !isDomain { try require(.virtioBalloon, for: .balloon) }
    }
    if let folder = abilities.modules {
      modules = try folder.loadOrder(of: needed.map(\.module))
    }
    steps = modules.map { "module=\($0.name)" }
    if hasLiveRoot, let root = options.root { try addRoot(root) }
    for share in options.shares { try add(share) }
    if !isDomain { addModules() }
    steps.append("host=trivisor")
    // One that was given first is tried first.
    steps += options.networks.enumerated().map { index, network in network.step(metric: 100 * index) }
    if let names = WorkplaceNetwork.namesStep(options.networks) { steps.append(names) }
    if let folder = options.folder ?? callersFolder { steps.append("folder=\(folder)") }
    if options.user != nil { steps.append(user.step) }
  }

  /// What was asked for, or what the kernel can.
  var chosenTransport: VirtioTransportKind { transport ?? (abilities.needsVirtioOverPCI ? .pci : .mmio) }

  private var transportAbility: KernelAbilities.Ability {
    chosenTransport == .pci ? .virtioOverPCI : .memoryMappedVirtio
  }

  private func refuseUnusable() throws {
    if options.rootSize != nil, options.root?.way != .overlay {
      throw WorkplaceRefusal(
        status: .usage, message: "\(Setting.rootSize) is for a root whose changes stay in the guest's memory")
    }
    if let folder = options.folder, !folder.hasPrefix("/") {
      throw WorkplaceRefusal(
        status: .usage,
        message: "\(Setting.workingFolder): '\(folder)' is no path from the root on: begin it with a slash")
    }
    let tags = options.shares.map(\.tag) + [Self.rootTag, Self.modulesTag]
    for (index, tag) in tags.enumerated() where tags[..<index].contains(tag) {
      throw WorkplaceRefusal(
        status: .usage, message: "\(Setting.share): two folders have the tag '\(tag)': give one another")
    }
  }

  // MARK: The root

  /// Whether the root can be the folder itself; where not, that is said, and it will be a copy.
  private mutating func chooseRoot(_ root: WorkplaceRoot) -> [KernelAbilities.Ability] {
    var needed: [KernelAbilities.Ability] = [transportAbility, .virtioFileSystem]
    if root.way == .overlay { needed.append(.overlay) }
    var reason: Sentence?
    if hasArchives { reason = "with \(Setting.initialRamdisk) the root is in memory" }
    if isDomain { reason = "a paravirtual domain has no virtio devices, so no folder of the host's" }
    for ability in needed where reason == nil { reason = lack(of: ability) }
    guard let reason else {
      hasLiveRoot = true
      return needed
    }
    say("\(Setting.root): \(reason): the guest gets a copy of \(root.path)")
    return []
  }

  /// What the kernel lacks, if that is known.
  private func lack(of ability: KernelAbilities.Ability) -> Sentence? {
    switch abilities.state(of: ability) {
    case .builtIn, .module, .unknown: nil
    case .missingModule:
      "the kernel has \(ability.title) as a module, and its modules were not found (\(Setting.modulesFolder))"
    case .absent where abilities.modules == nil:
      "the kernel has no \(ability.title) in itself (CONFIG_\(ability.option)), and no modules of it were found"
        + " (\(Setting.modulesFolder))"
    case .absent: "the kernel has no \(ability.title) (CONFIG_\(ability.option))"
    }
  }

  /// Refuses what the kernel lacks, with the status that its own first process would end with.
  private func require(_ ability: KernelAbilities.Ability, for setting: Setting) throws {
    guard let reason = lack(of: ability) else { return }
    throw WorkplaceRefusal(
      status: .commandLost,
      message: "\(setting): \(reason): 'trivisor kernel-config' prints the options that a kernel needs")
  }

  private mutating func addRoot(_ root: WorkplaceRoot) throws {
    let isWritable = root.way == .writable
    var shared = folder(root.path, isReadOnly: !isWritable, freshness: isWritable ? .live : .snapshot)
    if options.rootIsImage {
      shared.hasStoredAttributes = true
      // What is stored is whose it is for the guest.
      shared.owners = OwnerMap(host: OwnerMap.Owner(user: 0, group: 0))
    }
    shares.append(SharedFolderConfiguration(shared, tag: Self.rootTag, setting: .root))
    if isWritable {
      steps.append("root=share")
    } else {
      steps.append("root=overlay:\(options.rootSize.map { "\($0)" } ?? "50%")")
    }
    guard !root.writable.isEmpty else { return }
    let top = Self.real(root.path)
    for (index, path) in root.writable.enumerated() {
      let inside = Self.real(path)
      guard inside.starts(with: top) else {
        throw WorkplaceRefusal(
          status: .usage, message: "\(Setting.root): \(path) is not in \(root.path): give it by \(Setting.share)")
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
      hidden: options.hidden)
  }

  private mutating func add(_ share: WorkplaceShare) throws {
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
