import TrivisorCLinux
import Glibc
import SystemPackage
import Testing
import TrivisorVMM

@testable import TrivisorFileServer

@Suite("Attacks on the file server, from the guest and from the host's tree", .serialized)
struct AttackTests {
  @Test("names that are no names")
  func names() throws {
    let folder = try Folder()
    folder.make("inner")
    folder.put("outside", "secret")
    let client = try Client(
      SharedFolder(path: FilePath(folder.path + "/inner")))
    let long = String(repeating: "x", count: 256)
    for name in ["..", ".", "", "/etc", "a/b", "../outside", "/", long] {
      #expect([EINVAL, ENAMETOOLONG].contains(client.lookup(name).error), "\(name)")
      #expect([EINVAL, ENAMETOOLONG].contains(client.create(name).error))
      for operation in [FileOperation.unlink, .removeDirectory] {
        #expect([EINVAL, ENAMETOOLONG].contains(client.call(operation, 1, text(name)).error))
      }
      let made = client.call(.makeDirectory, 1, numbers(UInt32(0o755), UInt32(0)) + text(name))
      #expect([EINVAL, ENAMETOOLONG].contains(made.error))
      let renamed = client.call(.rename, 1, numbers(UInt64(1)) + text("a") + text(name))
      #expect([EINVAL, ENAMETOOLONG].contains(renamed.error))
    }
    // Cut off before its zero; a zero in the middle ends a name.
    #expect(client.call(.lookup, 1, Array("name".utf8)).error == EINVAL)
    #expect(client.call(.lookup, 1, text("outside\0/../outside")).error == ENOENT)
    #expect(folder.contents("outside") == "secret")
  }

  @Test("symbolic links lead nowhere, also where they come into a path that is known")
  func links() throws {
    let (folder, outside) = (try Folder(), try Folder())
    outside.put("secret", "outside")
    folder.make("inner")
    folder.put("inner/file", "inside")
    let limits = FileServer.Limits(nodes: 1000, openFiles: 100, cachedDescriptors: 16)
    let client = try Client(folder.shared(), limits: limits)
    #expect(symlink(outside.path, folder.path + "/link") == 0)
    let link = try client.node("link")
    #expect(client.lookup("secret", in: link).error == ENOTDIR)
    #expect(client.open(link).error == EACCES)
    let (inner, file) = (try client.node("inner"), try client.node("inner/file"))
    // Other nodes push the descriptors out.
    for number in 0..<40 {
      folder.put("other-\(number)", "x")
      let node = try client.node("other-\(number)")
      client.release(node, client.open(node).handle)
    }
    outside.put("file", "outside")
    #expect(rename(folder.path + "/inner", folder.path + "/moved") == 0)
    #expect(symlink(outside.path, folder.path + "/inner") == 0)
    let opened = client.open(file)
    if opened.error == 0 { #expect(client.read(file, opened.handle).bytes == Array("inside".utf8)) }
    let found = client.lookup("secret", in: inner)
    #expect(found.error != 0)
    #expect(client.create("new", in: inner).error != 0 || folder.contents("moved/new") != nil)
    #expect(outside.contents("new") == nil)
  }

  @Test("links that are swapped under look-ups lead nowhere")
  func swappedLinks() throws {
    let (folder, outside) = (try Folder(), try Folder())
    outside.put("file", "outside")
    folder.make("a")
    folder.put("a/file", "inside")
    #expect(symlink(outside.path, folder.path + "/b") == 0)
    let path = folder.path
    let isOver = Monitor(false)
    let ended = Monitor(false)
    let started = DetachedThread.start {
      while !isOver.with({ $0 }) { _ = clinux_rename(AT_FDCWD, path + "/a", AT_FDCWD, path + "/b", 2) }
      ended.with { $0 = true }
    }
    try #require(started)
    let client = try Client(
      folder.shared(), limits: FileServer.Limits(nodes: 100_000, openFiles: 64, cachedDescriptors: 16))
    for _ in 0..<3000 {
      let parent = client.lookup("a")
      guard parent.error == 0 else { continue }
      let file = client.lookup("file", in: parent.node)
      if file.error == 0 {
        let opened = client.open(file.node)
        if opened.error == 0 {
          #expect(client.read(file.node, opened.handle).bytes == Array("inside".utf8))
          client.release(file.node, opened.handle)
        }
      }
      _ = client.create("planted", in: parent.node)
    }
    isOver.with { $0 = true }
    ended.wait { $0 ? () : nil }
    #expect(outside.contents("planted") == nil)
  }

  @Test("proc, sysfs and devices' file systems show nothing, wherever they are mounted")
  func mounts() throws {
    let client = try Client(SharedFolder(path: "/", isReadOnly: true))
    for name in ["proc", "sys"] {
      let reply = client.lookup(name)
      try #require(reply.error == 0)
      #expect(try client.names(reply.node, withAttributes: true) == [])
      #expect(client.lookup("version", in: reply.node).error == ENOENT)
      #expect(client.lookup("self", in: reply.node).error == ENOENT)
    }
    for path in ["/proc", "/sys"] {
      #expect(throws: SharedFolderFailure.self) { try FileServer(SharedFolder(path: FilePath(path))) }
    }
  }

  @Test("devices are neither made nor opened")
  func devices() throws {
    let folder = try Folder()
    let client = try Client(folder.shared())
    for kind in [Kind.characterDevice, Kind.blockDevice] {
      let reply = client.call(.makeNode, 1, numbers(kind | 0o666, UInt32(0x103), UInt32(0), UInt32(0)) + text("null"))
      #expect(reply.error == EPERM)
    }
    #expect(
      client.call(.renameWithFlags, 1, numbers(UInt64(1), UInt32(4), UInt32(0)) + text("a") + text("b")).error == EINVAL
    )
    guard mknod(folder.path + "/null", Kind.characterDevice | 0o666, UInt(gnu_dev_makedev(1, 3))) == 0 else { return }
    #expect(client.open(try client.node("null")).error == EACCES)
  }

