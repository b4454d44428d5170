"""What a graph holds, in the order of a picture, in its words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from scopekit.encoding import DARK, LIGHT, STATES, Encoding, ScopePaint, Theme
from scopekit.layout import Item

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scopekit.scopes import Processor

__all__ = ("PENDING", "Lane", "Mark", "Scene", "graph_of", "theme_named")

PENDING = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """One task or chunk, with all that drawing it needs."""

    key: int
    name: str
    state: str
    paint: ScopePaint
    chunk: bool = False
    narrowed: bool = False
    processor: Processor | None = None
    node: str | None = None
    started: float | None = None
    finished: float | None = None


@dataclass(frozen=True, slots=True)
class Lane:
    """One row of places: a processor, with the words for it."""

    key: str
    node: str
    worker: str
    label: str
    paint: ScopePaint | None


def theme_named(name: str | Theme) -> Theme:
    """Looks up a theme; one that is given is taken as it is."""
    if isinstance(name, Theme):
        return name
    if name not in {"light", "dark"}:
        raise ValueError(f"theme={name!r}: say 'light' or 'dark'")
    return LIGHT if name == "light" else DARK


def graph_of(source: Any) -> Any:
    """Gives the graph of a session, or the graph that was given."""
    if source is None:
        source = import_module("scopekit").current_session()
    return source.graph() if hasattr(source, "graph") and callable(source.graph) else source


class Scene:
    """What a graph holds, in the order and the words of a picture."""

    def __init__(self, graph: Any, title: str | None) -> None:
        self.graph = graph
        facts = [graph.nodes[key] for key in sorted(graph.nodes)]
        homes = {fact["worker"]: fact.get("node") for fact in facts if self._gone(graph, fact)}
        self.encoding = Encoding(graph.graph["topology"], homes)
        self.title = title if title is not None else str(graph.graph.get("session") or "session")
        self.marks = {key: self._mark(key, graph.nodes[key]) for key in sorted(graph.nodes)}

    @staticmethod
    def _gone(graph: Any, facts: Mapping[str, Any]) -> bool:
        worker = facts.get("worker")
        return worker is not None and graph.graph["topology"].node_of(worker) is None

    def _mark(self, key: int, facts: Mapping[str, Any]) -> Mark:
        return Mark(
            key,
            name=str(facts.get("name") or key),
            state=str(facts.get("state", "waiting")),
            paint=self.encoding.scope(facts["scope"]),
            chunk=facts.get("kind") == "chunk",
            narrowed=bool(facts.get("scopes_written", False)),
            processor=facts.get("processor"),
            node=facts.get("node"),
            started=facts.get("started"),
            finished=facts.get("finished"),
        )

    def items(self, *, placed: bool) -> list[Item]:
        """Lists what to arrange, in lanes if it is to stand where it ran."""
        return [
            Item(
                key,
                tuple(sorted(self.graph.predecessors(key))),
                self.lane_key(mark) if placed else PENDING,
            )
            for key, mark in self.marks.items()
        ]

    def lane_key(self, mark: Mark) -> str:
        """Names the lane of a mark."""
        return self.encoding.path(mark.processor) if mark.processor is not None else PENDING

    def lanes(self) -> list[Lane]:
        """Lists the lanes from top to bottom; idle processors only where there is room."""
        used = {self.lane_key(mark) for mark in self.marks.values()}
        places = self.encoding.ordered(
            mark.processor for mark in self.marks.values() if mark.processor is not None
        )
        most = 12
        shown = [p for p in places if self.encoding.path(p) in used or len(places) <= most]
        lanes = [self._lane(processor) for processor in shown]
        return [Lane(PENDING, "", "not placed", "", None), *lanes] if PENDING in used else lanes

    def _lane(self, processor: Processor) -> Lane:
        worker = processor.worker
        return Lane(
            self.encoding.path(processor),
            self.encoding.node(processor),
            worker if isinstance(worker, str) else f"worker {worker}",
            f"{processor.kind.name} {processor.index}",
            self.encoding.processor(processor),
        )

    def summary(self) -> str:
        """Counts the tasks by state, in words."""
        tasks = Counter(mark.state for mark in self.marks.values() if not mark.chunk)
        counts = [f"{tasks[state]} {state}" for state in STATES if tasks[state]]
        total = sum(tasks.values())
        noun = "task" if total == 1 else "tasks"
        return f"{total} {noun}" + (": " + ", ".join(counts) if counts else "")
