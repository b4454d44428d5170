import gc
import queue
import sqlite3
import threading
import weakref

import pytest

import scopekit as sk
from scopekit.errors import ScopeError
from scopekit.pinning.pin import pin_of
from scopekit.pinning.place import Place
from scopekit.pinning.registry import PLAIN, Registry, registry
from scopekit.pinning.rule import Rule
from scopekit.pinning.table import TABLE
from scopekit.places import Process, Topology
from scopekit.scopes import AnyScope, ExactScope, NodeScope, ProcessScope, ThreadProc

TOPOLOGY = Topology([Process.with_threads(0, "a", 2), Process.with_threads(1, "b")])
ON_ZERO = ProcessScope(0, node="a")
HERE = Place(ThreadProc(0, 1), TOPOLOGY)


class Camera:
    pass


class Webcam(Camera):
    pass


@pytest.fixture
def rules():
    yield sk.pins
    registry.remove([key for rule in registry.own() for key in rule.keys])


def scope_of(value):
    rule = registry.rule_for(value)
    pin = None if rule is None else pin_of(value, rule, HERE)
    return AnyScope() if pin is None else pin.scope


# -- what users may say ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "scope"),
    [
        ("thread", ExactScope(ThreadProc(0, 1), node="a")),
        ("process", ON_ZERO),
        ("node", NodeScope("a")),
        ("free", AnyScope()),
    ],
)
def test_a_word_says_what_values_of_a_type_do_not_leave(rules, word, scope):
    assert rules(Camera, word) is None
    assert scope_of(Camera()) == scope
    rules(Camera)(lambda _: word)
    assert scope_of(Camera()) == scope


def test_a_function_says_it_of_each_value(rules):
    @rules(Camera)
    def place(camera):
        return NodeScope(camera.node) if hasattr(camera, "node") else None

    camera = Camera()
    assert scope_of(camera) == AnyScope()
    camera.node = "b"
    assert scope_of(camera) == NodeScope("b")
    assert place(camera) == NodeScope("b")


def test_a_rule_holds_for_what_derives_from_the_type_and_the_nearest_wins(rules):
    rules(Camera, "process")
    assert scope_of(Webcam()) == ON_ZERO
    rules(Webcam, "node")
    assert (scope_of(Camera()), scope_of(Webcam())) == (ON_ZERO, NodeScope("a"))


def test_a_name_does_for_a_type_that_is_not_imported(rules):
    rules("no_such_library.cameras:Camera", "process")
    kind = type("Camera", (), {"__module__": "no_such_library.cameras"})

    assert scope_of(kind()) == ON_ZERO


def test_the_latest_rule_counts_also_for_types_that_were_seen_before(rules):
    assert scope_of(Camera()) == AnyScope()
    rules(Camera, "process")
    assert scope_of(Camera()) == ON_ZERO
    rules(Camera, "free")
    assert scope_of(Camera()) == AnyScope()


def test_a_rule_of_a_user_wins_over_the_table_and_over_the_care_of_a_class(rules):
    class Careful(queue.Queue):
        def __reduce__(self):
            return (Careful, ())

    assert registry.rule_for(Careful()).strength == "soft"
    rules(queue.Queue, "node")
    assert scope_of(Careful()) == NodeScope("a")
    assert registry.rule_for(Careful()).strength == "hard"


@pytest.mark.parametrize("kind", [int, str, list, dict, tuple, type(None), bytes, object, type])
def test_plain_data_can_have_no_rule(kind):
    with pytest.raises(ScopeError, match="plain data"):
        sk.pins(kind, "process")
    with pytest.raises(ScopeError, match="plain data"):
        sk.pins(f"builtins:{kind.__name__}", "process")


@pytest.mark.parametrize("kind", [3, None, [], Camera(), sk.ProcessScope])
def test_what_is_no_type_is_refused_where_it_is_written(kind):
    if isinstance(kind, type):
        assert callable(sk.pins(kind))
        return
    with pytest.raises(TypeError, match="takes a type or 'module:Class'"):
        sk.pins(kind)


@pytest.mark.parametrize(
    ("name", "near"), [("cv2.VideoCapture", "cv2:VideoCapture"), ("Camera", "module:Camera")]
)
def test_a_name_of_another_form_gets_the_right_one(name, near):
    with pytest.raises(ScopeError, match=near):
        sk.pins(name, "process")


