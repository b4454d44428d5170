import collections
import dataclasses
import functools
import pickle
import threading
import typing

import pytest

import scopekit as sk
from scopekit import errors
from scopekit.errors import RemoteError, ScopekitError
from scopekit.wire import codec
from scopekit.wire.codec import (
    FIRST_INPUT,
    KnownFunctions,
    dump_error,
    dump_value,
    load_arguments,
    load_value,
    pack_call,
    read_handles,
    type_name,
    value_nbytes,
)


@pytest.fixture
def session():
    with sk.start(0) as session:
        yield session


@pytest.fixture
def task(session):
    return session.spawn(int, 5)


@pytest.fixture
def chunk(session):
    return session.tochunk("a chunk")


def arguments(call, *inputs):
    return load_arguments(call.arguments, inputs)


def add(x, y=0):
    return x + y


# -- handles --------------------------------------------------------------------


def test_handles_are_taken_out_and_named_after_their_parameters(task, chunk):
    call = pack_call(add, (task,), {"y": chunk}, name="t")

    assert call.handles == (("argument 'x'", task), ("argument 'y'", chunk))
    assert arguments(call, 5, "c") == ((5,), {"y": "c"})


def test_handles_past_the_named_parameters_have_a_number(task):
    call = pack_call(print, (1, task), {}, name="t")

    assert [origin for origin, _ in call.handles] == ["argument 2"]


def test_handles_at_any_depth_of_containers_count(task, chunk):
    value = [{"a": (1, [task])}, {"b": [{"c": chunk}]}, ({task: 1} and "kept"), [[[[task]]]]]
    call = pack_call(add, (value,), {}, name="t")
    ((read,), _) = arguments(call, *[f"<{n}>" for n in range(len(call.handles))])

    assert [handle for _, handle in call.handles] == [task, chunk, task]
    assert read == [{"a": (1, ["<0>"])}, {"b": [{"c": "<1>"}]}, "kept", [[[["<2>"]]]]]


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset])
def test_the_kind_of_a_container_is_kept(task, kind):
    ((read,), _) = arguments(pack_call(add, (kind([task]),), {}, name="t"), 5)

    assert read == kind([5])
    assert type(read) is kind


def test_a_function_may_be_a_handle(task):
    call = pack_call(task, (1,), {}, name="t")

    assert call.digest == FIRST_INPUT
    assert call.handles == (("function", task),)


def test_the_callers_containers_are_not_touched(task):
    value = {"x": [task]}
    pack_call(add, (value,), {}, name="t")

    assert value == {"x": [task]}


def test_reading_handles_finds_the_same_ones(task, chunk):
    assert list(read_handles([task, {"a": (chunk,)}])) == [task, chunk]
    assert list(read_handles("no handle")) == []


def test_a_container_that_holds_itself_travels():
    value = [1]
    value.append(value)
    ((read,), _) = arguments(pack_call(add, (value,), {}, name="t"))

    assert read[0] == 1
    assert read[1] is read


def test_a_container_that_holds_itself_and_a_handle_is_refused_or_travels(task):
    value = [task]
    value.append(value)
    try:
        ((read,), _) = arguments(pack_call(add, (value,), {}, name="t"), 5)
    except ScopekitError:
        return

    assert read[1] is read


@pytest.mark.parametrize("depth", [50, 200])
def test_deep_containers_travel(task, depth):
    value = [task]
    for _ in range(depth):
        value = [value]
    ((read,), _) = arguments(pack_call(add, (value,), {}, name="t"), 5)
    for _ in range(depth + 1):
        (read,) = read

    assert read == 5


class Point(typing.NamedTuple):
    x: typing.Any
    y: typing.Any


def test_a_namedtuple_travels_as_what_it_is():
    plain = collections.namedtuple("plain", "a b")  # noqa: PYI024
    for value in (Point(1, [2]), plain(1, 2)):
        ((read,), _) = arguments(pack_call(add, (value,), {}, name="t"))

        assert read == value
        assert type(read).__name__ == type(value).__name__
        assert read._fields == value._fields


@pytest.mark.parametrize(
    "kind", [Point, collections.OrderedDict, collections.defaultdict, collections.deque]
)
def test_a_handle_in_another_kind_of_container_travels_or_is_named(task, kind):
    """Only list, tuple, dict and set are looked into; elsewhere a task must not hide."""
    value = {
        Point: lambda: Point(task, 1),
        collections.OrderedDict: lambda: collections.OrderedDict(a=task),
        collections.defaultdict: lambda: collections.defaultdict(list, a=task),
        collections.deque: lambda: collections.deque([task]),
    }[kind]()
    with pytest.raises(ScopekitError, match=r"argument 'x'") as caught:
        pack_call(add, (value,), {}, name="t")

    assert "in a list, tuple, dict or set" in str(caught.value)


@dataclasses.dataclass
class Job:
    task: object


def test_a_task_inside_an_object_is_refused_with_its_name(task):
    with pytest.raises(ScopekitError) as caught:
        pack_call(add, (), {"y": Job(task)}, name="train")

    assert str(caught.value).startswith("train: argument 'y' (test_codec.Job)")
    assert task.name in str(caught.value)


def test_a_task_inside_a_closure_is_refused_with_its_name(task):
    with pytest.raises(ScopekitError, match="its function cannot be sent") as caught:
        pack_call(lambda: task, (), {}, name="train")

    assert task.name in str(caught.value)


