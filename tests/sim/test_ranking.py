"""What options of tasks promise, in simulated worlds with every fault there is."""

import figures

from scopekit.scheduler import Scheduler
from scopekit.scheduler.sending import is_lined_up
from scopekit.testing import World, draw_plan

BASE = 3_000_000
COUNT = 600


def worlds(kind, armed):
    """Runs those of some worlds in which something is armed; returns how many there were."""
    plans = [plan for seed in range(BASE, BASE + COUNT) if armed(plan := draw_plan(seed))]
    for plan in plans:
        World(plan, kind).run()
    return len(plans)


def any_spawn(has):
    return lambda plan: any(has(act) for act in plan.acts if type(act).__name__ == "Spawn")


class Ranking(Scheduler):
    """Looks whether a task that is sent overtakes one of more priority that waits."""

    waited = 0
    forced = False

    def _place(self, record, at, *, forced=False):
        # What is forced has its place already, among what was sent.
        self.forced = forced
        super()._place(record, at, forced=forced)
        self.forced = False

    def _choose(self, record, allowed, *, forced):
        choice = super()._choose(record, allowed, forced=forced)
        if choice is not None and not self.forced:
            for mask, line in self._lines.items():
                for task in line if mask & choice[0].bit else ():
                    other = self.tasks.get(task)
                    if is_lined_up(other, mask) and other is not record:
                        Ranking.waited += 1
                        assert other.spec.priority <= record.spec.priority
        return choice


def test_nobody_overtakes_what_waits_with_more_priority():
    count = worlds(Ranking, any_spawn(lambda spawn: spawn.priority))

    figures.tell("priorities", f"{count} worlds, {Ranking.waited} comparisons")
    assert count > 50
    assert Ranking.waited > 1000
