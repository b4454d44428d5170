"""A simulated world to test the scheduler in: seeded, repeatable, with faults.

Beside it, for programs of one's own: an accelerator that any machine has.

A plan lists what users and fate do; a world carries it out with the real scheduler,
simulated engines, connections and clocks, and looks after each event whether all is as
it must be. Nothing here is used when scopekit runs.

Example:
    >>> from scopekit.testing import draw_plan, replay
    >>> replay(draw_plan(5), tell=None).events > 0
    True
"""

from scopekit.graph import Wish
from scopekit.testing.accelerators import stand_in_accelerator
from scopekit.testing.acts import (
    Cancel,
    Crash,
    CutOff,
    Drop,
    Forget,
    Join,
    JumpClock,
    Keep,
    Leave,
    Look,
    Plan,
    Put,
    Relabel,
    Rescope,
    Reset,
    Spawn,
    Stall,
    Worker,
    script,
)
from scopekit.testing.generation import Size, draw_plan
from scopekit.testing.runs import Failure, Tally, run_seeds
from scopekit.testing.sabotage import SABOTAGES, Catch, find
from scopekit.testing.scale import Cost, measure
from scopekit.testing.shrinking import failure_of, shrink
from scopekit.testing.watching import Violation
from scopekit.testing.world import Outcome, World, replay

__all__ = (
    "SABOTAGES",
    "Cancel",
    "Catch",
    "Cost",
    "Crash",
    "CutOff",
    "Drop",
    "Failure",
    "Forget",
    "Join",
    "JumpClock",
    "Keep",
    "Leave",
    "Look",
    "Outcome",
    "Plan",
    "Put",
    "Relabel",
    "Rescope",
    "Reset",
    "Size",
    "Spawn",
    "Stall",
    "Tally",
    "Violation",
    "Wish",
    "Worker",
    "World",
    "draw_plan",
    "failure_of",
    "find",
    "measure",
    "replay",
    "run_seeds",
    "script",
    "shrink",
    "stand_in_accelerator",
)
