// What depmod(8) would write into a folder of modules: which module needs which, and which one stands behind a name.
//
// As text for busybox, and as the tries that kmod reads (kmod: libkmod/libkmod-index.c, tools/depmod.c).

import TrivisorBoot
import Synchronization

/// The files that modprobe looks into.
public enum ModuleIndex {
  /// One of them.
  public struct File: Sendable {
    /// In the folder of modules.
    public let name: String
    /// Made when it is asked for: that takes a look at every module.
    public let contents: @Sendable () -> [UInt8]
  }

  private final class Knowledge: Sendable {
    private let folder: ModuleFolder
    private let known = Mutex<[(file: ModuleFile, information: ModuleInformation)]?>(nil)

    init(_ folder: ModuleFolder) { self.folder = folder }

    /// Every module that can be read, with what it says of itself.
    var all: [(file: ModuleFile, information: ModuleInformation)] {
      known.withLock { known in
        if let known { return known }
        var found: [(file: ModuleFile, information: ModuleInformation)] = []
        for file in folder.all {
          if let information = try? file.information() { found.append((file, information)) }
        }
        known = found
        return found
      }
    }
  }

  /// All of them, for a folder.
  public static func files(of folder: ModuleFolder) -> [File] {
    let knowledge = Knowledge(folder)
    return [
      File(name: "modules.dep") { Array(dependencyLines(knowledge.all).map { $0.line + "\n" }.joined().utf8) },
      File(name: "modules.dep.bin") {
        ModuleTrie.bytes(dependencyLines(knowledge.all).map { ($0.name, $0.line) })
      },
      File(name: "modules.alias") {
        Array(aliases(knowledge.all).map { "alias \($0.alias) \($0.name)\n" }.joined().utf8)
      },
      File(name: "modules.alias.bin") { ModuleTrie.bytes(aliases(knowledge.all).map { ($0.alias, $0.name) }) },
      File(name: "modules.symbols") { [] },
      File(name: "modules.symbols.bin") { ModuleTrie.bytes([]) },
      File(name: "modules.builtin.bin") { ModuleTrie.bytes(folder.builtInNames.map { ($0, "") }) },
      File(name: "modules.softdep") { Array(softDependencies(knowledge.all).utf8) },
    ]
  }

  private typealias Modules = [(file: ModuleFile, information: ModuleInformation)]

  /// "kernel/a.ko: kernel/b.ko kernel/c.ko": all that a module needs, what is needed last in front.
  private static func dependencyLines(_ modules: Modules) -> [(name: String, line: String)] {
    let byName = Dictionary(modules.map { ($0.file.name, $0) }, uniquingKeysWith: { first, _ in first })
    return modules.map { module in
      var needed: [String] = []
      var waiting = module.information.dependencies
      while let name = waiting.popLast() {
        guard let next = byName[name] else { continue }
        // One that is met again goes behind those that need it.
        if let before = needed.firstIndex(of: next.file.relativePath) { needed.remove(at: before) }
        needed.append(next.file.relativePath)
        // Circles are no modules' that were ever made.
        guard needed.count <= modules.count else { break }
        waiting += next.information.dependencies.filter { $0 != module.file.name }
      }
      let line = ([module.file.relativePath + ":"] + needed).joined(separator: " ")
      return (module.file.name, line)
    }
  }

  /// Names and patterns; outside of brackets, a hyphen is an underscore.
  private static func aliases(_ modules: Modules) -> [(alias: String, name: String)] {
    modules.flatMap { module in
      module.information.aliases.map { alias in
        var isInBrackets = false
        let canonical = alias.map { character -> Character in
          if character == "[" { isInBrackets = true }
          if character == "]" { isInBrackets = false }
          return character == "-" && !isInBrackets ? "_" : character
        }
        return (String(canonical), module.file.name)
      }
    }
  }

  private static func softDependencies(_ modules: Modules) -> String {
    modules.map { module in
      let (before, after) = module.information.softDependencies
      guard !before.isEmpty || !after.isEmpty else { return "" }
      let words =
        (before.isEmpty ? [] : ["pre:"] + before) + (after.isEmpty ? [] : ["post:"] + after)
      return "softdep \(module.file.name) \(words.joined(separator: " "))\n"
    }.joined()
  }
}

/// A trie of names and what stands behind them, in a file.
enum ModuleTrie {
  private static let magic: UInt32 = 0xb007_f457
  private static let version: UInt32 = 0x0002_0001
  /// Marks of what a node has, in the upper bits of its offset.
  private static let hasPrefix: UInt32 = 0x8000_0000
  private static let hasValues: UInt32 = 0x4000_0000
  private static let hasChildren: UInt32 = 0x2000_0000

  /// - Parameter entries: names may come more than once, as often as they have values; only ASCII ones are kept.
  static func bytes(_ entries: [(key: String, value: String)]) -> [UInt8] {
    var bytes: [UInt8] = []
    put(magic, &bytes)
    put(version, &bytes)
    put(0, &bytes)
    let sorted = entries.enumerated()
      .map { Entry(key: Array($0.element.key.utf8), value: $0.element.value, order: UInt32($0.offset)) }
      .filter { $0.key.allSatisfy { $0 > 0 && $0 < 0x80 } }
      .sorted { $0.key.lexicographicallyPrecedes($1.key) || $0.key == $1.key && $0.order < $1.order }
    let root = write(sorted[...], from: 0, &bytes)
    for index in 0..<4 { bytes[8 + index] = UInt8(truncatingIfNeeded: root >> UInt32(24 - 8 * index)) }
    return bytes
  }

  private struct Entry {
    let key: [UInt8]
    let value: String
    let order: UInt32
  }

  /// A node for keys that are the same up to `depth`, behind its children.
  /// - Returns: its offset with its marks.
  private static func write(_ entries: ArraySlice<Entry>, from depth: Int, _ bytes: inout [UInt8]) -> UInt32 {
    guard let first = entries.first, let last = entries.last else {
      return UInt32(bytes.count)
    }
    // Sorted: what first and last have in common, all have.
    let common = zip(first.key[depth...], last.key[depth...]).prefix { $0 == $1 }.count
    let end = depth + common
    let values = entries.prefix { $0.key.count == end }
    let rest = entries[values.endIndex...]
    var children: [UInt32] = []
    var range: (first: UInt8, last: UInt8) = (0, 0)
    if let low = rest.first?.key[end], let high = rest.last?.key[end] {
      range = (low, high)
      var position = rest.startIndex
      for letter in low...high {
        let group = rest[position...].prefix { $0.key[end] == letter }
        position = group.endIndex
        children.append(group.isEmpty ? 0 : write(group, from: end + 1, &bytes))
      }
    }
    var offset = UInt32(bytes.count)
    if common > 0 {
      bytes += first.key[depth..<end] + [0]
      offset |= hasPrefix
    }
    if !children.isEmpty {
      bytes += [range.first, range.last]
      for child in children { put(child, &bytes) }
      offset |= hasChildren
    }
    if !values.isEmpty {
      put(UInt32(values.count), &bytes)
      for value in values {
        put(value.order, &bytes)
        bytes += Array(value.value.utf8) + [0]
      }
      offset |= hasValues
    }
    return offset
  }

  /// Big-endian, as all of these files are.
  private static func put(_ value: UInt32, _ bytes: inout [UInt8]) {
    withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
  }
}
