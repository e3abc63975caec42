import TrivisorLinuxCommands
import SystemPackage
import Testing

@testable import TrivisorCommand

@Suite("--share and --root as they are typed")
struct ShareArgumentTests {
  @Test("a folder, and what stands behind commas")
  func share() throws {
    let plain = try #require(ShareArgument(argument: "/usr/lib")).share
    #expect((plain.path, plain.place, plain.tag, plain.isReadOnly) == ("/usr/lib", "/mnt/lib", "lib", false))
    let full = try #require(ShareArgument(argument: "a,b,at=/x,y,tag=t,ro")).share
    #expect((full.path, full.tag, full.isReadOnly) == ("a,b,at=/x,y", "t", true))
    let placed = try #require(ShareArgument(argument: "a,b,ro,at=/x")).share
    #expect((placed.path, placed.place, placed.isReadOnly) == ("a,b", "/x", true))
  }

  @Test("what is none", arguments: ["", ",ro", "/usr,at=relative", "/usr,tag=", "/usr,tag=a:b"])
  func refused(argument: String) {
    #expect(ShareArgument(argument: argument) == nil)
  }

  @Test("roots")
  func root() throws {
    #expect(RootArgument(argument: "/")?.root.way == .overlay)
    #expect(RootArgument(argument: "dir,copy")?.root.way == .copy)
    #expect(RootArgument(argument: "dir,with,rw")?.root.path == "dir,with")
    #expect(RootArgument(argument: "/,rw=/home/a,rw=/home/b")?.root.writable == ["/home/a", "/home/b"])
  }
}
