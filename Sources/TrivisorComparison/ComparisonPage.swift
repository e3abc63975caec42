// The report as one page that needs nothing else: the charting library and the figures are in it, and it asks no network for
// anything. What comes from outside (the guest's name, its measurements) reaches the page as JSON only, and from there as text.

import TrivisorCChartLibrary

/// The report for a browser.
public enum ComparisonPage {
  /// The page.
  /// - Throws: what the JSON encoder throws; none of our types makes it.
  public static func text(_ comparison: Comparison, host: HostDescription) throws -> String {
    let library = UnsafeRawBufferPointer(start: chart_library(), count: chart_library_size())
    let data = try ComparisonReport(comparison, host: host).scriptText()
    return """
      <!DOCTYPE html>
      <html lang="en">
      <head>
      <meta charset="utf-8">
      <meta name="viewport" content="width=device-width, initial-scale=1">
      <meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:">
      <title>Trivisor: comparison</title>
      <style>\(style)</style>
      </head>
      <body>
      \(body)
      <script>\(String(decoding: library, as: UTF8.self))</script>
      <script>const report = \(data);</script>
      <script>\(script)</script>
      </body>
      </html>

      """
  }

  private static let style = """
    :root { --ink: #1c2430; --soft: #5b6675; --line: #dfe4ea; --ground: #f6f7f9; --card: #ffffff; }
    * { box-sizing: border-box; }
    body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
    main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 48px; }
    h1 { font-size: 26px; margin: 0 0 4px; }
    h2 { font-size: 17px; margin: 0 0 2px; }
    p { margin: 0; color: var(--soft); }
    .verdict { margin: 16px 0 20px; padding: 10px 14px; border-radius: 8px; border: 1px solid var(--line);
      background: var(--card); color: var(--ink); }
    .verdict.bad { border-color: #b3261e; color: #b3261e; }
    .cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 16px; }
    section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px; min-width: 0; }
    section.wide { grid-column: 1 / -1; }
    .chart { position: relative; height: 260px; margin-top: 10px; }
    table { border-collapse: collapse; width: 100%; margin-top: 8px; font-variant-numeric: tabular-nums; }
    th, td { text-align: right; padding: 5px 8px; border-bottom: 1px solid var(--line); white-space: nowrap; }
    th:first-child, td:first-child { text-align: left; white-space: normal; }
    th { font-weight: 600; }
    td small { color: var(--soft); font-size: 12px; margin-left: 6px; }
    .key { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 6px; }
    .scroll { overflow-x: auto; }
    @media (max-width: 560px) { .cards { grid-template-columns: 1fr; } }
    """

  private static let body = """
    <main>
    <h1 id="title"></h1>
    <p id="subtitle"></p>
    <div id="verdict" class="verdict"></div>
    <div class="cards" id="cards"></div>
    </main>
    """

