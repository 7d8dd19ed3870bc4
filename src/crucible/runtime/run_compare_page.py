"""What does a comparison look like as a page? One HTML file that needs nothing else, and runs no script."""

import math
from collections.abc import Sequence
from html import escape

from crucible.runtime.curve import smoothed
from crucible.runtime.run_compare import Comparison, Curve, Difference, drawable

_WIDTH, _HEIGHT = 640, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 12, 36  # margins of a picture, in pixels

_STYLE = """
:root { color-scheme: light dark; --a: #1f6feb; --b: #d1570d; --line: #8886; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.3rem } h2 { font-size: 1.05rem; margin: 2rem 0 .4rem }
table { border-collapse: collapse } th, td { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top }
th { border-bottom: 1px solid var(--line) } td.n { font-variant-numeric: tabular-nums }
small { opacity: .65 } .a { color: var(--a) } .b { color: var(--b) }
svg { max-width: 100%; height: auto } svg text { fill: currentColor; font-size: 12px }
.axis { stroke: var(--line) } .curve { fill: none; stroke-width: 1.8 }
.raw { fill: none; stroke-width: .8; opacity: .35 }
.a .curve, .a .raw { stroke: var(--a) } .b .curve, .b .raw { stroke: var(--b) } .a circle { fill: var(--a) }
.b circle { fill: var(--b) }
"""


def page(comparison: Comparison) -> str:
    """The whole page. Every text of a run is escaped, and the page's own policy forbids scripts and fetching."""
    a, b = escape(comparison.a), escape(comparison.b)
    pictures = "\n".join(
        f"<h2>{escape(name)}</h2>\n{_picture(name, *pair)}" for name, pair in comparison.curves.items()
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>{a} and {b}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1><span class="a">{a}</span> and <span class="b">{b}</span></h1>
<h2>Config</h2>
{_config(comparison)}
<h2>Outcome</h2>
{_outcomes(comparison)}
{pictures or "<p>Neither run recorded a metric.</p>"}
</body>
</html>
"""


def _config(comparison: Comparison) -> str:
    if not comparison.differences:
        return f"<p>All {comparison.equal} values are equal.</p>"
    rows = "\n".join(
        f"<tr><td>{escape(one.key)}</td><td>{_value(one, 'a')}</td><td>{_value(one, 'b')}</td></tr>"
        for one in comparison.differences
    )
    return f"{_table(comparison, 'key', rows)}\n<p>{comparison.equal} further values are equal.</p>"


def _value(difference: Difference, side: str) -> str:
    entry = difference.a if side == "a" else difference.b
    if entry is None:
        return "<small>not set</small>"
    return f"{escape(repr(entry['value']))} <small>{escape(str(entry.get('origin', '')))}</small>"


def _outcomes(comparison: Comparison) -> str:
    rows = "\n".join(
        f'<tr><td>{escape(name)}</td><td class="n">{_figure(a)}</td><td class="n">{_figure(b)}</td></tr>'
        for name, a, b in comparison.outcomes
    )
    return _table(comparison, "", rows)


def _table(comparison: Comparison, first: str, rows: str) -> str:
    heads = f'<th class="a">{escape(comparison.a)}</th><th class="b">{escape(comparison.b)}</th>'
    return f"<table>\n<tr><th>{escape(first)}</th>{heads}</tr>\n{rows}\n</table>"


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _picture(metric: str, a: Curve, b: Curve) -> str:
    """Both curves on one scale; values that are no finite numbers are left out."""
    drawn = [(name, drawable(points)) for name, points in (("a", a), ("b", b))]
    both = [point for _, points in drawn for point in points]
    if not both:
        return "<p>No finite values.</p>"
    steps, values = [step for step, _ in both], [value for _, value in both]
    x, y = _Scale(steps, _LEFT, _WIDTH - _RIGHT), _Scale(values, _HEIGHT - _BOTTOM, _TOP)
    shapes = [_axes(x, y), *(_curve(name, points, x, y) for name, points in drawn)]
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    return f'<svg role="img" aria-label="{escape(metric)}" {size}>{"".join(shapes)}</svg>'


class _Scale:
    """From values to pixels."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.low, self.high = min(values), max(values)
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        span = self.high - self.low
        share = 0.5 if span == 0 or not math.isfinite(span) else (value - self.low) / span
        return round(self._start + share * (self._end - self._start), 2)


def _axes(x: _Scale, y: _Scale) -> str:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    lines = (
        f'<path class="axis" fill="none" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>',
        f'<text x="{_LEFT - 6}" y="{_TOP + 10}" text-anchor="end">{y.high:.4g}</text>',
        f'<text x="{_LEFT - 6}" y="{bottom}" text-anchor="end">{y.low:.4g}</text>',
        f'<text x="{_LEFT}" y="{bottom + 18}">{x.low:g}</text>',
        f'<text x="{right}" y="{bottom + 18}" text-anchor="end">step {x.high:g}</text>',
    )
    return "".join(lines)


def _curve(name: str, points: Sequence[tuple[int, float]], x: _Scale, y: _Scale) -> str:
    """Each value, thin, and their running mean; a circle where there is one alone."""
    if len(points) == 1:
        ((step, value),) = points
        return f'<g class="{name}"><circle cx="{x(step)}" cy="{y(value)}" r="3"/></g>'
    span = max(1, len(points) // 10)
    means = smoothed([value for _, value in points], span)
    raw = " ".join(f"{x(step)},{y(value)}" for step, value in points)
    mean = " ".join(f"{x(step)},{y(value)}" for (step, _), value in zip(points, means, strict=True))
    thin = f'<polyline class="raw" points="{raw}"/>' if span > 1 else ""
    return f'<g class="{name}">{thin}<polyline class="curve" points="{mean}"/></g>'
