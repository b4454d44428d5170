"""Scopes as text: the expression that makes one, the words for one."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from scopekit.scopes import ambient
from scopekit.scopes.conjuncts import Conjunct, Literals, conjuncts
from scopekit.scopes.form import DEFAULT, INDEX, KIND, NODE, SEALED, WORKER, is_label
from scopekit.scopes.processors import (
    THREAD,
    Kind,
    Processor,
    describe_worker,
    type_expression,
    type_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopekit.scopes.form import Form

__all__ = (
    "SHOWN",
    "Reading",
    "expression",
    "words",
)

SHOWN: Final = 8
"""How many parts of a long union are written out."""


class Reading:
    """The values of one combination, by the names that people use.

    Args:
        literals: the combination.
    """

    __slots__ = ("default", "index", "kind", "labels", "node", "sealed", "worker")

    def __init__(self, literals: Literals) -> None:
        values = dict(literals)
        worker, kind, index = values.get(WORKER), values.get(KIND), values.get(INDEX)
        node = values.get(NODE)
        self.worker = worker if isinstance(worker, int | str) else None
        self.kind = kind if isinstance(kind, Kind) else None
        self.index = index if isinstance(index, int) else None
        self.node = node if isinstance(node, str) else None
        self.default = DEFAULT in values
        self.sealed = SEALED in values
        self.labels = tuple(variable[1] for variable in values if is_label(variable))

    @property
    def processor(self) -> Processor | None:
        """The one processor that the values name, if they do."""
        if self.worker is None or self.kind is None:
            return None
        if not self.kind.indexed:
            return type_of(self.kind)(self.worker)  # type: ignore[call-arg]
        return None if self.index is None else type_of(self.kind)(self.worker, self.index)

    @property
    def surprising_node(self) -> str | None:
        """The node, unless the worker says it to whoever reads this here."""
        if self.worker is not None and ambient.node_of(self.worker) == self.node:
            return None
        return self.node

    @property
    def taints(self) -> tuple[str | Kind | tuple[str, str | int], ...]:
        """What the values ask beyond worker, processor and node."""
        found: list[str | Kind | tuple[str, str | int]] = []
        if self.default:
            found.append("default")
        if self.kind is not None and self.processor is None:
            found.append(self.kind)
            if self.index is not None:
                found.append(("index", self.index))
        found.extend(("label", text) for text in self.labels)
        if self.sealed:
            found.append("sealed")
        return tuple(found)


def expression(form: Form) -> str:
    """Return a Python expression that makes the scope again."""
    shown, more = _first_parts(form, _conjunct_expression)
    if not shown:
        return "InvalidScope()"
    if len(shown) == 1:
        return shown[0]
    return f"UnionScope({', '.join(shown)}{f', … {more} more' if more else ''})"


def _first_parts(form: Form, write: Callable[[Conjunct], str]) -> tuple[list[str], int]:
    parts = conjuncts(form)
    shown = [write(part) for part in islice(parts, SHOWN)]
    return shown, sum(1 for _ in parts)


def _conjunct_expression(part: Conjunct) -> str:
    base = _positive_expression(Reading(part.has))
    if not part.lacks:
        return base
    lacks = [_positive_expression(Reading(literals)) for literals in part.lacks[:SHOWN]]
    more = len(part.lacks) - len(lacks)
    if base == "AnyScope()" and len(lacks) == 1:
        return f"~{lacks[0]}"
    return " - ".join([base, *lacks]) + (f" - … {more} more" if more else "")


def _positive_expression(reading: Reading) -> str:
    if reading.sealed:
        return f"sealed({_unsealed_expression(reading)})"
    return _unsealed_expression(reading)


def _unsealed_expression(reading: Reading) -> str:
    base = _place_expression(reading)
    taints = tuple(taint for taint in reading.taints if taint != "sealed")
    if not taints:
        return base
    anywhere = base == "AnyScope()"
    match taints:
        case ("default",) if anywhere:
            return "DefaultScope()"
        case (Kind() as kind,):
            return f"ProcessorTypeScope({type_expression(kind)}{'' if anywhere else f', {base}'})"
        case (Kind() as kind, ("index", index)) if anywhere and kind == THREAD:
            return f"scope(thread={index})"
        case (("label", text),) if anywhere:
            return f"LabelScope({text!r})"
    listed = ", ".join(
        type_expression(taint) if isinstance(taint, Kind) else repr(taint) for taint in taints
    )
    return f"TaintScope({base}, ({listed}{',' if len(taints) == 1 else ''}))"


def _place_expression(reading: Reading) -> str:
    if reading.worker is None:
        return "AnyScope()" if reading.node is None else f"NodeScope({reading.node!r})"
    node = reading.surprising_node
    located = "" if node is None else f", node={node!r}"
    if reading.processor is not None:
        return f"ExactScope({reading.processor!r}{located})"
    return f"ProcessScope({reading.worker!r}{located})"


def words(form: Form) -> str:
    """Return the words for the scope."""
    shown, more = _first_parts(form, _conjunct_words)
    if not shown:
        return "nothing"
    return " or ".join(shown) + (f" or {more} more" if more else "")


def _conjunct_words(part: Conjunct) -> str:
    text = _positive_words(Reading(part.has))
    if not part.lacks:
        return text
    lacks = [f"({_positive_words(Reading(literals))})" for literals in part.lacks[:SHOWN]]
    plain = [text[1:-1] if "," not in text else text for text in lacks]
    more = len(part.lacks) - len(lacks)
    return f"{text} but not {' nor '.join(plain)}" + (f" nor {more} more" if more else "")


def _positive_words(reading: Reading) -> str:
    said: list[str] = []
    if reading.processor is not None:
        said.append(reading.processor.describe())
    elif reading.worker is not None:
        said.append(describe_worker(reading.worker))
    node = reading.surprising_node
    if node is not None:
        said.append(f"node {node}")
    placed = bool(said)
    for taint in reading.taints:
        match taint:
            case "default" | "sealed":
                said.append(str(taint))
            case Kind(name=name) if reading.index is not None:
                said.append(f"{name} {reading.index}")
            case Kind(name=name) if placed:
                said = [f"the {name}{_plural(name)} of {', '.join(said)}"]
            case Kind(name=name):
                said.append(f"{name}{_plural(name)}")
            case ("label", text):
                said.append(f"label {text}")
    return ", ".join(said) or "any"


def _plural(kind: str) -> str:
    return "s" if kind == THREAD.name else " processors"
