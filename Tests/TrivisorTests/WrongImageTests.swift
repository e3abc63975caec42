import Foundation
import Testing

/// Images that belong elsewhere, from outside: each by name, with the option that is meant for it.
@Suite("wrong images: named, with what to do")
final class WrongImageTests {
  private let shell: Shell

  init() throws { shell = try Shell() }

  private func expectRefusal(_ command: String, saying words: String, sourceLocation: SourceLocation = #_sourceLocation)
    throws
  {
    let result = try shell.run("exec $trivisor \(command)")
    #expect(result.status == 127, "\(result.errors)", sourceLocation: sourceLocation)
    #expect(result.output.isEmpty, sourceLocation: sourceLocation)
    #expect(result.complaints.count == 1, "\(result.errors)", sourceLocation: sourceLocation)
    #expect(result.errors.contains(words), "\(result.errors)", sourceLocation: sourceLocation)
  }

  @Test("disks and file systems are given with --disk")
  func disks() throws {
    var disk = [UInt8](repeating: 0, count: 2 << 20)
    disk.replaceSubrange(510..<512, with: [0x55, 0xaa])
    try shell.put(disk, as: "d.img")
    try expectRefusal("run d.img", saying: "is a disk image with a boot sector")
    try expectRefusal("run d.img", saying: "give a kernel, and this by --disk")
    var ext4 = [UInt8](repeating: 0, count: 1 << 20)
    ext4.replaceSubrange(0x438..<0x43a, with: [0x53, 0xef])
    try shell.put(ext4, as: "e.img")
    try expectRefusal("run e.img", saying: "is an ext4 file system, not a kernel: give a kernel, and this by --disk")
  }

  @Test("archives are given with --initrd and --root")
  func archives() throws {
    let cpio = try shell.run("touch a; echo a | cpio -o -H newc --quiet >i.cpio; gzip -k i.cpio; tar czf t.tgz a")
    try #require(cpio.status == 0)
    try expectRefusal("run i.cpio", saying: "this by --initrd")
    try expectRefusal("run i.cpio.gz", saying: "is compressed (gzip), and what is in it is a cpio archive")
    try expectRefusal("run t.tgz", saying: "the folder by --root")
  }

  @Test("what can't be looked at for instructions is not", arguments: ["run", "inspect"])
  func text(command: String) throws {
    try shell.put(Array("Hello, this is no kernel.\n".utf8), as: "notes")
    try expectRefusal("\(command) notes", saying: "is text, not a kernel")
    try shell.put(Array("#!/bin/sh\nexec qemu\n".utf8), as: "start")
    try expectRefusal("\(command) start", saying: "is a script")
    try expectRefusal("\(command) .", saying: "is a directory")
    #expect(mkfifo(shell.folder.appending(path: "pipe").path, 0o600) == 0)
    try expectRefusal("\(command) pipe", saying: "is a device, a pipe or a socket")
    try shell.put([1, 2, 3, 4, 5], as: "bytes")
    try expectRefusal("\(command) bytes", saying: "set --kind if it is one of")
    #expect(try shell.run("exec $trivisor inspect bytes --kind flat32").status == 0)
  }

  @Test(
    "a boot sector that calls a BIOS is told so, under every technique that runs one",
    arguments: ["rewriting", "hardware"])
  func bios(technique: String) throws {
    guard technique != "hardware" || hasKVM else { return }
    // MOV AX, 0E41h; INT 10h; and an exception that nobody handles: UD2.
    try shell.put(BootSector.finished([0xb8, 0x41, 0x0e, 0xcd, 0x10] + BootSector.exit), as: "video")
    try shell.put(BootSector.finished([0x0f, 0x0b] + BootSector.exit), as: "undefined")
    let video = try shell.run("exec $trivisor run video --technique \(technique)")
    #expect(video.status == 126)
    #expect(video.complaints.count == 1, "\(video.errors)")
    #expect(video.errors.contains("called a BIOS by INT 0x10 (video) with AX 0x0e41, before 0x0000:0x7c05"))
    let undefined = try shell.run("exec $trivisor run undefined --technique \(technique) --timeout 10s")
    #expect(undefined.status == 126)
    #expect(
      undefined.errors.contains("does not handle an undefined instruction (vector 6) in real mode, at 0x0000:0x7c00"))
  }

