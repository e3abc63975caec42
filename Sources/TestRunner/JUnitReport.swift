// JUnit's XML as Jenkins, GitLab and the others read it (there is no standard; this keeps to what the schema of Jenkins'
// xunit plugin allows): a suite for the guests, and one for each guest whose console has test points. `failure` is the
// guest's, `error` is a crash, a time-out or Trivisor's.

/// The results as JUnit's XML.
public enum JUnitReport {
  /// The document.
  /// - Parameter wallTime: nanoseconds of the whole.
  public static func text(_ results: [TestResult], wallTime: UInt64) -> String {
    var suites = ""
    let guests = results.map { Case($0) }
    suites += suite("trivisor", guests, seconds: results.reduce(0) { $0 + Double($1.wallTime) / 1e9 })
    for result in results where !result.points.isEmpty {
      suites += suite("trivisor." + result.name, result.points.map { Case($0, of: result) }, seconds: nil)
    }
    let all = guests + results.flatMap { result in result.points.map { Case($0, of: result) } }
    return """
      <?xml version="1.0" encoding="UTF-8"?>
      <testsuites tests="\(all.count)" failures="\(all.count { $0.kind == .failure })" \
      errors="\(all.count { $0.kind == .error })" time="\(seconds(Double(wallTime) / 1e9))">
      \(suites)</testsuites>

      """
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

    init(_ point: TAPPoint, of result: TestResult) {
      name = point.description.isEmpty ? "\(point.number)" : "\(point.number) \(point.description)"
      className = "trivisor." + result.name
      kind = point.directive != nil ? .skipped : point.isOK ? .good : .failure
      type = "failed"
      message = point.directive == .todo ? "to do" : point.directive == .skip ? "skipped" : "not ok"
      seconds = nil
    }
  }

  private static func suite(_ name: String, _ cases: [Case], seconds total: Double?) -> String {
    let time = total.map { " time=\"\(seconds($0))\"" } ?? ""
    var text = """
        <testsuite name="\(escaped(name))" tests="\(cases.count)" failures="\(cases.count { $0.kind == .failure })" \
      errors="\(cases.count { $0.kind == .error })" skipped="\(cases.count { $0.kind == .skipped })"\(time)>

      """
    for test in cases {
      let time = test.seconds.map { " time=\"\(seconds($0))\"" } ?? ""
      text += "    <testcase classname=\"\(escaped(test.className))\" name=\"\(escaped(test.name))\"\(time)>"
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
    return text + "  </testsuite>\n"
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