  @Test("setuid and setgid are neither shown nor made")
  func privileges() throws {
    let folder = try Folder()
    folder.put("tool", "x", mode: 0o6755)
    let client = try Client(folder.shared())
    let tool = client.lookup("tool")
    #expect(tool.mode == S_IFREG | 0o755)
    let made = client.create("new", mode: S_IFREG | 0o6777)
    #expect(made.error == 0)
    #expect(folder.status("new").map { $0.st_mode & 0o7777 } == 0o777)
    let mode = numbers(UInt32(1), UInt32(0)) + [UInt8](repeating: 0, count: 60) + numbers(UInt32(0o104755), UInt32(0))
    #expect(client.call(.setAttributes, made.node, mode + [UInt8](repeating: 0, count: 12)).error == 0)
    #expect(folder.status("new").map { $0.st_mode & 0o6000 } == 0)
    // Written by the guest, it has lost them on the host, too.
    let opened = client.open(tool.node, O_WRONLY)
    _ = client.write(tool.node, opened.handle, [1])
    #expect(folder.status("tool").map { $0.st_mode & 0o6000 } == 0)
  }

  @Test("hidden paths, by whatever name they are reached")
  func hidden() throws {
    let folder = try Folder()
    folder.make("home")
    folder.make("home/keys")
    folder.put("home/keys/key", "secret")
    folder.put("password", "secret")
    #expect(link(folder.path + "/password", folder.path + "/other-name") == 0)
    let client = try Client(folder.shared(hidden: ["home/keys", "password", "not-there"]))
    let home = try client.node("home")
    #expect(client.lookup("keys", in: home).error == EACCES)
    #expect(client.lookup("password").error == EACCES)
    #expect(client.lookup("other-name").error == EACCES)
    #expect(client.create("not-there").error == EACCES)
    #expect(client.call(.rename, 1, numbers(UInt64(1)) + text("home") + text("away")).error == EACCES)
    #expect(client.call(.rename, 1, numbers(UInt64(1)) + text("password") + text("public")).error == EACCES)
    #expect(rename(folder.path + "/home", folder.path + "/away") == 0)
    #expect(client.lookup("keys", in: try client.node("away")).error == EACCES)
  }

  @Test("an open file stays what it is: removed, replaced, and when its name is another's")
  func unlinked() throws {
    let folder = try Folder()
    let limits = FileServer.Limits(nodes: 1000, openFiles: 100, cachedDescriptors: 16)
    let client = try Client(folder.shared(), limits: limits)
    let made = client.create("file")
    _ = client.write(made.node, made.handle, Array("first".utf8))
    #expect(client.call(.unlink, 1, text("file")).error == 0)
    let second = client.create("file")
    _ = client.write(second.node, second.handle, Array("the second".utf8))
    for number in 0..<40 {
      folder.put("other-\(number)", "x")
      _ = client.open(try client.node("other-\(number)"))
    }
    #expect(client.read(made.node, made.handle).bytes == Array("first".utf8))
    let attributes = client.call(.getAttributes, made.node, numbers(UInt32(0), UInt32(0), UInt64(0)))
    #expect(attributes.number(UInt64.self, at: 24) == 5)
  }

  @Test("a file that is replaced a thousand times while it is read gives no stale handle", arguments: [true, false])
  func replaced(isSnapshot: Bool) throws {
    let folder = try Folder()
    folder.put("file", "contents 0000")
    let limits = FileServer.Limits(nodes: 5000, openFiles: 64, cachedDescriptors: 16)
    let client = try Client(folder.shared(freshness: isSnapshot ? .snapshot : .live), limits: limits)
    let first = try client.node("file")
    for number in 0..<1000 {
      folder.put("new", "contents \(1000 + number)")
      #expect(rename(folder.path + "/new", folder.path + "/file") == 0)
      let node = number % 2 == 0 ? first : try client.node("file")
      let opened = client.open(node)
      try #require(opened.error == 0)
      let read = String(decoding: client.read(node, opened.handle).bytes, as: UTF8.self)
      #expect(read.hasPrefix("contents ") && read.count == 13)
      client.release(node, opened.handle)
      let attributes = client.call(.getAttributes, node, numbers(UInt32(0), UInt32(0), UInt64(0)))
      #expect(attributes.error == 0)
    }
    #expect(client.server.usage.handles == 0)
  }

