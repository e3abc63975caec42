// The report as one page. Everything in it is text and boxes of the page's own, so that no label is cut, a reader's software can
// read it out, and it is as dark as its reader's screen.

import TrivisorPage

/// The report for a browser.
public enum ComparisonPage {
  /// The page.
  /// - Parameter date: when the report was made, as 2026-11-28T12:00:00Z.
  /// - Throws: what the JSON encoder throws; none of our types makes it.
  public static func text(_ comparison: Comparison, host: HostDescription, date: String) throws -> String {
    ReportPage.text(
      title: "Trivisor: comparison", date: date,
      data: try ComparisonReport(comparison, host: host, date: date).scriptText(), script: script)
  }

  private static let script = """

    const ran = report.techniques.filter(t => t.runs.length > 0);
    const color = name => 'var(--' + (['hardware', 'rewriting', 'paravirtual'].includes(name) ? name : 'other') + ')';
    const named = technique => {
      const key = document.createElement('span');
      const box = element('span', undefined, key, 'key');
      box.style.background = color(technique.name);
      key.append(technique.title);
      return key;
    };
    document.title = report.guest + ': Trivisor comparison';
    element('div', 'The same guest under ' + (ran.length === 1 ? 'one technique' : ran.length + ' techniques'), main, 'over');
    // A sentence begins with a capital, also where that is a technique's name.
    const headline = ran.some(t => report.headline.startsWith(t.name)) ? report.headline[0].toUpperCase() + report.headline.slice(1) : report.headline;
    const head = element('h1', headline + '.', main);
    if (!report.isSame) head.className = 'bad';
    const result = element('p', '', main);
    if (!report.isSame) result.textContent = report.differences.join('; ') + '.';
    else if (ran.length > 1) result.textContent = 'The same result under all: ' + ran[0].result + '.';
    else if (ran.length) result.textContent = 'Its result: ' + ran[0].result + '.';

    // One bar a technique. A bar that dwarfs the others is broken, or they could not be seen.
    const least = ran.length ? Math.min(...ran.map(t => t.medians.whole)) : 0;
    if (ran.length) {
      const box = section('How long it took', 'Medians, from starting the process until it is gone; beside each how many times as long as the fastest.');
      const inGuest = report.costs.rows.find(r => r.title === 'in guest code');
      const guestCode = i => inGuest && inGuest.values[i] ? Math.min(inGuest.values[i].median, ran[i].medians.guest) : null;
      const phases = [
        ['to the first instruction', i => ran[i].medians.start],
        ['in guest code', i => guestCode(i)],
        ['in the monitor meanwhile', i => guestCode(i) === null ? null : ran[i].medians.guest - guestCode(i)],
        ['guest and monitor together', i => guestCode(i) === null ? ran[i].medians.guest : null],
        ['tear-down', i => ran[i].medians.end]];
      const sorted = ran.map(t => t.medians.whole).sort((a, b) => b - a);
      const isBroken = sorted.length > 1 && sorted[0] > 8 * sorted[1];
      const scale = isBroken ? sorted[1] * 2.5 : sorted[0];
      const bars = element('div', undefined, box, 'bars');
      ran.forEach((t, i) => {
        const row = element('div', undefined, bars, 'row');
        element('div', t.title, row, 'label');
        const whole = t.medians.whole;
        const bar = document.createElement('div');
        bar.className = 'bar' + (whole > scale ? ' broken' : '');
        bar.style.width = Math.min(100, 100 * whole / scale) + '%';
        bar.setAttribute('role', 'img');
        const parts = [];
        phases.forEach(([title, value], n) => {
          const time = value(i);
          if (!time) return;
          parts.push(title + ' ' + short(time) + ' ms');
          const part = element('span', undefined, bar);
          part.style.background = 'var(--phase' + n + ')';
          part.style.flex = time + ' 1 0';
          part.title = parts[parts.length - 1];
        });
        bar.setAttribute('aria-label', t.title + ': ' + short(whole) + ' ms, of which ' + parts.join(', '));
        const figure = document.createElement('div');
        figure.className = 'figure';
        figure.append(short(whole) + ' ms');
        element('small', whole === least ? 'fastest' : '×' + ratio(whole / least), figure);
        row.append(bar, figure);
      });
      const legend = element('ul', undefined, box, 'legend');
      phases.forEach(([title, value], n) => {
        if (!ran.some((t, i) => value(i))) return;
        const item = element('li', undefined, legend);
        element('span', undefined, item, 'key').style.background = 'var(--phase' + n + ')';
        item.append(title);
      });
      if (isBroken) element('li', 'a cut bar is longer than drawn', legend);
    }

    const notes = report.techniques.filter(t => t.obstacle || t.caution);
    if (notes.length) {
      const box = section('What to know', '');
      facts(box, [...notes.map(t => [t.title, t.obstacle ? 'not run: ' + t.obstacle : t.caution]), ...report.baseRemarks.map(r => ['ratios', r])]);
    }

    if (ran.some(t => t.runs.length > 1)) {
      const reach = Math.max(0.25, ...ran.flatMap(t => t.runs.map(r => Math.abs(r.whole / t.medians.whole - 1))));
      const reachText = number(100 * reach, 0) + ' %';
      const box = section('How even the runs were', 'Each point is one run; the line in the middle is the median of its technique, and the ends are ' + reachText + ' less and more.');
      const bars = element('div', undefined, box, 'bars');
      for (const t of ran) {
        const row = element('div', undefined, bars, 'row');
        element('div', t.title, row, 'label');
        const dots = document.createElement('div');
        dots.className = 'dots';
        dots.setAttribute('role', 'img');
        const times = t.runs.map(r => r.whole);
        const [low, high] = [Math.min(...times), Math.max(...times)];
        dots.setAttribute('aria-label', t.title + ': ' + times.length + ' runs from ' + short(low) + ' to ' + short(high) + ' ms');
        times.forEach((time, n) => {
          const dot = element('i', undefined, dots);
          dot.style.left = (50 + 46 * (time / t.medians.whole - 1) / reach) + '%';
          dot.style.background = color(t.name);
          dot.title = 'run ' + (n + 1) + ': ' + short(time) + ' ms';
        });
        const figure = document.createElement('div');
        figure.className = 'figure';
        figure.textContent = short(low) + '–' + short(high) + ' ms';
        row.append(dots, figure);
      }
    }

    const matrix = (box, name, rows, gauged, cell) => {
      const body = table(box, ['', ...ran.map(t => named(t))], name);
      for (const row of rows) {
        const line = element('tr', undefined, body);
        element('th', row.title, line).scope = 'row';
        const greatest = Math.max(1, ...row.values.map(v => v ? v.median : 0));
        row.values.forEach((value, index) => {
          const td = element('td', undefined, line);
          if (!value) {
            td.textContent = '–';
            td.title = 'not counted by this technique';
            return;
          }
          const [figure, side] = cell(value, row, index);
          td.append(figure);
          if (side) element('small', side, td);
          if (gauged && value.median > 0) {
            const gauge = element('span', undefined, td, 'gauge');
            gauge.style.width = Math.max(2, 100 * Math.log10(1 + value.median) / Math.log10(1 + greatest)) + '%';
            gauge.style.background = color(ran[index].name);
          }
        });
      }
    };
    const base = ran.findIndex(t => t.name === report.base);
    const against = (value, row, index) => {
      const first = row.values[base];
      return index !== base && first && first.median > 0 && value.median > 0 ? '×' + ratio(value.median / first.median) : '';
    };
    const beside = ran.length > 1 ? ' × how many times ' + report.base + '’s.' : '';
    const measured = report.measurements.rows;
    if (measured.length && ran.length)
      matrix(section('Measured by the guest', 'Cycles an operation, medians.' + beside + ' The lines are logarithmic.'),
        'Measured by the guest', measured, true, (value, row, index) => [short(value.median), against(value, row, index)]);
    if (ran.length)
      matrix(section('Times and memory', 'Medians; the smallest and the largest beside them.' + beside), 'Times and memory', report.costs.rows, false,
        (value, row, index) => [short(value.median) + ' ' + row.unit,
          [short(value.minimum) + '–' + short(value.maximum), against(value, row, index)].filter(t => t).join(' ')]);
    // What several count stands side by side; what only one technique counts is its own list.
    const rows = report.counters.rows;
    const isCommon = r => r.counter && r.values.filter(v => v).length >= Math.min(2, ran.length);
    const common = rows.filter(isCommon);
    if (common.length && ran.length)
      matrix(section(ran.length > 1 ? 'Events side by side' : 'Events', 'Medians; – where a technique does not count one.' + beside + ' The lines are logarithmic.'), 'Events', common, true,
        (value, row, index) => [number(value.median, 0), against(value, row, index)]);
    const limit = 15;
    ran.forEach((t, i) => {
      const own = rows.filter(r => !isCommon(r) && r.values[i] && r.values[i].median > 0).sort((a, b) => b.values[i].median - a.values[i].median);
      if (!own.length) return;
      const box = section('What ' + t.title + ' counts besides', 'Medians, the most frequent first.');
      const fill = (parent, part) => {
        const body = table(parent, ['', named(t)], 'What ' + t.title + ' counts besides');
        for (const row of part) {
          const line = element('tr', undefined, body);
          element('th', row.title, line).scope = 'row';
          const td = element('td', number(row.values[i].median, 0), line);
          const gauge = element('span', undefined, td, 'gauge');
          gauge.style.width = Math.max(2, 100 * Math.log10(1 + row.values[i].median) / Math.log10(1 + own[0].values[i].median)) + '%';
          gauge.style.background = color(t.name);
        }
      };
      fill(box, own.slice(0, limit));
      if (own.length > limit) {
        const more = element('details', undefined, box);
        element('summary', (own.length - limit) + ' more', more);
        fill(more, own.slice(limit));
      }
    });
    const box = section('How it was measured', '');
    facts(box, [
      ['runs', report.repetitions + ' under each technique, in turns, after ' + report.warmUps + ' to warm up, each in a process of its own'],
      ['options', report.arguments.join(' ')],
      ['host', report.host.processor + ', ' + report.host.processors + (report.host.processors === 1 ? ' processor' : ' processors') + ', Linux ' + report.host.kernel],
      ['Trivisor', report.version + (report.commit ? ', commit ' + report.commit : '')],
      ['date', report.date]]);

    """
}