def test_a_misspelt_word_gets_the_right_one():
    with pytest.raises(ScopeError, match="Did you mean 'process'"):
        sk.pins(Camera, "proces")


def test_what_cannot_be_called_is_refused_as_a_decorator():
    with pytest.raises(TypeError, match="stands over a function"):
        sk.pins(Camera)("process")


def test_a_function_that_gives_no_scope_is_told_with_the_words_that_do(rules):
    rules(Camera)(lambda _: 5)

    with pytest.raises(ScopeError, match="thread, process, node, free"):
        scope_of(Camera())


# -- what is told ------------------------------------------------------------------------------


def test_it_is_told_which_rule_holds_and_where_that_comes_from(rules):
    with sqlite3.connect(":memory:") as connection:
        told = sk.pins.explain(connection)
    connection.close()

    assert "sqlite3.Connection: bound to its thread, hard" in told
    assert "row 35 of scopekit's table" in told
    assert "no rule holds" in sk.pins.explain(3)

    @rules(Camera)
    def _(camera):
        """A camera is where it is plugged in."""

    assert "by sk.pins: A camera is where it is plugged in." in sk.pins.explain(Camera())


# -- finding a rule -------------------------------------------------------------------------------


def test_a_class_of_any_module_is_known_by_its_name_alone():
    kind = type("SwigPyObject", (), {"__module__": "faiss.anything"})

    assert registry.rule_for(kind()).row == 26


def test_a_type_is_looked_at_once_and_may_die():
    own = Registry(TABLE)

    def look():
        kind = type("Short", (), {})
        assert own.verdict(kind) is PLAIN
        assert own.verdicts
        return weakref.ref(kind)

    gone = look()
    gc.collect()

    assert gone() is None
    assert own.verdicts == {}


def test_a_class_of_another_name_at_the_same_address_is_looked_at_anew():
    own = Registry([Rule(keys=("m:Bound",), level="process", why="it is")])
    found = []
    for number in range(200):
        name = "Bound" if number % 2 else "Free"
        kind = type(name, (), {"__module__": "m"})
        found.append(own.rule_for(kind()) is not None)
        del kind
        gc.collect(0)

    assert found == [False, True] * 100


def test_many_threads_may_look_at_once():
    own = Registry(TABLE)
    kinds = [type(f"Kind{n}", (threading.Event,), {}) for n in range(50)]
    found = []

    def look():
        found.extend(own.rule_for(kind()).row for kind in kinds)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [11] * 400


def test_listeners_hear_of_rules_of_this_process_alone(rules):
    heard, owner = [], object()
    registry.listeners.append(heard.append)
    try:
        rules(Camera, "process")
        other = Rule(keys=("m:Other",), level="process", why="it is")
        registry.adopt(owner, other.keys, lambda: other)
    finally:
        registry.listeners.remove(heard.append)
        registry.leave(owner)

    assert [rule.keys for rule in heard] == [("test_pins_registry:Camera",)]


def test_an_adopted_rule_holds_as_long_as_one_for_whom_it_was_is_there():
    rule = Rule(keys=("test_pins_registry:Camera",), level="process", why="it is")
    one, other = object(), object()
    for owner in (one, other):
        registry.adopt(owner, rule.keys, lambda: rule)

    registry.leave(one)
    assert scope_of(Camera()) == ON_ZERO
    registry.leave(other)
    assert scope_of(Camera()) == AnyScope()


def test_a_rule_that_cannot_be_read_binds_what_it_is_for():
    def read():
        raise ModuleNotFoundError("no module named 'theirs'")

    owner = object()
    registry.adopt(owner, ("test_pins_registry:Camera",), read)

    assert scope_of(Camera()) == ON_ZERO
    assert "could not be read here" in sk.pins.explain(Camera())
    registry.leave(owner)


# -- places --------------------------------------------------------------------------------


def test_a_place_knows_what_leaves_its_process():
    assert HERE.leaves(AnyScope())
    assert HERE.leaves(ProcessScope(1))
    assert not HERE.leaves(ProcessScope(0))
    assert not HERE.leaves(NodeScope("a"))
    assert HERE.stays(NodeScope("a"))
    assert not HERE.stays(ProcessScope(1))


def test_where_nobody_knows_the_node_its_process_stands_for_it():
    nowhere = Place(ThreadProc(7, 0), TOPOLOGY)

    assert nowhere.scope("node") == ProcessScope(7)
