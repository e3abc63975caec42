// A xenstore for one domain (Xen's docs/misc/xenstore.txt and public header io/xs_wire.h): a tree of strings, spoken to
// through a ring of 1 KiB each way. Directories exist as long as something is under them.

/// The store and its ring.
struct XenStore {
  private enum Kind: UInt32 {
    case directory = 1
    case read = 2
    case write = 11
    case makeDirectory = 12
    case remove = 13
    case error = 16
  }

  private static let ringSize: UInt32 = 1024
  private static let responseStart = 1024
  private static let requestConsumer = 2048, requestProducer = 2052, responseConsumer = 2056, responseProducer = 2060
  private static let headerSize = 16
  private static let maximumPayload = 4096
  /// All keys and values of a domain together, in bytes.
  private static let capacity = 1 << 20

  /// Absolute paths.
  private(set) var values: [String: String]
  let home: String
  private let page: UnsafeMutableRawPointer
  private var request: [UInt8] = []
  private var response: [UInt8] = []
  private var size = 0

  /// - Parameter page: the ring, shared with the domain.
  init(page: UnsafeMutableRawPointer, domain: Int) {
    self.page = page
    home = "/local/domain/\(domain)"
    values = ["\(home)/domid": "\(domain)", "\(home)/name": "guest", "\(home)/cpu/0/availability": "online"]
  }

  /// What the domain has left as its exit code.
  var exitCode: UInt8? { values["\(home)/trivisor/exit-code"].flatMap { UInt8($0) } }

  /// Answers what has come, as far as the domain takes the answers.
  /// - Returns: whether the ring has changed.
  mutating func serve() -> Bool {
    var changed = false
    while true {
      let sent = sendResponse()
      changed = changed || sent
      guard response.isEmpty else { return changed }
      let received = receiveRequest()
      changed = changed || received
      guard answer() || received else { return changed }
    }
  }

  private mutating func receiveRequest() -> Bool {
    var consumer = word(Self.requestConsumer)
    let producer = word(Self.requestProducer)
    var left = min(producer &- consumer, Self.ringSize)
    // A message that is too long is thrown away byte by byte, and the first of it is answered with an error.
    guard left > 0, request.count < Self.headerSize + Self.maximumPayload else { return false }
    while left > 0, request.count < Self.headerSize + Self.maximumPayload {
      request.append((page + Int(consumer % Self.ringSize)).load(as: UInt8.self))
      consumer &+= 1
      left -= 1
    }
    set(Self.requestConsumer, consumer)
    return true
  }

  private mutating func sendResponse() -> Bool {
    guard !response.isEmpty else { return false }
    var producer = word(Self.responseProducer)
    let used = producer &- word(Self.responseConsumer)
    guard used < Self.ringSize else { return false }
    let count = min(response.count, Int(Self.ringSize - used))
    for byte in response[..<count] {
      (page + Self.responseStart + Int(producer % Self.ringSize)).storeBytes(of: byte, as: UInt8.self)
      producer &+= 1
    }
    response.removeFirst(count)
    set(Self.responseProducer, producer)
    return true
  }

  /// One whole request, if it is there.
  private mutating func answer() -> Bool {
    guard request.count >= Self.headerSize else { return false }
    let header: [UInt32] = request.withUnsafeBytes { bytes in
      [0, 4, 8, 12].map { UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: $0, as: UInt32.self)) }
    }
    let length = min(Int(header[3]), Self.maximumPayload)
    guard request.count >= Self.headerSize + length else { return false }
    let payload = Array(request[Self.headerSize..<(Self.headerSize + length)])
    request.removeFirst(Self.headerSize + length)
    var kind = header[0]
    let result: [UInt8]
    switch header[3] > UInt32(Self.maximumPayload) ? .failure("E2BIG") : perform(Kind(rawValue: kind), payload) {
    case .answer(let bytes): result = bytes
    case .failure(let name):
      kind = Kind.error.rawValue
      result = Array(name.utf8) + [0]
    }
    for word in [kind, header[1], header[2], UInt32(result.count)] {
      for shift in stride(from: 0, to: 32, by: 8) as StrideTo<UInt32> {
        response.append(UInt8(truncatingIfNeeded: word >> shift))
      }
    }
    response += result
    return true
  }

  private enum Answer {
    case answer([UInt8])
    case failure(String)
  }

  private mutating func perform(_ kind: Kind?, _ payload: [UInt8]) -> Answer {
    guard let end = payload.firstIndex(of: 0), end > 0 else { return .failure("EINVAL") }
    let said = String(decoding: payload[..<end], as: UTF8.self)
    let path = said.hasPrefix("/") ? said : "\(home)/\(said)"
    let rest = payload[(end + 1)...]
    switch kind {
    case .read:
      if let value = values[path] { return .answer(Array(value.utf8)) }
      return children(path).isEmpty ? .failure("ENOENT") : .answer([])
    case .directory:
      let names = children(path)
      guard !names.isEmpty || values[path] != nil else { return .failure("ENOENT") }
      return .answer(names.flatMap { Array($0.utf8) + [0] })
    case .write, .makeDirectory:
      guard path.hasPrefix(home + "/") else { return .failure("EACCES") }
      size += path.utf8.count + rest.count
      guard size <= Self.capacity else { return .failure("ENOSPC") }
      if kind == .write || values[path] == nil { values[path] = String(decoding: rest, as: UTF8.self) }
      return .answer(Array("OK\0".utf8))
    case .remove:
      guard path.hasPrefix(home + "/") else { return .failure("EACCES") }
      values = values.filter { $0.key != path && !$0.key.hasPrefix(path + "/") }
      return .answer(Array("OK\0".utf8))
    case .error, nil: return .failure("ENOSYS")
    }
  }

  private func children(_ path: String) -> [String] {
    let prefix = path == "/" ? "/" : path + "/"
    let names = values.keys.filter { $0.hasPrefix(prefix) }.map { key in
      String(key.dropFirst(prefix.count).prefix { $0 != "/" })
    }
    return Array(Set(names)).sorted()
  }

  private func word(_ offset: Int) -> UInt32 { (page + offset).load(as: UInt32.self) }
  private func set(_ offset: Int, _ value: UInt32) { (page + offset).storeBytes(of: value, as: UInt32.self) }
}
