// Where a kernel's modules are, and in which order they go in.
//
// A package that was only unpacked has no modules.dep, and neither has a build tree; so what a module needs is read from the
// modules themselves. Only those that are asked for are opened.

import TrivisorBoot
import Glibc
import SystemPackage

/// The modules of one kernel.
public struct ModuleFolder: Sendable {
  /// What a name stands for in a kernel.
  public enum Presence: Sendable, Equatable {
    /// Part of the kernel itself.
    case builtIn
    /// A module.
    case module
    /// Neither is known.
    case unknown
  }

  /// On the host: what the guest has as /lib/modules/RELEASE.
  public let path: FilePath
  /// Of the kernel.
  public let release: String
  private let files: [String: ModuleFile]
  private let builtIn: Set<String>

  /// Whether it is known what the kernel has in itself.
  public var knowsBuiltIn: Bool { !builtIn.isEmpty }

  /// What is, by its modules' names.
  public var builtInNames: [String] { builtIn.sorted() }

  /// Every module, by its place.
  public var all: [ModuleFile] { files.values.sorted { $0.relativePath < $1.relativePath } }

  /// Looks for the modules of a kernel: in a folder that was named, then upwards from the image, in a build tree and in
  /// roots.
  /// - Parameters:
  ///   - image: the kernel's file.
  ///   - explicit: the folder of modules, or one that holds it by its release.
  ///   - roots: folders with a lib/modules.
  public init?(release: String, image: FilePath?, explicit: FilePath? = nil, roots: [FilePath] = []) {
    if let explicit {
      // Such a tree has more modules in it than its list names: of earlier configurations.
      if Self.isBuildTree(explicit, release: release) {
        self.init(buildTree: explicit, release: release)
        return
      }
      for folder in [explicit, explicit.appending(release), explicit.appending("lib/modules/\(release)")]
      where Self.holdsModules(folder) {
        self.init(folder, release: release)
        return
      }
      return nil
    }
    var places = image.map(Self.ancestors) ?? []
    places += roots
    for place in places {
      for folder in ["lib/modules/\(release)", "usr/lib/modules/\(release)"] {
        let candidate = place.appending(folder)
        if Self.holdsModules(candidate) {
          self.init(candidate, release: release)
          return
        }
      }
      if Self.isBuildTree(place, release: release) {
        self.init(buildTree: place, release: release)
        return
      }
    }
    return nil
  }

  /// The folders that a file lies in, the nearest first.
  private static func ancestors(_ path: FilePath) -> [FilePath] {
    guard let real = path.withPlatformString({ realpath($0, nil) }) else { return [] }
    defer { free(real) }
    var folder = FilePath(platformString: real)
    var folders: [FilePath] = []
    while folder.removeLastComponent() { folders.append(folder) }
    return folders
  }

  private static func exists(_ path: FilePath) -> Bool { path.withPlatformString { access($0, R_OK) == 0 } }

  private static func holdsModules(_ folder: FilePath) -> Bool {
    exists(folder.appending("kernel")) || exists(folder.appending("modules.order"))
  }

  /// A tree in which this kernel was built: it says which release it makes.
  private static func isBuildTree(_ folder: FilePath, release: String) -> Bool {
    guard exists(folder.appending("modules.order")),
      let image = try? BootImage(path: folder.appending("include/config/kernel.release")),
      let text = try? PackedFile.contents(image, limit: 256)
    else { return false }
    return String(decoding: text, as: UTF8.self).split(separator: "\n").first.map(String.init) == release
  }

  private init(_ folder: FilePath, release: String) {
    var files: [String: ModuleFile] = [:]
    Self.collect(folder, &files)
    self.init(folder, release: release, files: files, list: folder.appending("modules.builtin"))
  }

  /// The guest has the tree itself as its folder of modules, so each is where the tree has it, and not below "kernel".
  /// - Parameter folder: its modules.order names each module, by its object file where it was made after Linux 6.2.
  private init(buildTree folder: FilePath, release: String) {
    var files: [String: ModuleFile] = [:]
    for line in Self.lines(folder.appending("modules.order")) {
      var relative = line.hasPrefix("kernel/") ? String(line.dropFirst(7)) : line
      if relative.hasSuffix(".o") { relative = relative.dropLast(2) + ".ko" }
      guard let name = Self.moduleName(relative) else { continue }
      files[name] = ModuleFile(name: name, path: folder.appending(relative), relativePath: relative)
    }
    self.init(folder, release: release, files: files, list: folder.appending("modules.builtin"))
  }

