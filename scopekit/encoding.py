"""The visual encoding: which colour, hatch, badge or glyph stands for what.

Fill says where a task *may* run: the hue is the branch (a node, or an engine where
there is one node only), the shade is the depth (node, process, processor), stripes
are a union, a hollow box is anywhere, a crossed one nowhere. The glyph is the state.
Colour is never alone: every fill has a badge and every state a shape.

The twelve fills keep a distance of 9 in CIEDE2000 between any two, with normal sight
and with each of the three dichromacies, which is why they are a table and not a formula.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from scopekit.places import Topology
    from scopekit.scopes import Processor, Scope

__all__ = (
    "DARK",
    "GLYPHS",
    "INVALID",
    "LIGHT",
    "PALETTE",
    "STATES",
    "Encoding",
    "Glyph",
    "Hatch",
    "ScopePaint",
    "StateStyle",
    "Swatch",
    "Theme",
    "branches",
    "contrast",
    "state_style",
    "text_on",
)

Hatch = Literal["", "lines", "dots", "rules", "double"]
Level = Literal["node", "worker", "processor"]

NODE, PROCESS, EXACT = range(3)

PALETTE: tuple[tuple[str, str, str], ...] = (
    ("#BDD6FE", "#79A2E6", "#4A71B1"),
    ("#FFCB70", "#D19506", "#946900"),
    ("#76D8AF", "#40A47E", "#047252"),
    ("#D8A4CC", "#A57499", "#73466A"),
)
# Branches 5 to 16 take the four hues again, under these hatches.
HATCHES: tuple[Hatch, ...] = ("", "lines", "dots", "rules")
NEUTRAL = "#DADADA"
DEFAULT = "#EDEDED"
OUTLINE = "#707070"
INVALID = "#D55E00"
MAX_STRIPES = 4


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of everything that is not a scope or a state."""

    name: str
    paper: str
    ink: str
    muted: str
    line: str
    band: str
    faint: str
    default: str
    outline: str
    strokes: tuple[str, ...]


LIGHT = Theme(
    *("light", "#FFFFFF", "#1B1F24", "#5B636D", "#8A929C", "#F5F6F8", "#E2E5E9", DEFAULT),
    outline=OUTLINE,
    strokes=tuple(branch[EXACT] for branch in PALETTE),
)
DARK = Theme(
    *("dark", "#14171B", "#E8EAED", "#A2AAB4", "#7C8590", "#1C2025", "#31373E", "#343A42"),
    outline=NEUTRAL,
    strokes=tuple(branch[NODE] for branch in PALETTE),
)


@dataclass(frozen=True, slots=True)
class StateStyle:
    """How a state is drawn: its glyph, its colour, the border of its box.

    Attributes:
        glyph: a key of ``GLYPHS``.
        label: the state in words.
        colour: the glyph's ground.
        width: the border's width in pixels.
        dash: the border's dashes in pixels; empty for a solid one.
    """

    glyph: str
    label: str
    colour: str
    width: float = 1.0
    dash: tuple[float, ...] = ()


# In the order of a task's life, which is the order of every legend.
STATES: Mapping[str, StateStyle] = {
    "waiting": StateStyle("ring", "waiting for inputs", "#DADADA", 1.0, (2, 2)),
    "unmatched": StateStyle("question", "no such processor now", "#DADADA", 1.0, (2, 2)),
    "queued": StateStyle("quarter", "queued", "#707070", 1.0, (4, 2)),
    "moving": StateStyle("arrows", "moving data", "#E69F00"),
    "running": StateStyle("play", "running", "#0072B2", 2.0),
    "done": StateStyle("check", "done", "#00A97A"),
    "failed": StateStyle("cross", "failed", "#D55E00", 3.0),
    "blocked": StateStyle("barred", "blocked upstream", "#CC79A7", 2.0, (1, 2)),
    "cancelled": StateStyle("dash", "cancelled", "#4D4D4D"),
    "pending": StateStyle("ring", "pending", "#DADADA", 1.0, (2, 2)),
    "held": StateStyle("check", "held", "#00A97A"),
    "lost": StateStyle("cross", "lost", "#D55E00", 3.0),
    "released": StateStyle("dash", "released", "#4D4D4D"),
}
_OTHER_STATE = StateStyle("ring", "unknown", "#DADADA", 1.0, (2, 2))


