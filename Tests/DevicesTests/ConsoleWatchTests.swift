import Testing

@testable import TrivisorDevices

@Suite("Panics on a console")
struct ConsoleWatchTests {
  private func panic(_ text: String, pieces: Int = 1) -> KernelPanic? {
    let sink = MemorySink()
    let watch = ConsoleWatch(sink)
    let bytes = Array(text.utf8)
    var start = 0
    while start < bytes.count {
      Array(bytes[start..<min(start + pieces, bytes.count)]).withUnsafeBytes { watch.write($0) }
      start += pieces
    }
    #expect(sink.bytes == bytes)
    return watch.panic
  }

  private let message = "[    7.1] Kernel panic - not syncing: "

  @Test("the reason is what follows on the line, however it is cut into pieces", arguments: [1, 3, 1000])
  func reason(pieces: Int) {
    let text = "[    7.0] Run /init\r\n" + message + "sysrq triggered crash\r\n[    7.2] CPU: 0 PID: 1\r\n"
    #expect(panic(text, pieces: pieces) == KernelPanic(reason: "sysrq triggered crash"))
    let text2 = message + "Attempted to kill init! exitcode=0x00000100\n"
    #expect(panic(text2, pieces: pieces)?.isEndOfInit == true)
  }

  @Test("a line that is not over counts, and so does one after a false start")
  func unfinished() {
    #expect(panic(message + "out of mem")?.reason == "out of mem")
    #expect(panic("Kernel panic - Kernel panic - not syncing: x\n")?.reason == "x")
    #expect(panic(message)?.reason == nil)
    #expect(panic(message) == KernelPanic())
  }

  @Test("what is no panic of this kernel's is none")
  func none() {
    #expect(panic("Kernel panic: not syncing\nKERNEL PANIC - NOT SYNCING: x\n") == nil)
    #expect(panic("a log:\n" + message + "old\n[    9.0] reboot: Restarting system\r\n") == nil)
  }

  @Test("the first reason counts; it is cut off and holds no control characters")
  func hostile() {
    #expect(panic(message + "one\n" + message + "two\n")?.reason == "one")
    #expect(panic(message + "\u{1b}[2J\u{7}x\n")?.reason == "?[2J?x")
    #expect(panic(message + String(repeating: "a", count: 100_000))?.reason?.count == 256)
  }

  @Test("the last line of a kernel that stays where it is counts while nothing follows")
  func lastWords() {
    let watch = ConsoleWatch(MemorySink())
    func write(_ text: String) { Array(text.utf8).withUnsafeBytes { watch.write($0) } }
    let end = "[    7.3] ---[ end Kernel panic - not syncing: x ]---"
    write(end + "\r\n")
    #expect(watch.lastWords != nil)
    write(message + "x\r\n" + end)
    #expect(watch.lastWords == nil)
    write("\r\n")
    #expect(watch.lastWords != nil)
    write("\r")
    #expect(watch.lastWords != nil)
    write("login: ")
    #expect(watch.lastWords == nil)
    #expect(watch.lastingPanic == KernelPanic(reason: "x"))
    write(String(repeating: "and it goes on\n", count: 20_000))
    #expect(watch.lastingPanic == nil)
  }
}
