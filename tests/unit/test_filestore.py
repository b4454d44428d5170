"""Files that keep results say whose these are, and where they are valid."""

import os
import pickle
import threading

import pytest

import scopekit as sk
from scopekit.engine.filestore import FileStore, Label

LABEL = Label("fit", "fit-1", sk.AnyScope())


def accept(_label):
    pass


def test_what_is_saved_is_loaded(tmp_path):
    store = FileStore(tmp_path / "new" / "folder" / "x.pickle")
    label = Label("fit", "fit-1", sk.NodeScope("a"))

    store.save(label, {"a": [1, None]})

    assert store.load("fit-1", accept) == ({"a": [1, None]}, label)


def test_where_there_is_no_file_there_is_nothing(tmp_path):
    assert FileStore(tmp_path / "x").load("t", accept) is None


def test_a_name_in_the_path_gives_each_task_its_own_file(tmp_path):
    store = FileStore(tmp_path / "{name}.pickle")
    store.save(Label("f", "a/../b", sk.AnyScope()), 1)
    store.save(Label("f", "c", sk.AnyScope()), 2)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["a_.._b.pickle", "c.pickle"]
    assert store.load("c", accept)[0] == 2


def test_the_last_one_saved_is_there_and_nothing_else(tmp_path):
    store = FileStore(tmp_path / "x")
    for value in range(3):
        store.save(LABEL, value)

    assert store.load("x", accept)[0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_what_cannot_be_written_leaves_the_file_as_it_was(tmp_path):
    store = FileStore(tmp_path / "x")
    store.save(LABEL, "before")

    with pytest.raises(pickle.PicklingError, match="lock"):
        store.save(LABEL, threading.Lock())

    assert store.load("x", accept)[0] == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_label_that_is_refused_keeps_the_value_from_being_read(tmp_path):
    class Seen:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "read"),)

    store = FileStore(tmp_path / "x")
    store.save(LABEL, Seen())

    def refuse(label):
        assert label == LABEL
        raise PermissionError

    with pytest.raises(PermissionError):
        store.load("x", refuse)
    assert not (tmp_path / "read").exists()


def test_another_file_is_refused_unread(tmp_path):
    (tmp_path / "x").write_bytes(pickle.dumps(1))

    with pytest.raises(sk.ScopekitError, match="holds no result"):
        FileStore(tmp_path / "x").load("x", accept)


def test_a_file_that_ends_early_is_an_error(tmp_path):
    store = FileStore(tmp_path / "x")
    store.save(LABEL, list(range(1000)))
    whole = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(whole[:-10])

    with pytest.raises((EOFError, pickle.UnpicklingError)):
        store.load("x", accept)


def test_handles_are_not_kept(tmp_path):
    with sk.start(0) as session:
        chunk = session.tochunk(1)
        for value in (chunk, [chunk], {"x": session.spawn(abs, 1)}):
            with pytest.raises(pickle.PicklingError, match="handle"):
                FileStore(tmp_path / "x").save(LABEL, value)


def test_a_function_of_the_notebook_can_be_kept(tmp_path):
    namespace = {"__name__": "__main__"}
    exec("def f(x): return x + 1", namespace)
    store = FileStore(tmp_path / "x")
    store.save(LABEL, namespace["f"])

    assert store.load("x", accept)[0](1) == 2


@pytest.mark.parametrize("path", [None, "", 5, b""])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(sk.ScopeError, match="no path"):
        FileStore(path)


def test_it_says_what_it_is():
    assert repr(FileStore("x")) == "FileStore('x')"
    assert repr(FileStore("x", sk.AnyScope())) == "FileStore('x', scope=AnyScope())"


@pytest.mark.parametrize("option", ["checkpoint", "restore"])
def test_an_option_that_is_no_store_is_refused_where_it_is_written(option):
    with pytest.raises(sk.ScopeError, match=f"{option}=5 is no FileStore, no path and no function"):
        sk.options(**{option: 5})
    with pytest.raises(sk.ScopeError, match="no path"):
        sk.options(**{option: ""})
