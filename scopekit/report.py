"""One self-contained HTML page that tells what a session did.

The page holds its pictures and its style; it loads nothing, so that it can be mailed,
kept beside the data, or opened on a machine without a network. It follows the reader's
light or dark preference. No value of any task or chunk is in it.
"""

from __future__ import annotations

from collections import Counter
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scopekit.encoding import GLYPHS, INVALID, STATES, Encoding, state_style, text_on
from scopekit.plots import plot_dag, plot_timeline
from scopekit.plots.page import PAGE, page_svg, variables
from scopekit.plots.scene import graph_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from os import PathLike

    from matplotlib.figure import Figure

    from scopekit.encoding import Glyph, ScopePaint, Swatch

__all__ = ("Story", "report_html", "write_report")

Story = tuple[str, str, "Sequence[str]", bool]


def write_report(
    source: Any,
    path: str | PathLike[str],
    *,
    title: str = "",
    stories: Iterable[Story] = (),
) -> Path:
    """Writes the report of a session into one HTML file.

    Args:
        source: a session, or the graph that ``session.graph()`` gives; None for the
            current session.
        path: where to write.
        title: the heading; by default the session's name.
        stories: what was tried and how it went, each a heading, a paragraph, further
            lines, and whether it went as it should.

    Returns:
        The path of the file.
    """
    target = Path(path)
    target.write_text(report_html(source, title=title, stories=stories), encoding="utf-8")
    return target


def report_html(source: Any, *, title: str = "", stories: Iterable[Story] = ()) -> str:
    """Returns the report of a session as a whole HTML page."""
    graph = graph_of(source)
    encoding = Encoding(graph.graph["topology"])
    heading = title or f"Session {graph.graph.get('session') or ''}".strip()
    parts = [
        f"<header><h1>{escape(heading)}</h1>{_summary(graph)}</header>",
        _stories(list(stories)),
        _picture(
            "Task graph",
            "Fill: where a task may run. Left edge: where it ran.",
            graph,
            lambda **options: plot_dag(graph, **options),
        ),
        _picture(
            "By place",
            "One lane for each processor, grouped by node.",
            graph,
            lambda **options: plot_dag(graph, by="placement", **options),
        ),
        _picture(
            "Timeline",
            "What ran where, and when.",
            graph,
            lambda **options: plot_timeline(graph, **options),
        ),
        _tasks(graph, encoding),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(heading)}</title><style>{_colours()}{_STYLE}</style></head>"
        f"<body>{_symbols()}<main>{''.join(parts)}</main></body></html>\n"
    )


def _summary(graph: Any) -> str:
    topology = graph.graph["topology"]
    nodes = [facts for _, facts in graph.nodes(data=True)]
    tasks = [facts for facts in nodes if facts.get("kind", "task") == "task"]
    times = [
        time
        for facts in tasks
        for time in (facts.get("started"), facts.get("finished"))
        if time is not None
    ]
    span = _seconds(max(times) - min(times)) if times else "none"
    processors = [p for p in topology.processors if p.worker != "client"]
    boxes = [
        ("tasks", len(tasks)),
        ("chunks", len(nodes) - len(tasks)),
        ("nodes", len({topology.node_of(p.worker) for p in processors})),
        ("workers", len({p.worker for p in processors})),
        ("processors", len(processors)),
        ("from first start to last end", span),
    ]
    cells = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(str(v))}</dd></div>" for k, v in boxes)
    counts = Counter(facts.get("state", "waiting") for facts in tasks)
    states = "".join(
        f"<li>{_sign(state)} {counts[state]} {escape(state_style(state).label)}</li>"
        for state in STATES
        if counts[state]
    )
    return f'<dl>{cells}</dl><ul class="states">{states}</ul>'


def _stories(stories: Sequence[Story]) -> str:
    if not stories:
        return ""
    told = "".join(_story(*story) for story in stories)
    good = sum(1 for story in stories if story[3])
    return (
        f'<section><h2>What was tried</h2><p class="note">{good} of {len(stories)} '
        f"went as they should.</p>{told}</section>"
    )


