"""The same events give the same commands, in every interpreter."""

import json
import os
import subprocess
import sys

import figures

CODE = """
import json
from scopekit.testing import World, draw_plan

told = []
for seed in range(500, 580):
    world = World(draw_plan(seed), digest=True)
    outcome = world.run()
    explained = [world.scheduler.explain(task).text() for task in sorted(world.scheduler.tasks)]
    told.append([outcome.digest, outcome.events, outcome.ended, explained])
print(json.dumps(told))
"""


def told(seed):
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_the_same_events_give_the_same_commands_under_every_hash_seed():
    first = told(0)

    assert sum(events for _, events, _, _ in first) > 3000
    assert len({digest for digest, *_ in first}) == len(first)
    for seed in (1, 2):
        assert told(seed) == first
    events = sum(events for _, events, _, _ in first)
    figures.tell(
        "same events, same commands", f"{len(first)} worlds, {events} events, 3 hash seeds"
    )
