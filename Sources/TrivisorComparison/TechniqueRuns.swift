/// Everything about a guest under one technique.
public struct TechniqueRuns: Sendable {
  /// `hardware`, `rewriting` or `paravirtual`.
  public let name: String
  /// In which way the technique runs this guest, where there are several: `translated`.
  public internal(set) var manner: String?
  /// For a reader.
  public var title: String { manner.map { "\(name), \($0)" } ?? name }
  /// Why there are no runs, if there are none.
  public internal(set) var obstacle: String?
  /// What about this host makes its figures none of the technique's own, if anything does.
  public internal(set) var caution: String?
  /// A run took longer than it may.
  public internal(set) var isOverdue = false
  /// Without those for warming up.
  public internal(set) var samples: [RunSample] = []
  /// Of the first run.
  public internal(set) var result: GuestResult?
  /// What the guest measured, in its order.
  var measurementNames: [String] = []
  /// Where a later run gave another result than the first.
  public internal(set) var instability: String?

  init(_ name: String) { self.name = name }

  /// A run took too long: those before it don't count either.
  mutating func giveUp(_ reason: String) {
    obstacle = reason
    isOverdue = true
    samples = []
    result = nil
  }

  /// The spread of one of the figures.
  public func spread(_ figure: (RunSample) -> Double?) -> Spread? { Spread(samples.compactMap(figure)) }

  /// The median of a counter; zero where it is not counted.
  public func counter(_ name: String) -> Double {
    spread { $0.counters[name].map { Double($0) } }?.median ?? 0
  }
}
