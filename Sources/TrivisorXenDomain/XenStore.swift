// A xenstore for one domain (Xen's docs/misc/xenstore.txt and public header io/xs_wire.h): a tree of strings with watches and
// transactions, spoken to through a ring of 1 KiB each way.

import TrivisorBoot
import TrivisorVMM

/// The store and its ring.
struct XenStore {
  /// What a message is: XS_…
  private enum Kind: UInt32 {
    case directory = 1
    case read = 2
    case getPermissions = 3
    case watch = 4
    case unwatch = 5
    case startTransaction = 6
    case endTransaction = 7
    case domainPath = 10
    case write = 11
    case makeDirectory = 12
    case remove = 13
    case setPermissions = 14
    case watchEvent = 15
    case error = 16
    case isDomainIntroduced = 17
    case resetWatches = 21
  }

  private static let ringSize: UInt32 = 1024
  private static let responseStart = 1024
  private static let requestConsumer = 2048, requestProducer = 2052, responseConsumer = 2056, responseProducer = 2060
  private static let headerSize = 16
  static let maximumPayload = 4096
  private static let maximumPath = 3072
  private static let watchLimit = 128
  private static let transactionLimit = 10
  /// Changes of one transaction.
  private static let changeLimit = 1000
  /// Bytes that wait to be taken, beyond which nobody is told of changes any more.
  private static let waitingLimit = 1 << 20

  struct Watch: Codable, Sendable, Equatable {
    /// As the domain said it, and absolute.
    let said, path: String
    let token: [UInt8]
  }

  /// A tree of its own, until it is taken over.
  private struct Transaction {
    let generation: UInt64
    var tree: XenStoreTree
    var changes: [(path: String, isRemoval: Bool)] = []
  }

  private var tree: XenStoreTree
  /// How often the tree has changed.
  private var generation: UInt64 = 0
  private var watches: [Watch] = []
  private var transactions: [UInt32: Transaction] = [:]
  private var nextTransaction: UInt32 = 1
  let home: String
  private let domain: Int
  private let page: UnsafeMutableRawPointer
  private var request: [UInt8] = []
  /// What is still to come of a message that was too long, and is thrown away.
  private var excess: UInt32 = 0
  private var response: [UInt8] = []

  /// - Parameter page: the ring, shared with the domain.
  init(page: UnsafeMutableRawPointer, domain: Int) {
    self.page = page
    self.domain = domain
    home = "/local/domain/\(domain)"
    tree = XenStoreTree(owner: domain)
    for (name, value) in [("domid", "\(domain)"), ("name", "guest"), ("cpu/0/availability", "online")] {
      _ = tree.write("\(home)/\(name)", Array(value.utf8))
    }
    for path in ["/local", "/local/domain"] { _ = tree.setPermissions(path, Array("n0\0r\(domain)\0".utf8)) }
  }

  /// What the domain has left as its exit code.
  var exitCode: UInt8? {
    tree["\(home)/trivisor/exit-code"].flatMap { UInt8(String(decoding: $0.value, as: UTF8.self)) }
  }

  // MARK: The hypervisor's own use of it

  /// Whether the domain has changed something since this was asked last.
  private var hasChanged = false

  private mutating func note() {
    generation &+= 1
    hasChanged = true
  }

  mutating func takeChanged() -> Bool {
    defer { hasChanged = false }
    return hasChanged
  }

  /// What a node says.
  func text(_ path: String) -> String? { tree[path].map { String(decoding: $0.value, as: UTF8.self) } }

  /// Sets a node of the hypervisor's own, which the domain can read, and tells who watches it.
  mutating func set(_ path: String, _ value: String) {
    guard tree.write(path, Array(value.utf8)) else { return }
    if !path.hasPrefix(home + "/") { _ = tree.setPermissions(path, Array("n0\0r\(domain)\0".utf8)) }
    generation &+= 1
    tell(path, isRemoval: false)
  }

