import TrivisorVMM

/// What came of running the same guest under several techniques.
public struct Comparison: Sendable {
  /// One figure of the report under all techniques that ran.
  public struct Row: Sendable {
    /// What it is, in words.
    public let title: String
    /// `ms`, `MiB`, `cycles`; empty for counts.
    public let unit: String
    /// One for each technique that ran; `nil` where there is none.
    public let values: [Spread?]
    /// Of an event that all techniques count: its name in results (docs/result.md).
    public var counter: String?
  }

  /// What was asked for.
  public let plan: ComparisonPlan
  /// In the order of the plan.
  public let techniques: [TechniqueRuns]

  init(_ plan: ComparisonPlan, _ techniques: [TechniqueRuns]) {
    self.plan = plan
    self.techniques = techniques
  }

  /// Those that have runs that count.
  public var ran: [TechniqueRuns] { techniques.filter { !$0.samples.isEmpty } }

  /// Which of those ratios are to.
  public var base: TechniqueRuns? {
    ran.first { $0.name == plan.base } ?? ran.first { $0.caution == nil } ?? ran.first
  }

  /// What is to be known of ratios, a sentence each: that the base is another one than was asked for, or that there is a caution on it.
  public var baseRemarks: [String] {
    guard ran.count > 1, let base else { return [] }
    var remarks: [String] = []
    if let wanted = plan.base, wanted != base.name {
      remarks.append("ratios are to \(base.name), because \(wanted) has no figures")
    }
    if let caution = base.caution { remarks.append("ratios are to \(base.name), of which: \(caution)") }
    return remarks
  }

  /// How many times as much as under the base a figure of a row is; `nil` for the base itself, and where one of both is not counted
  /// or zero.
  func ratio(_ row: Row, _ index: Int) -> Double? {
    guard let place = ran.firstIndex(where: { $0.name == base?.name }), place != index,
      let own = row.values[index]?.median, let other = row.values[place]?.median, own > 0, other > 0
    else { return nil }
    return own / other
  }

  /// Whether a technique took longer than it may.
  public var isOverdue: Bool { techniques.contains(where: \.isOverdue) }

  /// Where results differ that must not, a sentence each.
  public var differences: [String] {
    var found: [String] = []
    for technique in techniques {
      if let instability = technique.instability {
        found.append("\(technique.name): not each run gave the same result: \(instability)")
      }
    }
    let known = techniques.compactMap { technique in technique.result.map { (technique.name, $0) } }
    guard let (firstName, first) = known.first else { return found }
    for (name, result) in known.dropFirst() {
      if let difference = result.difference(from: first) {
        found.append("\(name) differs from \(firstName): \(difference)")
      }
    }
    return found
  }

  /// The answer in one sentence, without a full stop.
  public var headline: String { Headline.of(self) }

  /// Times and memory.
  public var costs: [Row] {
    let milliseconds: [(String, (RunSample) -> Double?)] = [
      ("to the first output", { $0.firstOutput }), ("to the first instruction", { $0.start }), ("guest", { $0.guest }),
      ("tear-down", { $0.end }), ("whole", { $0.whole }), ("processor, user mode", { $0.user }),
      ("processor, host's kernel", { $0.system }),
    ]
    let times = milliseconds.map { title, figure in
      Row(title: title, unit: "ms", values: ran.map { $0.spread(figure) })
    }
    // Where the technique can time its calls into guest code, the rest of the guest's time is the monitor's; some say what
    // of it went where.
    var split: [Row] = []
    if ran.contains(where: { $0.spread(\.inGuest) != nil }) {
      split.append(Row(title: "in guest code", unit: "ms", values: ran.map { $0.spread(\.inGuest) }))
      split.append(Row(title: "in the monitor meanwhile", unit: "ms", values: ran.map { $0.spread(\.inMonitor) }))
    }
    let parts = Set(ran.flatMap(\.samples).flatMap { Array($0.counters.keys) }.filter { $0.hasPrefix("microseconds ") })
    for name in parts.sorted() where name != "microseconds in guest code" {
      let title = "– " + name.dropFirst("microseconds ".count)
      split.append(
        Row(title: title, unit: "ms", values: ran.map { $0.spread { $0.counters[name].map { Double($0) / 1e3 } } }))
    }
    return times + split + [
      Row(
        title: "most memory resident", unit: "MiB",
        values: ran.map { $0.spread { Double($0.peakResident) / 1_048_576 } })
    ]
  }

  /// The names of all counters that are not zero everywhere, in alphabetical order.
  public var counterNames: [String] {
    var names: Set<String> = []
    for sample in ran.flatMap(\.samples) {
      for (name, count) in sample.counters where count > 0 && !RunSample.isTime(name) { names.insert(name) }
    }
    return names.sorted()
  }

  /// Events by name.
  public var counters: [Row] {
    counterNames.map { name in
      let event = CountedEvent(name: name)
      return Row(
        title: event?.title ?? name, unit: "",
        values: ran.map { technique in
          let spread = technique.spread { $0.counters[name].map { Double($0) } }
          // What a technique has no eye for is not zero.
          return spread?.maximum == 0 && event?.isUncounted(by: technique.name) ?? false ? nil : spread
        }, counter: event?.name)
    }
  }

  /// What the guest measured by itself.
  public var measurements: [Row] {
    var names: [String] = []
    for name in ran.flatMap(\.measurementNames) where !names.contains(name) { names.append(name) }
    return names.map { name in
      Row(title: name, unit: "cycles", values: ran.map { $0.spread { $0.measurements[name] } })
    }
  }
}

extension CountedEvent {
  /// Whether a technique can't count it: nothing is translated, or KVM does it by itself.
  fileprivate func isUncounted(by technique: String) -> Bool {
    switch self {
    case .blockTranslated, .byteTranslated, .exitJump, .exitMemory: technique != TechniqueName.rewriting.rawValue
    case .exceptionDelivered, .interruptDelivered: technique == TechniqueName.hardware.rawValue
    default: false
    }
  }
}
