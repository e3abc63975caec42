"""Figures of many commits: a file for each kind of host, a line for each run, and a page that shows each figure from commit to commit.

Ratios of one run on one host are kept, and times only where there is nothing to compare with: what another host took says nothing.
"""

import html
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def host_kind():
    """Vendor, family and number of processors: figures of other hosts are not put beside each other."""
    words = {}
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            name, colon, value = line.partition(":")
            if colon:
                words.setdefault(name.strip(), value.strip())
    with open("/proc/cpuinfo") as lines:
        processors = sum(line.startswith("processor") for line in lines)
    vendor = {"GenuineIntel": "intel", "AuthenticAMD": "amd"}.get(words.get("vendor_id"), "other")
    return f"{vendor}-family-{int(words.get('cpu family', 0)):x}h-model-{int(words.get('model', 0)):x}h-{processors}"


def commit():
    """The tree's commit, and whether it has changes besides."""
    def git(*words):
        return subprocess.run(["git", "-C", ROOT, *words], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=10", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (subprocess.CalledProcessError, FileNotFoundError):
        sys.exit("tools/bench: --history wants a git tree, because figures are those of a commit")


def append(folder, benchmark, runs, figures):
    """One line more.

    figures: by name, a value and whether more is better."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    name, is_changed = commit()
    line = {"date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "commit": name, "changed": is_changed,
            "benchmark": benchmark, "runs": runs,
            "figures": {figure: {"value": round(value, 4), "more": more} for figure, (value, more) in figures.items()}}
    path = folder / f"{host_kind()}.jsonl"
    with open(path, "a") as file:
        file.write(json.dumps(line) + "\n")
    print(f"{path}: {len(figures)} figures of {name}{', changed' if is_changed else ''}")


def read(path):
    """Lines of a file; what is none is told."""
    lines = []
    for number, text in enumerate(path.read_text().splitlines(), 1):
        try:
            line = json.loads(text)
            for figure in line["figures"].values():
                float(figure["value"])
            lines.append(line)
        except (ValueError, KeyError, TypeError, AttributeError):
            sys.exit(f"tools/bench: {path}, line {number}, is no line of a history: take it out")
    return lines


def series(lines):
    """By benchmark and figure, points in the order of time."""
    found = {}
    for line in sorted(lines, key=lambda line: line["date"]):
        for name, figure in line["figures"].items():
            found.setdefault((line["benchmark"], name), []).append((line, figure))
    return found


def chart(points, width=360, height=72):
    """A line through the values, from 0; the last point is marked."""
    values = [figure["value"] for _, figure in points]
    top = max(values) * 1.1 or 1
    step = (width - 12) / max(len(values) - 1, 1)
    places = [(6 + step * number, height - 4 - (height - 8) * value / top) for number, value in enumerate(values)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    titles = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{4 if number == len(places) - 1 else 2.5}">'
        f'<title>{html.escape(line["commit"])}, {line["date"]}: {figure["value"]:g}</title></circle>'
        for number, ((x, y), (line, figure)) in enumerate(zip(places, points)))
    label = f"{len(values)} runs, from {values[0]:g} to {values[-1]:g}"
    return (f'<svg role="img" aria-label="{label}" viewBox="0 0 {width} {height}"><polyline points="{line}"/>{titles}</svg>')


STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1a1d21, #e6e8ea); --quiet: light-dark(#5b6370, #9aa3af);
  --line: light-dark(#2457a6, #7fb2ff); --rule: light-dark(#d9dde3, #343a42); }
body { font: 16px/1.45 system-ui, sans-serif; color: var(--ink); max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
section { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1rem; }
figure { margin: 0; border: 1px solid var(--rule); border-radius: .5rem; padding: .75rem; }
figcaption { display: flex; justify-content: space-between; gap: 1rem; }
.quiet { color: var(--quiet); font-size: .85rem; }
svg { width: 100%; height: auto; } polyline { fill: none; stroke: var(--line); stroke-width: 1.5; } circle { fill: var(--line); }
"""


def page(files):
    """All hosts' figures."""
    body = []
    for path, lines in files:
        body.append(f"<h2>{html.escape(path.stem)}</h2>")
        benchmark = None
        for (of, name), points in sorted(series(lines).items()):
            if of != benchmark:
                body.append(f"{'</section>' if benchmark else ''}<h3>{html.escape(of)}</h3><section>")
                benchmark = of
            line, last = points[-1]
            first = points[0][1]["value"]
            change = f"{last['value'] / first:.2f} of the first" if first and len(points) > 1 else "the first"
            body.append(
                f"<figure><figcaption><span>{html.escape(name)}</span><b>{last['value']:g}</b></figcaption>{chart(points)}"
                f'<div class="quiet">{html.escape(line["commit"])}{", changed" if line["changed"] else ""}, {change}; '
                f'{"more" if last["more"] else "less"} is better</div></figure>')
        if benchmark:
            body.append("</section>")
    return ("<!DOCTYPE html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
            f"<title>Trivisor: figures over commits</title><style>{STYLE}</style><h1>Figures over commits</h1>"
            "<p>Each host's figures by themselves; a point is a run, and says its commit. Ratios of one run, unless the name gives a "
            f"unit.</p>{''.join(body)}</html>\n")


def show(options):
    """The last figure of each, beside the one before it; and the page."""
    paths = sorted(Path(options.folder).glob("*.jsonl"))
    if not paths:
        sys.exit(f"tools/bench: no history in {options.folder}: run a benchmark with --history {options.folder}")
    files = [(path, read(path)) for path in paths]
    for path, lines in files:
        print(path.stem)
        for (benchmark, name), points in sorted(series(lines).items()):
            values = [figure["value"] for _, figure in points]
            before = f"{values[-2]:10g}" if len(values) > 1 else f"{'':10}"
            print(f"  {benchmark}: {name:60} {before} {values[-1]:10g}  {points[-1][0]['commit']}")
    if options.html:
        Path(options.html).write_text(page(files))
        print(options.html)