  // MARK: The ring

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
    let discarded = min(left, excess)
    (excess, left, consumer) = (excess - discarded, left - discarded, consumer &+ discarded)
    if discarded > 0 { set(Self.requestConsumer, consumer) }
    guard left > 0, request.count < Self.headerSize + Self.maximumPayload else { return discarded > 0 }
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

  private func word(_ offset: Int) -> UInt32 { (page + offset).load(as: UInt32.self) }
  private func set(_ offset: Int, _ value: UInt32) { (page + offset).storeBytes(of: value, as: UInt32.self) }

  private mutating func append(_ kind: UInt32, _ request: UInt32, _ transaction: UInt32, _ payload: [UInt8]) {
    for word in [kind, request, transaction, UInt32(payload.count)] {
      for shift in stride(from: 0, to: 32, by: 8) as StrideTo<UInt32> {
        response.append(UInt8(truncatingIfNeeded: word >> shift))
      }
    }
    response += payload
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
    excess = header[3] - UInt32(length)
    let discarded = min(excess, UInt32(request.count))
    request.removeFirst(Int(discarded))
    excess -= discarded
    var changes: [(path: String, isRemoval: Bool)] = []
    var added: Watch?
    let result =
      header[3] > UInt32(Self.maximumPayload)
      ? .failure("E2BIG") : perform(Kind(rawValue: header[0]), header[2], payload, &changes, &added)
    switch result {
    case .answer(let bytes) where bytes.count <= Self.maximumPayload: append(header[0], header[1], header[2], bytes)
    case .answer: append(Kind.error.rawValue, header[1], header[2], Array("E2BIG\0".utf8))
    case .failure(let name): append(Kind.error.rawValue, header[1], header[2], Array(name.utf8) + [0])
    }
    // A new watch tells once that it is there.
    if let added { tell(added, added.said) }
    for change in changes { tell(change.path, isRemoval: change.isRemoval) }
    return true
  }

  // MARK: What is asked

  private enum Answer {
    case answer([UInt8])
    case failure(String)

    static let okay = answer(Array("OK\0".utf8))
  }

  private mutating func perform(
    _ kind: Kind?, _ transaction: UInt32, _ payload: [UInt8], _ changes: inout [(path: String, isRemoval: Bool)],
    _ added: inout Watch?
  ) -> Answer {
    guard let end = payload.firstIndex(of: 0) else { return .failure("EINVAL") }
    let said = String(decoding: payload[..<end], as: UTF8.self)
    let rest = Array(payload[(end + 1)...])
    switch kind {
    case .startTransaction: return startTransaction()
    case .endTransaction: return endTransaction(transaction, said, &changes)
    case .domainPath, .isDomainIntroduced:
      guard let number = Int(said) else { return .failure("EINVAL") }
      if kind == .domainPath { return .answer(Array("/local/domain/\(number)\0".utf8)) }
      return .answer(Array((number == domain || number == 0 ? "T\0" : "F\0").utf8))
    case .watch: return watch(said, rest, &added)
    case .unwatch:
      guard let path = absolute(said), let token = Self.token(rest) else { return .failure("EINVAL") }
      guard let place = watches.firstIndex(of: Watch(said: said, path: path, token: token)) else {
        return .failure("ENOENT")
      }
      watches.remove(at: place)
      return .okay
    case .resetWatches:
      watches = []
      return .okay
    case .watchEvent, .error, nil: return .failure("ENOSYS")
    default: break
    }
    guard let path = absolute(said) else { return .failure("EINVAL") }
    guard transaction != 0 else {
      let answer = perform(kind, path, rest, &tree, &changes)
      if !changes.isEmpty { note() }
      return answer
    }
    guard var own = transactions[transaction] else { return .failure("ENOENT") }
    guard own.changes.count < Self.changeLimit else { return .failure("ENOSPC") }
    let answer = perform(kind, path, rest, &own.tree, &own.changes)
    transactions[transaction] = own
    return answer
  }

