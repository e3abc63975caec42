import FoundationEssentials

/// JSON for people and programs; only used when it is asked for.
enum JSONText {
  /// Indented, keys in order.
  /// - Throws: what the encoder throws; none of our types makes it.
  static func of(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
  }
}
