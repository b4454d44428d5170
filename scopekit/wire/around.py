"""A function with another one around it, which goes to an engine as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Around", "innermost")


class Around:
    """Has one function call another, with the same arguments.

    To whoever looks at it, it is the inner one: its name, the names of its arguments.

    Args:
        outer: what is called, with ``head``, the inner function and the arguments.
        head: the first arguments of ``outer``; plain values.
        inner: the function; None if it comes as the first of the arguments.
        name: what to call it then.
    """

    __slots__ = ("head", "inner", "name", "outer")

    def __init__(
        self, outer: Callable[..., Any], head: tuple[Any, ...], inner: Any, name: str = ""
    ) -> None:
        self.outer = outer
        self.head = head
        self.inner = inner
        self.name = name

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Calls the outer function, for it to call the inner one."""
        if self.inner is None:
            return self.outer(*self.head, *args, **kwargs)
        return self.outer(*self.head, self.inner, *args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Around, (self.outer, self.head, self.inner))


def innermost(function: Any) -> Any:
    """Returns the function that others are around; any other one as it is."""
    while type(function) is Around:
        function = function.inner
    return function
