"""Sealed scopes: what is computed from a sealed value is sealed, too."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from scopekit.scopes.form import SEALED, Split
from scopekit.scopes.helper import as_scope
from scopekit.scopes.scope import AnyScope, TaintScope

if TYPE_CHECKING:
    from scopekit.scopes.form import Form
    from scopekit.scopes.scope import Scope

__all__ = ("is_sealed", "sealed")


def sealed(scope: object = None) -> Scope:
    """Returns a scope that stays with what is computed from a value.

    The result of a task with sealed inputs is valid where all of these are, and sealed as
    well; what such a task prints, or says in an error, stays where it ran. That ends with
    ``rescope(..., declassify=True)``, which is recorded.

    Args:
        scope: where the value is valid, or what ``scope()`` makes a scope of; anywhere if
            None.

    Raises:
        ScopeError: it is no scope.

    Example:
        >>> from scopekit.scopes import NodeScope, ProcessScope
        >>> sealed(NodeScope("clinic")) & ProcessScope(1)
        sealed(ProcessScope(1, node='clinic'))
    """
    return TaintScope(AnyScope() if scope is None else as_scope(scope), ("sealed",))


@lru_cache(maxsize=4096)
def is_sealed(scope: Scope) -> bool:
    """Tells whether a scope, or a part of it, is sealed.

    Args:
        scope: the scope.

    Example:
        >>> is_sealed(sealed()), is_sealed(AnyScope())
        (True, False)
    """
    return _asks(scope._form, {})


def _asks(form: Form, seen: dict[Form, bool]) -> bool:
    if not isinstance(form, Split):
        return False
    found = seen.get(form)
    if found is None:
        branches = (*form.table.values(), form.other)
        found = seen[form] = form.variable == SEALED or any(_asks(b, seen) for b in branches)
    return found