  /// On the tree, or on a transaction's.
  private func perform(
    _ kind: Kind?, _ path: String, _ rest: [UInt8], _ tree: inout XenStoreTree,
    _ changes: inout [(path: String, isRemoval: Bool)]
  ) -> Answer {
    let mayChange = path.hasPrefix(home + "/")
    switch kind {
    case .read: return tree[path].map { .answer($0.value) } ?? .failure("ENOENT")
    case .getPermissions: return tree[path].map { .answer($0.permissions) } ?? .failure("ENOENT")
    case .directory:
      guard tree[path] != nil else { return .failure("ENOENT") }
      return .answer(tree.children(path).flatMap { Array($0.utf8) + [0] })
    case .write, .makeDirectory:
      guard mayChange else { return .failure("EACCES") }
      if kind == .makeDirectory, tree[path] != nil { return .okay }
      guard tree.write(path, kind == .write ? rest : nil) else { return .failure("ENOSPC") }
      changes.append((path, false))
      return .okay
    case .remove:
      guard mayChange else { return .failure("EACCES") }
      guard tree[path] != nil else { return tree[XenStoreTree.parent(path)] != nil ? .okay : .failure("ENOENT") }
      tree.remove(path)
      changes.append((path, true))
      return .okay
    case .setPermissions:
      guard mayChange else { return .failure("EACCES") }
      guard rest.count >= 3, rest.last == 0 else { return .failure("EINVAL") }
      guard tree.setPermissions(path, rest) else { return .failure("ENOENT") }
      changes.append((path, false))
      return .okay
    default: return .failure("ENOSYS")
    }
  }

  /// `nil` for what is no path.
  private func absolute(_ said: String) -> String? {
    if said == "/" { return said }
    let path = said.hasPrefix("/") || said.hasPrefix("@") ? said : "\(home)/\(said)"
    return !said.isEmpty && Self.isPath(path) ? path : nil
  }

  /// Absolute, and of whole names.
  static func isPath(_ path: String) -> Bool {
    path == "/"
      || (path.hasPrefix("/") || path.hasPrefix("@")) && path.utf8.count <= maximumPath && !path.hasSuffix("/")
        && !path.contains("//")
  }

  // MARK: Transactions

  private mutating func startTransaction() -> Answer {
    guard transactions.count < Self.transactionLimit else { return .failure("ENOSPC") }
    repeat {
      nextTransaction = nextTransaction == .max ? 1 : nextTransaction + 1
    } while transactions[nextTransaction] != nil
    transactions[nextTransaction] = Transaction(generation: generation, tree: tree)
    return .answer(Array("\(nextTransaction)\0".utf8))
  }

  private mutating func endTransaction(
    _ number: UInt32, _ said: String, _ changes: inout [(path: String, isRemoval: Bool)]
  ) -> Answer {
    guard said == "T" || said == "F" else { return .failure("EINVAL") }
    guard let transaction = transactions.removeValue(forKey: number) else { return .failure("ENOENT") }
    guard said == "T" else { return .okay }
    // What it saw is no longer so.
    guard transaction.generation == generation else { return .failure("EAGAIN") }
    if !transaction.changes.isEmpty {
      tree = transaction.tree
      note()
      changes = transaction.changes
    }
    return .okay
  }

  // MARK: Watches

  private static func token(_ rest: [UInt8]) -> [UInt8]? { rest.firstIndex(of: 0).map { Array(rest[..<$0]) } }

  private mutating func watch(_ said: String, _ rest: [UInt8], _ added: inout Watch?) -> Answer {
    guard let path = absolute(said), let token = Self.token(rest) else { return .failure("EINVAL") }
    let watch = Watch(said: said, path: path, token: token)
    guard !watches.contains(watch) else { return .failure("EEXIST") }
    guard watches.count < Self.watchLimit else { return .failure("E2BIG") }
    watches.append(watch)
    added = watch
    return .okay
  }

  private mutating func tell(_ watch: Watch, _ path: String) {
    guard response.count < Self.waitingLimit else { return }
    append(Kind.watchEvent.rawValue, 0, 0, Array(path.utf8) + [0] + watch.token + [0])
  }

