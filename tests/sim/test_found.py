"""Worlds in which the scheduler was once wrong, each shrunk to what it took."""

import pytest

from scopekit.scopes import DefaultScope, LabelScope, NodeScope, ProcessScope, UnionScope
from scopekit.testing import (
    Cancel,
    Crash,
    CutOff,
    Drop,
    Join,
    JumpClock,
    Leave,
    Plan,
    Put,
    Relabel,
    Rescope,
    Spawn,
    Worker,
    replay,
)

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
    "a suspect sent nowhere ahead leaves room to what it waits for": Plan(
        seed=0,
        workers=(Worker(speed=20.0), Worker()),
        acts=(
            Spawn(at=1.0, task=50, scope=DefaultScope(), seconds=0.2703),
            Spawn(at=1.5, task=70, inputs=(51,), kills=2),
            Spawn(at=1.8, task=80, inputs=(71,)),
        ),
    ),
    "what waits behind a lost processor leaves room": Plan(
        seed=0,
        workers=(Worker(), Worker()),
        acts=(
            Spawn(at=0.0, task=10, scope=DefaultScope()),
            Spawn(at=0.0, task=20, inputs=(11,)),
            Spawn(at=0.0, task=70, inputs=(21,)),
            Spawn(at=0.0, task=120, inputs=(71,), scope=DefaultScope(), function="i"),
            Leave(at=0.1, worker=0),
        ),
    ),
    "a task that was taken back goes before those that wait for it": Plan(
        seed=0,
        workers=(Worker(speed=20.0), Worker()),
        acts=(
            Spawn(at=0.4, task=20, scope=DefaultScope(), seconds=1.3228, kills=1),
            Spawn(at=0.9, task=30, inputs=(21,), scope=DefaultScope()),
            Spawn(at=2.6, task=70, inputs=(31,), scope=DefaultScope()),
        ),
    ),
    "a result that failed has no holders": Plan(
        seed=518,
        workers=(Worker(speed=3.0), Worker(threads=2), Worker()),
        latency=0.02,
        acts=(
            Spawn(at=0.1, task=30, scope=DefaultScope(), outputs=2, seconds=0.0175),
            Spawn(at=0.1, task=40, inputs=(32,), scope=ProcessScope("client")),
            Spawn(at=0.4, task=120),
            Spawn(at=0.8, task=220, kills=2),
            Leave(at=0.8, worker=0),
        ),
    ),
    "a result lost while its task runs again for another is awaited": Plan(
        seed=66,
        workers=(Worker(threads=3), Worker(), Worker(), Worker(), Worker()),
        acts=(
            Spawn(at=0.7, task=100, scope=DefaultScope()),
            Spawn(at=0.9, task=120, outputs=2, seconds=1.1432),
            Spawn(at=1.0, task=130, inputs=(122,)),
            Spawn(at=1.8, task=230, kills=-1),
            Spawn(at=2.6, task=330, scope=DefaultScope(), seconds=0.4898),
            Spawn(at=2.9, task=370, scope=DefaultScope(), kills=-1),
        ),
    ),
    "an engine's clock ends no wait": Plan(
        seed=0,
        workers=(Worker(), Worker(skew=3600.0)),
        acts=(
            Spawn(at=0.0, task=30, scope=ProcessScope(1)),
            Spawn(at=0.0, task=80, scope=ProcessScope(1)),
            Spawn(at=0.0, task=130, inputs=(81,), scope=NodeScope("c"), wait_for=2.0),
        ),
    ),
    "a task that is tried again elsewhere leaves room": Plan(
        seed=0,
        workers=(Worker(labels=("camera",)), Worker()),
        acts=(
            Spawn(at=0.0, task=20, scope=DefaultScope(), retries=2, fails=2),
            Spawn(at=0.0, task=80),
            Spawn(at=0.0, task=120, result_scope=LabelScope("camera")),
        ),
    ),
    "a scope that is known before its chunk is made is not forgotten": Plan(
        seed=0,
        workers=(Worker(node="b"),),
        acts=(
            Spawn(at=0.0, task=60, turns="unpicklable", function="g"),
            Spawn(at=0.0, task=70, inputs=(61,), scope=ProcessScope(0)),
            Spawn(at=0.0, task=110, inputs=(61,), scope=NodeScope("b")),
        ),
    ),
    "a chunk whose home dies is where it was sent": Plan(
        seed=1472,
        workers=(
            Worker(node="c", threads=3, labels=("camera",)),
            Worker(labels=("camera",)),
            Worker(),
            Worker(),
        ),
        acts=(
            Put(at=0.0, chunk=70, scope=LabelScope("camera")),
            Spawn(at=0.0, task=80, inputs=(70,)),
            Spawn(at=0.0, task=100, scope=NodeScope("c"), seconds=0.0012, kills=1),
            Spawn(at=0.0, task=120),
            Spawn(at=0.0, task=130, inputs=(70,)),
        ),
    ),
    # more below
    "a released chunk stays released when its home says late that it has it": Plan(
        seed=2010089,
        workers=(Worker(node="c", speed=3.0), Worker(), Worker(), Worker(), Worker()),
        acts=(
            Spawn(at=0.1, task=20, scope=DefaultScope()),
            Spawn(at=0.18, task=30, seconds=0.0342),
            Spawn(at=0.3, task=40),
            Spawn(at=0.4, task=50, seconds=0.6128),
            Put(at=0.44, chunk=60, scope=UnionScope(ProcessScope(1), NodeScope("a"))),
            Spawn(at=0.5, task=70, inputs=(60,)),
            Drop(at=1.4, chunk=60),
        ),
        latency=0.02,
    ),
    "a result whose last copy is lost while it is made again may be valid elsewhere": Plan(
        seed=100075,
        workers=(
            Worker(),
            Worker(node="c"),
            Worker(speed=20.0),
            Worker(node="c", speed=20.0),
        ),
        acts=(
            Spawn(at=0.2, task=70, scope=DefaultScope(), seconds=1.1578),
            Spawn(at=0.3, task=120, scope=DefaultScope(), turns="node", outputs=2),
            Spawn(at=0.3, task=130),
            Spawn(at=0.4, task=140),
            Spawn(at=0.4, task=150, inputs=(141,)),
            Spawn(at=0.5, task=180, inputs=(141, 122), kills=1),
            Spawn(at=0.9, task=310, kills=-1),
        ),
    ),
    "a task that is placed again is judged by what its inputs turned out to be": Plan(
        seed=2015189,
        workers=(
            Worker(speed=20.0),
            Worker(),
            Worker(),
        ),
        acts=(
            Spawn(at=0.0, task=20, scope=DefaultScope(), turns="unpicklable"),
            Spawn(at=0.0, task=30, inputs=(21,), seconds=0.2787),
            Spawn(at=0.0, task=60, scope=DefaultScope(), function="h", retries=2, fails=2),
            Spawn(at=0.0, task=80, inputs=(21,), function="h"),
            Spawn(at=0.0, task=90, inputs=(81, 21, 61)),
            Spawn(at=0.0, task=100),
            Spawn(at=0.0, task=110, scope=DefaultScope(), function="h"),
        ),
        latency=0.02,
    ),
    "a late copy of an earlier making is not kept where the new one is not valid": Plan(
        seed=2017060,
        workers=(Worker(), Worker(threads=2), Worker(), Worker(), Worker(), Worker(node="b")),
        acts=(
            Spawn(at=0.0, task=10, scope=DefaultScope()),
            CutOff(at=0.0, worker=0),
            Put(at=0.0, chunk=20),
            Spawn(at=0.0, task=30, scope=DefaultScope(), turns="node"),
            Spawn(at=0.03, task=40, inputs=(20, 31), kills=-1),
            Join(at=0.0, worker=6),
            Spawn(at=0.1, task=60, inputs=(31,)),
            Spawn(at=0.1, task=100),
            Join(at=0.3, worker=8),
        ),
        latency=0.02,
    ),
    "a deadline that was reached stays so when the clock is set back": Plan(
        seed=0,
        workers=(Worker(), Worker(speed=20.0), Worker()),
        acts=(
            Spawn(at=0.0, task=10, scope=ProcessScope(1), seconds=0.0189),
            Spawn(at=0.0, task=320, scope=ProcessScope(1)),
            Spawn(at=0.0, task=330, inputs=(321,), scope=ProcessScope(3), wait_for=0.3),
            Crash(at=0.0, worker=2, noticed=0.3),
            JumpClock(at=0.36, seconds=-20.0),
        ),
    ),
    "the word that a task is tried again looks whether its inputs are still there": Plan(
        seed=0,
        workers=(Worker(node="b", labels=("camera",)), Worker(), Worker()),
        acts=(
            Spawn(at=0.05, task=180, retries=1, fails=2),
            Spawn(at=0.06, task=220),
            Put(at=0.07, chunk=230, scope=UnionScope(NodeScope("a"), LabelScope("camera"))),
            Spawn(at=0.07, task=240, inputs=(230,)),
            Spawn(at=0.1, task=250, inputs=(230,), seconds=0.7015, retries=1, fails=1),
            Relabel(at=0.4, worker=0),
            Leave(at=0.6, worker=2),
        ),
    ),
    "what a process was to send that may not have it any more another one sends": Plan(
        seed=1819,
        workers=(Worker(node="b", labels=("camera",)), Worker()),
        acts=(
            Spawn(at=0.0, task=140),
            Spawn(at=0.0, task=160),
            Spawn(at=0.1, task=220),
            Put(at=0.1, chunk=230, scope=UnionScope(NodeScope("a"), LabelScope("camera"))),
            Spawn(at=0.1, task=240, inputs=(230,)),
            Spawn(at=0.1, task=250, inputs=(230,)),
            Join(at=0.4, worker=5),
            Relabel(at=0.4, worker=0),
        ),
        latency=0.02,
    ),
    "the home of a chunk that came elsewhere may not keep it": Plan(
        seed=2686,
        workers=(Worker(), Worker(), Worker(), Worker(), Worker(labels=("camera",))),
        acts=(
            Spawn(at=0.2, task=40, scope=DefaultScope()),
            Relabel(at=0.4, worker=0, labels=("camera",)),
            Put(at=0.5, chunk=100, scope=LabelScope("camera")),
            Spawn(at=0.5, task=110, inputs=(100,)),
            Relabel(at=1.1, worker=0),
        ),
        latency=0.02,
    ),
    "a task that runs need not wait for an input that is made again": Plan(
        seed=0,
        workers=(Worker(), Worker(labels=("camera",))),
        acts=(
            Spawn(at=0.1, task=20, result_scope=LabelScope("camera"), wait_for=20.0),
            Spawn(at=0.4, task=40, inputs=(21,), seconds=1.4656),
            Relabel(at=0.5, worker=1),
        ),
    ),
    "a chunk that was rescoped is kept where it is made again beside another result": Plan(
        seed=0,
        workers=(Worker(threads=3), Worker()),
        acts=(
            Spawn(at=0.0, task=70, scope=DefaultScope()),
            Spawn(at=0.0, task=80, function="g"),
            Spawn(at=0.1, task=110),
            Spawn(at=0.1, task=120, scope=DefaultScope(), outputs=2),
            Spawn(at=0.1, task=130, inputs=(81, 121)),
            Crash(at=0.2, worker=1),
            Rescope(at=0.3, chunk=121, scope=DefaultScope()),
        ),
    ),
    "what is made again is not sent to where a task is to leave that needs it": Plan(
        seed=600268,
        workers=(Worker(labels=("camera",)),),
        acts=(
            Spawn(at=1.8, task=190, result_scope=LabelScope("camera"), turns="unpicklable"),
            Join(at=1.8, worker=1, engine=Worker(labels=("camera",))),
            Spawn(at=2.0, task=210, scope=DefaultScope(), seconds=0.427),
            Spawn(at=2.1, task=220, inputs=(191,)),
            Relabel(at=2.2, worker=0),
        ),
    ),
    "force may follow on a cancel before it is known that the task began all the same": Plan(
        seed=5000992,
        workers=(Worker(), Worker(speed=3.0), Worker(node="c")),
        acts=(
            Spawn(at=0.0, task=30),
            Spawn(at=0.0, task=50),
            Spawn(at=0.0, task=60),
            Spawn(at=0.04, task=70, inputs=(61,), stubborn=True),
            Cancel(at=0.04, task=70),
            Cancel(at=0.04, task=70, grace=0.02),
            Spawn(at=0.07, task=110, result_scope=NodeScope("c")),
            Cancel(at=0.09, task=110, grace=0.02),
        ),
        latency=0.02,
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_wrong_once_is_right(name):
    replay(FOUND[name], tell=None)
