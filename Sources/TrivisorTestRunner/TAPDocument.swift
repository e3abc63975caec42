/// The points of one level: the console's own, or a subtest's.
struct TAPDocument {
  /// Columns.
  let indentation: Int
  /// How many `#` stand before its lines.
  let comments: Int
  /// What `# Subtest: name` calls it.
  var name: String?
  /// Whether a version or a plan says that these lines are meant.
  private(set) var isDeclared = false
  private(set) var count = 0
  private(set) var bad = 0
  /// The way to the first point that is not good.
  private(set) var firstBad: String?
  private(set) var points: [TAPPoint] = []
  private(set) var skipReason: String?
  /// A subtest that has ended and waits for the point that gives its result.
  private(set) var subtest: TAPSubtest?

  private var numbers = TAPNumbers()
  private var plan: Int?
  private var isPlanLast = false
  private var isKTAP = false
  private var fault: String?

  init(indentation: Int, comments: Int, name: String? = nil) {
    self.indentation = indentation
    self.comments = comments
    self.name = name
  }

  /// Whether nothing was said in it yet.
  var isEmpty: Bool { !isDeclared && count == 0 }
  /// Whether a `# Subtest: name` in its own lines can still be its name: KTAP has it right behind the version.
  var takesName: Bool { isKTAP && name == nil && plan == nil && count == 0 }

  /// A version line.
  mutating func begin(isKTAP: Bool) {
    if !isEmpty { note("a second version line: a second program's output") }
    (isDeclared, self.isKTAP) = (true, isKTAP)
  }

  mutating func setPlan(_ count: Int, comment: String) {
    isDeclared = true
    guard plan == nil else { return note("a second plan, 1..\(count)") }
    plan = count
    isPlanLast = self.count > 0
    guard count == 0 else { return }
    // "1..0 # Skipped: no device" is TAP 12's way.
    let isMarked = comment.prefix(4).lowercased() == "skip"
    let reason = isMarked ? comment.drop { $0 != " " }.drop { $0 == " " } : comment[...]
    skipReason = reason.isEmpty ? "the plan is empty" : String(reason)
  }

  /// Adds a point, which takes the subtest that waits for one.
  /// - Parameters:
  ///   - name: its description without a comment.
  ///   - isKept: whether reports will list it.
  mutating func add(_ point: TAPPoint, name: String, isKept: Bool) {
    count += 1
    if plan != nil, isPlanLast { note("test point \(point.number) behind the plan") }
    if !numbers.insert(point.number) { note("test point \(point.number) is there twice") }
    var point = point
    var isGood = point.isGood
    var path = Self.shortened(point.title)
    if let subtest = release() {
      point.points = subtest.points
      point.problem = subtest.problem ?? Self.mismatch(subtest, [name, point.description])
      isGood = point.directive != nil || point.isOK && point.problem == nil && subtest.firstBad == nil
      if let inner = subtest.firstBad {
        path += " > \(inner)"
      } else if let problem = point.problem {
        path += ": \(problem)"
      }
    }
    if !isGood {
      bad += 1
      if firstBad == nil { firstBad = path }
    }
    if isKept { points.append(point) }
  }

  /// Takes a subtest that has ended.
  mutating func adopt(_ ended: TAPSubtest) {
    settle()
    subtest = ended
  }

  /// Hands out the subtest that waits for a point.
  mutating func release() -> TAPSubtest? {
    defer { subtest = nil }
    return subtest
  }

  /// Says what is wrong with a subtest whose result never came.
  mutating func settle() {
    guard let subtest = release() else { return }
    // Indented lines that only look like points are somebody else's; so is what stands in comments.
    guard subtest.firstBad != nil || subtest.isDeclared && comments == subtest.comments else { return }
    let name = subtest.name.map { $0.isEmpty ? "" : " '\(Self.shortened($0))'" } ?? ""
    note("a subtest\(name) without a result" + (subtest.firstBad.map { ", in it not ok: \($0)" } ?? ""))
  }

  /// Notes what makes it no success; the first counts.
  mutating func note(_ text: String) {
    if fault == nil { fault = text }
  }

  /// What is wrong with it as a document, whatever its points say.
  /// - Parameter needsPlan: whether its end can't be told without a plan.
  func problem(needsPlan: Bool) -> String? {
    if let fault { return fault }
    guard let plan else { return needsPlan ? "no plan (1..N) in the console: the guest did not come to its end" : nil }
    if numbers.isOverLimit { return "more than \(TAPNumbers.limit) test points out of order" }
    if let number = numbers.outside(plan) {
      let place = plan == 0 ? "though the plan is empty" : "where the plan says 1..\(plan)"
      return "test point \(number == Int.max ? "of a giant number" : "\(number)") \(place)"
    }
    return plan == count ? nil : "\(count) test points where the plan says \(plan)"
  }

  /// What its parent keeps of it.
  func ended() -> TAPSubtest {
    // What a test of Linux' selftests says in comments has no rules but its points: scripts run several programs there.
    TAPSubtest(
      name: name, comments: comments, isDeclared: isDeclared, points: points, firstBad: firstBad,
      problem: comments > 0 ? nil : problem(needsPlan: false))
  }

  private static func mismatch(_ subtest: TAPSubtest, _ names: [String]) -> String? {
    guard let name = subtest.name, !name.isEmpty, !names.contains("") && !names.contains(name) else { return nil }
    return "the subtest is called '\(shortened(name))'"
  }

  private static func shortened(_ text: String) -> String {
    text.utf8.count <= 200 ? text : String(text.prefix(200)) + "…"
  }
}

/// A subtest that has ended.
struct TAPSubtest {
  let name: String?
  let comments: Int
  let isDeclared: Bool
  let points: [TAPPoint]
  let firstBad: String?
  let problem: String?
}
