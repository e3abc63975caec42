import Foundation
import Testing

@testable import TrivisorComparison
@testable import TrivisorGuestProcess

@Suite("the same guest under several techniques")
struct ComparisonTests {
  private func ending(guest: Double, counters: [String: Int] = [:]) throws -> GuestEnding {
    let object: [String: Any] = [
      "schemaVersion": 1, "technique": "rewriting", "techniqueReason": "asked for", "outcome": "exited", "guestCode": 0,
      "status": 0, "times": ["setUp": 1, "guest": guest, "sinceCommand": 3, "firstInstruction": 7_000_000],
      "memory": ["peakResident": 3 << 20], "counters": counters,
    ]
    let record = try JSONDecoder().decode(RunRecord.self, from: JSONSerialization.data(withJSONObject: object))
    return GuestEnding(
      status: .exited(0), reason: nil, record: record, errors: "", wallTime: UInt64((guest + 10) * 1e6),
      userTime: 2_000_000, systemTime: 1_000_000)
  }

  private func runs(
    _ name: String, guests: [Double], result: GuestResult, measurements: [String: Double] = [:]
  ) throws -> TechniqueRuns {
    var runs = TechniqueRuns(name)
    runs.result = result
    runs.measurementNames = measurements.keys.sorted()
    for guest in guests {
      let ending = try ending(guest: guest, counters: ["exit": 12, "portRead": 0])
      let record = try #require(ending.record)
      runs.samples.append(
        RunSample(ending, record, began: 2_000_000, firstOutput: 6_000_000, measurements: measurements))
    }
    return runs
  }

  private let good = GuestResult(outcome: "exited", code: 0, lines: ["a", "b"])
  private var plan: ComparisonPlan {
    ComparisonPlan(
      image: "guest:</script><b>", runArguments: ["x"], techniques: ["hardware", "rewriting", "paravirtual"])
  }

  @Test("a run's time is its parts'")
  func parts() throws {
    let sample = try #require(runs("hardware", guests: [20], result: good).samples.first)
    #expect(sample.whole == 30)
    #expect(sample.start == 5)
    #expect(sample.guest == 20)
    #expect(sample.end == 5)
    #expect(sample.firstOutput == 6)
  }

  @Test("median and limits", arguments: [([3.0], 3.0), ([1, 9, 2], 2), ([4, 1, 2, 9], 3)] as [([Double], Double)])
  func spread(values: [Double], median: Double) {
    #expect(Spread(values)?.median == median)
    #expect(Spread(values)?.minimum == values.min())
    #expect(Spread(values)?.maximum == values.max())
    #expect(Spread([]) == nil)
  }

