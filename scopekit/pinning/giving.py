"""Decides about what is pinned in a value that is to go to another process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scopekit.pinning.hook import StayingJudge
from scopekit.pinning.pin import name_of, told_of

if TYPE_CHECKING:
    from scopekit.pinning.pin import Pin
    from scopekit.pinning.place import Place
    from scopekit.pinning.rule import Reduced
    from scopekit.scopes import Worker

__all__ = ("GivingJudge",)


class GivingJudge(StayingJudge):
    """Lets go what is valid where it is to go, and gathers the rest.

    Args:
        place: where the value is.
        asker: the process where it is to go.

    Attributes:
        met: what stays.
        went: the pins of what went.
    """

    def __init__(self, place: Place, asker: Worker) -> None:
        super().__init__(place)
        self._asker = asker
        self.went: list[Pin] = []

    def meet(self, value: Any, pin: Pin) -> Reduced | None:
        """Lets a value go if it is valid where it is to go."""
        assert self.place is not None
        assert pin.scope is not None
        if self.place.topology.admits(pin.scope, self._asker):
            self.went.append(pin)
            return None
        return super().meet(value, pin)

    @property
    def pins(self) -> list[Pin]:
        """All pins that were met."""
        return [*(pin for _, pin in self.met), *self.went]

    @property
    def is_bound(self) -> bool:
        """Tells whether something stays because its place matters, not for lack of a way."""
        return any(not pin.rule.bare for _, pin in self.met)

    def told(self, value: Any) -> str:
        """Says what stays, with the reason; on a second line what makes one elsewhere."""
        whole = any(part is value for part, _ in self.met)
        before = "" if whole else f"a {name_of(type(value))} with "
        return told_of([pin for _, pin in self.met], before)

    def reason(self, value: Any) -> str:
        """Says the same where it was said already what the value is."""
        whole = [pin.rule.why for part, pin in self.met if part is value]
        if whole:
            return whole[0]
        return "it is {}".format(self.told(value).partition("\n")[0])
