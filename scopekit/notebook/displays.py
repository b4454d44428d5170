"""Facts about sessions, tasks, chunks and decisions, turned into HTML for notebooks.

The HTML is tables with few inline attributes. It takes its colours from the page it
stands in, so that it serves light and dark themes; where a site strips styles, as
GitHub does, the tables and the words remain. All text is escaped, and no value of
any task or chunk is ever among the facts.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from scopekit.encoding import INVALID, STATES, Encoding, state_style

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from scopekit.encoding import ScopePaint
    from scopekit.explanation import Explanation
    from scopekit.holding import Holdings
    from scopekit.scopes import Processor

__all__ = (
    "chunk_html",
    "chunk_text",
    "explanation_html",
    "holdings_html",
    "session_html",
    "session_text",
    "swatch_html",
    "task_html",
    "task_text",
)

_LINE = "rgba(128,128,128,.35)"
_CELL = f"padding:2px 10px;border-bottom:1px solid {_LINE};text-align:left"
_GOOD, _BAD = "#00A97A", INVALID
MAX_ROWS = 32
OPEN_ROWS = 12


def session_text(facts: Mapping[str, Any]) -> str:
    """Tells of a session in a few lines."""
    return "\n".join(
        [
            f"Session {facts['name']} ({facts['state']}): {_counts(facts)}",
            *(
                f"  {_worker(entry['worker'])} on node {entry['node']}, pid {entry['pid']}: "
                f"{entry['running']} running, {entry['queued']} queued"
                for entry in facts["workers"]
            ),
        ]
    )


def session_html(facts: Mapping[str, Any]) -> str:
    """Shows a session: its workers with what they do, the tasks by state."""
    rows = [
        (
            _worker(entry["worker"]),
            entry["node"],
            entry["pid"] or "",
            _number_of(entry["processors"]),
            entry["running"],
            entry["queued"],
        )
        for entry in facts["workers"]
    ]
    head = ("worker", "node", "pid", "processors", "running", "queued")
    states = " ".join(_state(state, count) for state, count in _by_life(facts))
    return _frame(
        f"<b>Session {_text(facts['name'])}</b> {_muted(facts['state'])}",
        _table(head, [[_text(cell) for cell in row] for row in rows]),
        f"<div>{states or _muted('no tasks yet')}</div>",
    )


def task_text(facts: Mapping[str, Any]) -> str:
    """Tells of a task in one line."""
    parts = [f"Task {facts.get('name', facts['id'])}: {facts['state']}"]
    if facts.get("processor") is not None:
        parts.append(f"on {_place(facts)}")
    if facts.get("duration") is not None:
        parts.append(f"in {_seconds(facts['duration'])}")
    if facts.get("error"):
        parts.append(f"with {facts['error']}")
    return " ".join(parts)


def task_html(facts: Mapping[str, Any]) -> str:
    """Shows a task: its state, where it may run, where it does run."""
    rows = [("state", _state(facts["state"])), ("may run on", _scope(facts))]
    if facts.get("processor") is not None:
        rows.append(("runs on", _text(_place(facts))))
    if facts.get("duration") is not None:
        rows.append(("took", _text(_seconds(facts["duration"]))))
    if facts.get("error"):
        rows.append(("error", f"<b>{_text(facts['error'])}</b>"))
    return _frame(f"<b>Task {_text(facts.get('name', facts['id']))}</b>", _sheet(rows))


def chunk_text(facts: Mapping[str, Any]) -> str:
    """Tells of a chunk in one line, never of its value."""
    kind = facts.get("type") or "value"
    size = f", {_bytes(facts['nbytes'])}" if facts.get("nbytes") else ""
    where = f" on {_place(facts)}" if facts.get("processor") is not None else ""
    return f"Chunk {facts['id']}: {kind}{size}, {facts['state']}{where}"


def chunk_html(facts: Mapping[str, Any]) -> str:
    """Shows a chunk: its type, size, scope and place, never its value."""
    rows = [("state", _state(facts["state"])), ("type", _text(facts.get("type") or "value"))]
    if facts.get("nbytes"):
        rows.append(("size", _text(_bytes(facts["nbytes"]))))
    rows.append(("valid on", _scope(facts)))
    if facts.get("processor") is not None:
        rows.append(("held on", _text(_place(facts))))
    return _frame(f"<b>Chunk {_text(facts['id'])}</b>", _sheet(rows))


def explanation_html(explanation: Explanation) -> str:
    """Shows a decision: the sentence, the funnel, the processors against the operands."""
    encoding = Encoding(explanation.topology)
    return _frame(
        f"<b>{_text(explanation.sentence())}</b>",
        _details(explanation),
        _funnel(explanation, encoding),
        _matrix(explanation, encoding),
        _widening(explanation),
    )


def holdings_html(holdings: Holdings) -> str:
    """Shows what a worker holds, what would be lost with it."""
    encoding = Encoding(holdings.topology)
    tasks = [
        [_text(task.name), _state(task.state), _fate(lost=task.lost)] for task in holdings.tasks
    ]
    chunks = [
        [
            _text(chunk.name),
            _text(chunk.type),
            _text(_bytes(chunk.nbytes)),
            swatch_html(encoding.scope(chunk.scope)) + _text(chunk.scope.describe()),
            _text(", ".join(map(str, chunk.others))),
            _fate(lost=chunk.lost),
        ]
        for chunk in holdings.chunks
    ]
    return _frame(
        f"<b>{_text(holdings.sentence())}</b>",
        _listed(("task", "state", "without it"), tasks),
        _listed(("chunk", "type", "size", "valid on", "also on", "without it"), chunks),
    )


def _fate(*, lost: bool) -> str:
    return f'<b style="color:{_BAD}">lost</b>' if lost else "kept"


def _listed(head: Iterable[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    more = len(rows) - MAX_ROWS
    rest = f"<div>{_muted(f'and {more} more')}</div>" if more > 0 else ""
    return _table(head, rows[:MAX_ROWS]) + rest


def swatch_html(paint: ScopePaint) -> str:
    """Gives a small sample of a scope's colours, which words must stand beside."""
    fills = paint.fills
    stops = [
        f"{fill} {100 * place // len(fills)}% {100 * (place + 1) // len(fills)}%"
        for place, fill in enumerate(fills)
    ]
    ground = f"background:linear-gradient(90deg,{','.join(stops)});" if fills else ""
    edge = INVALID if paint.crossed else "rgba(128,128,128,.8)"
    style = (
        f"display:inline-block;width:18px;height:10px;border-radius:2px;"
        f"border:1px solid {edge};{ground}margin-right:6px"
    )
    return f'<span style="{style}"></span>'


