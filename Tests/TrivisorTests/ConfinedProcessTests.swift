import Foundation
import Glibc
import Testing

/// What /proc says of a monitor while its guest runs, and of the processes that it made: the lines of docs/security.md that show there.
@Suite("A monitor that locks itself in, seen from outside")
struct ConfinedProcessTests {
  /// What was seen of one process.
  private struct Sight {
    var status: [String: String] = [:]
    /// Soft and hard, by name.
    var limits: [String: [String]] = [:]
    var maps: [Substring] = []
    var children: [pid_t] = []

    init(_ process: pid_t) {
      for line in Self.lines(process, "status") {
        let parts = line.split(separator: ":", maxSplits: 1)
        if parts.count == 2 { status[String(parts[0])] = parts[1].trimmingCharacters(in: .whitespaces) }
      }
      for line in Self.lines(process, "limits").dropFirst() {
        let values = line.dropFirst(26).split(separator: " ").prefix(2)
        limits[line.prefix(26).trimmingCharacters(in: .whitespaces)] = values.map(String.init)
      }
      maps = Self.lines(process, "maps")
      let tasks = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/task")) ?? []
      children = tasks.flatMap { Self.lines(process, "task/\($0)/children") }
        .flatMap { $0.split(separator: " ") }.compactMap { pid_t($0) }
    }

    private static func lines(_ process: pid_t, _ file: String) -> [Substring] {
      ((try? String(contentsOfFile: "/proc/\(process)/\(file)", encoding: .utf8)) ?? "").split(separator: "\n")
    }

    var isConfined: Bool { status["Seccomp"] == "2" }
  }

  /// Runs a guest that never ends, and looks at its monitor when it has locked itself in, and at its children.
  /// - Parameter isPart: whether a process of somebody else's is to be seen, too.
  private static func look(_ arguments: [String], isPart: @escaping (pid_t) -> Bool = { _ in false }) throws
    -> (monitor: Sight, children: [Sight])
  {
    var seen: (Sight, [Sight])?
    let all = ["run", "guest:crash", "--append", "loop", "--timeout", "60s"] + arguments
    // At the guest's first output all is made.
    let result = try Command.run(all, awaiting: "endless loop") { process in
      for _ in 0..<400 {
        let sight = Sight(process)
        if sight.isConfined {
          let others = try? FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap(pid_t.init).filter {
            $0 != process && !sight.children.contains($0) && isPart($0)
          }
          seen = (sight, (sight.children + (others ?? [])).map(Sight.init))
          break
        }
        usleep(50_000)
      }
      kill(process, SIGTERM)
    }
    return try #require(seen, "never confined: \(result.errors)")
  }

  @Test(
    "no new privileges, a filter, limits; no page can be both written and executed",
    arguments: ["rewriting", "paravirtual"] + (hasKVM ? ["hardware"] : []))
  func monitor(technique: String) throws {
    let (monitor, children) = try Self.look(["--technique", technique])
    #expect(technique != "paravirtual" || !children.isEmpty)
    for sight in [monitor] + children {
      #expect(sight.status["NoNewPrivs"] == "1")
      #expect(sight.status["Seccomp"] == "2")
      #expect(sight.limits["Max core file size"] == ["0", "0"])
    }
    for name in ["Max locked memory", "Max msgqueue size", "Max nice priority", "Max realtime priority"] {
      #expect(monitor.limits[name] == ["0", "0"], "\(name)")
    }
    let files = try #require(monitor.limits["Max open files"])
    #expect(files.count == 2 && files.first == files.last)
    #expect(!monitor.maps.isEmpty)
    for line in monitor.maps {
      let rights = line.split(separator: " ").dropFirst().first ?? ""
      #expect(!(rights.contains("w") && rights.contains("x")), "\(line)")
    }
    // A program with a fixed place lies in the lowest four gigabytes.
    let program = try #require(monitor.maps.first { $0.hasSuffix("/trivisor") })
    #expect(try #require(UInt(program.prefix { $0 != "-" }, radix: 16)) > UInt(UInt32.max))
  }

  @Test("the process that connects for a guest's sockets is confined, too")
  func socketProcess() throws {
    let path = FileManager.default.temporaryDirectory.appending(path: "trivisor-\(UUID())").path
    // It is nobody's child, and has its maker's command line.
    let (_, children) = try Self.look(["--technique", "rewriting", "--vsock", path]) { process in
      ((try? String(contentsOfFile: "/proc/\(process)/cmdline", encoding: .utf8)) ?? "").contains(path)
    }
    #expect(children.count == 1)
    for child in children {
      #expect(child.status["NoNewPrivs"] == "1")
      #expect(child.status["Seccomp"] == "2")
    }
    // It removes the socket when it sees that its guest is gone.
    for _ in 0..<100 where FileManager.default.fileExists(atPath: path) { usleep(50_000) }
    #expect(!FileManager.default.fileExists(atPath: path))
  }
}
