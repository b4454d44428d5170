"""Worlds in which the scheduler was once wrong, each shrunk to what it took."""

import pytest

from scopekit.scopes import DefaultScope, LabelScope, NodeScope
from scopekit.testing import Cancel, Crash, CutOff, Drop, Leave, Plan, Put, Spawn, Worker, replay

FOUND = {
    "a task runs again for one of its results while nobody wants the other": Plan(
        seed=0,
        workers=(Worker(), Worker()),
        acts=(
            Spawn(at=0.0, task=10, scope=DefaultScope(), outputs=2),
            Drop(at=0.1, chunk=11),
            Spawn(at=0.3, task=40, kills=2),
        ),
    ),
    "an input is kept while its task is placed anew": Plan(
        seed=0,
        workers=(Worker(), Worker()),
        acts=(
            Spawn(at=0.0, task=20, scope=DefaultScope()),
            Spawn(at=0.0, task=30),
            Spawn(at=0.0, task=40, inputs=(21, 31), seconds=0.3082),
            Drop(at=0.1, chunk=31),
            Leave(at=0.4, worker=0),
        ),
    ),
    "what is lost and wanted by nobody is forgotten": Plan(
        seed=98,
        workers=(Worker(), Worker(), Worker(labels=("camera",))),
        acts=(
            Spawn(at=0.0, task=230, scope=LabelScope("camera"), kills=1),
            Put(at=0.0, chunk=270, scope=LabelScope("camera")),
            Drop(at=0.0, chunk=270),
        ),
    ),
    "a processor whose task is taken back has room": Plan(
        seed=0,
        workers=(Worker(),),
        acts=(
            Spawn(at=0.0, task=20),
            Spawn(at=0.01, task=40, seconds=0.3239),
            Spawn(at=0.0, task=50),
            Spawn(at=0.04, task=100),
            Spawn(at=0.04, task=110),
            Spawn(at=0.04, task=120, inputs=(41,), function="i"),
            Spawn(at=0.1, task=130, scope=DefaultScope()),
            Cancel(at=0.1, task=120),
        ),
    ),
    "what a dead engine was to send another one sends": Plan(
        seed=0,
        workers=(Worker(threads=3), Worker(), Worker()),
        acts=(
            Spawn(at=0.3, task=40, scope=DefaultScope(), seconds=0.6317),
            Crash(at=0.4, worker=0, noticed=1.0),
            Spawn(at=0.6, task=80),
            Spawn(at=0.7, task=90),
            Spawn(at=0.8, task=100, inputs=(41,)),
        ),
    ),
    "a suspect does not wait for tasks that wait for it": Plan(
        seed=0,
        workers=(Worker(), Worker()),
        acts=(
            Spawn(at=0.0, task=20, scope=DefaultScope(), kills=-1),
            Spawn(at=0.0, task=30, inputs=(21,)),
            Spawn(at=0.0, task=60, inputs=(21,)),
        ),
    ),
    "a process is kept for no suspect that is elsewhere": Plan(
        seed=34,
        workers=(Worker(), Worker(), Worker(), Worker()),
        acts=(
            Spawn(at=0.1, task=40),
            Spawn(at=0.1, task=50),
            Spawn(at=0.1, task=60),
            Spawn(at=0.2, task=70),
            CutOff(at=0.2, worker=3),
            Spawn(at=0.2, task=80),
            Spawn(at=0.24, task=100, seconds=0.2878),
            Spawn(at=0.3, task=110, retries=2, fails=-1),
        ),
    ),
    "suspects find a process as soon as there is one": Plan(
        seed=68,
        workers=(Worker(node="c"), Worker(node="b"), Worker(threads=3), Worker()),
        acts=(
            Spawn(at=0.0, task=10),
            Spawn(at=0.0, task=20),
            Spawn(at=0.0, task=30, scope=NodeScope("a"), kills=2),
            Spawn(at=0.0, task=50),
            Put(at=0.0, chunk=60, scope=DefaultScope()),
            Spawn(at=0.0, task=70),
            Spawn(at=0.0, task=80),
            Spawn(at=0.0, task=100, scope=DefaultScope(), seconds=0.0022, kills=1),
            Spawn(at=0.0, task=290, scope=NodeScope("a"), kills=-1),
            Spawn(at=0.0, task=310, scope=NodeScope("c"), kills=2),
        ),
    ),
    "an input that stays where it is leaves a kept process in order": Plan(
        seed=273,
        workers=(Worker(threads=3), Worker()),
        acts=(
            Spawn(at=0.0, task=30),
            Spawn(at=0.0, task=40),
            Spawn(at=0.0, task=60, seconds=1.2378),
            Spawn(at=0.0, task=70, turns="unpicklable"),
            Spawn(at=0.0, task=80, inputs=(71,)),
            Crash(at=0.3, worker=1),
        ),
    ),
    # more below
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_wrong_once_is_right(name):
    replay(FOUND[name], tell=None)
