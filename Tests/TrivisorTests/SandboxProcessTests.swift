import Foundation
import Glibc
import Testing

/// The processes that the paravirtual technique runs guest code in, seen from outside.
@Suite(.serialized)
struct SandboxProcessTests {
  /// Processes whose parent is `parent`, by /proc.
  private func children(of parent: pid_t) -> [pid_t] {
    let processes = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    return processes.compactMap { pid_t($0) }.filter { process in
      guard let status = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8),
        let end = status.lastIndex(of: ")")
      else { return false }
      let fields = status[status.index(after: end)...].split(separator: " ")
      return fields.count > 1 && pid_t(fields[1]) == parent
    }
  }

  @Test("nothing survives a monitor that is killed by SIGKILL, however busy its guest is")
  func killedMonitor() throws {
    var sandboxes: [pid_t] = []
    let words = ["run", "guest:crash", "--technique", "paravirtual", "--append", "loop"]
    let result = try Command.run(words, awaiting: "endless loop") { process in
      for _ in 0..<500 where sandboxes.isEmpty {
        usleep(20_000)
        sandboxes = children(of: process)
      }
      kill(process, SIGKILL)
    }
    #expect(result.status == 128 + SIGKILL)
    #expect(!sandboxes.isEmpty)
    for _ in 0..<250 where sandboxes.contains(where: { kill($0, 0) == 0 }) { usleep(20_000) }
    #expect(sandboxes.allSatisfy { kill($0, 0) != 0 })
  }

  @Test("guests of ours run as an ordinary user without privileges", .enabled(if: geteuid() == 0))
  func ordinaryUser() throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "trivisor-\(getpid())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    chmod(folder.path(), 0o755)
    let copy = folder.appending(path: "trivisor")
    try FileManager.default.copyItem(at: Command.executable.appending(path: "trivisor"), to: copy)
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/setpriv")
    process.arguments = [
      "--reuid", "65534", "--regid", "65534", "--clear-groups", copy.path(), "run", "guest:ring3", "--technique",
      "paravirtual",
    ]
    let output = Pipe()
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    try process.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    #expect(text.contains("All as expected."))
  }
}
