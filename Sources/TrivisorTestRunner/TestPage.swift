import TrivisorPage

/// A test run as one page for a browser: what did not pass first, with the end of its console.
public enum TestPage {
  /// The page.
  /// - Parameter date: when the run was over, as 2026-11-28T12:00:00Z.
  /// - Throws: what the JSON encoder throws; none of our types makes it.
  public static func text(_ report: TestReport, date: String) throws -> String {
    ReportPage.text(
      title: "Trivisor: tests", date: date, data: ReportPage.scriptText(try report.text()), script: script)
  }

  private static let script = """

    const words = { passed: 'passed', skipped: 'skipped', failed: 'failed', crashed: 'crashed', timedOut: 'timed out',
      notLoaded: 'not loaded', monitorFailed: 'Trivisor failed', interrupted: 'interrupted' };
    const isGood = verdict => verdict === 'passed' || verdict === 'skipped';
    const time = milliseconds => milliseconds >= 1000 ? number(milliseconds / 1000, 2) + ' s' : number(milliseconds, 0) + ' ms';
    const bad = report.tests.filter(t => !isGood(t.verdict));
    const passed = report.counts.passed || 0;
    element('div', 'Guests as tests', main, 'over');
    const head = element('h1', report.tests.length === 0 ? 'No tests were run.' : bad.length === 0
      ? (passed === report.tests.length ? 'All ' + passed + ' tests passed.' : passed + ' of ' + report.tests.length + ' tests passed, none failed.')
      : bad.length + ' of ' + report.tests.length + (report.tests.length === 1 ? ' test' : ' tests') + ' did not pass.', main);
    head.className = bad.length || report.verdict === 'interrupted' ? 'bad' : 'good';
    document.title = head.textContent + ' Trivisor';
    element('p', Object.entries(report.counts).filter(([, n]) => n > 0).map(([verdict, n]) => n + ' ' + words[verdict]).join(', ')
      + ', in ' + time(report.milliseconds) + (report.verdict === 'interrupted' ? '; the run was interrupted' : '') + '.', main);

    if (bad.length) {
      const box = section('What did not pass', '');
      for (const test of bad) {
        const title = element('h3', undefined, box);
        element('span', words[test.verdict] + ' ', title, 'bad');
        title.append(test.name);
        if (test.reason) element('p', test.reason, box);
        const points = (test.points || []).filter(p => !p.isOK && !p.directive);
        if (points.length) element('p', 'failed points: ' + points.map(p => p.number + (p.description ? ' ' + p.description : '')).join(', '), box);
        if (test.console) element('pre', test.console, box);
        if (test.errors) element('pre', test.errors, box);
        if (test.artifact) element('p', 'its whole console: ' + test.artifact, box);
      }
    }
    if (report.tests.length) {
      const box = section('All tests', 'Those that did not pass first, then by time.');
      const body = table(box, ['test', 'verdict', 'technique', 'time', 'attempts', 'points'], 'All tests');
      const order = [...report.tests].sort((a, b) => isGood(a.verdict) - isGood(b.verdict) || b.milliseconds - a.milliseconds);
      for (const test of order) {
        const row = element('tr', undefined, body);
        element('th', test.name, row).scope = 'row';
        element('td', words[test.verdict], row, isGood(test.verdict) ? 'good' : 'bad');
        element('td', test.technique || '–', row);
        element('td', time(test.milliseconds), row);
        element('td', number(test.attempts, 0), row);
        const points = test.points || [];
        element('td', points.length ? number(points.length + (test.pointsLeftOut || 0), 0) : '–', row);
      }
    }
    const box = section('How it was run', '');
    facts(box, [
      ['shard', report.shard ? (report.shard.index + 1) + ' of ' + report.shard.count : ''],
      ['Trivisor', report.version + (report.commit ? ', commit ' + report.commit : '')],
      ['status', String(report.status)]]);

    """
}