  /// Whoever watches a node, or one above it, is told; of a removal also who watches one below.
  private mutating func tell(_ path: String, isRemoval: Bool) {
    for watch in watches {
      let isAbove = path == watch.path || path.hasPrefix(watch.path + "/") || watch.path == "/"
      guard isAbove || isRemoval && watch.path.hasPrefix(path + "/") else { continue }
      let changed = isAbove ? path : watch.path
      // In the words in which the watch was set.
      let isRelative = !watch.said.hasPrefix("/") && changed.hasPrefix(home + "/")
      tell(watch, isRelative ? String(changed.dropFirst(home.count + 1)) : changed)
    }
  }
}

// MARK: Saved form

extension XenStore {
  struct Saved: Codable, Sendable, Equatable {
    struct Transaction: Codable, Sendable, Equatable {
      struct Change: Codable, Sendable, Equatable {
        var path: String
        var isRemoval: Bool
      }

      var generation: UInt64
      var tree: XenStoreTree.Saved
      var changes: [Change]
    }

    var tree: XenStoreTree.Saved
    var generation: UInt64
    var watches: [Watch]
    var transactions: [UInt32: Transaction]
    var nextTransaction: UInt32
    var request: [UInt8]
    var excess: UInt32
    var response: [UInt8]
  }

  /// What is in the ring is the domain's memory.
  func save() -> Saved {
    Saved(
      tree: tree.save(), generation: generation, watches: watches,
      transactions: transactions.mapValues { transaction in
        Saved.Transaction(
          generation: transaction.generation, tree: transaction.tree.save(),
          changes: transaction.changes.map { .init(path: $0.path, isRemoval: $0.isRemoval) })
      }, nextTransaction: nextTransaction, request: request, excess: excess, response: response)
  }

  mutating func restore(_ saved: Saved) throws(RestoreFailure) {
    try restoring(
      Domain.savedSubject,
      requires: saved.watches.count <= Self.watchLimit && saved.transactions.count <= Self.transactionLimit
        && saved.request.count <= Self.headerSize + Self.maximumPayload
        && saved.response.count <= 2 * Self.waitingLimit,
      "its store has more watches, transactions or messages than there can be")
    for watch in saved.watches {
      try restoring(
        Domain.savedSubject,
        requires: absolute(watch.said) == watch.path && watch.token.count <= Self.maximumPayload,
        "a watch of its store names no node")
    }
    var transactions: [UInt32: Transaction] = [:]
    for (number, transaction) in saved.transactions {
      try restoring(
        Domain.savedSubject,
        requires: transaction.changes.count <= Self.changeLimit
          && transaction.changes.allSatisfy { Self.isPath($0.path) },
        "a transaction of its store has \(transaction.changes.count) changes")
      transactions[number] = Transaction(
        generation: transaction.generation, tree: try XenStoreTree(transaction.tree, owner: domain),
        changes: transaction.changes.map { ($0.path, $0.isRemoval) })
    }
    tree = try XenStoreTree(saved.tree, owner: domain)
    generation = saved.generation
    watches = saved.watches
    self.transactions = transactions
    nextTransaction = saved.nextTransaction
    (request, excess, response) = (saved.request, saved.excess, saved.response)
  }
}

extension Domain {
  /// What Xen's tools say in the store of a domain that they have made.
  func publishStore() {
    let kibibytes = UInt64(memory.frames.ownedCount) * GuestMemory.pageSize / 1024
    for (name, value) in [
      ("memory/target", "\(kibibytes)"), ("memory/static-max", "\(kibibytes)"), ("device", ""), ("data", ""),
      ("control/shutdown", ""), ("control/platform-feature-multiprocessor-suspend", "1"),
      ("console/type", "xenconsoled"), ("console/port", "\(XenMachine.consolePort)"),
      ("console/ring-ref", "\(rings.console)"), ("store/port", "\(XenMachine.storePort)"),
      ("store/ring-ref", "\(rings.store)"),
    ] { store.set("\(store.home)/\(name)", value) }
    for processor in processors { store.set("\(store.home)/cpu/\(processor.number)/availability", "online") }
  }
}