  @Test("another end, code or output is a difference, and says which")
  func differences() throws {
    let other = try runs("rewriting", guests: [1], result: GuestResult(outcome: "exited", code: 1, lines: ["a", "b"]))
    let longer = try runs(
      "paravirtual", guests: [1], result: GuestResult(outcome: "exited", code: 0, lines: ["a", "b", "c"]))
    let comparison = Comparison(plan, [try runs("hardware", guests: [1], result: good), other, longer])
    #expect(
      comparison.differences == [
        "rewriting differs from hardware: it ended with exited 1 instead of exited 0",
        "paravirtual differs from hardware: line 3 of its output is 'c' instead of 'nothing more'".replacingOccurrences(
          of: "'nothing more'", with: "nothing more"),
      ])
    let same = Comparison(
      plan, [try runs("hardware", guests: [1], result: good), try runs("rewriting", guests: [2], result: good)])
    #expect(same.differences.isEmpty)
  }

  @Test("where a technique could not go on, its own sentence is part of the difference, and no difference by itself")
  func details() {
    let stuck = GuestResult(outcome: "crashed", code: nil, lines: nil, detail: "KVM can't go on\n  rip 0")
    #expect(good.difference(from: stuck) == "it ended with exited 0 instead of crashed (KVM can't go on)")
    let elsewhere = GuestResult(outcome: "crashed", code: nil, lines: nil, detail: "another sentence")
    #expect(stuck.difference(from: elsewhere) == nil)
  }

  @Test("a technique that took too long has no figures and no result to compare")
  func overdue() throws {
    var slow = try runs("rewriting", guests: [1], result: GuestResult(outcome: "exited", code: 1, lines: []))
    slow.giveUp("it did not end within 1.0 s")
    let comparison = Comparison(plan, [try runs("hardware", guests: [1], result: good), slow])
    #expect(comparison.isOverdue)
    #expect(comparison.differences.isEmpty)
    #expect(comparison.ran.map(\.name) == ["hardware"])
  }

  @Test(
    "ratios have two digits at least",
    arguments: [(23.5, "23.50"), (1, "1.00"), (0.123, "0.12"), (0.0456, "0.046"), (0.0023, "0.0023"), (0, "0.00")])
  func ratios(value: Double, text: String) { #expect(ComparisonText.ratio(value) == text) }

  @Test("ratios are to the base: what was asked for, else what runs as itself")
  func base() throws {
    var emulated = try runs("hardware", guests: [1], result: good, measurements: ["syscall": 1000])
    emulated.caution = "KVM emulates"
    let (second, third) = (
      try runs("rewriting", guests: [1], result: good, measurements: ["syscall": 100]),
      try runs("paravirtual", guests: [1], result: good, measurements: [:])
    )
    func row(_ base: String?) -> [String]? {
      var wanted = plan
      wanted.base = base
      return ComparisonText.tables(Comparison(wanted, [emulated, second, third]))[2].rows.last
    }
    #expect(row(nil) == ["syscall", "1 000 (×10.00)", "100", "–"])
    #expect(row("hardware") == ["syscall", "1 000", "100 (×0.10)", "–"])
    var wanted = plan
    wanted.base = "hardware"
    #expect(
      Comparison(wanted, [emulated, second]).baseRemarks == ["ratios are to hardware, of which: KVM emulates"])
    #expect(
      Comparison(wanted, [second, third]).baseRemarks == ["ratios are to rewriting, because hardware has no figures"])
  }

  @Test("counters that nobody has are left out; ratios are to the first technique")
  func tables() throws {
    let first = try runs("hardware", guests: [1], result: good, measurements: ["syscall": 100])
    let second = try runs("rewriting", guests: [1], result: good, measurements: ["syscall": 2350])
    let comparison = Comparison(plan, [first, second])
    #expect(comparison.counterNames == ["exit"])
    let tables = ComparisonText.tables(comparison)
    #expect(tables.count == 3)
    #expect(tables[2].rows == [["", "hardware", "rewriting"], ["syscall", "100", "2 350 (×23.50)"]])
  }

  @Test("the page is whole and can't be broken out of by what a guest is called")
  func page() throws {
    let comparison = Comparison(plan, [try runs("hardware", guests: [1, 2], result: good)])
    let host = HostDescription(processor: "p", processors: 2, kernel: "k")
    let page = try ComparisonPage.text(comparison, host: host, date: "2026-11-28T12:00:00Z")
    #expect(page.contains("<time datetime=\"2026-11-28T12:00:00Z\">2026-11-28 12:00 UTC</time>"))
    #expect(!page.contains("</script><b>"))
    #expect(page.components(separatedBy: "</script>").count == 3)
    #expect(!page.contains("src=\"http"))
  }

  @Test("a run's record says in which way its technique ran it")
  func recordedManner() throws {
    var object: [String: Any] = [
      "schemaVersion": 1, "technique": "paravirtual", "techniqueReason": "asked for", "outcome": "poweredOff",
      "status": 0, "times": ["setUp": 1, "guest": 1, "sinceCommand": 3, "firstInstruction": 5],
      "memory": ["peakResident": 1], "counters": [String: Int](),
    ]
    func manner() throws -> String? {
      try JSONDecoder().decode(RunRecord.self, from: JSONSerialization.data(withJSONObject: object)).manner
    }
    #expect(try manner() == nil)
    object["manner"] = "translated"
    #expect(try manner() == "translated")
  }

  @Test("one of several ways of a technique is told by its title, everywhere")
  func manners() throws {
    var translated = try runs("paravirtual", guests: [70], result: good)
    translated.manner = "translated"
    translated.caution = "the guest is linked for addresses that no process has"
    let comparison = Comparison(plan, [try runs("hardware", guests: [30], result: good), translated])
    #expect(comparison.headline.hasSuffix("2.0 times as fast as paravirtual, translated"))
    #expect(ComparisonText.tables(comparison)[0].rows[0] == ["", "hardware", "paravirtual, translated"])
    let host = HostDescription(processor: "p", processors: 2, kernel: "k")
    let report = ComparisonReport(comparison, host: host, date: "")
    #expect(try report.text().contains("\"title\" : \"paravirtual, translated\""))
    #expect(comparison.base?.name == "hardware")
  }

  @Test("the headline is the answer")
  func headline() throws {
    func comparison(_ times: [(String, Double, String?)]) throws -> String {
      let all = try times.map { name, time, caution in
        var runs = try runs(name, guests: [time], result: good)
        runs.caution = caution
        return runs
      }
      return Comparison(plan, all).headline
    }
    // Beside the guest's time, a run here has 10 ms of others.
    #expect(try comparison([("hardware", 10, nil)]).hasPrefix("hardware ran "))
    #expect(
      try comparison([("hardware", 70, "its KVM emulates"), ("rewriting", 30, nil), ("paravirtual", 31, nil)])
        == "rewriting and paravirtual ran guest:</script><b> 2.0 times as fast as hardware, because its KVM emulates")
    #expect(
      try comparison([("hardware", 30, nil), ("rewriting", 30, nil)])
        == "hardware and rewriting ran guest:</script><b> in the same time")
    #expect(Comparison(plan, []).headline == "guest:</script><b>: no technique could run it")
  }

  @Test("JSON has every run")
  func json() throws {
    var skipped = TechniqueRuns("paravirtual")
    skipped.obstacle = "there is no build"
    var emulated = try runs("hardware", guests: [1, 2, 3], result: good)
    emulated.caution = "KVM emulates"
    let comparison = Comparison(plan, [emulated, skipped])
    let host = HostDescription(processor: "p", processors: 2, kernel: "k")
    let text = try ComparisonReport(comparison, host: host, date: "2026-11-28T12:00:00Z").text()
    let object = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    #expect(object["schemaVersion"] as? Int == 1)
    #expect(object["isSame"] as? Bool == true)
    let techniques = try #require(object["techniques"] as? [[String: Any]])
    #expect((techniques[0]["runs"] as? [Any])?.count == 3)
    #expect(techniques[0]["caution"] as? String == "KVM emulates")
    #expect(techniques[1]["obstacle"] as? String == "there is no build")
    #expect(try ComparisonPage.text(comparison, host: host, date: "").contains("KVM emulates"))
  }
}
