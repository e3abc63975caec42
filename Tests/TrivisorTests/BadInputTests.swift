import Foundation
import Testing

@Suite("bad input: one sentence and its status")
struct BadInputTests {
  private func expectRefusal(
    _ arguments: [String], status: Int32, lines: Int = 1, saying words: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let result = try Command.run(arguments)
    #expect(result.status == status, sourceLocation: sourceLocation)
    #expect(result.output.isEmpty, sourceLocation: sourceLocation)
    #expect(result.complaints.count == lines, "\(result.errors)", sourceLocation: sourceLocation)
    #expect(result.errors.contains(words), "\(result.errors)", sourceLocation: sourceLocation)
  }

  @Test("numbers that no machine has")
  func numbers() throws {
    try expectRefusal(["run", "guest:hello", "--cpus", "0"], status: 64, saying: "0 processors")
    try expectRefusal(["run", "guest:hello", "--cpus", "1000"], status: 64, saying: "1000 processors")
    try expectRefusal(["run", "guest:hello", "--memory", "1K"], status: 64, saying: "1024 bytes")
    try expectRefusal(["run", "guest:hello", "--memory", "1P"], status: 64, saying: "can't be had")
    try expectRefusal(["run", "guest:hello", "--memory", "99999999999P"], status: 64, saying: "can't be had")
  }

  @Test("devices that a paravirtual domain does not have")
  func domain() throws {
    let domain = ["run", "guest:hello", "--technique", "paravirtual"]
    let socket = FileManager.default.temporaryDirectory.appending(path: "trivisor-\(UUID())").path
    for (option, words) in [
      (["--vsock", socket], "--vsock: a paravirtual domain has no virtio devices"),
      (["--balloon", "0"], "--balloon: a paravirtual domain has no virtio devices"),
      (["--share", "/tmp"], "--share: a paravirtual domain has no virtio devices"),
      (["--transport", "pci"], "--transport: a paravirtual domain has no virtio devices"),
      (["--disk", "/dev/null,queues=2"], "--disk: /dev/null: a paravirtual domain's disks have one queue"),
    ] {
      try expectRefusal(domain + option, status: 64, saying: words)
    }
    #expect(!FileManager.default.fileExists(atPath: socket))
    try expectRefusal(domain + ["--disk", "/dev/null,queues=0"], status: 64, saying: "give 1 to 16 queues")
    try expectRefusal(domain + ["--disk", "/dev/null,as=vda"], status: 64, saying: "'as=vda' can't be had")
    try expectRefusal(
      domain + ["--disk", "/dev/null,ro", "--disk", "/dev/null,ro,as=xvda"], status: 64, saying: "are called xvda")
    try expectRefusal(
      ["run", "guest:hello", "--technique", "rewriting", "--disk", "/dev/null,as=hda"], status: 64,
      saying: "only a paravirtual domain's disk can be called hda")
    try expectRefusal(domain + ["--network", "tap=none,queues=9"], status: 64, saying: "9 pairs of queues")
    try expectRefusal(
      domain + ["--network", "user,queues=2"], status: 64, saying: "only a tap interface has several pairs of queues")
  }

  @Test("what is wrong with two disks' names is said of each")
  func diskNames() throws {
    let twice = ["--disk", "/dev/null,ro,as=hda", "--disk", "/dev/zero,ro,as=hda"]
    for (technique, words) in [
      ("paravirtual", "two disks are called hda: give /dev/PLACE another name"),
      ("rewriting", "/dev/PLACE: only a paravirtual domain's disk can be called hda"),
    ] {
      for place in ["null", "zero"] {
        try expectRefusal(
          ["run", "guest:hello", "--technique", technique] + twice, status: 64, lines: 2,
          saying: words.replacing("PLACE", with: place))
      }
    }
  }

