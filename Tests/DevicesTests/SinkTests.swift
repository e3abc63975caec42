import TrivisorDevices
import Glibc
import Synchronization
import SystemPackage
import Testing
import TrivisorVMM

private func put(_ text: String, into sink: any SerialSink) {
  var text = text
  text.withUTF8 { sink.write(UnsafeRawBufferPointer($0)) }
}

@Suite("Serial sinks")
struct SinkTests {
  @Test("memory keeps the beginning and counts the rest")
  func memoryLimit() {
    let sink = MemorySink(limit: 5)
    put("abc", into: sink)
    put("defg", into: sink)
    put("h", into: sink)
    #expect(sink.text == "abcde")
    #expect(sink.droppedCount == 3)
  }

  @Test("a pipe gets all bytes in order, also more than it holds", .timeLimit(.minutes(15)))
  func pipeOutput() throws {
    let (reader, writer) = try FileDescriptor.pipe()
    let sink = FileDescriptorSink(writer.rawValue) { _ in Issue.record("the pipe is not broken") }
    let line = String(repeating: "0123456789", count: 20) + "\n"
    let lines = 2000
    let expected = Array(String(repeating: line, count: lines).utf8)
    let read = OwnThread { () -> [UInt8] in
      var buffer = [UInt8](repeating: 0, count: 4096)
      var text: [UInt8] = []
      while text.count < expected.count {
        let count = (try? buffer.withUnsafeMutableBytes { try reader.read(into: $0) }) ?? 0
        if count == 0 { break }
        text += buffer[..<count]
      }
      return text
    }
    for _ in 0..<lines { put(line, into: sink) }
    sink.finish()
    #expect(read.join() == expected)
    try reader.close()
    try writer.close()
  }

  @Test("a few bytes arrive without anybody asking for them", .timeLimit(.minutes(15)))
  func promptOutput() throws {
    let (reader, writer) = try FileDescriptor.pipe()
    let sink = FileDescriptorSink(writer.rawValue) { _ in }
    put("# ", into: sink)
    var buffer = [UInt8](repeating: 0, count: 16)
    let count = try buffer.withUnsafeMutableBytes { try reader.read(into: $0) }
    #expect(Array(buffer[..<count]) == Array("# ".utf8))
    sink.finish()
    try reader.close()
    try writer.close()
  }

  @Test("a closed pipe is told once and swallows the rest", .timeLimit(.minutes(15)))
  func brokenPipe() throws {
    let (reader, writer) = try FileDescriptor.pipe()
    let calls = Counter()
    let sink = FileDescriptorSink(writer.rawValue) { error in
      #expect(error == .brokenPipe)
      calls.increment()
    }
    try reader.close()
    put("lost", into: sink)
    sink.finish()
    put("lost, too", into: sink)
    sink.finish()
    #expect(calls.value == 1)
    try writer.close()
  }

  @Test("abandoning frees a writer whose reader sleeps", .timeLimit(.minutes(15)))
  func abandonment() throws {
    let (reader, writer) = try FileDescriptor.pipe()
    let sink = FileDescriptorSink(writer.rawValue) { _ in Issue.record("nothing is broken") }
    let writing = OwnThread {
      for _ in 0..<1000 { put(String(repeating: "x", count: 1000), into: sink) }
      sink.finish()
    }
    usleep(50_000)
    sink.abandon()
    writing.join()
    try reader.close()
    try writer.close()
  }

  @Test("a regular file is appended to from where its descriptor stands")
  func regularFile() throws {
    let path = FilePath("/tmp/trivisor-sink-\(getpid())")
    let file = try FileDescriptor.open(
      path, .readWrite, options: [.create, .truncate], permissions: .ownerReadWrite)
    defer { unlink(path.string) }
    try file.writeAll("before ".utf8)
    let sink = FileDescriptorSink(file.rawValue) { _ in Issue.record("the file is not broken") }
    put("after", into: sink)
    sink.finish()
    var buffer = [UInt8](repeating: 0, count: 64)
    let count = try buffer.withUnsafeMutableBytes { try file.read(fromAbsoluteOffset: 0, into: $0) }
    #expect(String(decoding: buffer[..<count], as: UTF8.self) == "before after")
    try file.close()
  }
}