def _funnel(explanation: Explanation, encoding: Encoding) -> str:
    total = explanation.candidates
    rows = [["all processors", "", "", _bar(total, total)]]
    left = total
    for operand in explanation.operands:
        left -= operand.removed
        removed = (
            f'<b style="color:{_BAD}">&minus;{operand.removed}</b>' if operand.removed else "0"
        )
        paint = encoding.scope(operand.scope)
        rows.append(
            [
                _text(operand.origin),
                swatch_html(paint) + _text(operand.scope.describe()),
                removed,
                _bar(left, total),
            ]
        )
    return _table(("", "scope", "removed", "left"), rows)


def _bar(count: int, total: int) -> str:
    width = round(90 * count / total) if total else 0
    style = (
        f"display:inline-block;width:{width}px;height:8px;margin-right:6px;"
        "background:rgba(128,128,128,.6)"
    )
    return f'<span style="{style}"></span>{count}'


def _matrix(explanation: Explanation, encoding: Encoding) -> str:
    if not explanation.operands:
        return ""
    masks = [explanation.topology.mask(operand.scope) for operand in explanation.operands]
    everyone = sorted(
        explanation.topology.processors,
        key=lambda processor: _nearness(processor, explanation),
    )
    rows = [
        _matrix_row(processor, masks, explanation, encoding) for processor in everyone[:MAX_ROWS]
    ]
    head = ("processor", *(operand.origin for operand in explanation.operands))
    table = _table(head, rows)
    if len(everyone) > MAX_ROWS:
        table += f"<div>{_muted(f'and {len(everyone) - MAX_ROWS} more')}</div>"
    if len(everyone) <= OPEN_ROWS:
        return table
    summary = f"{len(everyone)} processors, one by one"
    return f"<details><summary>{summary}</summary>{table}</details>"


