import TrivisorCLinux
import Glibc
import Testing
import TrivisorVMM

@testable import TrivisorFileServer

@Suite("Files of the host's for a guest, without a guest")
struct FileServerTests {
  @Test("a file is read and written as it is, however the buffers are cut", arguments: [1, 7, 41, 4096, .max])
  func contents(cut: Int) throws {
    let folder = try Folder()
    let client = try Client(folder.shared())
    let bytes = (0..<20_000).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 8) }
    let made = client.create("file")
    try #require(made.error == 0)
    var done = 0
    while done < bytes.count {
      let part = Array(bytes[done..<min(done + 900, bytes.count)])
      let reply = client.write(made.node, made.handle, part, at: UInt64(done), cut: cut)
      #expect(reply.number(UInt32.self, at: 0) == UInt32(part.count))
      done += part.count
    }
    var read: [UInt8] = []
    while read.count < bytes.count {
      let reply = client.read(made.node, made.handle, at: UInt64(read.count), count: 1000, cut: cut)
      try #require(reply.error == 0 && !reply.bytes.isEmpty)
      read += reply.bytes
    }
    #expect(read == bytes)
    #expect(client.read(made.node, made.handle, at: 1 << 40).bytes.isEmpty)
    client.release(made.node, made.handle)
    #expect(folder.status("file")?.st_size == 20_000)
  }

  @Test("a folder's names, in pieces, with attributes and without", arguments: [false, true])
  func names(withAttributes: Bool) throws {
    let folder = try Folder()
    let expected = (0..<300).map { "file-\($0)" }
    for name in expected { folder.put(name, "x") }
    let client = try Client(folder.shared())
    let names = try client.names(withAttributes: withAttributes)
    #expect(names.sorted() == (expected + [".", ".."]).sorted())
    // What the guest was told of it has to forget; what did not fit any more it was not told of.
    let known = client.server.usage.nodes
    #expect(known == (withAttributes ? 301 : 1))
    if withAttributes {
      for number in 2..<UInt64(1000) { client.call(.forget, number, numbers(UInt64(1))) }
      #expect(client.server.usage.nodes == 1)
    }
  }

  @Test("folders, links and names: made, renamed, removed")
  func tree() throws {
    let folder = try Folder()
    let client = try Client(folder.shared())
    let inner = client.call(.makeDirectory, 1, numbers(UInt32(0o750), UInt32(0)) + text("inner"))
    try #require(inner.error == 0)
    #expect(inner.mode == S_IFDIR | 0o750)
    #expect(folder.status("inner").map { $0.st_mode & 0o7777 } == 0o750)
    let link = client.call(.makeSymbolicLink, inner.node, text("link") + text("/nowhere/../at all"))
    #expect(link.mode & S_IFMT == S_IFLNK)
    #expect(client.call(.readLink, link.node).bytes == Array("/nowhere/../at all".utf8))
    let file = client.create("file", in: inner.node)
    #expect(client.call(.link, 1, numbers(file.node) + text("second")).node == file.node)
    #expect(client.call(.rename, 1, numbers(inner.node) + text("second") + text("third")).error == 0)
    #expect(folder.status("inner/third")?.st_nlink == 2)
    #expect(
      client.call(.renameWithFlags, 1, numbers(UInt64(1), UInt32(1), UInt32(0)) + text("inner") + text("outer")).error
        == 0)
    #expect(client.lookup("file", in: inner.node).node == file.node)
    #expect(client.call(.removeDirectory, 1, text("outer")).error == ENOTEMPTY)
    for name in ["link", "file", "third"] { #expect(client.call(.unlink, inner.node, text(name)).error == 0) }
    #expect(client.call(.removeDirectory, 1, text("outer")).error == 0)
    let pipe = client.call(.makeNode, 1, numbers(Kind.pipe | 0o640, UInt32(0), UInt32(0), UInt32(0)) + text("pipe"))
    #expect(pipe.mode == Kind.pipe | 0o640)
    // Opened, it would wait.
    #expect(client.open(pipe.node).error == EACCES)
  }

  @Test("mode, size, times and owner")
  func attributes() throws {
    let folder = try Folder()
    folder.put("file", "some text", mode: 0o600)
    let client = try Client(folder.shared())
    let node = try client.node("file")
    func set(
      _ wanted: UInt32, size: UInt64 = 0, times: (Int64, Int64) = (0, 0), mode: UInt32 = 0, user: UInt32 = 0
    ) -> Client.Reply {
      client.call(
        .setAttributes, node,
        numbers(wanted, UInt32(0), UInt64(0), size, UInt64(0)) + numbers(times.0, times.1, Int64(0))
          + numbers(UInt32(5), UInt32(6), UInt32(0), mode, UInt32(0), user, UInt32(0), UInt32(0)))
    }
    #expect(set(1, mode: 0o100640).error == 0)
    #expect(folder.status("file").map { $0.st_mode & 0o7777 } == 0o640)
    #expect(set(8, size: 4).error == 0)
    #expect(folder.contents("file") == "some")
    #expect(set(0x30, times: (1_000_000_000, 1_100_000_000)).error == 0)
    #expect(folder.status("file")?.st_mtim.tv_sec == 1_100_000_000)
    #expect(folder.status("file")?.st_atim.tv_nsec == 5)
    // Given to the command's user: to whom it belongs already.
    #expect(set(2, user: 0).error == 0)
    #expect(folder.status("file")?.st_uid == geteuid())
  }

  @Test("files of the host's user are the command's user's; others keep their owner")
  func owners() throws {
    let folder = try Folder()
    folder.put("own", "")
    let client = try Client(folder.shared(guest: OwnerMap.Owner(user: 4711, group: 4712)))
    #expect(client.lookup("own").user == 4711)
    let map = OwnerMap(host: OwnerMap.Owner(user: 1000, group: 1001), guest: OwnerMap.Owner(user: 0, group: 0))
    #expect(map.toGuest(OwnerMap.Owner(user: 1000, group: 5)) == OwnerMap.Owner(user: 0, group: 5))
    #expect(map.toGuest(OwnerMap.Owner(user: 33, group: 1001)) == OwnerMap.Owner(user: 33, group: 0))
    #expect(map.toHost(OwnerMap.Owner(user: 0, group: 0)) == OwnerMap.Owner(user: 1000, group: 1001))
  }

  @Test("extended attributes: users' pass, the host's own don't")
  func extendedAttributes() throws {
    let folder = try Folder()
    folder.put("file", "x")
    let client = try Client(folder.shared())
    let node = try client.node("file")
    func set(_ name: String) -> Int32 {
      client.call(.setExtendedAttribute, node, numbers(UInt32(5), UInt32(0)) + text(name) + Array("value".utf8)).error
    }
    func get(_ name: String, limit: UInt32 = 100) -> Client.Reply {
      client.call(.getExtendedAttribute, node, numbers(limit, UInt32(0)) + text(name))
    }
    for name in ["trusted.a", "security.capability", "security.selinux", "system.posix_acl_access"] {
      #expect(set(name) == EPERM)
    }
    #expect([ENODATA, ENOTSUP].contains(get("security.capability").error))
    #expect(get("trusted.overlay.opaque").error == ENODATA)
    guard set("user.note") == 0 else { return }
    #expect(get("user.note").bytes == Array("value".utf8))
    #expect(get("user.note", limit: 0).number(UInt32.self, at: 0) == 5)
    #expect(get("user.note", limit: 3).error == ERANGE)
    let list = client.call(.listExtendedAttributes, node, numbers(UInt32(1000), UInt32(0))).bytes
    #expect(list.split(separator: 0).contains(Array("user.note".utf8)[...]))
    #expect(client.call(.removeExtendedAttribute, node, text("user.note")).error == 0)
  }

  @Test("what the share brings along is listed and read, and can't be changed")
  func extraFiles() throws {
    let folder = try Folder()
    for number in 0..<40 { folder.put("file-\(number)", "host") }
    folder.put("modules.dep", "the host's")
    var shared = folder.shared(isReadOnly: true, freshness: .snapshot)
    shared.extraFiles = [
      SharedFolder.ExtraFile(name: "modules.dep") { Array("ours".utf8) },
      SharedFolder.ExtraFile(name: "modules.alias") { Array("more".utf8) },
    ]
    let client = try Client(shared)
    for withAttributes in [false, true] {
      let names = try client.names(withAttributes: withAttributes, room: 300)
      #expect(names.count == 44 && Set(names).count == 44)
      #expect(names.contains("modules.alias"))
    }
    #expect(try client.contents("modules.dep") == "ours")
    client.call(.forget, try client.node("modules.dep"), numbers(UInt64(100)))
    #expect(try client.contents("modules.dep") == "ours")
    #expect(client.open(try client.node("modules.dep"), O_RDWR).error == EROFS)
    #expect(folder.contents("modules.dep") == "the host's")
  }

  @Test("a snapshot is read-only, says for long what it said, and keeps that there is nothing")
  func snapshot() throws {
    let folder = try Folder()
    folder.put("file", "x")
    let client = try Client(folder.shared(freshness: .snapshot))
    #expect(client.create("new").error == EROFS)
    #expect(client.call(.unlink, 1, text("file")).error == EROFS)
    let missing = client.lookup("missing")
    #expect(missing.error == 0 && missing.node == 0)
    // entry_valid
    #expect(missing.number(UInt64.self, at: 16) >= 3600)
    #expect(client.lookup("file").number(UInt64.self, at: 16) >= 3600)
    #expect(try Client(folder.shared()).lookup("missing").error == ENOENT)
  }

  @Test("a saved state goes on with another server: the same numbers, the same files; a spoiled one changes nothing")
  func saved() throws {
    let folder = try Folder()
    folder.make("inner")
    folder.put("inner/file", "contents")
    folder.put("gone", "x")
    let first = try Client(folder.shared())
    let (inner, file, gone) = (try first.node("inner"), try first.node("inner/file"), try first.node("gone"))
    let (opened, lost) = (first.open(file).handle, first.open(gone).handle)
    first.call(.forget, inner, numbers(UInt64(2)))
    #expect(unlink(folder.path + "/gone") == 0)
    let saved = first.server.save()
    let second = try Client(folder.shared())
    try second.server.restore(saved)
    #expect(second.server.save().nodes == saved.nodes)
    #expect(second.read(file, opened).bytes == Array("contents".utf8))
    #expect(second.read(gone, lost).error == EBADF)
    #expect(second.lookup("file", in: inner).error == ESTALE)
    #expect(second.call(.getAttributes, file, numbers(UInt32(0), UInt32(0), UInt64(0))).error == 0)
    #expect(try second.node("inner") > gone)
    for spoil in 0..<5 {
      var spoiled = saved
      switch spoil {
      case 0: spoiled.nodes[0].parent = 99
      case 1: spoiled.nodes[0].name = Array("../x".utf8)
      case 2: spoiled.handles[0].node = 99
      case 3: spoiled.nextNode = 2
      default: spoiled.isReadOnly = true
      }
      let before = second.server.save()
      #expect(throws: RestoreFailure.self) { try second.server.restore(spoiled) }
      #expect(second.server.save() == before)
    }
  }

  @Test("holes are found")
  func seek() throws {
    let folder = try Folder()
    let client = try Client(folder.shared())
    let made = client.create("file")
    _ = client.write(made.node, made.handle, [1], at: 1 << 20)
    let hole = client.call(
      .seek, made.node, numbers(made.handle, UInt64(0)) + numbers(UInt32(CLINUX_SEEK_HOLE), UInt32(0)))
    #expect(hole.error == 0)
    #expect(client.call(.seek, made.node, numbers(made.handle, UInt64(0), UInt32(0), UInt32(0))).error == EINVAL)
  }
}