  @Test("a guest that never closes and never forgets costs so much and no more")
  func hoarding() throws {
    let folder = try Folder()
    for number in 0..<2000 { folder.put("file-\(number)", "") }
    let limits = FileServer.Limits(nodes: 1000, openFiles: 50, cachedDescriptors: 16)
    let client = try Client(folder.shared(), limits: limits)
    func descriptors() -> Int {
      (0..<4096).reduce(0) { $0 + (fcntl(Int32($1), F_GETFD) >= 0 ? 1 : 0) }
    }
    let before = descriptors()
    var refused = 0
    for number in 0..<2000 where client.lookup("file-\(number)").error == ENOMEM { refused += 1 }
    #expect(refused == 1001)
    var opened = 0
    for _ in 0..<1_000_000 where client.open(2).error == 0 { opened += 1 }
    #expect(opened == 50)
    #expect(client.server.usage.nodes <= 1001)
    #expect(descriptors() - before <= 50 + 16 + 8)
    client.server.reset()
    #expect(client.server.usage.nodes == 1)
    #expect(client.server.usage.handles == 0)
  }

  @Test("folders without end don't exhaust the stack")
  func deep() throws {
    let folder = try Folder()
    let limits = FileServer.Limits(nodes: 100_000, openFiles: 64, cachedDescriptors: 64)
    let client = try Client(folder.shared(), limits: limits)
    var node: UInt64 = 1
    var depth = 0
    for _ in 0..<6000 {
      let made = client.call(.makeDirectory, node, numbers(UInt32(0o755), UInt32(0)) + text("d"))
      guard made.error == 0 else { break }
      node = made.node
      depth += 1
    }
    #expect(depth > 1000)
    // All but the last are forgotten, and live on as its parents; then it goes, too.
    for number in 2..<node { client.call(.forget, number, numbers(UInt64(1))) }
    #expect(client.lookup("d", in: node).error != 0)
    client.call(.forget, node, numbers(UInt64(1)))
    #expect(client.server.usage.nodes == 1)
    var path = folder.path
    path += "/d"
    // Too deep for a path: taken apart from the top.
    for _ in 0..<depth {
      guard rename(path + "/d", folder.path + "/e") == 0 else { break }
      rmdir(path)
      rename(folder.path + "/e", path)
    }
  }

  @Test("requests of any bytes: no trap, no reply longer than its room, nothing outside the folder")
  func fuzz() throws {
    let (folder, outside) = (try Folder(), try Folder())
    folder.make("inner")
    folder.put("inner/file", "inside")
    #expect(symlink(outside.path, folder.path + "/link") == 0)
    let limits = FileServer.Limits(nodes: 500, openFiles: 50, cachedDescriptors: 16)
    let client = try Client(folder.shared(), limits: limits)
    var generator = Generator(state: 0x5eed)
    let names = ["inner", "file", "link", "..", "a", "b", "x/y", "\u{1}", ""]
    for _ in 0..<60_000 {
      var arguments: [UInt8] = []
      for _ in 0..<generator.below(12) {
        switch generator.below(6) {
        case 0: arguments += numbers(UInt64(generator.below(60)))
        case 1: arguments += numbers(UInt32(generator.below(70_000)))
        case 2: arguments += text(names[generator.below(names.count)])
        case 3: arguments += numbers(UInt64.max >> UInt64(generator.below(64)))
        case 4: arguments += [UInt8](repeating: UInt8(generator.below(256)), count: generator.below(40))
        default: arguments += numbers(UInt64(0))
        }
      }
      var operation = UInt32(generator.below(56))
      // It would fill the disk, as it may.
      if operation == 43 { operation = 3 }
      // Once begun anew, it would have nothing to lose.
      if [26, 38].contains(operation), generator.below(50) > 0 { operation = 1 }
      var request = client.bytes(operation, UInt64(generator.below(40)), arguments)
      if generator.below(8) == 0 { request = Array(request.prefix(generator.below(request.count + 1))) }
      if generator.below(8) == 0, !request.isEmpty {
        request[generator.below(min(request.count, 48))] = UInt8(generator.below(256))
      }
      let room = [0, 15, 16, 40, 200, 4096, 70_000][generator.below(7)]
      let (answer, _) = client.send(request, room: room, cut: [1, 3, 16, 4096, .max][generator.below(5)])
      if case .completed(let count) = answer { #expect(count <= room) }
    }
    #expect(outside.status(".").map { $0.st_nlink } == 2)
    #expect(client.server.usage.nodes <= 501)
  }
}

/// Numbers that are the same in each run (Marsaglia, "Xorshift RNGs").
struct Generator {
  var state: UInt64

  mutating func below(_ limit: Int) -> Int {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return Int(state % UInt64(max(limit, 1)))
  }
}
