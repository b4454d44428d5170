"""Graphs that are long, deep, or no graphs at all."""

import sys

import cloudpickle
import pytest

import scopekit as sk

cloudpickle.register_pickle_by_value(sys.modules[__name__])

MILLION = 10**6


def inc(x):
    return x + 1


def kind(x):
    return type(x).__name__


def nested(depth, innermost):
    """Lists within lists, and all of them, which end without a call for each."""
    every = [[innermost]]
    for _ in range(depth - 1):
        every.append([every[-1]])
    return every[-1], every


def undo(every):
    while every:
        every.pop().clear()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_chain_of_a_hundred_thousand_tasks_ends_in_its_value(plain):
    task = plain.spawn(inc, 0)
    for _ in range(10**5 - 1):
        task = plain.spawn(inc, task)

    assert task.result(200) == 10**5


def ways(session):
    return {
        "spawn": lambda x: session.spawn(kind, x),
        "a keyword": lambda x: session.spawn(kind, x=x),
        "plan": lambda x: session.plan(kind, x),
        "fetch": session.fetch,
        "wait": session.wait,
        "raw": lambda x: session.fetch(x, raw=True),
    }


@pytest.mark.slow
@pytest.mark.parametrize("way", ["spawn", "plan", "fetch", "wait"])
def test_a_task_a_million_containers_deep_is_refused_in_words(plain, way):
    deep, every = nested(MILLION, plain.spawn(inc, 0))
    try:
        with pytest.raises(sk.ScopekitError, match=f"within {MILLION} containers"):
            ways(plain)[way](deep)
    finally:
        undo(every)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["spawn", "plan"])
def test_a_value_a_million_containers_deep_is_refused_in_words(plain, way):
    deep, every = nested(MILLION, 1)
    try:
        with pytest.raises(sk.ScopekitError, match="deeper than a pickle can follow"):
            ways(plain)[way](deep)
    finally:
        undo(every)


def of_a_list(task):
    cycle = [task]
    cycle.append(cycle)
    return cycle


def of_a_dict(task):
    cycle = {"task": task}
    cycle["cycle"] = cycle
    return cycle


def by_way_of_a_tuple(task):
    cycle = [task]
    cycle.append((1, [cycle]))
    return cycle


@pytest.mark.parametrize("make", [of_a_list, of_a_dict, by_way_of_a_tuple])
@pytest.mark.parametrize("way", ["spawn", "a keyword", "plan", "fetch", "wait", "raw"])
def test_a_container_that_holds_a_task_and_itself_is_refused_in_words(plain, make, way):
    cycle = make(plain.spawn(inc, 0))

    with pytest.raises(sk.ScopekitError, match="holds a task or chunk, and itself"):
        ways(plain)[way](cycle)


def test_a_dict_of_calls_is_a_value_even_where_these_name_each_other(plain):
    """As other libraries write a graph: here it is neither run nor refused."""
    calls = {"a": (inc, "b"), "b": (inc, "a")}

    assert plain.spawn(sorted, calls).result(20) == ["a", "b"]
    assert plain.fetch(calls) == calls


def test_a_chunk_that_was_released_is_refused_in_words(plain, until):
    """Nobody can come to that by handles alone: only by a handle that counts for none."""
    task = plain.spawn(list, range(3))
    chunk = plain.fetch(task, raw=True)
    for _ in range(2):
        plain.release_chunk(chunk.id)
    until(lambda: chunk.state == "released", "it is let go of")

    with pytest.raises(sk.ChunkLostError, match=rf"chunk {chunk.id} was released"):
        chunk.fetch()
    with pytest.raises(sk.ChunkLostError, match=r"was released: no handle .* Keep its task"):
        plain.spawn(len, chunk).result(20)
    with pytest.raises(sk.ChunkLostError, match="was released"):
        plain.spawn(kind, [chunk]).result(20)


@pytest.mark.parametrize("hide", [lambda x: x, lambda x: [x], lambda x: {"k": (x,)}])
def test_a_handle_of_another_session_is_refused_wherever_it_is(plain, hide):
    with sk.start(0) as other:
        for foreign in (other.spawn(inc, 1), other.tochunk(1)):
            for use in (plain.spawn, plain.plan):
                with pytest.raises(sk.ScopekitError, match="belongs to another session"):
                    use(kind, hide(foreign))
