import io
import sys
import threading
from contextlib import contextmanager
from contextvars import copy_context

import pytest

from scopekit.engine.context import RunningTask, running_task
from scopekit.engine.output import RoutedStream, route_output
from scopekit.scopes import ThreadProc


class Agent:
    def __init__(self):
        self.written = []

    def write_output(self, task, stream, text):
        self.written.append((task, stream, text))


@pytest.fixture
def agent():
    return Agent()


@contextmanager
def routed(monkeypatch):
    """Routes streams of our own; in the test itself, as pytest changes them before it."""
    made = {name: io.StringIO() for name in ("stdout", "stderr")}
    with monkeypatch.context() as patch:
        for name, stream in made.items():
            patch.setattr(sys, name, stream)
        restore = route_output()
        yield made
        restore()


def as_task(number, agent, work):
    def run():
        running_task.set(RunningTask(number, f"t{number}", ThreadProc(0, 0), agent))
        work()

    copy_context().run(run)


def test_a_task_s_output_goes_to_whoever_spawned_it(monkeypatch, agent):
    with routed(monkeypatch) as streams:
        as_task(7, agent, lambda: print("hello"))
        as_task(7, agent, lambda: print("oh", file=sys.stderr))
        print("outside")

    assert agent.written == [
        (7, "stdout", "hello"),
        (7, "stdout", "\n"),
        (7, "stderr", "oh"),
        (7, "stderr", "\n"),
    ]
    assert streams["stdout"].getvalue() == "outside\n"
    assert streams["stderr"].getvalue() == ""


def test_tasks_on_several_threads_do_not_mix(monkeypatch, agent):
    go = threading.Barrier(4)

    def work(number):
        go.wait(10)
        for _ in range(50):
            sys.stdout.write(f"{number}")

    threads = [
        threading.Thread(target=as_task, args=(n, agent, lambda n=n: work(n))) for n in range(4)
    ]
    with routed(monkeypatch) as streams:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(agent.written) == 200
    assert all(text == str(task) for task, _, text in agent.written)
    assert streams["stdout"].getvalue() == ""


def test_nothing_written_is_not_reported(monkeypatch, agent):
    with routed(monkeypatch):
        as_task(1, agent, lambda: sys.stdout.write(""))

    assert agent.written == []


def test_the_stream_looks_like_the_one_below(monkeypatch):
    with routed(monkeypatch) as streams:
        seen = sys.stdout

        assert seen.writable()
        assert seen.original is streams["stdout"]
        assert seen.getvalue() == ""
        assert seen.encoding == streams["stdout"].encoding
        assert not seen.isatty()


def test_the_originals_come_back_with_the_last_who_asked(monkeypatch):
    with routed(monkeypatch) as streams:
        restore = route_output()
        assert not isinstance(sys.stdout.original, RoutedStream)
        restore()
        assert isinstance(sys.stdout, RoutedStream)

    assert not isinstance(streams["stdout"], RoutedStream)
    assert not isinstance(sys.stdout, RoutedStream)


def test_a_stream_that_somebody_else_put_there_is_left(monkeypatch):
    theirs = io.StringIO()
    with routed(monkeypatch):
        restore = route_output()
        monkeypatch.setattr(sys, "stdout", theirs)
        restore()

        assert sys.stdout is theirs