def _story(heading: str, paragraph: str, lines: Sequence[str], ok: bool) -> str:
    mark = _sign("done" if ok else "failed", "as it should" if ok else "not as it should")
    text = "".join(f"{escape(line)}\n" for line in lines)
    shown = f"<pre>{text}</pre>" if text else ""
    kind = "good" if ok else "bad"
    return (
        f'<article class="{kind}"><h3>{mark} {escape(heading)}</h3>'
        f"<p>{escape(paragraph)}</p>{shown}</article>"
    )


def _picture(heading: str, note: str, graph: Any, draw: Callable[..., Figure]) -> str:
    if not graph.number_of_nodes():
        return ""
    picture = page_svg(draw(theme=PAGE, title=""), heading)
    return (
        f'<section><h2>{escape(heading)}</h2><p class="note">{escape(note)}</p>'
        f"<figure>{picture}</figure></section>"
    )


def _tasks(graph: Any, encoding: Encoding) -> str:
    rows = "".join(_row(graph.nodes[key], encoding) for key in sorted(graph.nodes))
    head = "".join(
        f"<th>{name}</th>"
        for name in ("name", "state", "may run on", "ran on", "start", "took", "size", "why")
    )
    return (
        "<section><h2>Tasks</h2><div class='scroll'><table>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _row(facts: Mapping[str, Any], encoding: Encoding) -> str:
    paint = encoding.scope(facts["scope"])
    processor = facts.get("processor")
    started, finished = facts.get("started"), facts.get("finished")
    took = _seconds(finished - started) if started is not None and finished is not None else ""
    state = str(facts.get("state", "waiting"))
    kind = " <small>chunk</small>" if facts.get("kind") == "chunk" else ""
    cells = [
        f"<b>{escape(str(facts.get('name', '')))}</b>{kind}",
        f"{_sign(state)} {escape(state)}",
        f'<span title="{escape(paint.label)}">{_swatch(paint)} {escape(paint.badge)}</span>',
        "" if processor is None else escape(encoding.path(processor)),
        "" if started is None else _seconds(started),
        took,
        _bytes(facts.get("nbytes")),
        escape(str(facts.get("explanation") or "")),
    ]
    numbers = {4, 5, 6}
    return (
        "<tr>"
        + "".join(
            f'<td class="number">{cell}</td>' if place in numbers else f"<td>{cell}</td>"
            for place, cell in enumerate(cells)
        )
        + "</tr>"
    )


def _symbols() -> str:
    symbols = "".join(_symbol(state) for state in STATES)
    return f'<svg width="0" height="0" style="position:absolute" aria-hidden="true">{symbols}</svg>'


def _symbol(state: str) -> str:
    style = state_style(state)
    ink = text_on(style.colour)
    return (
        f'<symbol id="state-{state}" viewBox="-1.1 -1.1 2.2 2.2">'
        f'<circle r="1" fill="{style.colour}"/>{_drawing(GLYPHS[style.glyph], ink)}</symbol>'
    )


def _drawing(glyph: Glyph, ink: str) -> str:
    line = f'fill="none" stroke="{ink}" stroke-width=".2" stroke-linecap="round"'
    parts = [f'<circle r="{ring}" {line}/>' for ring in glyph.rings]
    parts += [f'<polygon points="{_points(corners)}" fill="{ink}"/>' for corners in glyph.fills]
    parts += [f'<polyline points="{_points(stroke)}" {line}/>' for stroke in glyph.strokes]
    return "".join(parts)


def _points(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _sign(state: str, label: str = "") -> str:
    known = state if state in STATES else "waiting"
    words = escape(label or state_style(known).label)
    return f'<svg class="sign" role="img" aria-label="{words}"><use href="#state-{known}"/></svg>'


def _swatch(paint: ScopePaint) -> str:
    width, height = 26.0, 14.0
    count = max(1, len(paint.swatches))
    parts = [
        _stripe(swatch, place * width / count, width / count, height)
        for place, swatch in enumerate(paint.swatches)
    ]
    edge = INVALID if paint.crossed else "currentColor"
    if paint.crossed:
        parts.append(f'<path d="M0 0L26 14M0 14L26 0" stroke="{INVALID}" stroke-width="1.5"/>')
    parts.append(
        f'<rect x=".5" y=".5" width="25" height="13" rx="2" fill="none" stroke="{edge}" '
        'stroke-opacity=".6"/>'
    )
    return f'<svg class="swatch" viewBox="0 0 26 14" aria-hidden="true">{"".join(parts)}</svg>'


def _stripe(swatch: Swatch, x: float, width: float, height: float) -> str:
    ground = f'<rect x="{x:g}" width="{width:g}" height="{height:g}" fill="{swatch.fill}"/>'
    if not swatch.hatch:
        return ground
    path = {
        "lines": "M{a} 14L{b} 0M{c} 14L{d} 0",
        "double": "M{a} 14L{b} 0M{c} 14L{d} 0M{e} 14L{f} 0",
        "rules": "M{a} 4L{d} 4M{a} 10L{d} 10",
        "dots": "M{e} 4h1.5M{c} 8h1.5M{e} 11h1.5",
    }[swatch.hatch]
    places = {name: f"{x + width * share:g}" for name, share in _SHARES.items()}
    line = path.format(**places)
    return f'{ground}<path d="{line}" stroke="{swatch.hatch_colour}" stroke-width="1.3"/>'


_SHARES = {"a": 0.0, "b": 0.5, "c": 0.5, "d": 1.0, "e": 0.15, "f": 0.65}


def _seconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


def _bytes(count: int | None) -> str:
    if not count:
        return ""
    size, step = float(count), 1000.0
    for unit in ("B", "kB", "MB"):
        if size < step:
            return f"{size:.3g} {unit}"
        size /= step
    return f"{size:.3g} GB"


def _colours() -> str:
    light = f"{_LIGHT}{variables()}"
    dark = f"{_DARK}{variables(dark=True)}"
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"


_LIGHT = (
    "--paper:#fff;--ink:#1b1f24;--muted:#5b636d;--line:#e2e5e9;--band:#f5f6f8;"
    "--good:#00795a;--bad:#b34700;"
)
_DARK = (
    "--paper:#14171b;--ink:#e8eaed;--muted:#a2aab4;--line:#31373e;--band:#1c2025;"
    "--good:#3fd0a5;--bad:#ff9a57;"
)
_STYLE = """
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1280px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:28px;margin:0 0 16px}h2{font-size:20px;margin:40px 0 4px}
h3{font-size:16px;margin:0;display:flex;gap:8px;align-items:center}
.note{color:var(--muted);margin:0 0 12px}
dl{display:flex;flex-wrap:wrap;gap:12px;margin:0}
dl div{background:var(--band);border-radius:8px;padding:10px 16px;min-width:104px}
dt{color:var(--muted);font-size:13px}dd{margin:0;font-size:22px;font-variant-numeric:tabular-nums}
.states{list-style:none;display:flex;flex-wrap:wrap;gap:6px 20px;padding:0;margin:16px 0 0}
.sign{width:17px;height:17px;vertical-align:-3px;flex:none}
.swatch{width:26px;height:14px;vertical-align:-2px;border-radius:3px}
article{border-left:4px solid var(--good);background:var(--band);border-radius:0 8px 8px 0;
padding:12px 16px;margin:12px 0}
article.bad{border-color:var(--bad)}article p{margin:6px 0}
pre{margin:8px 0 0;white-space:pre-wrap;font:13px/1.5 ui-monospace,"DejaVu Sans Mono",monospace}
figure{margin:0;border:1px solid var(--line);border-radius:8px;overflow:auto}
figure svg{display:block;height:auto;margin:0 auto}
.scroll{overflow:auto}
table{border-collapse:collapse;width:100%;font-size:14px}
th{color:var(--muted);font-weight:600;text-align:left;position:sticky;top:0;
background:var(--paper)}
th,td{padding:5px 12px 5px 0;border-bottom:1px solid var(--line);vertical-align:top;
white-space:nowrap}
td:last-child{white-space:normal;min-width:240px;color:var(--muted)}
.number{font-variant-numeric:tabular-nums}small{color:var(--muted)}
"""
