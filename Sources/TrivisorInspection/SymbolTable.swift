/// Names for addresses.
public struct SymbolTable: Sendable {
  /// A name for a range of addresses.
  public struct Symbol: Sendable, Equatable {
    /// Where it begins.
    public let address: UInt64
    /// In bytes; zero where that is not known: then it ends where the next begins.
    public let size: UInt64
    /// As the file has it.
    public let name: String
  }

  private let symbols: [Symbol]

  /// - Parameter symbols: in any order.
  init(_ symbols: [Symbol]) {
    self.symbols = symbols.sorted { ($0.address, $0.size, $1.name) < ($1.address, $1.size, $0.name) }
  }

  /// Whether there are none.
  public var isEmpty: Bool { symbols.isEmpty }

  /// The symbol that `address` belongs to.
  public func symbol(at address: UInt64) -> Symbol? {
    var (low, high) = (0, symbols.count)
    while low < high {
      let middle = (low + high) / 2
      if symbols[middle].address <= address { low = middle + 1 } else { high = middle }
    }
    guard low > 0 else { return nil }
    let found = symbols[low - 1]
    return found.size == 0 || address - found.address < found.size ? found : nil
  }
}