def state_style(state: str) -> StateStyle:
    """Gives the style of a state; one that this table does not know looks like waiting."""
    return STATES.get(state, _OTHER_STATE)


Line = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Glyph:
    """A small drawing in a square from -1 to 1, y downwards.

    Attributes:
        strokes: polylines to draw.
        fills: polygons to fill.
        rings: radii of circles around the middle to draw.
    """

    strokes: tuple[Line, ...] = ()
    fills: tuple[Line, ...] = ()
    rings: tuple[float, ...] = ()


GLYPHS: Mapping[str, Glyph] = {
    "ring": Glyph(rings=(0.5,)),
    "quarter": Glyph(
        rings=(0.58,),
        fills=(((0, 0), (0, -0.58), (0.22, -0.54), (0.41, -0.41), (0.54, -0.22), (0.58, 0)),),
    ),
    "question": Glyph(
        strokes=(
            (
                *((-0.32, -0.32), (-0.22, -0.56), (0.0, -0.64), (0.24, -0.56), (0.32, -0.32)),
                *((0.22, -0.12), (0.0, 0.02), (0.0, 0.22)),
            ),
            ((0.0, 0.52), (0.0, 0.6)),
        )
    ),
    "arrows": Glyph(
        strokes=(
            ((-0.6, -0.25), (0.5, -0.25)),
            ((0.2, -0.55), (0.52, -0.25)),
            ((0.6, 0.25), (-0.5, 0.25)),
            ((-0.2, 0.55), (-0.52, 0.25)),
        )
    ),
    "play": Glyph(fills=(((-0.38, -0.56), (0.62, 0.0), (-0.38, 0.56)),)),
    "check": Glyph(strokes=(((-0.52, 0.02), (-0.14, 0.4), (0.54, -0.38)),)),
    "cross": Glyph(strokes=(((-0.42, -0.42), (0.42, 0.42)), ((-0.42, 0.42), (0.42, -0.42)))),
    "barred": Glyph(rings=(0.56,), strokes=(((-0.4, 0.4), (0.4, -0.4)),)),
    "dash": Glyph(strokes=(((-0.5, 0.0), (0.5, 0.0)),)),
}


@dataclass(frozen=True, slots=True)
class Swatch:
    """One ground: its fill, its hatch and the stroke that goes with it."""

    fill: str
    hatch: Hatch = ""
    branch: int | None = None

    def ground(self, theme: Theme = LIGHT) -> str:
        """Gives the fill; the default scope, which most tasks have, keeps close to the paper."""
        return theme.default if self.fill == DEFAULT else self.fill

    def stroke(self, theme: Theme = LIGHT) -> str:
        """Gives the border that stands out from the theme's paper."""
        if self.branch is None:
            return theme.outline
        return theme.strokes[self.branch % len(theme.strokes)]

    @property
    def hatch_colour(self) -> str:
        """The colour of the hatch, which must show on light fills as on dark ones."""
        if self.branch is None:
            return OUTLINE
        node, _, exact = PALETTE[self.branch % len(PALETTE)]
        return node if self.fill == exact else exact


