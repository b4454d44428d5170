"""Runs many worlds, with what came of them in all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scopekit.scheduler import Scheduler
from scopekit.testing.acts import script
from scopekit.testing.generation import draw_plan
from scopekit.testing.shrinking import shrink
from scopekit.testing.watching import Violation
from scopekit.testing.world import World

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scopekit.testing.generation import Size

__all__ = ("Failure", "Tally", "run_seeds")


@dataclass(frozen=True, slots=True)
class Failure:
    """A world in which something was wrong.

    Attributes:
        seed: its seed.
        violation: what was wrong.
        size: how large worlds were.
    """

    seed: int
    violation: Violation
    size: Size | None = None

    def text(self, kind: type[Scheduler] = Scheduler) -> str:
        """Tells what was wrong, with the shrunk world as a script that replays it."""
        small = shrink(draw_plan(self.seed, self.size), kind)
        return f"# seed {self.seed}: {self.violation}\n{script(small)}\n"


@dataclass(slots=True)
class Tally:
    """What came of many worlds.

    Attributes:
        worlds: how many there were.
        events: how many events their schedulers took in.
        seconds: how long they lasted, by their own clocks.
        ended: how many tasks ended in each state.
        happened: how often each kind of event and fault happened.
        failures: the worlds in which something was wrong.
    """

    worlds: int = 0
    events: int = 0
    seconds: float = 0.0
    ended: dict[str, int] = field(default_factory=dict)
    happened: dict[str, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    def text(self) -> str:
        """Tells the figures in a few lines."""
        ended = ", ".join(f"{count} {state}" for state, count in sorted(self.ended.items()))
        happened = ", ".join(f"{count} {what}" for what, count in sorted(self.happened.items()))
        return (
            f"{self.worlds} worlds, {self.events} events, {self.seconds / 3600:.1f} simulated h,"
            f"\n{len(self.failures)} failures\ntasks: {ended}\nhappened: {happened}"
        )


def run_seeds(
    seeds: Iterable[int], kind: type[Scheduler] = Scheduler, *, size: Size | None = None
) -> Tally:
    """Runs the worlds of seeds.

    Args:
        seeds: the seeds.
        kind: the scheduler to try.
        size: how large worlds are; small if None.

    Returns:
        What came of them.
    """
    tally = Tally()
    for seed in seeds:
        tally.worlds += 1
        world = World(draw_plan(seed, size), kind)
        try:
            world.run()
        except Violation as violation:
            tally.failures.append(Failure(seed, violation, size))
        outcome = world.outcome
        tally.events += outcome.events
        tally.seconds += world.timeline.now
        for total, counts in (
            (tally.ended, outcome.ended),
            (tally.happened, outcome.happened),
        ):
            for what, count in counts.items():
                total[what] = total.get(what, 0) + count
    return tally