  private init(_ path: FilePath, release: String, files: [String: ModuleFile], list: FilePath) {
    self.path = path
    self.release = release
    self.files = files
    builtIn = Set(Self.lines(list).compactMap { Self.moduleName($0) })
  }

  private static func lines(_ path: FilePath) -> [String] {
    guard let image = try? BootImage(path: path), let text = try? PackedFile.contents(image, limit: 16 << 20) else {
      return []
    }
    return String(decoding: text, as: UTF8.self).split(separator: "\n").map(String.init)
  }

  /// "kernel/fs/fuse/virtiofs.ko.xz" is virtiofs.
  private static func moduleName(_ path: String) -> String? {
    let file = path.split(separator: "/").last ?? ""
    let parts = file.split(separator: ".", omittingEmptySubsequences: false)
    guard let end = parts.lastIndex(of: "ko"), end > 0, parts.count - end <= 2 else { return nil }
    return ModuleInformation.canonical(parts[..<end].joined(separator: "."))
  }

  private static func collect(_ folder: FilePath, _ files: inout [String: ModuleFile]) {
    var waiting = [(folder, "")]
    while let (path, relative) = waiting.popLast() {
      guard let stream = path.withPlatformString({ opendir($0) }) else { continue }
      defer { closedir(stream) }
      while let entry = readdir(stream) {
        let kind = Int32(entry.pointee.d_type)
        let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
          String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        guard name != ".", name != ".." else { continue }
        let inner = relative.isEmpty ? name : relative + "/" + name
        if kind == Int32(DT_DIR) {
          waiting.append((path.appending(name), inner))
        } else if let module = moduleName(name) {
          files[module] = ModuleFile(name: module, path: path.appending(name), relativePath: inner)
        }
      }
    }
  }

  // MARK: Modules

  /// What stands behind a module's name.
  public func presence(of name: String) -> Presence {
    let name = ModuleInformation.canonical(name)
    if files[name] != nil { return .module }
    return builtIn.contains(name) ? .builtIn : .unknown
  }

  /// The module of a name.
  public func file(_ name: String) -> ModuleFile? { files[ModuleInformation.canonical(name)] }

  /// Modules with all that they need, each behind what it needs. What is no module of this kernel is left out: it is part of
  /// the kernel, or not there.
  /// - Throws: `BootFailure` when one can't be read.
  public func loadOrder(of names: [String]) throws(BootFailure) -> [ModuleFile] {
    var search = Search()
    for name in names { try add(ModuleInformation.canonical(name), &search) }
    return search.order
  }

  private struct Search {
    var order: [ModuleFile] = []
    var seen: Set<String> = []
    /// Modules by their other names: made when one is asked for, because every module has to be looked at.
    var aliases: [String: [String]]?
  }

  private func add(_ name: String, _ search: inout Search) throws(BootFailure) {
    guard let file = files[name], search.seen.insert(name).inserted else { return }
    let information = try file.information()
    let (before, after) = information.softDependencies
    for needed in try modules(named: before, &search) + information.dependencies { try add(needed, &search) }
    search.order.append(file)
    for needed in try modules(named: after, &search) { try add(needed, &search) }
  }

  /// Soft dependencies name modules, or what modules call themselves besides.
  private func modules(named names: [String], _ search: inout Search) throws(BootFailure) -> [String] {
    var found: [String] = []
    for name in names where !builtIn.contains(name) {
      guard files[name] == nil else {
        found.append(name)
        continue
      }
      if search.aliases == nil {
        var aliases: [String: [String]] = [:]
        for file in all {
          for alias in (try? file.information())?.aliases ?? [] {
            aliases[ModuleInformation.canonical(alias), default: []].append(file.name)
          }
        }
        search.aliases = aliases
      }
      found += search.aliases?[name] ?? []
    }
    return found
  }
}
