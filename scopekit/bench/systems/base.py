"""What the benchmark asks of every system that it measures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from scopekit.bench.tasks import make_block, sum_block

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ("System",)


class System(ABC):
    """One way to run calls in worker processes of this machine.

    Args:
        workers: how many worker processes, each with one thread for tasks.

    Attributes:
        title: what tables call it.
        module: what must be importable for it, "" if nothing.
        package: what to install for that.
    """

    title: ClassVar[str]
    module: ClassVar[str] = ""
    package: ClassVar[str] = ""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    @abstractmethod
    def load(self) -> None:
        """Imports what the system needs, which is not counted as its start."""

    @abstractmethod
    def start(self) -> None:
        """Starts the workers, as its users do."""

    @abstractmethod
    def submit(self, function: Callable[..., Any], /, *args: Any) -> Any:
        """Asks for one call and returns a handle; arguments may be such handles."""

    @abstractmethod
    def results(self, handles: Sequence[Any]) -> list[Any]:
        """Waits for calls and returns what they returned."""

    @abstractmethod
    def close(self) -> None:
        """Ends the workers."""

    def transfer(self, count: int) -> float:
        """Makes an array on one worker, sums it on another, and returns the sum.

        As it stands here the array passes through the caller, or goes as the system
        chooses; systems that can say where a call runs, do.
        """
        return float(self.results([self.submit(sum_block, self.submit(make_block, count))])[0])
