import Foundation
import Testing

@testable import TrivisorXenDomain

/// The store, spoken to through its ring as a guest does.
final class XenStoreTests {
  private let page = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 4096)
  private var store: XenStore
  private var received: [UInt8] = []

  init() {
    page.initializeMemory(as: UInt8.self, repeating: 0, count: 4096)
    store = XenStore(page: page, domain: 1)
  }

  deinit { page.deallocate() }

  private struct Message: Equatable {
    let kind, request, transaction: UInt32
    let payload: String
  }

  private func word(_ offset: Int) -> UInt32 { page.load(fromByteOffset: offset, as: UInt32.self) }

  /// Puts a request into the ring, byte for byte as there is room, and takes what comes.
  private func exchange(_ kind: UInt32, _ payload: [UInt8], transaction: UInt32 = 0, length: Int? = nil) -> [Message] {
    var bytes: [UInt8] = []
    for value in [kind, 7, transaction, UInt32(length ?? payload.count)] {
      bytes += withUnsafeBytes(of: value.littleEndian) { Array($0) }
    }
    bytes += payload
    while true {
      var moved = false
      while !bytes.isEmpty, word(2052) &- word(2048) < 1024 {
        page.storeBytes(of: bytes.removeFirst(), toByteOffset: Int(word(2052) % 1024), as: UInt8.self)
        page.storeBytes(of: word(2052) &+ 1, toByteOffset: 2052, as: UInt32.self)
        moved = true
      }
      moved = store.serve() || moved
      while word(2060) &- word(2056) > 0 {
        received.append(page.load(fromByteOffset: 1024 + Int(word(2056) % 1024), as: UInt8.self))
        page.storeBytes(of: word(2056) &+ 1, toByteOffset: 2056, as: UInt32.self)
        moved = true
      }
      if !moved { break }
    }
    var messages: [Message] = []
    while received.count >= 16 {
      let header = received.withUnsafeBytes { bytes in
        [0, 4, 8, 12].map { bytes.loadUnaligned(fromByteOffset: $0, as: UInt32.self) }
      }
      guard received.count >= 16 + Int(header[3]) else { break }
      let payload = String(decoding: received[16..<(16 + Int(header[3]))], as: UTF8.self)
      messages.append(.init(kind: header[0], request: header[1], transaction: header[2], payload: payload))
      received.removeFirst(16 + Int(header[3]))
    }
    return messages
  }

  /// The one answer's payload; an error's name behind "!".
  private func ask(_ kind: UInt32, _ text: String, transaction: UInt32 = 0) -> String {
    let messages = exchange(kind, Array(text.utf8), transaction: transaction)
    guard let first = messages.first else { return "nothing" }
    return (first.kind == 16 ? "!" : "") + first.payload
  }

  @Test("values, directories, what is not there, what is not the domain's")
  func tree() {
    #expect(ask(2, "domid\0") == "1")
    #expect(ask(11, "data/a/b\0value") == "OK\0")
    #expect(ask(2, "data/a/b\0") == "value")
    #expect(ask(2, "data/a\0") == "")
    #expect(ask(2, "/local/domain/1/data/a/b\0") == "value")
    #expect(ask(1, "data\0") == "a\0")
    #expect(ask(1, "/\0") == "local\0")
    #expect(ask(12, "data/c\0") == "OK\0")
    #expect(ask(1, "data\0") == "a\0c\0")
    #expect(ask(13, "data/a/b\0") == "OK\0")
    #expect(ask(2, "data/a/b\0") == "!ENOENT\0")
    #expect(ask(2, "data/a\0") == "")
    #expect(ask(13, "data/x\0") == "OK\0")
    #expect(ask(13, "x/y\0") == "!ENOENT\0")
    #expect(ask(11, "/local/domain/2/a\0v") == "!EACCES\0")
    #expect(ask(13, "/local/domain/1\0") == "!EACCES\0")
    #expect(ask(3, "data\0") == "n1\0")
    #expect(ask(14, "data\0n1\0r2\0") == "OK\0")
    #expect(ask(3, "data\0") == "n1\0r2\0")
    #expect(ask(10, "5\0") == "/local/domain/5\0")
    #expect(ask(17, "1\0") == "T\0")
    #expect(ask(17, "9\0") == "F\0")
  }

  @Test("a key can be written for ever; together they have a limit")
  func quota() {
    let value = String(repeating: "v", count: 4000)
    for _ in 0..<1000 { #expect(ask(11, "key\0" + value) == "OK\0") }
    var full = 0
    for number in 0..<300 where ask(11, "k\(number)\0" + value) == "!ENOSPC\0" { full += 1 }
    #expect(full > 30)
    #expect(full < 50)
  }

  @Test("watches tell once at first, then of what is at or below them, in their own words")
  func watches() {
    let event: (String) -> Message = { .init(kind: 15, request: 0, transaction: 0, payload: $0) }
    let okay: (UInt32) -> Message = { .init(kind: $0, request: 7, transaction: 0, payload: "OK\0") }
    #expect(exchange(4, Array("data\0t1\0".utf8)) == [okay(4), event("data\0t1\0")])
    #expect(ask(4, "data\0t1\0") == "!EEXIST\0")
    #expect(exchange(11, Array("data/a\0v".utf8)) == [okay(11), event("data/a\0t1\0")])
    #expect(exchange(11, Array("other\0v".utf8)) == [okay(11)])
    #expect(exchange(4, Array("/local/domain/1/data/a\0t2\0".utf8)).count == 2)
    #expect(
      exchange(13, Array("data\0".utf8)) == [
        okay(13), event("data\0t1\0"), event("/local/domain/1/data/a\0t2\0"),
      ])
    #expect(ask(5, "data\0other\0") == "!ENOENT\0")
    #expect(ask(5, "data\0t1\0") == "OK\0")
    #expect(exchange(11, Array("data/a\0v".utf8)).count == 2)
    #expect(ask(21, "\0") == "OK\0")
    #expect(exchange(11, Array("data/a\0v".utf8)).count == 1)
    for number in 0..<128 { #expect(ask(4, "w\0\(number)\0") == "OK\0") }
    #expect(ask(4, "w\0more\0") == "!E2BIG\0")
  }

  @Test("transactions see their own changes, and end with all of them or none")
  func transactions() throws {
    let first = try #require(UInt32(ask(6, "\0").dropLast()))
    #expect(ask(11, "a\0one", transaction: first) == "OK\0")
    #expect(ask(2, "a\0", transaction: first) == "one")
    #expect(ask(2, "a\0") == "!ENOENT\0")
    #expect(ask(7, "T\0", transaction: first) == "OK\0")
    #expect(ask(2, "a\0") == "one")
    #expect(ask(7, "T\0", transaction: first) == "!ENOENT\0")
    let second = try #require(UInt32(ask(6, "\0").dropLast()))
    #expect(ask(11, "a\0two", transaction: second) == "OK\0")
    #expect(ask(11, "b\0meanwhile") == "OK\0")
    #expect(ask(7, "T\0", transaction: second) == "!EAGAIN\0")
    #expect(ask(2, "a\0") == "one")
    let third = try #require(UInt32(ask(6, "\0").dropLast()))
    #expect(ask(13, "a\0", transaction: third) == "OK\0")
    #expect(ask(7, "F\0", transaction: third) == "OK\0")
    #expect(ask(2, "a\0") == "one")
    for _ in 0..<10 { #expect(ask(6, "\0").first != "!") }
    #expect(ask(6, "\0") == "!ENOSPC\0")
  }

  @Test("messages that make no sense are answered with an error, and the next is read")
  func nonsense() {
    #expect(ask(2, "no end") == "!EINVAL\0")
    #expect(ask(2, "\0") == "!EINVAL\0")
    #expect(ask(2, "a//b\0") == "!EINVAL\0")
    #expect(ask(99, "a\0") == "!ENOSYS\0")
    #expect(ask(2, "a\0", transaction: 77) == "!ENOENT\0")
    #expect(exchange(2, [UInt8](repeating: 0x61, count: 9000)).map(\.payload) == ["E2BIG\0"])
    #expect(ask(2, String(repeating: "p", count: 3100) + "\0") == "!EINVAL\0")
    #expect(ask(2, "domid\0") == "1")
  }
}