def _nearness(processor: Processor, explanation: Explanation) -> int:
    # A long list is cut: the chosen processor and those left must not be cut off.
    if processor == explanation.chosen:
        return 0
    return 1 if processor in explanation.left else 2


def _matrix_row(
    processor: Processor,
    masks: Sequence[int],
    explanation: Explanation,
    encoding: Encoding,
) -> list[str]:
    bit = explanation.topology.bit(processor) or 0
    allowed = [bool(mask >> bit & 1) for mask in masks]
    first = allowed.index(False) if False in allowed else -1
    name = _text(encoding.path(processor))
    if processor == explanation.chosen:
        name = f"<b>{name} ←</b>"
    cells = [_verdict(good, first=place == first) for place, good in enumerate(allowed)]
    return [swatch_html(encoding.processor(processor)) + name, *cells]


def _verdict(good: bool, *, first: bool) -> str:
    if good:
        return f'<span style="color:{_GOOD}">✓</span>'
    if first:
        return f'<b style="color:{_BAD};border:1px solid {_BAD};padding:0 4px">✕</b>'
    return '<span style="opacity:.6">✕</span>'


def _details(explanation: Explanation) -> str:
    lines = [f"<li>{_text(said)}</li>" for said in explanation.details()]
    return f"<ul>{''.join(lines)}</ul>" if lines else ""


def _widening(explanation: Explanation) -> str:
    if explanation.left:
        return ""
    lines = [
        f"<li>without {_text(origin)} there would be {count}</li>"
        for origin, count in explanation.widening()
    ]
    return f"<ul>{''.join(lines)}</ul>" if lines else ""


def _frame(*parts: str) -> str:
    inside = "".join(f"<div>{part}</div>" for part in parts if part)
    return f'<div style="line-height:1.5">{inside}</div>'


def _table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f'<th style="{_CELL}">{_text(name)}</th>' for name in head)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    style = "border-collapse:collapse;margin:6px 0"
    return f'<table style="{style}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def _sheet(rows: Iterable[tuple[str, str]]) -> str:
    body = "".join(
        f'<tr><th style="{_CELL}">{_text(name)}</th><td style="{_CELL}">{cell}</td></tr>'
        for name, cell in rows
    )
    return f'<table style="border-collapse:collapse;margin:6px 0"><tbody>{body}</tbody></table>'


def _state(state: str, count: int | None = None) -> str:
    colour = state_style(state).colour
    dot = (
        f'<span style="display:inline-block;width:9px;height:9px;border-radius:5px;'
        f'background:{colour};border:1px solid {_LINE};margin-right:5px"></span>'
    )
    words = state if count is None else f"{count} {state}"
    return f'<span style="margin-right:12px">{dot}{_text(words)}</span>'


def _scope(facts: Mapping[str, Any]) -> str:
    scope = facts.get("scope")
    if scope is None:
        return _muted("unknown")
    topology = facts.get("topology")
    swatch = "" if topology is None else swatch_html(Encoding(topology).scope(scope))
    return swatch + _text(scope.describe())


def _place(facts: Mapping[str, Any]) -> str:
    node = facts.get("node")
    place: str = facts["processor"].describe()
    return f"node {node}, {place}" if node else place


def _by_life(facts: Mapping[str, Any]) -> list[tuple[str, int]]:
    counts: Mapping[str, int] = facts.get("tasks") or {}
    known = [(state, counts[state]) for state in STATES if counts.get(state)]
    return known + [(state, count) for state, count in counts.items() if state not in STATES]


def _counts(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {state}" for state, count in _by_life(facts)) or "no tasks yet"


def _number_of(processors: Any) -> int:
    return processors if isinstance(processors, int) else len(processors)


def _worker(worker: int | str) -> str:
    return worker if isinstance(worker, str) else f"worker {worker}"


def _seconds(seconds: float) -> str:
    milli = 1e3
    return f"{seconds * milli:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _bytes(count: int) -> str:
    size = float(count)
    step = 1000.0
    for unit in ("B", "kB", "MB", "GB"):
        if size < step:
            return f"{size:.3g} {unit}"
        size /= step
    return f"{size:.3g} TB"


def _muted(text: object) -> str:
    return f'<span style="opacity:.7">{_text(text)}</span>'


def _text(value: object) -> str:
    return escape(str(value))
