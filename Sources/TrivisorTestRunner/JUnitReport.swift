// JUnit's XML as Jenkins, GitLab and the others read it (there is no standard; this keeps to what the schema of Jenkins'
// xunit plugin allows): a suite for the guests, and one for each guest whose console has test points, with a suite inside
// for each of its subtests. `failure` is the guest's, `error` is a crash, a time-out or Trivisor's. A suite's counts include
// those of the suites inside, as junitparser and Ant's task count.

/// The results as JUnit's XML.
public enum JUnitReport {
  /// The document.
  /// - Parameter wallTime: nanoseconds of the whole.
  public static func text(_ results: [TestResult], wallTime: UInt64) -> String {
    var guests = Suite(name: "trivisor")
    for result in results { guests.add(Case(result)) }
    guests.seconds = results.reduce(0) { $0 + Double($1.wallTime) / 1e9 }
    let suites =
      [guests]
      + results.filter { !$0.points.isEmpty }.map { Suite(name: "trivisor." + $0.name, $0.points, excuse: nil) }
    let counts = suites.map(\.counts).reduce(Counts(), +)
    return """
      <?xml version="1.0" encoding="UTF-8"?>
      <testsuites tests="\(counts.tests)" failures="\(counts.failures)" errors="\(counts.errors)" \
      time="\(seconds(Double(wallTime) / 1e9))">
      \(suites.map { text($0, depth: 1) }.joined())</testsuites>

      """
  }

  private struct Counts {
    var tests = 0
    var failures = 0
    var errors = 0
    var skipped = 0

    static func + (one: Counts, other: Counts) -> Counts {
      Counts(
        tests: one.tests + other.tests, failures: one.failures + other.failures, errors: one.errors + other.errors,
        skipped: one.skipped + other.skipped)
    }
  }

  private struct Suite {
    let name: String
    var seconds: Double?
    private(set) var cases: [Case] = []
    private(set) var suites: [Suite] = []
    private(set) var counts = Counts()

    init(name: String) { self.name = name }

    /// Test points, and a suite for each that has points of its own.
    /// - Parameter excuse: the directive of the point that these belong to: whether they fail does not count.
    init(name: String, _ points: [TAPPoint], excuse: TAPPoint.Directive?) {
      self.name = name
      for point in points {
        let directive = excuse ?? point.directive
        if !point.points.isEmpty {
          let inner = Suite(name: Self.path(name, point.title), point.points, excuse: directive)
          suites.append(inner)
          counts = counts + inner.counts
        }
        // A point whose subtest says it all needs no case beside it.
        let isToldInside =
          !point.points.isEmpty && directive == nil && point.problem == nil
          && (point.isOK || !point.points.allSatisfy(\.isGood))
        if !isToldInside { add(Case(point, className: name, directive: directive)) }
      }
    }

    /// Every case inside repeats it, so it has its limit.
    private static func path(_ outer: String, _ inner: String) -> String {
      outer.utf8.count > 400 ? outer : outer + "." + inner.prefix(100)
    }

    mutating func add(_ test: Case) {
      cases.append(test)
      counts.tests += 1
      switch test.kind {
      case .good: break
      case .failure: counts.failures += 1
      case .error: counts.errors += 1
      case .skipped: counts.skipped += 1
      }
    }
  }

  private struct Case {
    enum Kind { case good, skipped, failure, error }

    let name: String
    let className: String
    let kind: Kind
    let type: String
    let message: String
    let seconds: Double?
    var output = ""
    var errors = ""

    init(_ result: TestResult) {
      name = result.name
      className = "trivisor." + (result.technique ?? "none")
      kind =
        switch result.verdict {
        case .passed: .good
        case .skipped: .skipped
        case .failed: .failure
        case .crashed, .timedOut, .notLoaded, .monitorFailed, .interrupted: .error
        }
      type = result.verdict.rawValue
      message = result.reason
      seconds = Double(result.wallTime) / 1e9
      output = String(decoding: result.consoleTail, as: UTF8.self)
      errors = result.errors
    }

    init(_ point: TAPPoint, className: String, directive: TAPPoint.Directive?) {
      name = point.title
      self.className = className
      kind = directive != nil ? .skipped : point.isOK && point.problem == nil ? .good : .failure
      type = "failed"
      let word =
        switch directive {
        case .todo: "to do"
        case .skip: "skipped"
        case nil: point.problem ?? "not ok"
        }
      message = point.explanation.isEmpty ? word : "\(word): \(point.explanation)"
      seconds = nil
    }
  }

  private static func text(_ suite: Suite, depth: Int) -> String {
    let indentation = String(repeating: "  ", count: depth)
    let counts = suite.counts
    let time = suite.seconds.map { " time=\"\(seconds($0))\"" } ?? ""
    var text = """
      \(indentation)<testsuite name="\(escaped(suite.name))" tests="\(counts.tests)" failures="\(counts.failures)" \
      errors="\(counts.errors)" skipped="\(counts.skipped)"\(time)>

      """
    for inner in suite.suites { text += Self.text(inner, depth: depth + 1) }
    for test in suite.cases {
      let time = test.seconds.map { " time=\"\(seconds($0))\"" } ?? ""
      text += "\(indentation)  <testcase classname=\"\(escaped(test.className))\" name=\"\(escaped(test.name))\""
      text += "\(time)>"
      let attributes = " type=\"\(escaped(test.type))\" message=\"\(escaped(test.message))\""
      switch test.kind {
      case .good: break
      case .skipped: text += "<skipped message=\"\(escaped(test.message))\"/>"
      case .failure: text += "<failure\(attributes)/>"
      case .error: text += "<error\(attributes)/>"
      }
      if !test.output.isEmpty { text += "<system-out>\(escaped(test.output))</system-out>" }
      if !test.errors.isEmpty { text += "<system-err>\(escaped(test.errors))</system-err>" }
      text += "</testcase>\n"
    }
    return text + "\(indentation)</testsuite>\n"
  }

  /// Fit for an attribute and for text. XML 1.0 has no way to say most control characters: they become U+FFFD.
  static func escaped(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      case "\r": break
      case "\n", "\t": result.unicodeScalars.append(scalar)
      default:
        let isAllowed = scalar.value >= 0x20 && scalar.value != 0xfffe && scalar.value != 0xffff
        result.unicodeScalars.append(isAllowed ? scalar : "\u{fffd}")
      }
    }
    return result
  }

  /// With three decimals, whatever the locale.
  private static func seconds(_ value: Double) -> String {
    let milliseconds = UInt64(max(value, 0) * 1000 + 0.5)
    let fraction = String(milliseconds % 1000)
    return "\(milliseconds / 1000)." + String(repeating: "0", count: 3 - fraction.count) + fraction
  }
}
