"""A stand-in for an accelerator: a kind of processor that any machine has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scopekit.scopes import processor_type

if TYPE_CHECKING:
    from scopekit.scopes import Processor

__all__ = ("stand_in_accelerator",)


class _Count:
    """Says how many there are, in whatever process it is asked."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __call__(self) -> int:
        return self._count


def stand_in_accelerator(count: int = 1, *, name: str = "accelerator") -> type[Processor]:
    """Registers a kind of which every engine has some, opt-in as CUDA devices are.

    Register it before the session is started.

    Args:
        count: how many each engine has.
        name: the word for it.

    Returns:
        The kind's class.

    Example:
        >>> stand_in_accelerator(2)(0, 1).default_enabled
        False
    """
    return processor_type(name, probe=_Count(count))
