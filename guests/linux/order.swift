import CLinuxGuest

/// What there is to do, as the host says it (Sources/TrivisorCommandChannel/CommandOrder.swift).
struct Order {
  private static let headSize = 7

  let hasTerminal: Bool
  let installsBusybox: Bool
  /// One word for the shell, or a program and its arguments.
  let isForShell: Bool
  var size: TerminalSize
  /// The vectors of the exec call, each closed by a null pointer.
  let words: UnsafeMutablePointer<UnsafePointer<CChar>?>
  let environment: UnsafeMutablePointer<UnsafePointer<CChar>?>
  /// What is to be done before (setup.swift).
  let steps: UnsafeMutablePointer<UnsafePointer<CChar>?>

  /// - Parameter count: the bytes of the order buffer.
  init?(count: Int) {
    guard count >= Self.headSize, count < Int(ORDER_CAPACITY) else { return nil }
    let bytes = orderBuffer()
    func pair(_ offset: Int) -> UInt16 { UInt16(bytes[offset]) | UInt16(bytes[offset + 1]) << 8 }
    hasTerminal = bytes[0] & 1 != 0
    installsBusybox = bytes[0] & 2 != 0
    isForShell = bytes[0] & 4 == 0
    size = TerminalSize()
    size.columns = pair(1)
    size.rows = pair(3)
    let wordCount = Int(pair(5))
    bytes[count] = 0
    // In front, there is room for the words that a shell needs.
    words = pointerBuffer() + 3
    var position = Self.headSize
    var index = 0
    var found = 0
    // Where the environment and the steps begin; an empty word stands between them.
    var parts = (environment: 0, steps: 0)
    while position < count, index < Int(POINTER_CAPACITY) - 8 {
      if found == wordCount {
        words[index] = nil
        index += 1
        parts.environment = index
      }
      if found >= wordCount, parts.steps == 0, bytes[position] == 0 {
        words[index] = nil
        index += 1
        parts.steps = index
        position += 1
        found += 1
        continue
      }
      words[index] = UnsafeRawPointer(bytes + position).assumingMemoryBound(to: CChar.self)
      index += 1
      found += 1
      while bytes[position] != 0 { position += 1 }
      position += 1
    }
    guard wordCount > 0, found >= wordCount else { return nil }
    words[index] = nil
    environment = parts.environment == 0 ? words + index : words + parts.environment
    steps = parts.steps == 0 ? words + index : words + parts.steps
  }

  /// The first value of a name; `prefix` ends with "=".
  func value(_ prefix: StaticString) -> UnsafePointer<CChar>? {
    var index = 0
    while let entry = environment[index] {
      var position = 0
      while position < prefix.utf8CodeUnitCount, UInt8(bitPattern: entry[position]) == prefix.utf8Start[position] {
        position += 1
      }
      if position == prefix.utf8CodeUnitCount { return entry + position }
      index += 1
    }
    return nil
  }
}
