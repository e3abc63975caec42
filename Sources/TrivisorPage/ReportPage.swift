// What the pages of reports have in common. A page needs nothing else: its style, its script and its figures are in it, and it asks
// no network for anything. What comes from outside (names, what guests wrote) reaches it as JSON only, and from there as text.

import TrivisorVersion

/// A page for a browser.
public enum ReportPage {
  /// The page.
  /// - Parameters:
  ///   - title: before the script has a better one; ours, not a guest's.
  ///   - date: when the report was made, as 2026-11-28T12:00:00Z.
  ///   - data: JSON, as `scriptText` makes it.
  ///   - script: draws `report` into the element `main`, with the help of the functions in `tools`.
  public static func text(title: String, date: String, data: String, script: String) -> String {
    """
    <!DOCTYPE html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <meta name="generator" content="Trivisor \(TrivisorVersion.text)">
    <meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:">
    <title>\(title)</title>
    <style>\(style)</style>
    </head>
    <body>
    <main></main>
    <footer>Trivisor \(TrivisorVersion.text), <time datetime="\(date)">\(shown(date))</time></footer>
    <noscript>This page is drawn by its own script, from the figures in it; it loads nothing.</noscript>
    <script>const report = \(data);</script>
    <script>\(tools)\(script)
    document.body.dataset.drawn = 'yes';</script>
    </body>
    </html>

    """
  }

  /// JSON as text that may stand in a page's script, whatever a guest wrote.
  public static func scriptText(_ json: String) -> String {
    var text = ""
    for scalar in json.unicodeScalars {
      switch scalar {
      case "<": text += "\\u003c"
      case "\u{2028}": text += "\\u2028"
      case "\u{2029}": text += "\\u2029"
      default: text.unicodeScalars.append(scalar)
      }
    }
    return text
  }

  /// A moment to the minute.
  private static func shown(_ date: String) -> String { date.prefix(16).replacing("T", with: " ") + " UTC" }

