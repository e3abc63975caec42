/// From bytes to an order: for who takes orders from somebody else.
extension CommandOrder {
  /// - Parameter bytes: as `bytes()` gives them; from anybody.
  /// - Throws: `Refusal` for bytes that no order gives.
  public init(_ bytes: [UInt8]) throws(Refusal) {
    let nonsense = Refusal(description: "the order makes no sense")
    guard bytes.count > Self.headSize, bytes.count <= Self.sizeLimit, bytes.last == 0 else { throw nonsense }
    func pair(_ offset: Int) -> UInt16 { UInt16(bytes[offset]) | UInt16(bytes[offset + 1]) << 8 }
    let flags = bytes[0]
    let words = bytes[Self.headSize...].dropLast().split(separator: 0, omittingEmptySubsequences: false)
    let count = Int(pair(5))
    guard count > 0, words.count >= count, words.count <= Self.countLimit + 1 else { throw nonsense }
    let command: Command
    if flags & Flag.words != 0 {
      command = .words(words[..<count].map(Array.init))
    } else {
      guard count == 1 else { throw nonsense }
      command = .shell(String(decoding: words[0], as: UTF8.self))
    }
    // Behind the words the environment, and behind an empty word the steps.
    let rest = words[count...]
    let environment = rest.prefix { !$0.isEmpty }
    self.init(
      command, environment: environment.map { String(decoding: $0, as: UTF8.self) },
      terminal: flags & Flag.terminal == 0 ? nil : Size(columns: max(pair(1), 1), rows: max(pair(3), 1)),
      installsBusybox: flags & Flag.installsBusybox != 0)
    steps = rest.dropFirst(environment.count + 1).map { String(decoding: $0, as: UTF8.self) }
    guard !steps.contains("") else { throw nonsense }
  }
}
