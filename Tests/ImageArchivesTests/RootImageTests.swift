import Glibc
import SystemPackage
import Testing
import TrivisorCLinux
import TrivisorFileServer

@testable import TrivisorImageArchives

/// Archives made byte by byte.
private struct Tar {
  var bytes: [UInt8] = []

  mutating func add(
    _ name: String, _ kind: Character = "0", mode: Int = 0o644, user: Int = 0, group: Int = 0, target: String = "",
    contents: [UInt8] = [], size: Int? = nil
  ) {
    var header = [UInt8](repeating: 0, count: 512)
    func put(_ text: String, at offset: Int) {
      for (index, byte) in text.utf8.enumerated() { header[offset + index] = byte }
    }
    func octal(_ value: Int, _ width: Int) -> String {
      let digits = String(value, radix: 8)
      return String(repeating: "0", count: max(width - digits.count, 0)) + digits
    }
    put(name, at: 0)
    put(octal(mode, 7), at: 100)
    put(octal(user, 7), at: 108)
    put(octal(group, 7), at: 116)
    put(octal(size ?? contents.count, 11), at: 124)
    put(octal(1_000_000, 11), at: 136)
    put(String(kind), at: 156)
    put(target, at: 157)
    put("ustar\0" + "00", at: 257)
    for index in 148..<156 { header[index] = 0x20 }
    let sum = header.reduce(0) { $0 + Int($1) }
    put(octal(sum, 6) + "\0", at: 148)
    bytes += header + contents + [UInt8](repeating: 0, count: (512 - contents.count % 512) % 512)
  }

  /// A pax header for the next entry.
  mutating func extend(_ key: String, _ value: String) {
    var length = key.utf8.count + value.utf8.count + 3
    while "\(length)".utf8.count + key.utf8.count + value.utf8.count + 3 != length {
      length = "\(length)".utf8.count + key.utf8.count + value.utf8.count + 3
    }
    add("pax", "x", contents: Array("\(length) \(key)=\(value)\n".utf8))
  }

  var finished: [UInt8] { bytes + [UInt8](repeating: 0, count: 1024) }
}

@Suite("Archives and images as roots")
struct RootImageTests {
  private let work: FilePath

  init() throws {
    var path = Array("/tmp/trivisor-image-XXXXXX".utf8CString)
    try #require(mkdtemp(&path) != nil)
    work = FilePath(String(decoding: path.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self))
  }

  private func write(_ bytes: [UInt8], _ name: String) throws -> FilePath {
    let path = work.appending(name)
    let file = try FileDescriptor.open(path, .writeOnly, options: [.create, .truncate], permissions: .ownerReadWrite)
    defer { try? file.close() }
    try file.writeAll(bytes)
    return path
  }

  private func open(_ bytes: [UInt8], _ name: String = "image.tar") throws -> RootImage {
    try RootImage(try write(bytes, name), cache: work.appending("cache")) { _ in }
  }

  private func text(_ path: FilePath) -> String? {
    guard let file = try? FileDescriptor.open(path, .readOnly) else { return nil }
    defer { try? file.close() }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = (try? bytes.withUnsafeMutableBytes { try file.read(into: $0) }) ?? 0
    return String(decoding: bytes[..<count], as: UTF8.self)
  }

  private func attributes(_ path: FilePath) -> stat {
    var status = stat()
    path.withPlatformString { path in
      _ = lstat(path, &status)
      StoredAttributes.apply(path, to: &status)
    }
    return status
  }