  private static let style = """

    :root { --ink: #1b2430; --soft: #566273; --line: #dce1e8; --ground: #f5f6f8; --card: #ffffff; --bad: #b3261e;
      --good: #1a7f37; --hardware: #0b6bb0; --rewriting: #c8570a; --paravirtual: #11875d; --other: #566273;
      --phase0: #aab4c0; --phase1: #2f6690; --phase2: #8dbbd6; --phase3: #4f7f9e; --phase4: #e0a03c; }
    @media (prefers-color-scheme: dark) {
      :root { --ink: #e6eaf0; --soft: #a2adbb; --line: #333c48; --ground: #12161c; --card: #1a2028; --bad: #ff8a80;
        --good: #57c98a; --hardware: #5aa9e6; --rewriting: #f29147; --paravirtual: #4cc59a; --other: #a2adbb;
        --phase0: #66717f; --phase1: #5a9bd0; --phase2: #2c5675; --phase3: #4a86ad; --phase4: #c98a2b; } }
    * { box-sizing: border-box; }
    body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
    main, footer { max-width: 1120px; margin: 0 auto; padding: 0 20px; }
    main { padding-top: 32px; }
    footer { padding: 20px; color: var(--soft); font-size: 14px; }
    h1 { font-size: clamp(22px, 3.4vw, 32px); line-height: 1.25; margin: 4px 0 10px; text-wrap: balance; }
    h2 { font-size: 18px; margin: 0 0 2px; }
    h3 { font-size: 16px; margin: 18px 0 0; }
    p { margin: 0; color: var(--soft); max-width: 80ch; }
    h1, h2, h3, p, td, th, dd, li, .label { overflow-wrap: anywhere; }
    .over { color: var(--soft); font-size: 14px; }
    .bad { color: var(--bad); } .good { color: var(--good); }
    section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px; margin: 16px 0;
      min-width: 0; }
    .bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: 10px 14px; align-items: center;
      margin-top: 14px; }
    .bars .row { display: contents; }
    .bars .label { font-weight: 600; }
    .bars .figure { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
    .figure small, td small { color: var(--soft); font-size: 13px; margin-left: 6px; }
    .bar { display: flex; height: 26px; border-radius: 4px; overflow: hidden; min-width: 4px; position: relative; }
    .bar span { min-width: 1px; }
    .bar.broken::after { content: ''; position: absolute; left: 72%; top: -4px; bottom: -4px; width: 8px;
      background: var(--card); transform: skewX(-18deg); }
    .dots { position: relative; height: 26px; border-left: 1px solid var(--line); border-right: 1px solid var(--line);
      background: linear-gradient(var(--line), var(--line)) 50% 50% / 1px 100% no-repeat; }
    .dots i { position: absolute; top: 8px; width: 10px; height: 10px; margin-left: -5px; border-radius: 50%; opacity: .75; }
    .legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 14px 0 0; padding: 0; list-style: none;
      color: var(--soft); font-size: 14px; }
    .key { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 7px; }
    .scroll { overflow-x: auto; margin-top: 10px; }
    table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 15px; }
    th, td { text-align: right; padding: 6px 10px; border-bottom: 1px solid var(--line); white-space: nowrap;
      vertical-align: top; }
    th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 130px; position: sticky; left: 0;
      background: var(--card); }
    thead th { font-weight: 600; }
    tbody th { font-weight: 400; }
    td .gauge { display: block; height: 3px; border-radius: 2px; margin: 3px 0 0 auto; }
    td.text { text-align: left; white-space: normal; min-width: 160px; }
    dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 8px 0 0; }
    dt { color: var(--soft); } dd { margin: 0; }
    details { margin-top: 10px; } summary { cursor: pointer; color: var(--soft); }
    pre { background: var(--ground); border: 1px solid var(--line); border-radius: 6px; padding: 10px 12px; margin: 8px 0 0;
      overflow-x: auto; font-size: 13px; line-height: 1.45; white-space: pre-wrap; overflow-wrap: anywhere; }
    @media (max-width: 600px) {
      main, footer { padding-left: 12px; padding-right: 12px; } section { padding: 14px 12px; }
      .bars { grid-template-columns: 1fr; gap: 12px; }
      .bars .row { display: grid; grid-template-columns: 1fr max-content; gap: 2px 12px; }
      .bars .bar, .bars .dots { grid-column: 1 / -1; order: 1; } dl { grid-template-columns: 1fr; } dd { margin-bottom: 6px; }
      th, td { padding: 6px 8px; } }
    @media print { body { background: none; } section { break-inside: avoid; } }

    """

  private static let tools = """

    'use strict';
    const element = (tag, text, parent, style) => {
      const node = document.createElement(tag);
      if (text !== undefined && text !== null) node.textContent = text;
      if (style) node.className = style;
      if (parent) parent.append(node);
      return node;
    };
    const number = (value, digits) => value.toLocaleString('en', { maximumFractionDigits: digits });
    const short = value => value >= 100 ? number(value, 0) : value >= 10 ? number(value, 1) : number(value, 2);
    const ratio = value => value < 0.1 || value >= 100 ? value.toLocaleString('en', { maximumSignificantDigits: 2 })
      : value >= 10 ? number(value, 1) : number(value, 2);
    const main = document.querySelector('main');
    const section = (title, text) => {
      const node = element('section', undefined, main);
      const head = element('h2', title, node);
      head.id = 'section' + document.querySelectorAll('h2').length;
      node.setAttribute('aria-labelledby', head.id);
      if (text) element('p', text, node);
      return node;
    };
    // A table that scrolls by itself where it is wider than the page, with its first column in place.
    const table = (parent, heads, name) => {
      const frame = element('div', undefined, parent, 'scroll');
      frame.tabIndex = 0;
      frame.setAttribute('role', 'region');
      frame.setAttribute('aria-label', name);
      const node = element('table', undefined, frame);
      const row = element('tr', undefined, element('thead', undefined, node));
      for (const head of heads) {
        const cell = element('th', undefined, row);
        cell.scope = 'col';
        cell.append(head);
      }
      return element('tbody', undefined, node);
    };
    const facts = (parent, pairs) => {
      const list = element('dl', undefined, parent);
      for (const [name, value] of pairs) {
        if (!value) continue;
        element('dt', name, list);
        element('dd', value, list);
      }
    };

    """
}