  private static let script = """
    'use strict';
    const colors = { hardware: '#0072b2', rewriting: '#d55e00', paravirtual: '#009e73' };
    const ran = report.techniques.filter(t => t.runs.length > 0);
    const color = (name, alpha) => (colors[name] || '#5b6675') + (alpha || '');
    const element = (tag, text, parent) => {
      const node = document.createElement(tag);
      if (text !== undefined) node.textContent = text;
      if (parent) parent.append(node);
      return node;
    };
    const number = (value, digits) => value.toLocaleString('en', { maximumFractionDigits: digits });
    const short = value => value >= 100 ? number(value, 0) : number(value, 1);
    const ratio = value => value < 0.1 ? value.toLocaleString('en', { maximumSignificantDigits: 2 }) : number(value, 2);

    element('span', report.guest + ' under ' + (ran.length === 1 ? 'one technique' : ran.length + ' techniques'),
      document.getElementById('title'));
    document.title = report.guest + ': Trivisor comparison';
    document.getElementById('subtitle').textContent =
      report.repetitions + (report.repetitions === 1 ? ' run' : ' runs') + ' each, in turns, after ' + report.warmUps
      + ' to warm up. ' + report.host.processor + ', ' + report.host.processors + (report.host.processors === 1 ? ' processor' : ' processors') + ', Linux ' + report.host.kernel + '.'
      + (report.arguments.length ? ' Options: ' + report.arguments.join(' ') : '');
    const verdict = document.getElementById('verdict');
    if (report.isSame) {
      verdict.textContent = ran.length > 1 ? 'The same result under all: ' + ran[0].result + '.'
        : ran.length ? 'Result: ' + ran[0].result + '.' : 'Nothing ran.';
    } else {
      verdict.className = 'verdict bad';
      verdict.textContent = 'The results differ: ' + report.differences.join('; ') + '.';
    }
    for (const technique of report.techniques) {
      if (technique.obstacle) element('div', 'Not run: ' + technique.name + ', because ' + technique.obstacle + '.', verdict);
      else if (technique.caution) element('div', 'Of ' + technique.name + ': ' + technique.caution + '.', verdict);
    }

    const cards = document.getElementById('cards');
    const card = (title, text, wide) => {
      const section = element('section', undefined, cards);
      if (wide) section.className = 'wide';
      element('h2', title, section);
      element('p', text, section);
      return section;
    };
    const chart = (section, configuration, height) => {
      const frame = element('div', undefined, section);
      frame.className = 'chart';
      if (height) frame.style.height = height + 'px';
      new Chart(element('canvas', undefined, frame), configuration);
    };
    Chart.defaults.animation = false;
    Chart.defaults.maintainAspectRatio = false;
    Chart.defaults.font.family = 'system-ui, sans-serif';
    Chart.defaults.color = '#1c2430';
    const grid = { color: '#e7eaee' };
    const titled = text => ({ display: true, text: text, color: '#5b6675' });

    if (ran.length) {
      // Not every technique can tell its own time from the guest's.
      const inGuest = report.costs.rows.find(r => r.title === 'in guest code');
      const guestCode = i => inGuest && inGuest.values[i] ? Math.min(inGuest.values[i].median, ran[i].medians.guest) : null;
      const parts = [
        ['to the first instruction', '#9aa5b1', i => ran[i].medians.start],
        ['in guest code', '#33658a', i => guestCode(i)],
        ['in the monitor meanwhile', '#8fb8d0', i => guestCode(i) === null ? null : ran[i].medians.guest - guestCode(i)],
        ['guest and monitor together', '#5c7f99', i => guestCode(i) === null ? ran[i].medians.guest : null],
        ['tear-down', '#f2a541', i => ran[i].medians.end]
      ].map(([label, fill, value]) => ({ label: label, data: ran.map((t, i) => value(i)), backgroundColor: fill, maxBarThickness: 44 }))
        .filter(part => part.data.some(value => value !== null));
      chart(card('Where the time went', 'Medians, from starting the process until it is gone.'), {
        type: 'bar',
        data: { labels: ran.map(t => t.name), datasets: parts },
        options: { indexAxis: 'y', plugins: { legend: { position: 'bottom' }, tooltip: { callbacks: {
            label: c => c.dataset.label + ': ' + number(c.parsed.x, 2) + ' ms' } } },
          scales: { x: { stacked: true, grid: grid, title: titled('milliseconds'), ticks: { maxRotation: 0 } }, y: { stacked: true, grid: { display: false } } } }
      });
      chart(card('The spread over the runs', 'Each point is one run; the whole process.'), {
        type: 'scatter',
        data: { datasets: ran.map((t, i) => ({ label: t.name, backgroundColor: color(t.name, 'b0'), pointRadius: 5,
          data: t.runs.map((r, n) => ({ x: r.whole, y: ran.length - i + (t.runs.length > 1 ? (n / (t.runs.length - 1) - 0.5) * 0.4 : 0) })) })) },
        options: { plugins: { legend: { display: false }, tooltip: { callbacks: {
            label: c => c.dataset.label + ', run ' + (c.dataIndex + 1) + ': ' + number(c.parsed.x, 2) + ' ms' } } },
          scales: { x: { beginAtZero: true, grid: grid, title: titled('milliseconds'), ticks: { maxRotation: 0 } },
            y: { min: 0.4, max: ran.length + 0.6, grid: { display: false }, afterBuildTicks: axis => {
                axis.ticks = ran.map((t, i) => ({ value: ran.length - i })); },
              ticks: { callback: value => (ran[ran.length - value] || {}).name } } } }
      });
    }
    const rows = report.counters.rows;
    // What only one technique counts is in the table; side by side stands what all have a word for.
    const common = rows.filter(r => r.counter);
    if (common.length) {
      chart(card('Events by cause', 'Medians; each labelled line is ten times the one before it.', true), {
        type: 'bar',
        data: { labels: common.map(r => r.title), datasets: ran.map((t, i) => ({ label: t.name, backgroundColor: color(t.name),
          maxBarThickness: 14, data: common.map(r => r.values[i] && r.values[i].median > 0 ? r.values[i].median : null) })) },
        options: { indexAxis: 'y', plugins: { legend: { position: 'bottom' }, tooltip: { callbacks: {
            label: c => c.dataset.label + ': ' + number(c.parsed.x, 0) } } },
          scales: { y: { grid: { display: false }, ticks: { autoSkip: false } }, x: { type: 'logarithmic', min: 0.8, grid: grid,
            title: titled('events'), ticks: { callback: v => Number.isInteger(Math.log10(v)) ? number(v, 0) : null } } } }
      }, 90 + 44 * common.length);
    }
    // Call-outs, hypercalls and traps by cause: each is one technique's own word.
    const greatest = r => Math.max(...r.values.map(v => v ? v.median : 0));
    const causes = rows.filter(r => /^(call-out|hypercall|trap): /.test(r.title)).sort((a, b) => greatest(b) - greatest(a)).slice(0, 20);
    if (causes.length) {
      chart(card('Why guest code was left', 'The ' + causes.length + ' most frequent causes that only one technique has a word for, medians; each labelled line is ten times the one before it.', true), {
        type: 'bar',
        data: { labels: causes.map(r => r.title), datasets: ran.map((t, i) => ({ label: t.name, backgroundColor: color(t.name),
          maxBarThickness: 14, grouped: false, data: causes.map(r => r.values[i] && r.values[i].median > 0 ? r.values[i].median : null) }))
          .filter(set => set.data.some(value => value !== null)) },
        options: { indexAxis: 'y', plugins: { legend: { position: 'bottom' }, tooltip: { callbacks: {
            label: c => c.dataset.label + ': ' + number(c.parsed.x, 0) } } },
          scales: { y: { grid: { display: false }, ticks: { autoSkip: false } }, x: { type: 'logarithmic', min: 0.8, grid: grid,
            title: titled('times'), ticks: { callback: v => Number.isInteger(Math.log10(v)) ? number(v, 0) : null } } } }
      }, 90 + 24 * causes.length);
    }
    const measured = report.measurements.rows;
    if (measured.length) {
      chart(card('Measured by the guest', 'Cycles an operation, medians; each labelled line is ten times the one before it.', true), {
        type: 'bar',
        data: { labels: measured.map(r => r.title), datasets: ran.map((t, i) => ({ label: t.name, backgroundColor: color(t.name),
          maxBarThickness: 14, data: measured.map(r => r.values[i] && r.values[i].median > 0 ? r.values[i].median : null) })) },
        options: { indexAxis: 'y', plugins: { legend: { position: 'bottom' }, tooltip: { callbacks: {
            label: c => c.dataset.label + ': ' + number(c.parsed.x, 0) + ' cycles' } } },
          scales: { y: { grid: { display: false } }, x: { type: 'logarithmic', min: 1, grid: grid, title: titled('cycles'),
            ticks: { callback: v => Number.isInteger(Math.log10(v)) ? number(v, 0) : null } } } }
      }, 90 + 44 * measured.length);
    }
    const table = (title, text, rows, cell) => {
      if (!rows.length || !ran.length) return;
      const frame = element('div', undefined, card(title, text, true));
      frame.className = 'scroll';
      const node = element('table', undefined, frame);
      const head = element('tr', undefined, node);
      element('th', '', head);
      for (const technique of ran) {
        const th = element('th', undefined, head);
        const key = element('span', undefined, th);
        key.className = 'key';
        key.style.background = color(technique.name);
        th.append(technique.name);
      }
      for (const row of rows) {
        const tr = element('tr', undefined, node);
        element('td', row.title, tr);
        row.values.forEach((value, index) => {
          const td = element('td', undefined, tr);
          if (!value) { td.textContent = '–'; return; }
          const [main, side] = cell(value, row, index);
          td.append(main);
          if (side) element('small', side, td);
        });
      }
    };
    table('Measured by the guest', 'Cycles an operation, and how many times as many as under the first technique.', measured,
      (value, row, index) => [short(value.median), index > 0 && row.values[0] ? '×' + ratio(value.median / row.values[0].median) : '']);
    table('Times and memory', 'Median, smallest to largest.', report.costs.rows, (value, row) =>
      [short(value.median) + ' ' + row.unit, short(value.minimum) + '–' + short(value.maximum)]);
    table('Events', 'Median.', rows, value => [number(value.median, 0), '']);
    document.body.dataset.charts = Object.keys(Chart.instances).length;
    """
}