  @Test("contents, owners, modes and links are what the archive says")
  func plain() throws {
    var tar = Tar()
    tar.add("./", "5", mode: 0o755)
    tar.add("bin/", "5", mode: 0o755)
    tar.add("bin/sudo", mode: 0o4755, contents: Array("sudo".utf8))
    tar.add("home/user/file", mode: 0o640, user: 1000, group: 1001, contents: [UInt8](repeating: 65, count: 1500))
    tar.add("secret", "5", mode: 0o000, user: 7)
    tar.add("link", "2", target: "bin/sudo")
    tar.add("same", "1", target: "home/user/file")
    tar.add("dev/null", "3")
    tar.extend("path", "deep/" + String(repeating: "x", count: 200))
    tar.add("short", contents: [66])
    let image = try open(tar.finished)
    #expect(text(image.path.appending("bin/sudo")) == "sudo")
    #expect(attributes(image.path.appending("bin/sudo")).st_mode & 0o7777 == 0o4755)
    var real = stat()
    #expect(image.path.appending("bin/sudo").withPlatformString { stat($0, &real) } == 0)
    #expect(real.st_mode & 0o6000 == 0)
    let file = attributes(image.path.appending("home/user/file"))
    #expect((file.st_uid, file.st_gid, file.st_mode & 0o7777) == (1000, 1001, 0o640))
    #expect((file.st_size, file.st_nlink, file.st_mtim.tv_sec) == (1500, 2, 1_000_000))
    #expect(
      (attributes(image.path.appending("secret")).st_uid, attributes(image.path.appending("secret")).st_mode & 0o777)
        == (7, 0))
    #expect(text(image.path.appending("link")) == "sudo")
    #expect(text(image.path.appending("deep").appending(String(repeating: "x", count: 200))) == "B")
    #expect(image.omissions == 1)
    // From the cache, by its digest.
    #expect(try open(tar.finished, "other.tar").path == image.path)
    #expect(try open(tar.finished, "other.tar").omissions == 1)
  }

  @Test(
    "what leads out of the archive is refused, or stays inside",
    arguments: ["../x", "a/../../x", "/../x", "a/b/../../../x"])
  func outside(path: String) throws {
    var tar = Tar()
    tar.add(path, contents: [1])
    #expect(throws: ImageArchiveFailure.self) { try open(tar.finished) }
    for folder in ["", "cache", "cache/trivisor", "cache/trivisor/roots"] {
      #expect(access(work.appending(folder).appending("x").string, F_OK) != 0)
    }
  }

  @Test("links of the archive's lead nowhere else")
  func links() throws {
    _ = try write([1], "victim")
    var tar = Tar()
    tar.add("up", "2", target: "../../../../../../../..")
    tar.add("up/escaped", contents: [2])
    tar.add(String(work.string.dropFirst()) + "/", "5", mode: 0o755)
    tar.add("absolute", "2", target: work.string)
    tar.add("absolute/victim", contents: [3])
    tar.add("over", "2", target: work.appending("victim").string)
    tar.add("over", contents: [4])
    let image = try open(tar.finished)
    #expect(text(work.appending("victim")) == "\u{1}")
    // As for a process whose root the tree is.
    #expect(text(image.path.appending("escaped")) == "\u{2}")
    #expect(text(image.path.appending(work.string.dropFirst().description).appending("victim")) == "\u{3}")
    #expect(text(image.path.appending("over")) == "\u{4}")
    var dangling = Tar()
    dangling.add("link", "2", target: work.string)
    dangling.add("link/victim", contents: [3])
    #expect(throws: ImageArchiveFailure.self) { try open(dangling.finished) }
    #expect(text(work.appending("victim")) == "\u{1}")
    var hard = Tar()
    hard.add("stolen", "1", target: work.appending("victim").string)
    #expect(throws: ImageArchiveFailure.self) { try open(hard.finished) }
  }

  @Test("damaged and hostile archives are refused, and leave nothing behind")
  func damaged() throws {
    var tar = Tar()
    tar.add("file", contents: [UInt8](repeating: 1, count: 1000))
    let good = tar.finished
    var spoiled = good
    spoiled[10] ^= 1
    var huge = Tar()
    huge.add("file", size: 0o77_777_777_777)
    var sparse = Tar()
    sparse.add("file", "S")
    var longHeader = Tar()
    longHeader.add("pax", "x", size: 1 << 30)
    for bytes in [
      [], [1, 2, 3], Array(good.dropLast(1600)), spoiled, huge.finished, sparse.finished, longHeader.finished,
    ] {
      #expect(throws: ImageArchiveFailure.self) { try open(bytes) }
    }
    #expect(throws: ImageArchiveFailure.self) { try open([0x1f, 0x8b] + good) }
    let left = work.appending("cache/trivisor/roots").withPlatformString { opendir($0) }
    if let left {
      var count = 0
      while readdir(left) != nil { count += 1 }
      closedir(left)
      #expect(count == 2)
    }
  }

  @Test("any bytes: a refusal or a tree, and no trap")
  func fuzz() throws {
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<150 {
      var tar = Tar()
      for _ in 0..<5 {
        let kind = "0123456xgLK7".randomElement(using: &generator) ?? "0"
        let name =
          ["a", "b/c", "b", "./a", "d/.wh.x", ".wh..wh..opq", "b/.wh..wh..opq"].randomElement(using: &generator) ?? "a"
        tar.add(name, kind, target: "b", contents: (0..<Int.random(in: 0..<40)).map { _ in .random(in: 0...255) })
      }
      var bytes = tar.finished
      for _ in 0..<Int.random(in: 0..<3) { bytes[.random(in: bytes.indices)] = .random(in: 0...255) }
      _ = try? open(bytes)
    }
  }

  @Test("layers: whiteouts, opaque folders, and what is laid over")
  func layers() throws {
    var lower = Tar()
    for name in ["gone", "kept", "folder/old", "folder/sub/old", "tree/a/b"] { lower.add(name, contents: [1]) }
    var upper = Tar()
    upper.add(".wh.gone")
    upper.add("folder/new", contents: [2])
    upper.add("folder/sub/new", contents: [2])
    upper.add("folder/.wh..wh..opq")
    upper.add(".wh.tree")
    upper.add("tree", contents: [3])
    let layout = try makeLayout([lower.finished, upper.finished])
    let image = try RootImage(layout, cache: work.appending("cache")) { _ in }
    for name in ["gone", "folder/old", "folder/sub/old"] { #expect(text(image.path.appending(name)) == nil) }
    #expect(text(image.path.appending("kept")) == "\u{1}")
    #expect(text(image.path.appending("folder/new")) == "\u{2}")
    #expect(text(image.path.appending("folder/sub/new")) == "\u{2}")
    #expect(text(image.path.appending("tree")) == "\u{3}")
    #expect(image.configuration.entryPoint == ["/entry", "a b"])
    #expect(image.configuration.environment == ["A=é", "PATH=/x"])
    #expect(image.configuration.folder == "/kept")
    #expect(image.configuration.user == "7:8")
    // Another byte in a layer than its digest says.
    var spoiled = lower.finished
    spoiled[600] ^= 1
    #expect(throws: ImageArchiveFailure.self) {
      try RootImage(try makeLayout([lower.finished], written: [spoiled], "spoiled"), cache: work.appending("cache")) {
        _ in
      }
    }
  }

  private func makeLayout(_ layers: [[UInt8]], written: [[UInt8]]? = nil, _ name: String = "layout") throws -> FilePath
  {
    let folder = work.appending(name)
    for path in [folder, folder.appending("blobs"), folder.appending("blobs/sha256")] {
      path.withPlatformString { _ = mkdir($0, 0o755) }
    }
    func digest(_ bytes: [UInt8]) -> String {
      var hash = SHA256()
      bytes.withUnsafeBytes { hash.update($0) }
      return hash.finish()
    }
    func put(_ bytes: [UInt8], instead: [UInt8]? = nil) throws -> String {
      _ = try write(instead ?? bytes, "\(name)/blobs/sha256/\(digest(bytes))")
      return "sha256:" + digest(bytes)
    }
    let digests = try layers.enumerated().map { try put($1, instead: written?[$0]) }
    let config = try put(
      Array(
        #"{"architecture":"amd64","config":{"Env":["A=\u00e9","PATH=/x"],"Entrypoint":["/entry","a b"],"WorkingDir":"/kept","User":"7:8"}}"#
          .utf8))
    let list = digests.map { #"{"digest":"\#($0)","size":1}"# }.joined(separator: ",")
    let manifest = try put(Array(#"{"config":{"digest":"\#(config)"},"layers":[\#(list)]}"#.utf8))
    _ = try write(Array(#"{"manifests":[{"digest":"\#(manifest)"}]}"#.utf8), "\(name)/index.json")
    _ = try write(Array(#"{"imageLayoutVersion":"1.0.0"}"#.utf8), "\(name)/oci-layout")
    return folder
  }

  @Test("digests are the standard's (FIPS 180-4)")
  func digests() {
    for (text, digest) in [
      ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
      ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
      (
        "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
      ),
      (String(repeating: "a", count: 1_000_00), ""),
    ] {
      var hash = SHA256()
      Array(text.utf8).withUnsafeBytes { bytes in
        for start in stride(from: 0, to: bytes.count, by: 7) {
          hash.update(UnsafeRawBufferPointer(rebasing: bytes[start..<min(start + 7, bytes.count)]))
        }
      }
      let found = hash.finish()
      if !digest.isEmpty { #expect(found == digest) }
    }
  }

  @Test(
    "JSON, and what is none",
    arguments: [
      (#"{"a":[1,-2.5e3,"x\n\u00e9\ud83d\ude00"],"b":{},"c":null,"d":true}"#, true), ("[", false), ("{\"a\"}", false),
      (#""\ud83d""#, false), ("[1,]", false), ("1 2", false), (String(repeating: "[", count: 100), false), ("", false),
    ])
  func json(text: String, isJSON: Bool) { #expect((JSONValue(Array(text.utf8)) != nil) == isJSON) }
}