@dataclass(frozen=True, slots=True)
class ScopePaint:
    """How a scope is drawn.

    Attributes:
        swatches: equal vertical stripes, one for a simple scope, none for a hollow one.
        badge: the scope in a few characters.
        crossed: True if the scope is empty.
        hollow: True if it is anywhere.
        more: how many members of a union have no stripe of their own.
        label: the scope in words, for legends.
    """

    swatches: tuple[Swatch, ...]
    badge: str
    label: str
    crossed: bool = False
    hollow: bool = False
    more: int = 0

    @property
    def fills(self) -> tuple[str, ...]:
        """The colours of the stripes from left to right."""
        return tuple(swatch.fill for swatch in self.swatches)

    @property
    def busy(self) -> bool:
        """Whether words on this ground need paper under them."""
        return len(self.swatches) > 1 or any(s.hatch for s in self.swatches)

    def grounds(self, theme: Theme = LIGHT) -> tuple[str, ...]:
        """Gives the colours of the stripes on the theme's paper."""
        return tuple(swatch.ground(theme) for swatch in self.swatches)

    def stroke(self, theme: Theme = LIGHT) -> str:
        """Gives the colour of the border."""
        if self.crossed:
            return INVALID
        one = len({swatch.branch for swatch in self.swatches}) == 1
        return (self.swatches[0] if one else Swatch(NEUTRAL)).stroke(theme)


