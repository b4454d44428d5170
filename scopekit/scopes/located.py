"""Scopes that take the nodes of their workers from another session than they are used in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scopekit.scopes.form import NODE, WORKER, Form, Split, all_of, conjunction, split
from scopekit.scopes.scope import Scope, from_form

__all__ = ("relocated",)

NodeOf = Callable[[Any], str | None]


def relocated(scope: Scope, known: NodeOf, meant: NodeOf) -> Scope:
    """Return the scope with its workers on the nodes that another session knows.

    Args:
        scope: a scope that was written where `known` told the nodes of workers.
        known: returns the node of a worker there, None where it is unknown.
        meant: returns the node of a worker in the session that the scope is used in.

    Returns:
        The scope; what it says of nodes by itself stays.

    Example:
        >>> from scopekit.scopes import ProcessScope
        >>> relocated(ProcessScope(0, node="a"), {0: "a"}.get, {0: "b"}.get).node
        'b'
    """
    form = scope._form
    if not isinstance(form, Split) or form.variable != WORKER:
        return scope
    cases = [(worker, _moved(case, known(worker), meant(worker))) for worker, case in form.cases]
    return from_form(split(WORKER, cases, form.other))


def _moved(form: Form, before: str | None, after: str | None) -> Form:
    """Return the form for a worker that was taken to be on one node, and is on another."""
    if before is None or not _holds_only_on(before, form):
        return form
    anywhere = _on_node(form, before)
    return anywhere if after is None else all_of((anywhere, conjunction(((NODE, after),))))


def _holds_only_on(node: str, form: Form) -> bool:
    return all_of((form, conjunction(((NODE, node),)))) == form


def _on_node(form: Form, node: str) -> Form:
    """Return what the form says of processors on a node."""
    if isinstance(form, bool):
        return form
    if form.variable == NODE:
        return form.table.get(node, form.other)
    cases = [(value, _on_node(case, node)) for value, case in form.cases]
    return split(form.variable, cases, _on_node(form.other, node))
