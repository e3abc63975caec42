import TrivisorLinuxCommands
import SystemPackage
import Testing

@testable import TrivisorCommand

@Suite("--share and --root as they are typed")
struct ShareArgumentTests {
  @Test("a folder, and what stands behind commas")
  func share() throws {
    let plain = try ShareArgument(parsing: "/usr/lib").share
    #expect((plain.path, plain.place, plain.tag, plain.isReadOnly) == ("/usr/lib", "/mnt/lib", "lib", false))
    let full = try ShareArgument(parsing: "a,b,at=/x,y,tag=t,ro").share
    #expect((full.path, full.tag, full.isReadOnly) == ("a,b,at=/x,y", "t", true))
    let placed = try ShareArgument(parsing: "a,b,ro,at=/x").share
    #expect((placed.path, placed.place, placed.isReadOnly) == ("a,b", "/x", true))
  }

  @Test("what is none", arguments: ["", ",ro", "/usr,at=relative", "/usr,tag=", "/usr,tag=a:b"])
  func refused(argument: String) {
    #expect(throws: InvalidArgument.self) { try ShareArgument(parsing: argument) }
  }

  @Test("roots")
  func root() throws {
    #expect(try RootArgument(parsing: "/").root.way == .overlay)
    #expect(try RootArgument(parsing: "dir,copy").root.way == .copy)
    #expect(try RootArgument(parsing: "dir,with,rw").root.path == "dir,with")
    #expect(try RootArgument(parsing: "/,rw=/home/a,rw=/home/b").root.writable == ["/home/a", "/home/b"])
  }
}
