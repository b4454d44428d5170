"""A scope as a line of HTML."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from scopekit.scopes.processors import describe_worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scopekit.scopes.processors import Processor


__all__ = ("scope_html",)


def scope_html(
    words: str, expression: str, shape: str, processors: Sequence[Processor] | None
) -> str:
    """Return the line: its shape, the words, how many processors there are now."""
    kind = f'<small style="opacity:.7">{escape(shape)} scope</small>'
    label = f'<span class="scopekit-words" title="{escape(expression)}">{escape(words)}</span>'
    count = "" if processors is None else _count_html(processors)
    return f'<div class="scopekit-scope">{label} {kind}{count}</div>'


def _count_html(processors: Sequence[Processor]) -> str:
    counts: dict[str, int] = {}
    for processor in processors:
        key = f"{describe_worker(processor.worker)}, {processor.kind.name}"
        counts[key] = counts.get(key, 0) + 1
    total = f"{len(processors)} processor{'' if len(processors) == 1 else 's'} now"
    rows = "".join(f"<tr><td>{escape(key)}</td><td>{n}</td></tr>" for key, n in counts.items())
    if not rows:
        return f" <small>{total}</small>"
    return (
        f"<details><summary><small>{total}</small></summary>"
        '<table class="scopekit-processors"><tr><th>worker, kind</th><th>processors</th></tr>'
        f"{rows}</table></details>"
    )