def _luminance(colour: str) -> float:
    def linear(part: int) -> float:
        value = part / 255
        low = 0.04045
        return value / 12.92 if value <= low else ((value + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(int(colour[start : start + 2], 16)) for start in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Gives the WCAG contrast ratio of two ``#RRGGBB`` colours, from 1 to 21."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def text_on(*fills: str) -> str:
    """Chooses black or white, whichever reads better on the worst of the fills."""
    black, white = (
        min((contrast(ink, fill) for fill in fills), default=0.0) for ink in ("#000000", "#FFFFFF")
    )
    return "#000000" if black >= white else "#FFFFFF"


def branches(names: Iterable[str]) -> dict[str, int]:
    """Assigns each name a branch from 0 on, the same one in every run.

    A name asks for the hue of its hash and takes the next free one if an earlier name
    has it. The hues come back under a hatch only when all four are taken.
    """
    hues = len(PALETTE)
    taken: dict[int, str] = {}
    found: dict[str, int] = {}
    for name in dict.fromkeys(names):
        tier = len(found) // hues * hues
        wanted = crc32(name.encode()) % hues
        branch = next(
            tier + (wanted + step) % hues
            for step in range(hues)
            if tier + (wanted + step) % hues not in taken
        )
        taken[branch] = name
        found[name] = branch
    return found


@dataclass(frozen=True, slots=True)
class _Place:
    """A node, a process or a processor as a scope names it."""

    node: str | None = None
    worker: int | str | None = None
    processor: Processor | None = None
    kind: str = ""

    @property
    def depth(self) -> int:
        if self.processor is not None:
            return EXACT
        return NODE if self.worker is None else PROCESS


_SHORT_KINDS = {"thread": "t", "cuda": "gpu"}
_KIND_HATCHES: Mapping[str, Hatch] = {"thread": "", "os": "", "cuda": "double"}
_ANYWHERE = _Place()


class Encoding:
    """The colours and badges of one session.

    The branch, and with it the hue, is the topmost level at which this session's
    places differ: its nodes, else its engines, else its processors.

    Args:
        topology: the session's processors.
        homes: the nodes of workers that the topology no longer has.
    """

    def __init__(
        self, topology: Topology, homes: Mapping[int | str, str | None] | None = None
    ) -> None:
        self.topology = topology
        self.homes = dict(homes or {})
        self._paints: dict[Scope, ScopePaint] = {}

    @cached_property
    def level(self) -> Level:
        """The level that the hues tell apart."""
        if len({self.node_of(worker) for worker in self._engines}) > 1:
            return "node"
        return "worker" if len(self._engines) > 1 else "processor"

    @cached_property
    def branches(self) -> dict[str, int]:
        """The number of each branch, by the branch's name."""
        runners = [processor for processor in self.ordered() if processor.kind.name != "os"]
        return branches(
            name for name in (self._branch(_Place(processor=p)) for p in runners) if name
        )

    @cached_property
    def _engines(self) -> tuple[int | str, ...]:
        workers = dict.fromkeys(processor.worker for processor in self.topology.processors)
        workers.update(dict.fromkeys(self.homes))
        engines = tuple(worker for worker in workers if worker != "client")
        return engines or tuple(workers)

    def node_of(self, worker: int | str) -> str:
        """Names the node of a worker, or gives an empty text where nothing knows it."""
        return self.topology.node_of(worker) or self.homes.get(worker) or ""

    def node(self, processor: Processor) -> str:
        """Names the node of a processor."""
        return self.node_of(processor.worker)

    def ordered(self, extra: Iterable[Processor] = ()) -> tuple[Processor, ...]:
        """Lists the processors that run tasks by node, worker, kind and index.

        The client's are among them only if they are the only ones, or given as extra.
        """
        alone = self._engines == ("client",)
        known = [
            processor
            for processor in self.topology.processors
            if processor.kind.name != "os" and (alone or processor.worker != "client")
        ]
        return tuple(sorted(dict.fromkeys([*known, *extra]), key=self._order))

    def _order(self, processor: Processor) -> tuple[object, ...]:
        worker = processor.worker
        client = isinstance(worker, str)
        number = (worker, "") if isinstance(worker, int) else (-1, worker)
        return (client, self.node(processor), number, processor.kind.name, processor.index)

    def path(self, processor: Processor) -> str:
        """Names a processor in a few characters, such as ``a/w0/t1``."""
        kind = _SHORT_KINDS.get(processor.kind.name, processor.kind.name)
        return f"{self._worker(processor.worker)}/{kind}{processor.index}"

    def _worker(self, worker: int | str) -> str:
        name = worker if isinstance(worker, str) else f"w{worker}"
        node = self.node_of(worker)
        return f"{node}/{name}" if node and self.level == "node" else name

    def processor(self, processor: Processor) -> ScopePaint:
        """Gives the paint of the very processor, for chips and lane headers."""
        place = _Place(processor=processor)
        return ScopePaint((self._swatch(place),), self.path(processor), processor.describe())

    def node_paint(self, node: str) -> ScopePaint:
        """Gives the paint of a node."""
        return ScopePaint((self._swatch(_Place(node=node)),), node, f"node {node}")

    def scope(self, scope: Scope) -> ScopePaint:
        """Gives the paint of a scope."""
        if scope not in self._paints:
            self._paints[scope] = self._paint(scope)
        return self._paints[scope]

    def _paint(self, scope: Scope) -> ScopePaint:
        from scopekit.scopes import AnyScope, DefaultScope, InvalidScope  # noqa: PLC0415 - see _places

        label = scope.describe()
        if isinstance(scope, InvalidScope):
            return ScopePaint((), "none", label, crossed=True)
        if scope == DefaultScope():
            return ScopePaint((Swatch(DEFAULT),), "default", label)
        kind = self._kind(scope)
        places = self._merged(self._places(scope))
        if isinstance(scope, AnyScope):
            return ScopePaint((), "any", label, hollow=True)
        if _ANYWHERE in places or not places:
            hatch = _KIND_HATCHES.get(kind, "dots")
            badge = kind if hatch else label
            return ScopePaint((Swatch(NEUTRAL if hatch else DEFAULT, hatch),), badge, label)
        return self._striped(places, kind, label)

    def _striped(self, places: list[_Place], kind: str, label: str) -> ScopePaint:
        hatch = _KIND_HATCHES.get(kind, "dots")
        shown = dict.fromkeys(self._swatch(place, hatch) for place in places)
        if len(places) == 1:
            suffix = f" {kind}" if hatch and places[0].processor is None else ""
            return ScopePaint(tuple(shown), self._badge(places[0]) + suffix, label)
        badge = f"{len(places)} places"
        if len(places) <= MAX_STRIPES:
            stripes = tuple(self._swatch(place, hatch) for place in places)
            joined = " | ".join(self._badge(place) for place in places)
            return ScopePaint(stripes, joined, label)
        stripes = tuple(self._swatch(place, hatch) for place in places[: MAX_STRIPES - 1])
        more = len(places) - len(stripes)
        return ScopePaint((*stripes, Swatch(NEUTRAL)), badge, label, more=more)

    def _kind(self, scope: Scope) -> str:
        """Names the kind of processor that a scope asks for, if it is one kind only."""
        kinds = {p.kind.name for p in self.topology.select(self.topology.mask(scope))} - {"os"}
        return kinds.pop() if len(kinds) == 1 else "thread"

    def _places(self, scope: Scope) -> list[_Place]:
        """Splits a scope into the places that it names, or else those that it matches."""
        # Loaded late: colours are wanted by processes that never make a scope.
        from scopekit import scopes  # noqa: PLC0415

        match scope:
            case scopes.UnionScope():
                found = [place for member in scope.scopes for place in self._places(member)]
            case scopes.ExactScope():
                found = [_Place(processor=scope.processor)]
            case scopes.ProcessScope():
                found = [_Place(node=scope.node, worker=scope.worker)]
            case scopes.NodeScope():
                found = [_Place(node=scope.node)]
            case scopes.TaintScope():
                # Default and kinds narrow within a place; labels and exclusions choose places.
                mild = all(taint == "default" or isinstance(taint, type) for taint in scope.taints)
                chosen = [] if mild else self._cover(scope)
                found = chosen or self._places(scope.inner)
            case _:
                found = [_ANYWHERE]
        return found

    def _cover(self, scope: Scope) -> list[_Place]:
        found = self.topology.select(self.topology.mask(scope))
        inside: dict[int | str, list[Processor]] = {}
        for processor in found:
            if processor.kind.name != "os":
                inside.setdefault(processor.worker, []).append(processor)
        places: list[_Place] = []
        for worker, processors in inside.items():
            same = {p.kind for p in processors}
            all_of_them = [
                p for p in self.topology.processors if p.worker == worker and p.kind in same
            ]
            if len(processors) == len(all_of_them):
                places.append(_Place(worker=worker))
            else:
                places.extend(_Place(processor=processor) for processor in processors)
        if len(inside) >= len(self._engines) and all(p.depth == PROCESS for p in places):
            return [_ANYWHERE]
        return places

    def _merged(self, places: list[_Place]) -> list[_Place]:
        """Draws all the processes of a node as the node, in a fixed order."""
        whole = {p.worker for p in places if p.depth == PROCESS}
        nodes: dict[str, None] = {}
        for worker in self._engines:
            nodes.setdefault(self.node_of(worker), None)
        for node in nodes:
            mine = [worker for worker in self._engines if self.node_of(worker) == node]
            if node and len(mine) > 1 and self.level == "node" and whole.issuperset(mine):
                places = [p for p in places if p.worker not in mine] + [_Place(node=node)]
        return sorted(dict.fromkeys(places), key=self._place_order)

    def _place_order(self, place: _Place) -> tuple[object, ...]:
        branch = self._number(place)
        return (99 if branch is None else branch, place.depth, self._badge(place))

    def _branch(self, place: _Place) -> str | None:
        if self.level == "node":
            worker = place.processor.worker if place.processor is not None else place.worker
            if worker is None:
                return place.node
            return self.node_of(worker) or place.node
        if self.level == "worker":
            worker = place.processor.worker if place.processor is not None else place.worker
            return None if worker is None else str(worker)
        return None if place.processor is None else self.path(place.processor)

    def _number(self, place: _Place) -> int | None:
        name = self._branch(place)
        return None if name is None else self.branches.get(name)

    def _swatch(self, place: _Place, hatch: Hatch = "") -> Swatch:
        number = self._number(place)
        if number is None or number >= len(PALETTE) * len(HATCHES):
            return Swatch(NEUTRAL, hatch)
        hue = number % len(PALETTE)
        return Swatch(PALETTE[hue][place.depth], hatch or HATCHES[number // len(PALETTE)], number)

    def _badge(self, place: _Place) -> str:
        if place.processor is not None:
            return self.path(place.processor)
        if place.worker is not None:
            return self._worker(place.worker)
        return place.node or "any"