  @Test("help speaks of all techniques as what they are")
  func help() throws {
    let help = try shell.run("exec $trivisor --help").text
    #expect(!help.contains("first steps"))
    #expect(help.contains("paravirtual"))
  }
}

/// What `auto` makes of what was asked for.
@Suite("the automatic choice")
struct AutomaticChoiceTests {
  @Test("a technique is taken that can give what was asked for, and the sentence says why", .enabled(if: hasKVM))
  func processors() throws {
    let result = try Command.run("run", "guest:smp", "--cpus", "17", "--timeout", "60s")
    #expect(result.errors.contains("technique hardware (automatic"), "\(result.errors)")
    #expect(result.status == 0)
  }

  @Test("a trace takes the technique that can make one")
  func trace() throws {
    let result = try Command.run("run", "guest:hello", "--trace", "/dev/null")
    #expect(result.status == 0)
    #expect(result.errors.contains("technique rewriting (automatic"))
  }

  @Test("what no technique can give is refused by the best one's words, which name the options")
  func nothing() throws {
    let result = try Command.run("run", "guest:hello", "--cpus", "17", "--technique", "rewriting")
    #expect(result.status == 64)
    #expect(
      result.errors.contains(
        "--cpus: the rewriting technique runs at most 16 processors, not 17: ask for fewer, or change --technique"))
  }
}

/// Kernels that gave up and stay where they are, from outside.
@Suite("panics that don't reset", .serialized)
final class LastingPanicTests {
  private let shell: Shell
  private static let panic = """
    [    1.000000] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\r
    [    1.000001] CPU: 0 PID: 1 Comm: init\r
    [    1.000002] ---[ end Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100 ]---\r

    """
  private static let other = "Kernel panic - not syncing: x\n---[ end Kernel panic - not syncing: x ]---\n"

  init() throws { shell = try Shell() }

  @Test("a panic is told as one, long before the time limit", arguments: ["rewriting", "hardware"])
  func panic(technique: String) throws {
    guard technique != "hardware" || hasKVM else { return }
    try shell.put(BootSector.writing(Self.panic, then: BootSector.spin), as: "init")
    let result = try shell.run("exec $trivisor run init --technique \(technique) --timeout 60s --json r.json")
    #expect(result.status == 121)
    #expect(result.seconds < 30)
    #expect(
      result.complaints.count == 1 && result.errors.contains("Attempted to kill init!"), "\(result.errors)")
    #expect(shell.object("r.json")?["outcome"] as? String == "initEnded")
    try shell.put(BootSector.writing(Self.other, then: BootSector.spin), as: "other")
    #expect(try shell.run("exec $trivisor run other --technique \(technique) --timeout 60s").status == 123)
    let test = try shell.run("exec $trivisor test other --technique \(technique) --timeout 60s")
    #expect(test.status == 126)
    #expect(test.text.contains("CRASHED") && test.text.contains("the guest's kernel panicked: x"))
  }

  @Test("a guest that quotes a panic and goes on runs to its end", arguments: ["rewriting", "hardware"])
  func quoted(technique: String) throws {
    guard technique != "hardware" || hasKVM else { return }
    // It waits for interrupts, as an idle kernel does.
    try shell.put(BootSector.writing(Self.other, then: BootSector.idle), as: "idle")
    let result = try shell.run("exec $trivisor run idle --technique \(technique) --timeout 5s --json r.json")
    #expect(result.seconds > 4.5)
    // Nothing followed, so that the panic is what is known when the time is over.
    #expect(result.status == 123)
    try shell.put(BootSector.writing(Self.other + "more\n", then: BootSector.exit), as: "end")
    #expect(try shell.run("exec $trivisor run end --technique \(technique)").status == 0)
  }
}