  @Test("words behind commas say what is wrong with them")
  func words() throws {
    let socket = FileManager.default.temporaryDirectory.appending(path: "trivisor-\(UUID())").path
    for (arguments, words) in [
      (["--disk", "/dev/null,as=hda,as=hdb"], "--disk: 'as=hda' and 'as=hdb' are given: leave one out"),
      (["--disk", "/dev/null,ro,ro"], "--disk: 'ro' is given twice: leave one out"),
      (["--disk", "/dev/null,as="], "--disk: 'as=' has no value"),
      (["--disk", "/dev/null,fast"], "--disk: there is no '/dev/null,fast', and 'fast' can't stand behind a comma"),
      (["--disk", "/dev/null,,ro"], "--disk: there is no '/dev/null,', and nothing stands behind the last comma"),
      (["--share", "/tmp,ro,rw"], "'ro' and 'rw' can't be had together"),
      (["--share", "/tmp,at=/a,at=/b"], "'at=/a' and 'at=/b' are given"),
      (["--share", "/tmp,r0"], "--share: there is no '/tmp,r0', and 'r0' can't stand behind a comma"),
      (["--root", "/,rw,copy"], "'rw' and 'copy' can't be had together"),
      (["--root", "/,rw=/tmp,rw=/tmp"], "'rw=/tmp' is given twice"),
      (["--root", "/,cpy"], "'cpy' can't stand behind a comma: there are rw, copy and rw="),
      (["--vsock", "\(socket),cid=3,cid=4"], "--vsock: 'cid=3' and 'cid=4' are given"),
      (["--vsock", "\(socket),cid="], "--vsock: 'cid=' has no value"),
      (["--vsock", "\(socket),id=4"], "'id=4' can't stand behind a comma: there are cid="),
      (["--gdb", "0,wait,wait"], "--gdb: 'wait' is given twice"),
      (["--gdb", "0,i386,x86-64"], "--gdb: 'i386' and 'x86-64' can't be had together"),
      (["--gdb", "unix:\(socket),wiat"], "'wiat' can't stand behind a comma"),
      (["--gdb", "0,wiat"], "'0,wiat' is no place for a debugger"),
      (["--network", "user,"], "nothing stands behind a comma"),
      (["--network", "user,loopback=on,loopback=off"], "'loopback=on' and 'loopback=off' are given"),
      (["--network", "user,tcp=80,tcp=80"], "'tcp=80' is given twice"),
      (["--network", "user,tcp=80,tcp=80:81"], "the port of 'tcp=80:81' is given twice"),
      (
        ["--network", "tap=a,address=192.0.2.2/24,gateway=192.0.2.1,gateway=192.0.2.3"],
        "the gateway 192.0.2.3 is the second of its network"
      ),
      (["--share", "/tmp,at=relative"], "the guest has no place 'relative'"),
      (["--share", "/tmp,tag=a:b"], "the tag 'a:b' can't be had"), (["--share", ",ro"], "it names no folder"),
      (["--root", ",rw"], "it names neither a folder nor an image"),
      (["--network", "wifi"], "there is no attachment 'wifi'"),
      (["--network", "user,tcp=80x"], "'tcp=80x' names no ports"),
      (["--network", "socket=/tmp/a,b"], "'b' is nothing that this attachment has"),
      (["--network", "tap=a,address=192.0.2.2"], "'192.0.2.2' is no address with the bits of its network"),
      (["--network", "tap=a,gateway=192.0.2.1"], "the gateway 192.0.2.1 is in no network of the guest's"),
    ] {
      try expectRefusal(["run", "guest:hello"] + arguments, status: 64, saying: words)
    }
  }

  @Test("names of nothing")
  func names() throws {
    try expectRefusal(["run", "guest:nobody"], status: 127, saying: "no such guest")
    try expectRefusal(["run", "/nowhere/at/all"], status: 127, saying: "or name a guest")
    try expectRefusal(["run", ""], status: 127, saying: "empty name")
    try expectRefusal(["run", "/tmp"], status: 127, saying: "is a directory")
    try expectRefusal(["run", "/dev/null"], status: 127, saying: "is a device")
    try expectRefusal(["run", "guest:hello", "--cpu", "80486"], status: 64, saying: "no model '80486'")
    try expectRefusal(["run", "guest:hello", "--json", "/nowhere/r.json"], status: 64, saying: "can't be written")
  }

  @Test("places where no debugger can be awaited")
  func debuggerPlaces() throws {
    for text in ["nonsense", "65536", "1234,now", "unix:", ""] {
      try expectRefusal(["run", "guest:hello", "--gdb", text], status: 64, saying: "--gdb: ")
    }
    try expectRefusal(["test", "guest:hello", "--gdb", "nonsense"], status: 64, saying: "--gdb: ")
    let several = ["test", "guest:hello", "guest:hello-real", "--gdb", "0"]
    try expectRefusal(several, status: 64, saying: "a debugger sees one guest")
    try expectRefusal(
      ["run", "guest:hello", "--gdb", "unix:/nowhere/s"], status: 64, saying: "no debugger can be awaited")
    try expectRefusal(
      ["run", "guest:hello", "--gdb", "unix:/dev/null"], status: 64, saying: "where there is no file yet")
  }

  @Test("files that are no images")
  func files() throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "trivisor-\(UUID())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    func file(_ name: String, _ bytes: [UInt8]) throws -> String {
      let url = folder.appending(path: name)
      try Data(bytes).write(to: url)
      return url.path
    }
    let hello = try Data(contentsOf: Command.executable.appending(path: "trivisor")).prefix(4096)
    try expectRefusal(["run", file("empty", [])], status: 127, saying: "empty")
    try expectRefusal(["run", file("text", Array("Hello, this is no kernel.".utf8))], status: 127, saying: "text")
    try expectRefusal(["run", file("truncated", Array(hello))], status: 127, saying: "truncated")
    var arm = Array(hello)
    arm[18] = 0xb7
    try expectRefusal(["run", file("arm", arm)], status: 127, saying: "arm")
  }

  @Test("what a technique can't honour")
  func techniques() throws {
    let kernel = ["run", "guest:hello-real", "--technique", "paravirtual"]
    try expectRefusal(kernel, status: 127, saying: "no paravirtual build")
    let processors = ["run", "guest:hello", "--technique", "paravirtual", "--cpus", "33"]
    try expectRefusal(processors, status: 64, saying: "at most 32 processors")
  }
}
