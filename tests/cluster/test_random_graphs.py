"""Random graphs of random scopes on real engines, each placement against what scopes mean.

What a scope means is said here once more and in the plainest way: as a question to each
processor. Nothing of how scopes are represented, meet or are turned into masks is used.
"""

import random
import sys
from collections import Counter
from typing import Any, NamedTuple

import cloudpickle
import pytest

import scopekit as sk
from scopekit import AnyScope, ExactScope, LabelScope, NodeScope, ProcessScope, ThreadProc

cloudpickle.register_pickle_by_value(sys.modules[__name__])

LABELS = {"b": ("gpu",), 1: ("camera", "fast")}
TASKS = 40


class Place(NamedTuple):
    """A processor, as the model sees it."""

    worker: Any
    thread: int
    node: str
    labels: frozenset


@pytest.fixture(scope="module")
def session(own_folders):
    with sk.start(nodes={"a": 2, "b": 2}, threads=2, labels=LABELS) as session:
        # So that the threads of the client are there before any test.
        session.options(single="client").spawn(int).result(20)
        yield session


@pytest.fixture(scope="module")
def places(session):
    return [
        Place(
            processor.worker,
            processor.index,
            session.topology.node_of(processor.worker),
            frozenset(session.labels.get(processor.worker, ())),
        )
        for processor in session.processors(AnyScope())
    ]


# -- scopes, each with the question that it asks -------------------------------------------


def draw_scope(rng, depth=2):
    """Draws a scope with what it asks a place."""
    kinds = (draw_leaf,) if depth == 0 else (draw_leaf, draw_leaf, either, both, without, other)
    return rng.choice(kinds)(rng, depth - 1)


def draw_leaf(rng, _depth):
    worker, thread = rng.choice([0, 1, 2, 3, 9]), rng.randrange(3)
    node, label = rng.choice(["a", "b", "nowhere"]), rng.choice(["gpu", "camera", "none"])
    return rng.choice(
        [
            (NodeScope(node), lambda p: p.node == node),
            (ProcessScope(worker), lambda p: p.worker == worker),
            (
                ExactScope(ThreadProc(worker, thread)),
                lambda p: (p.worker, p.thread) == (worker, thread),
            ),
            (LabelScope(label), lambda p: label in p.labels),
        ]
    )


def either(rng, depth):
    (a, in_a), (b, in_b) = draw_scope(rng, depth), draw_scope(rng, depth)
    return a | b, lambda p: in_a(p) or in_b(p)


def both(rng, depth):
    (a, in_a), (b, in_b) = draw_scope(rng, depth), draw_scope(rng, depth)
    return a & b, lambda p: in_a(p) and in_b(p)


def without(rng, depth):
    (a, in_a), (b, in_b) = draw_scope(rng, depth), draw_scope(rng, depth)
    return a - b, lambda p: in_a(p) and not in_b(p)


def other(rng, depth):
    a, in_a = draw_scope(rng, depth)
    return ~a, lambda p: not in_a(p)


# -- graphs ----------------------------------------------------------------------------------


def work(path, keeps, *_inputs):
    """Says where it runs, and gives a value that is valid there, on the node or anywhere."""
    processor, node = sk.task_processor(), sk.current_task().node
    with open(path, "a") as log:  # noqa: PTH123  # the module travels by value
        log.write(f"{processor.worker} {processor.index}\n")
    scope = {"process": ProcessScope(processor.worker), "node": NodeScope(node)}.get(keeps)
    return 1 if scope is None else sk.tochunk(1, scope=scope)


class Spawned(NamedTuple):
    """A task with what the model knows of it."""

    task: sk.Task
    keeps: str
    asks: list
    needs: list
    log: Any


def is_engine(place):
    return place.worker != "client"


def draw_chunk(rng, session, places):
    while True:
        scope, asks = draw_scope(rng)
        # A chunk lives in a process; which of its threads may use it the scope says.
        if any(map(asks, places)):
            return session.tochunk(0, scope=scope), asks


def spawn_one(rng, session, places, *, chunks, spawned, folder):
    """Spawns a task with random inputs and a random scope; returns None if that is refused."""
    given = rng.sample(chunks, rng.randrange(2))
    needs = rng.sample(spawned[-6:], min(len(spawned), rng.randrange(3)))
    scope, asks = draw_scope(rng) if rng.random() < 0.5 else (None, is_engine)
    asks = [asks, *(asked for _, asked in given)]
    log, keeps = folder / f"task {len(list(folder.iterdir()))}", rng.choice(["", "process", "node"])
    log.touch()
    inputs = [chunk for chunk, _ in given] + [each.task for each in needs]
    options = {} if scope is None else {"scope": scope}
    if not any(all(ask(p) for ask in asks) for p in places):
        with pytest.raises(sk.SchedulingError):
            session.spawn(work, str(log), keeps, *inputs, **options)
        return None
    task = session.spawn(work, str(log), keeps, *inputs, **options)
    return Spawned(task, keeps, asks, needs, log)


def where(spawned, places):
    """Returns where a task ran, by its own word; None if it never did."""
    lines = spawned.log.read_text().splitlines()
    assert len(lines) <= 1, "it ran more than once"
    here = [p for p in places if [f"{p.worker} {p.thread}"] == lines]
    return here[0] if here else None


def result_asks(spawned, places):
    place = where(spawned, places)
    if spawned.keeps == "process":
        return lambda p: p.worker == place.worker
    if spawned.keeps == "node":
        return lambda p: p.node == place.node
    return lambda _: True


def judge(spawned, places):
    """Compares how a task ended with what the model says; returns how that was."""
    place, state = where(spawned, places), spawned.task.state
    if any(need.task.state != "done" for need in spawned.needs):
        assert (place, state) == (None, "blocked")
        return "blocked"
    asks = [*spawned.asks, *(result_asks(need, places) for need in spawned.needs)]
    allowed = [p for p in places if all(ask(p) for ask in asks)]
    if not allowed:
        assert (place, state) == (None, "failed")
        assert isinstance(spawned.task.exception(0), sk.SchedulingError)
        return "refused"
    assert state == "done", spawned.task.exception(0)
    assert place in allowed
    processor = spawned.task.processor
    assert (processor.worker, processor.index) == (place.worker, place.thread)
    return "ran"


@pytest.mark.parametrize("seed", range(12))
def test_every_task_of_a_random_graph_runs_where_its_scopes_meet_or_is_refused(
    session, places, seed, tmp_path
):
    print("seed", seed)
    rng = random.Random(seed)
    chunks = [draw_chunk(rng, session, places) for _ in range(8)]
    spawned, refused = [], 0
    for _ in range(TASKS):
        one = spawn_one(rng, session, places, chunks=chunks, spawned=spawned, folder=tmp_path)
        if one is None:
            refused += 1
        else:
            spawned.append(one)
    session.wait([each.task for each in spawned], timeout=60)
    ends = Counter(judge(each, places) for each in spawned)

    assert ends["ran"] > 5, (refused, ends)