def test_an_argument_that_does_not_pickle_is_named():
    with pytest.raises(ScopekitError, match=r"t: argument 'y' \(_thread.lock\)"):
        pack_call(add, (1,), {"y": threading.Lock()}, name="t")


# -- functions ------------------------------------------------------------------


def test_equal_functions_have_the_same_digest():
    one = pack_call(add, (1,), {}, name="t")
    two = pack_call(add, (2,), {}, name="u")

    assert one.digest == two.digest
    assert one.function == two.function
    assert pack_call(functools.partial(add, 1), (), {}, name="t").digest != one.digest


def call_of(number):
    return codec.Call(number.to_bytes(2, "big"), b"code %d" % number, b"", ())


def test_a_function_is_sent_once():
    known = KnownFunctions()

    assert known.to_send(call_of(1)) == (b"code 1", ())
    assert known.to_send(call_of(1)) == (None, ())


def test_sender_and_engine_agree_on_what_is_known():
    """The engine forgets exactly what it is told to; a function it lacks is always sent."""
    known, engine = KnownFunctions(kept=3), {}
    for number in [1, 2, 3, 1, 4, 2, 1, 5, 5, 3, 1, 2, 4, 1]:
        call = call_of(number)
        function, forget = known.to_send(call)
        if function is not None:
            engine[call.digest] = function
        assert engine[call.digest] == call.function
        for digest in forget:
            del engine[digest]

        assert len(engine) <= 3
        assert list(engine) != []
        assert set(engine) == set(known._digests)


def test_arguments_read_within_arguments_do_not_mix(task):
    inner = pack_call(add, ([task],), {}, name="t").arguments

    class Nested:
        def __reduce__(self):
            return (load_arguments, (inner, ["inner"]))

    call = pack_call(add, ([Nested(), task],), {}, name="t")
    ((read,), _) = arguments(call, "outer")

    assert read == [((["inner"],), {}), "outer"]


# -- errors ---------------------------------------------------------------------


def raised(error):
    try:
        raise error
    except type(error) as caught:
        return caught


class NeedsTwoError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class RudeError(Exception):
    def __str__(self):
        raise RuntimeError("no text for you")

    def __reduce__(self):
        raise RuntimeError("no pickle either")


def test_an_error_comes_back_as_its_own_type_with_notes():
    described = dump_error(raised(KeyError("k")), "node a, worker 0")
    error = pickle.loads(pickle.dumps(described)).rebuild("raised by load")

    assert isinstance(error, KeyError)
    assert error.args == ("k",)
    assert error.__notes__[0] == "raised by load"
    assert "in raised" in error.__notes__[1]


@pytest.mark.parametrize("error", [NeedsTwoError(1, 2), RudeError(), SystemExit(3)])
def test_an_error_that_cannot_be_rebuilt_is_a_remote_error(error):
    described = dump_error(raised(error), "worker 0")
    rebuilt = described.rebuild("t")

    assert isinstance(rebuilt, RemoteError)
    assert type(error).__name__ in str(rebuilt)
    assert pickle.loads(pickle.dumps(rebuilt)).type_name == rebuilt.type_name


def test_every_error_of_ours_survives_the_way():
    for name in errors.__all__:
        error = getattr(errors, name)("the text")
        rebuilt = dump_error(raised(error), "worker 0").rebuild("t")

        assert type(rebuilt) is type(error), name
        assert str(rebuilt) == "the text"


def test_an_error_is_rebuilt_anew_for_everyone():
    described = dump_error(raised(ValueError("x")), "worker 0")

    assert described.rebuild("t") is not described.rebuild("t")
    assert len(described.rebuild("t").__notes__) == 2


def test_frames_of_ours_are_left_out():
    call = pack_call(add, (), {}, name="t")
    try:
        load_arguments(b"no pickle", [call])
    except pickle.UnpicklingError as error:
        described = dump_error(error, "worker 0")

    assert "wire/codec.py" not in described.traceback_text
    assert "test_codec.py" in described.traceback_text


def test_the_cause_of_an_error_is_in_its_traceback():
    try:
        try:
            int("the cause")
        except ValueError as cause:
            raise KeyError("effect") from cause
    except KeyError as error:
        described = dump_error(error, "worker 0")

    assert "the cause" in described.traceback_text


# -- values ---------------------------------------------------------------------


def test_functions_of_the_notebook_travel_by_value():
    assert load_value(dump_value(lambda x: x + 1))(1) == 2


def test_types_are_named_shortly():
    assert type_name(3) == "int"
    assert type_name(Job(1)) == "test_codec.Job"


def test_sizes_are_only_asked_of_those_who_know():
    class Proxy:
        @property
        def nbytes(self):
            raise AssertionError("asked over the network")

        def __sizeof__(self):
            raise RuntimeError("no")

    assert value_nbytes(b"x" * 1000) >= 1000
    assert value_nbytes(Proxy()) == 0


def nested(value, times):
    for _ in range(times):
        value = [value]
    return value


def test_a_handle_a_hundred_thousand_containers_deep_is_refused_in_words(task):
    with pytest.raises(ScopekitError, match=r"argument 'x' holds a task or chunk within 100001"):
        pack_call(add, (nested(task, 100_001),), {}, name="t")


def test_values_a_hundred_thousand_containers_deep_are_refused_in_words():
    with pytest.raises(ScopekitError, match=r"argument 'x' \(list\) cannot be sent"):
        pack_call(add, (nested(1, 100_000),), {}, name="t")
