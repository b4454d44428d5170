"""The same events give the same commands, in every interpreter."""

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import random
from scheduling import Watched, cluster, task
from scopekit.graph import Input
from scopekit.scheduler import events as ev
from scopekit.scopes import (
    AnyScope, DefaultScope, ExactScope, LabelScope, NodeScope, ProcessScope, ProcessorTypeScope,
    ThreadProc, UnionScope,
)

draw = random.Random(7)
watched = Watched(cluster({0: "a", 1: "a", 2: "b", 3: "c"}, threads=2))
scopes = (
    AnyScope(), DefaultScope(), NodeScope("a"), NodeScope("b") | NodeScope("c"), ProcessScope(3),
    UnionScope(ProcessScope(0), NodeScope("b")), ExactScope(ThreadProc(1, 1)), NodeScope("d"),
    NodeScope("a") & ProcessScope(1), ProcessScope(0) & ProcessScope(1), ~NodeScope("a"),
    LabelScope("camera"), ProcessorTypeScope(ThreadProc, NodeScope("b")),
)
handles, number, joined, lost = [], 1, 4, []

def say(commands):
    for command in commands:
        print(type(command).__name__, repr(command) if not hasattr(command, "error")
              else f"{command.task} {command.error}")

def sent():
    return [n for n, r in watched.scheduler.tasks.items()
            if r.state in ("queued", "running") and r.processor is not None]

for step in range(700):
    turn = draw.random()
    if turn < 0.45:
        inputs = draw.sample(handles, min(len(handles), draw.choice((0, 0, 1, 2, 3))))
        say(watched.spawn(number, *inputs, scope=draw.choice(scopes), function=draw.choice("fgh"),
                          wait_for=draw.choice((0.0, 0.0, 25.0)), idempotent=draw.random() < 0.5))
        handles.append(number + 1)
        number += 2
    elif turn < 0.80 and sent():
        one = draw.choice(sent())
        scope = draw.choice((AnyScope(), AnyScope(), ProcessScope(watched.worker_of(one))))
        say(watched.finish(one, scope=scope, took=draw.choice((1e-4, 1e-2, 1.0)),
                           nbytes=draw.choice((8, 10**8))))
    elif turn < 0.84 and sent():
        say(watched.fail(draw.choice(sent())))
    elif turn < 0.90 and handles:
        say(watched.drop(handles.pop(draw.randrange(len(handles)))))
    elif turn < 0.93 and watched.scheduler.tasks:
        say(watched.cancel(draw.choice(sorted(watched.scheduler.tasks))))
    elif turn < 0.95:
        say(watched.handle(ev.TimePassed(watched.tick() + 5.0)))
    elif turn < 0.97:
        say(watched.handle(ev.TimePassed(watched.now + 1.0)))
        say(watched.join(joined, draw.choice("abcd")))
        joined += 1
for one in sorted(watched.scheduler.tasks):
    print(watched.scheduler.explain(one).text())
"""


def said(seed):
    tests = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": tests},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def test_a_session_s_events_give_the_same_commands_under_every_hash_seed():
    first = said(0)

    assert sum(line.startswith("StartRun") for line in first) > 100
    assert sum(line.startswith("Refuse") for line in first) > 10
    for seed in (1, 2):
        assert said(seed) == first
