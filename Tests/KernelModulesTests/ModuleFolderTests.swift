import TrivisorBoot
import Glibc
import SystemPackage
import Testing

@testable import TrivisorKernelModules

/// A folder of modules that say what they need and are nothing else.
private final class Modules {
  let top: FilePath
  let folder: FilePath
  static let release = "6.1.0-test"

  init(_ modules: [(path: String, information: [String])], builtIn: [String] = []) throws {
    var template = Array("/tmp/trivisor-modules-XXXXXX".utf8CString)
    top = FilePath(String(cString: try #require(mkdtemp(&template))))
    folder = top.appending("lib/modules/\(Self.release)")
    for part in ["lib", "lib/modules", "lib/modules/\(Self.release)", "boot"] { Self.make(top.appending(part)) }
    for module in modules {
      var place = folder
      for part in module.path.split(separator: "/").dropLast() {
        place.append(String(part))
        Self.make(place)
      }
      Self.put(folder.appending(module.path), Self.module(module.information))
    }
    if !builtIn.isEmpty {
      Self.put(folder.appending("modules.builtin"), Array(builtIn.map { $0 + "\n" }.joined().utf8))
    }
    Self.put(top.appending("boot/vmlinuz"), [0])
  }

  deinit {
    var pid = pid_t()
    var arguments: [UnsafeMutablePointer<CChar>?] =
      ["rm", "-rf", top.string].map { (word: String) in strdup(word) } + [nil]
    if posix_spawn(&pid, "/bin/rm", nil, nil, &arguments, nil) == 0 { waitpid(pid, nil, 0) }
    for argument in arguments { free(argument) }
  }

  static func make(_ path: FilePath) { mkdir(path.string, 0o755) }

  static func put(_ path: FilePath, _ bytes: [UInt8]) {
    let descriptor = open(path.string, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
    _ = write(descriptor, bytes, bytes.count)
    close(descriptor)
  }

  /// A relocatable ELF file with the sections .modinfo and .shstrtab.
  static func module(_ information: [String]) -> [UInt8] {
    func bytes(_ value: Int, _ count: Int) -> [UInt8] {
      (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }
    let contents = Array(information.map { $0 + "\0" }.joined().utf8)
    let names = Array("\0.modinfo\0.shstrtab\0".utf8)
    let table = 64 + contents.count + names.count
    func header(_ name: Int, _ offset: Int, _ size: Int) -> [UInt8] {
      bytes(name, 4) + bytes(1, 4) + bytes(0, 16) + bytes(offset, 8) + bytes(size, 8) + bytes(0, 24)
    }
    var file: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1] + bytes(0, 9) + bytes(1, 2) + bytes(62, 2) + bytes(1, 4)
    file += bytes(0, 16) + bytes(table, 8) + bytes(0, 4) + bytes(64, 2) + bytes(0, 4) + bytes(64, 2) + bytes(3, 2)
    file += bytes(2, 2) + contents + names
    return file + bytes(0, 64) + header(1, 64, contents.count) + header(10, 64 + contents.count, names.count)
  }
}

@Suite("A kernel's modules")
struct ModuleFolderTests {
  private static let some = [
    (
      "kernel/fs/virtiofs.ko", ["license=GPL", "depends=fuse,virtio-ring", "softdep=pre: crypto-crc32c post: after_it"]
    ),
    ("kernel/fs/fuse.ko", ["depends=", "alias=fs-fuse"]),
    ("kernel/drivers/virtio-ring.ko", ["depends=virtio"]),
    ("kernel/drivers/virtio.ko", ["depends=", "alias=virtio:d[0-9-]*v-*"]),
    ("kernel/lib/crc32c.ko", ["alias=crypto-crc32c"]),
    ("kernel/lib/after-it.ko", []),
    ("kernel/lib/circle_a.ko", ["depends=circle_b"]),
    ("kernel/lib/circle_b.ko", ["depends=circle_a"]),
  ]

  @Test("are found upwards from the image, and go in behind what they need")
  func order() throws {
    let modules = try Modules(Self.some)
    let folder = try #require(
      ModuleFolder(release: Modules.release, image: modules.top.appending("boot/vmlinuz")))
    #expect(
      try folder.loadOrder(of: ["virtiofs", "not_there"]).map(\.name) == [
        "crc32c", "fuse", "virtio", "virtio_ring", "virtiofs", "after_it",
      ])
    #expect(Set(try folder.loadOrder(of: ["circle_a"]).map(\.name)) == ["circle_a", "circle_b"])
    #expect(ModuleFolder(release: "other", image: modules.top.appending("boot/vmlinuz")) == nil)
    #expect(ModuleFolder(release: Modules.release, image: nil, explicit: modules.folder) != nil)
    #expect(ModuleFolder(release: Modules.release, image: nil, explicit: modules.top) != nil)
    #expect(ModuleFolder(release: Modules.release, image: nil, explicit: "/nowhere") == nil)
    #expect(ModuleFolder(release: Modules.release, image: nil, roots: [modules.top]) != nil)
  }

  @Test("what is built in, a module, or neither")
  func presence() throws {
    let modules = try Modules(Self.some, builtIn: ["kernel/drivers/virtio_mmio.ko"])
    let folder = try #require(ModuleFolder(release: Modules.release, image: nil, explicit: modules.folder))
    #expect(folder.presence(of: "virtio-mmio") == .builtIn)
    #expect(folder.presence(of: "virtiofs") == .module)
    let image = try BootImage(path: modules.top.appending("boot/vmlinuz"))
    let abilities = KernelAbilities(image, path: nil, release: Modules.release, modules: folder)
    #expect(abilities.state(of: .virtioFileSystem) == .module)
    #expect(abilities.state(of: .memoryMappedVirtio) == .builtIn)
    #expect(abilities.state(of: .overlay) == .absent)
    Modules.put(
      modules.top.appending("boot/config-\(Modules.release)"),
      Array("CONFIG_OVERLAY_FS=m\n# CONFIG_VIRTIO_FS is not set\nCONFIG_VIRTIO_MMIO=y\n".utf8))
    let alone = KernelAbilities(
      image, path: modules.top.appending("boot/vmlinuz"), release: Modules.release, modules: nil)
    #expect(alone.state(of: .overlay) == .missingModule)
    #expect(alone.state(of: .virtioFileSystem) == .absent)
    #expect(alone.state(of: .memoryMappedVirtio) == .builtIn)
  }

  @Test("a build tree's, by its list")
  func buildTree() throws {
    let modules = try Modules([])
    let tree = modules.top
    for part in ["include", "include/config", "fs", "fs/fuse", "arch"] { Modules.make(tree.appending(part)) }
    Modules.put(tree.appending("include/config/kernel.release"), Array("6.9.0-own\n".utf8))
    Modules.put(tree.appending("modules.order"), Array("fs/fuse/fuse.o\nkernel/fs/fuse/virtiofs.ko\n".utf8))
    Modules.put(tree.appending("fs/fuse/fuse.ko"), Modules.module(["depends="]))
    Modules.put(tree.appending("fs/fuse/virtiofs.ko"), Modules.module(["depends=fuse"]))
    Modules.put(tree.appending("arch/bzImage"), [0])
    let folder = try #require(ModuleFolder(release: "6.9.0-own", image: tree.appending("arch/bzImage")))
    #expect(try folder.loadOrder(of: ["virtiofs"]).map(\.name) == ["fuse", "virtiofs"])
    // The guest's modprobe finds them where the tree has them.
    for module in folder.all { #expect(folder.path.appending(module.relativePath) == module.path) }
    let lists = ModuleIndex.files(of: folder)
    let dependencies = try #require(lists.first { $0.name == "modules.dep" }).contents()
    #expect(String(decoding: dependencies, as: UTF8.self) == "fs/fuse/fuse.ko:\nfs/fuse/virtiofs.ko: fs/fuse/fuse.ko\n")
    // Named, it is the same; what an earlier configuration has left is none of its modules.
    Modules.put(tree.appending("fs/fuse/cuse.ko"), Modules.module(["depends=fuse"]))
    let named = try #require(ModuleFolder(release: "6.9.0-own", image: nil, explicit: tree))
    #expect(named.all.map(\.name) == folder.all.map(\.name))
  }

  @Test("modules of any bytes give no dependencies, and no trap")
  func damaged() throws {
    let whole = Modules.module(["depends=fuse,virtio", "alias=a"])
    let modules = try Modules([])
    let path = modules.folder.appending("x.ko")
    for index in whole.indices {
      for value: UInt8 in [0, 0x7f, 0xff] {
        var bytes = whole
        bytes[index] = value
        Modules.put(path, bytes)
        _ = try ModuleFile(name: "x", path: path, relativePath: "x.ko").information()
      }
    }
    for count in 1..<whole.count {
      Modules.put(path, Array(whole.prefix(count)))
      _ = try ModuleFile(name: "x", path: path, relativePath: "x.ko").information()
    }
  }
}

@Suite("The lists that modprobe looks into")
struct ModuleIndexTests {
  /// As kmod finds a name in a trie.
  private func find(_ name: String, in bytes: [UInt8]) -> [String] {
    func word(_ offset: Int) -> UInt32 { (0..<4).reduce(0) { $0 << 8 | UInt32(bytes[offset + $1]) } }
    guard word(0) == 0xb007_f457, word(4) == 0x2_0001 else { return [] }
    var rest = Array(name.utf8)[...]
    var node = word(8)
    while true {
      var position = Int(node & 0x0fff_ffff)
      if node & 0x8000_0000 != 0 {
        while bytes[position] != 0 {
          guard rest.first == bytes[position] else { return [] }
          rest = rest.dropFirst()
          position += 1
        }
        position += 1
      }
      var children: (first: UInt8, last: UInt8, place: Int)?
      if node & 0x2000_0000 != 0 {
        children = (bytes[position], bytes[position + 1], position + 2)
        position += 2 + 4 * (Int(bytes[position + 1]) - Int(bytes[position]) + 1)
      }
      guard let letter = rest.first else {
        guard node & 0x4000_0000 != 0 else { return [] }
        var values: [String] = []
        let count = word(position)
        position += 4
        for _ in 0..<count {
          let text = bytes[(position + 4)...].prefix { $0 != 0 }
          values.append(String(decoding: text, as: UTF8.self))
          position = text.endIndex + 1
        }
        return values
      }
      rest = rest.dropFirst()
      guard let children, (children.first...children.last).contains(letter) else { return [] }
      node = word(children.place + 4 * Int(letter - children.first))
      if node == 0 { return [] }
    }
  }

  @Test("a trie gives back what was put in, and nothing else")
  func trie() {
    let entries = ["fuse", "fu", "virtio", "virtio_fs", "virtio_ring", "virtio", "xfs", "a"].enumerated()
      .map { (key: $0.element, value: "value \($0.offset)") }
    let bytes = ModuleTrie.bytes(entries)
    for entry in entries {
      #expect(find(entry.key, in: bytes) == entries.filter { $0.key == entry.key }.map(\.value))
    }
    for name in ["", "f", "fus", "fuses", "virtio_", "b", "virtio_fz"] { #expect(find(name, in: bytes) == []) }
    #expect(find("a", in: ModuleTrie.bytes([])) == [])
  }

  @Test("dependencies with all that they need, names of devices, what goes first")
  func files() throws {
    let modules = try Modules([
      ("kernel/a.ko", ["depends=b,c"]), ("kernel/b.ko", ["depends=c"]), ("kernel/c.ko", ["alias=virtio:d1-2[0-9-]"]),
      ("kernel/s.ko", ["softdep=pre: c"]),
    ])
    let folder = try #require(ModuleFolder(release: Modules.release, image: nil, explicit: modules.folder))
    let files = Dictionary(uniqueKeysWithValues: ModuleIndex.files(of: folder).map { ($0.name, $0.contents()) })
    func text(_ name: String) -> String { String(decoding: files[name] ?? [], as: UTF8.self) }
    let lines = text("modules.dep").split(separator: "\n")
    #expect(lines.contains("kernel/a.ko: kernel/b.ko kernel/c.ko"))
    #expect(lines.contains("kernel/c.ko:"))
    #expect(find("b", in: files["modules.dep.bin"] ?? []) == ["kernel/b.ko: kernel/c.ko"])
    #expect(text("modules.alias") == "alias virtio:d1_2[0-9-] c\n")
    #expect(text("modules.softdep") == "softdep s pre: c\n")
  }
}
