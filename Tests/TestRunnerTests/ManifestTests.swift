import Foundation
import SystemPackage
import Testing

@testable import TrivisorTestRunner

@Suite("a manifest")
struct ManifestTests {
  private func cases(_ text: String, techniques: [String] = []) throws -> [TestCase] {
    let folder = FileManager.default.temporaryDirectory.appending(path: "trivisor-\(UUID())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let file = folder.appending(path: "tests.json")
    try text.write(to: file, atomically: false, encoding: .utf8)
    let found = try TestCase.ofManifest(
      at: FilePath(file.path), techniques: techniques, timeLimit: 7, parseTime: { UInt64($0) })
    return found.map { test in
      var test = test
      test.runArguments = test.runArguments.map { $0.replacingOccurrences(of: folder.path, with: "DIR") }
      return test
    }
  }

  @Test("options never land in a command for the guest")
  func optionsBeforeCommand() {
    var test = TestCase(name: "a", runArguments: ["vmlinuz", "--", "make", "check"], timeLimit: 1)
    test.addOptions(["--cpus=2"])
    #expect(test.runArguments == ["vmlinuz", "--cpus=2", "--", "make", "check"])
  }

  @Test("defaults, paths beside the manifest, one test for each technique")
  func whole() throws {
    let found = try cases(
      """
      { "version": 1,
        "defaults": { "timeout": "20", "memory": "64M", "append": "x", "arguments": ["--verbose"] },
        "tests": [
          { "name": "boots", "image": "k.elf", "append": "a b", "initrd": ["i.cpio"], "techniques": ["hardware", "rewriting"],
            "expect": { "output": "^ready$", "endWithOutput": true } },
          { "image": "guest:hello", "timeout": "5", "cpus": 2, "expect": { "exitCode": 3, "tap": true } } ] }
      """)
    #expect(found.map(\.name) == ["boots [hardware]", "boots [rewriting]", "guest:hello"])
    #expect(
      found[0].runArguments == [
        "DIR/k.elf", "--memory=64M", "--append=a b", "--initrd=DIR/i.cpio", "--verbose", "--technique=hardware",
      ])
    #expect(found[2].runArguments == ["guest:hello", "--memory=64M", "--append=x", "--cpus=2", "--verbose"])
    #expect(found.map(\.timeLimit) == [20, 20, 5])
    #expect(found[0].expectation.output == "^ready$")
    #expect(found[0].expectation.endsWithOutput)
    #expect(found[2].expectation.exitCode == 3)
    #expect(found[2].expectation.tap)
  }

  @Test("a command for a Linux guest: a text for its shell, or words; it comes last")
  func commands() throws {
    let found = try cases(
      """
      { "version": 1,
        "defaults": { "image": "vmlinuz", "root": "rootfs", "exec": "make check", "arguments": ["--kernel-log"] },
        "tests": [
          { "techniques": ["rewriting"] },
          { "exec": ["prove", "-r", "a b"], "techniques": ["rewriting"] },
          { "root": "/other", "exec": "true && false" } ] }
      """)
    #expect(
      found.map(\.runArguments) == [
        ["DIR/vmlinuz", "--root=DIR/rootfs", "--kernel-log", "--exec=make check", "--technique=rewriting"],
        ["DIR/vmlinuz", "--root=DIR/rootfs", "--kernel-log", "--technique=rewriting", "--", "prove", "-r", "a b"],
        ["DIR/vmlinuz", "--root=/other", "--kernel-log", "--exec=true && false"],
      ])
  }

  @Test(
    "a command that is none, or one too many",
    arguments: [
      (#""exec": []"#, "is no command"), (#""exec": [""]"#, "is no command"), (#""exec": 3"#, "is no command"),
      (#""exec": "true", "arguments": ["--", "false"]"#, "and another behind --"),
    ])
  func refusedCommands(member: String, sentence: String) {
    let failure = #expect(throws: ManifestFailure.self) {
      try cases(#"{ "version": 1, "tests": [ { "image": "a", \#(member) } ] }"#)
    }
    #expect(failure?.description.contains(sentence) == true, "\(failure?.description ?? "nothing")")
  }

  @Test("techniques of the command line take the place of the manifest's")
  func techniques() throws {
    let text = #"{ "version": 1, "tests": [ { "image": "a", "techniques": ["hardware", "rewriting"] } ] }"#
    let found = try cases(text, techniques: ["paravirtual"])
    #expect(found.map(\.runArguments) == [["DIR/a", "--technique=paravirtual"]])
  }

  @Test(
    "what makes no sense is refused, with its place",
    arguments: [
      (#"{ "version": 2, "tests": [] }"#, "version 2 is not known"),
      (#"{ "version": 1, "tests": [ {} ] }"#, "test 1 names no image"),
      (#"{ "version": 1, "tests": [ { "image": "a", "expct": {} } ] }"#, "tests.[0]: there is no member 'expct'"),
      (#"{ "version": 1, "tests": [ { "image": 3 } ] }"#, "is no String"),
      (#"{ "version": 1, "tests": [ { "image": "a", "timeout": "soon" } ] }"#, "'soon' is no time limit"),
      (#"{ "version": 1, "tests": [ { "image": "a", "expect": { "exitCode": 256 } } ] }"#, "exitCode"),
      (#"{ "version": 1, "tests": [ { "image": "a", "expect": { "endWithOutput": true } } ] }"#, "no 'output'"),
      ("no JSON at all", "tests.json"),
    ])
  func refused(text: String, finding: String) {
    #expect {
      _ = try cases(text)
    } throws: { error in
      (error as? ManifestFailure)?.description.contains(finding) == true
    }
  }

  @Test("no two tests share a name")
  func uniqueNames() {
    let same = ["a", "a", "a #2", "a"].map { TestCase(name: $0, runArguments: [], timeLimit: 1) }
    let names = TestCase.withUniqueNames(same).map(\.name)
    #expect(Set(names).count == 4)
    #expect(names[0] == "a")
  }
}
