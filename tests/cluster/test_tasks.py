"""What can be called, what comes of it, what is printed, and where it runs."""

import functools
import os
import sys
import textwrap
import threading
import time

import cloudpickle
import pytest

import scopekit as sk
from scopekit import ExactScope, ProcessScope, ThreadProc
from scopekit.wire import messages as msg

cloudpickle.register_pickle_by_value(sys.modules[__name__])

TOP = 10


def add(x, y=1):
    return x + y


# -- what can be called --------------------------------------------------------------


class Callable:
    def __init__(self, by):
        self.by = by

    def __call__(self, x):
        return x + self.by

    def method(self, x):
        return x * self.by

    @classmethod
    def of_class(cls, x):
        return (cls.__name__, x)

    @staticmethod
    def static(x):
        return -x


async def later(x):
    import asyncio

    await asyncio.sleep(0)
    return x + 1


def generate(n):
    yield from range(n)


@functools.lru_cache
def cached(x):
    return x + 100


@functools.wraps(add)
def wrapped(*args, **kwargs):
    return ("wrapped", add(*args, **kwargs))


def closure(by):
    return lambda x: x + by


def recursive(n):
    return 1 if n == 0 else n * recursive(n - 1)


@pytest.mark.parametrize(
    ("function", "args", "expected"),
    [
        (lambda x: x + 1, (1,), 2),
        (closure(5), (1,), 6),
        (functools.partial(add, y=7), (1,), 8),
        (functools.partial(functools.partial(add, 1), y=2), (), 3),
        (len, ([1, 2],), 2),
        (str.upper, ("a",), "A"),
        ("-".join, (["a", "b"],), "a-b"),
        ([3, 4].__getitem__, (1,), 4),
        (Callable(3), (1,), 4),
        (Callable(3).method, (2,), 6),
        (Callable.of_class, (1,), ("Callable", 1)),
        (Callable.static, (1,), -1),
        (later, (1,), 2),
        (functools.partial(later, 4), (), 5),
        (cached, (1,), 101),
        (wrapped, (1,), ("wrapped", 2)),
        (recursive, (5,), 120),
        (complex, (1, 2), 1 + 2j),
        (os.path.basename, ("/a/b",), "b"),
        (max, (1, 5, 3), 5),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_anything_callable_can_be_a_task(session, function, args, expected):
    assert session.spawn(function, *args).result(20) == expected


def test_a_class_makes_an_instance(session):
    made = session.spawn(Callable, 5).result(20)

    assert type(made) is Callable
    assert made.by == 5


def test_a_generator_is_kept_where_it_runs(session):
    """It cannot be pickled; a task there can still draw from it."""
    task = session.spawn(generate, 3, scope=ProcessScope(1))

    with pytest.raises(sk.ScopekitError, match="worker 1"):
        task.result(20)
    assert session.spawn(list, task, scope=ProcessScope(1)).result(20) == [0, 1, 2]


def test_an_async_function_awaits_at_length(session):
    async def work():
        import asyncio

        done = await asyncio.gather(*(later(i) for i in range(10)))
        return sum(done)

    tasks = [session.spawn(work, scope=ExactScope(p)) for p in session.processors()]
    assert session.fetch(tasks, timeout=20) == [55] * len(tasks)


def test_what_cannot_be_called_is_refused_where_it_is_spawned(session):
    with pytest.raises(TypeError, match="type int cannot be called"):
        session.spawn(5)


def test_calling_with_the_wrong_arguments_is_the_tasks_error(session):
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        session.spawn(add).result(20)


def test_a_function_of_the_notebook_sees_a_global_that_changed(session):
    """A function of ``__main__``, defined again, or whose global changed, is sent anew."""
    script = textwrap.dedent(
        """
        import scopekit as sk

        def work():
            return factor * 10

        if __name__ == "__main__":
            session = sk.start(1)
            factor = 1
            print(session.spawn(work).result(20))
            factor = 2
            print(session.spawn(work).result(20))

            def work():
                return factor * 1000

            print(session.spawn(work).result(20))
            session.close()
        """
    )
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout.split() == ["10", "20", "2000"]
    assert done.stderr == ""


def test_a_global_of_this_module_that_changed_is_seen(session, monkeypatch):
    def work():
        return TOP

    assert session.spawn(work, scope=ProcessScope(0)).result(20) == 10
    monkeypatch.setattr(sys.modules[__name__], "TOP", 20)
    assert session.spawn(work, scope=ProcessScope(0)).result(20) == 20


def test_a_function_is_sent_to_an_engine_once(session, monkeypatch):
    """Two hundred tasks of a function with a megabyte in its closure."""
    ballast = os.urandom(1 << 20)
    sent = []
    for wire in dict.fromkeys(map(session._driver.wires.get, session.workers)):
        real = wire.send

        def counted(worker, order, real=real):
            if isinstance(order, msg.Run):
                sent.append(len(order.function or b""))
            real(worker, order)

        monkeypatch.setattr(wire, "send", counted)

    def work(x):
        return x + len(ballast)

    tasks = [session.spawn(work, i) for i in range(200)]
    assert session.fetch(tasks, timeout=60) == [i + (1 << 20) for i in range(200)]

    assert sum(sent) > 1 << 20
    assert sum(sent) < (len(session.workers) + 1) << 20


def test_a_function_is_not_kept_here_for_each_of_its_tasks(session, until):
    ballast = os.urandom(1 << 20)
    function = functools.partial(len, ballast)
    tasks = [session.spawn(function) for _ in range(3)]
    session.fetch(tasks, timeout=30)

    pickles = {call.function for call in session._driver._calls.values()}
    assert len([pickled for pickled in pickles if len(pickled) > 1 << 20]) == 1
    mine = {task.id for task in tasks}
    del tasks
    until(lambda: not mine & session._driver._calls.keys(), "the calls are forgotten")


@pytest.mark.parametrize("key", ["f", "self", "name", "timeout", "session", "args", "x", "given"])
def test_a_keyword_of_any_name_reaches_the_function(session, key):
    def take(**kwargs):
        return kwargs

    assert session.spawn(take, **{key: 1}).result(20) == {key: 1}
    assert sk.options().spawn(take, **{key: 1}).result(20) == {key: 1}
    assert sk.spawn(take, **{key: 1}).result(20) == {key: 1}


def test_scopes_reach_the_function_as_keywords_of_options_spawn(session):
    def take(**kwargs):
        return sorted(kwargs)

    task = session.options().spawn(take, scope=1, compute_scope=2, result_scope=3)

    assert task.result(20) == ["compute_scope", "result_scope", "scope"]


def test_plan_passes_on_every_keyword(session):
    assert session.plan(add, x=1, name="n").chosen is not None
    assert session.options().plan(add, f=1, self=2).chosen is not None


# -- names ---------------------------------------------------------------------------


def test_a_task_is_named_after_its_function_and_counted(session):
    def unheard_of():
        pass

    assert [session.spawn(unheard_of).name for _ in range(2)] == ["unheard_of-1", "unheard_of-2"]
    assert session.options(name="mine").spawn(unheard_of).name == "mine"


def test_a_refused_spawn_leaves_nothing_behind(session):
    before = len(session._driver._calls), len(session._driver._pending)
    with pytest.raises(sk.SchedulingError):
        session.spawn(add, 1, scope=ProcessScope(77))

    assert (len(session._driver._calls), len(session._driver._pending)) == before


# -- errors --------------------------------------------------------------------------


class OwnError(Exception):
    pass


class NeedsTwoError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")
        self.two = two


class UnpicklableError(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class UnspeakableError(Exception):
    def __str__(self):
        raise ValueError("no text")


def deep_inside(x):
    raise OwnError(f"bad x: {x}")


def outer(x):
    deep_inside(x)


def test_an_error_comes_as_its_own_type_and_tells_where_it_was_raised(session):
    task = session.options(name="digging", scope=ProcessScope(2)).spawn(outer, 5)

    with pytest.raises(OwnError, match="bad x: 5") as caught:
        task.result(20)

    notes = "\n".join(caught.value.__notes__)
    assert "digging" in notes
    assert "node b" in notes
    assert "worker 2" in notes
    assert "deep_inside" in notes
    assert "outer" in notes


def test_a_remote_traceback_shows_the_users_frames_alone(session):
    with pytest.raises(OwnError) as caught:
        session.spawn(outer, 5).result(20)

    assert "run_task" not in "\n".join(caught.value.__notes__)
    assert "agent.py" not in "\n".join(caught.value.__notes__)


def test_the_local_traceback_of_an_error_is_short(session):
    with pytest.raises(OwnError) as caught:
        session.spawn(outer, 5).result(20)

    frames = [entry.path for entry in caught.traceback]
    assert len(frames) < 8


def test_a_cause_is_told(session):
    def chained():
        try:
            int("x")
        except ValueError as error:
            raise OwnError("outer") from error

    with pytest.raises(OwnError) as caught:
        session.spawn(chained).result(20)
    assert "invalid literal" in "\n".join(caught.value.__notes__)


@pytest.mark.parametrize(
    ("make", "name", "text"),
    [
        (lambda: NeedsTwoError(1, 2), "NeedsTwoError", "1 and 2"),
        (lambda: UnpicklableError("locked"), "UnpicklableError", "locked"),
    ],
    ids=["constructor wants two", "does not pickle"],
)
def test_an_error_that_cannot_travel_is_described(session, make, name, text):
    def work():
        raise make()

    with pytest.raises(sk.RemoteError, match=text) as caught:
        session.options(name="troubled").spawn(work).result(20)

    assert caught.value.type_name.endswith(name)
    assert "in work" in caught.value.traceback_text
    assert "troubled" in "\n".join(caught.value.__notes__)


def test_an_error_that_cannot_tell_its_text_is_still_told(session):
    def work():
        raise UnspeakableError

    error = session.spawn(work).exception(20)
    assert type(error).__name__ in ("UnspeakableError", "RemoteError")


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (SystemExit, "SystemExit"),
        (KeyboardInterrupt, "KeyboardInterrupt"),
        (GeneratorExit, "GeneratorExit"),
    ],
)
@pytest.mark.parametrize("thread", [0, 1])
def test_an_exit_of_a_task_ends_neither_engine_nor_client(session, make, name, thread):
    def leave():
        raise make(3)

    task = session.spawn(leave, scope=ExactScope(ThreadProc(0, thread)))

    with pytest.raises(sk.RemoteError, match=name):
        task.result(20)
    assert session.spawn(add, 1, scope=ExactScope(ThreadProc(0, thread))).result(20) == 2


def test_sys_exit_in_a_task_is_an_error_of_the_task(session):
    with pytest.raises(sk.RemoteError, match="SystemExit"):
        session.spawn(sys.exit, 1).result(20)


@pytest.mark.parametrize("make", [StopIteration, StopAsyncIteration, TimeoutError, MemoryError])
def test_an_error_with_a_meaning_elsewhere_is_just_the_tasks(session, make):
    def work():
        raise make("mine")

    with pytest.raises(make, match="mine") as caught:
        session.spawn(work).result(20)
    assert caught.value.__notes__


def test_a_cancelled_error_that_a_task_raises_is_the_tasks_own(session):
    """Not to be taken for a task that was cancelled."""
    import concurrent.futures

    def work():
        raise concurrent.futures.CancelledError("mine")

    task = session.spawn(work)

    assert isinstance(task.exception(20), concurrent.futures.CancelledError)
    assert task.state == "failed"
    assert "before it ran" not in str(task.exception(20))


@pytest.mark.parametrize("depth", [3, 500])
def test_a_dependant_names_the_task_at_fault_however_far_it_is(session, depth):
    """C130, C164."""
    task = session.options(name="at-fault").spawn(outer, 1)
    for level in range(depth):
        task = session.options(name=f"level-{level}").spawn(add, task)

    with pytest.raises(OwnError, match="bad x: 1") as caught:
        task.result(60)

    notes = "\n".join(caught.value.__notes__)
    assert "at-fault" in notes
    assert f"level-{depth - 1}" in notes
    assert task.state == "blocked"
    # not one note for each link of the chain
    assert len(caught.value.__notes__) < 6


def test_a_task_with_a_failed_input_never_runs(session, tmp_path):
    trace = tmp_path / "ran"

    def mark(_):
        open(trace, "w").close()  # noqa: PTH123

    session.spawn(mark, session.spawn(outer, 1)).wait(20)

    assert not trace.exists()


def test_spawning_on_a_task_that_failed_already_fails_alike(session):
    failed = session.spawn(outer, 1)
    failed.wait(20)

    task = session.spawn(add, failed)

    assert isinstance(task.exception(20), OwnError)


def test_an_argument_that_does_not_pickle_is_named_at_the_spawn(session):
    with pytest.raises(sk.ScopekitError, match=r"argument 'y'.*lock"):
        session.spawn(add, 1, y=threading.Lock())
    with pytest.raises(sk.ScopekitError, match=r"argument 'x'.*lock"):
        session.spawn(add, threading.Lock())
    with pytest.raises(sk.ScopekitError, match=r"argument 2"):
        session.spawn(max, 1, [threading.Lock()])


def test_a_function_that_does_not_pickle_is_told_at_the_spawn(session):
    lock = threading.Lock()

    with pytest.raises(sk.ScopekitError, match="function cannot be sent"):
        session.spawn(lock.locked)


def test_an_argument_whose_pickling_raises_is_told_at_the_spawn(session):
    class Sulky:
        def __reduce__(self):
            raise OwnError("not me")

    with pytest.raises(sk.ScopekitError, match=r"argument 'x'.*not me"):
        session.spawn(add, Sulky())


def test_an_argument_that_cannot_be_read_is_the_tasks_error(session):
    class Trap:
        def __reduce__(self):
            return (outer, (9,))

    with pytest.raises(OwnError, match="bad x: 9"):
        session.spawn(add, Trap()).result(20)
    assert session.spawn(add, 1).result(20) == 2


def test_a_result_that_does_not_pickle_stays_and_can_be_worked_on(session):
    task = session.spawn(threading.Lock, scope=ProcessScope(3))

    with pytest.raises(sk.ScopekitError, match="worker 3") as caught:
        task.result(20)
    assert "lock" in str(caught.value)
    assert "task" in str(caught.value)
    assert (
        session.spawn(lambda lock: lock.locked(), task, scope=ProcessScope(3)).result(20) is False
    )


def test_a_result_that_does_not_pickle_draws_the_tasks_on_it(session):
    def nap():
        import time

        time.sleep(0.3)

    lock = session.spawn(threading.Lock, scope=ProcessScope(3))
    lock.wait(20)
    kept = [session.spawn(nap, scope=ProcessScope(3)) for _ in range(4)]

    task = session.spawn(lambda lock: sk.myid(), lock)

    assert task.result(20) == 3
    session.fetch(kept, timeout=20)


def test_a_value_whose_class_is_unknown_here_is_told_by_name(session):
    def make():
        import sys
        import types

        module = types.ModuleType("only_there")
        exec("class Thing:\n    pass", module.__dict__)
        module.Thing.__module__ = "only_there"
        sys.modules["only_there"] = module
        return module.Thing()

    task = session.spawn(make, scope=ProcessScope(1))

    with pytest.raises(sk.ScopekitError, match=r"only_there\.Thing"):
        task.result(20)
    assert session.spawn(lambda x: type(x).__name__, task, scope=ProcessScope(1)).result(20) == (
        "Thing"
    )


def test_an_error_whose_class_is_unknown_here_is_described(session):
    def work():
        import sys
        import types

        module = types.ModuleType("only_there_too")
        exec("class TheirError(Exception):\n    pass", module.__dict__)
        module.TheirError.__module__ = "only_there_too"
        sys.modules["only_there_too"] = module
        raise module.TheirError("their text")

    with pytest.raises(sk.RemoteError, match="their text") as caught:
        session.spawn(work).result(20)
    assert "TheirError" in caught.value.type_name


def test_a_task_inside_of_a_closure_is_refused_with_the_way_out(session):
    task = session.spawn(add, 1)

    with pytest.raises(sk.ScopekitError, match="as an argument"):
        session.spawn(lambda: task)


@pytest.mark.parametrize("how", ["os._exit", "segfault"])
@pytest.mark.slow
def test_a_task_that_kills_its_engine_ends_in_a_named_error(own_folders, how):
    def die():
        import ctypes
        import os

        if how == "segfault":
            ctypes.string_at(0)
        os._exit(1)

    with sk.start(2) as session:
        task = session.options(name="deadly", idempotent=False).spawn(die)
        with pytest.raises(sk.ScopekitError) as caught:
            task.result(60)
        assert "deadly" in str(caught.value)
        assert session.spawn(add, 1).result(60) == 2


@pytest.mark.slow
def test_a_deadly_task_does_not_take_every_engine_with_it(own_folders):
    def die():
        import os

        os._exit(1)

    with sk.start(5) as session:
        task = session.options(name="deadly").spawn(die)
        with pytest.raises(sk.ScopekitError, match="deadly"):
            task.result(60)
        assert len(session.workers) >= 2
        assert session.spawn(add, 1).result(60) == 2


# -- output --------------------------------------------------------------------------


def talk(text, times=1):
    import sys

    for _ in range(times):
        print(text)
    print(f"{text} on stderr", file=sys.stderr)


def test_what_a_task_prints_is_kept_by_its_task(session, capsys):
    task = session.spawn(talk, "hello")
    task.wait(20)

    assert task.stdout == "hello\n"
    assert task.stderr == "hello on stderr\n"
    shown = capsys.readouterr()
    assert "hello\n" in shown.out
    assert "hello on stderr\n" in shown.err


def test_output_is_there_before_the_task_is_done(session, tmp_path, until):
    gate = tmp_path / "open"

    def work(path):
        import pathlib
        import time

        print("first")
        limit = time.monotonic() + 60
        while not pathlib.Path(path).exists() and time.monotonic() < limit:
            time.sleep(0.005)
        print("last")

    task = session.spawn(work, str(gate), scope=ExactScope(ThreadProc(0, 1)))
    try:
        until(lambda: "first" in task.stdout, "output while running")
        assert not task.done()
    finally:
        gate.touch()
    task.wait(20)
    assert task.stdout == "first\nlast\n"


def test_output_of_threads_of_one_engine_does_not_mix(session):
    def chatter(word):
        import time

        for _ in range(50):
            print(word, end="")
            time.sleep(0.001)

    tasks = [
        session.spawn(chatter, word, scope=ExactScope(ThreadProc(2, thread)))
        for thread, word in ((0, "x"), (1, "y"))
    ]
    session.fetch(tasks, timeout=20)

    assert [task.stdout for task in tasks] == ["x" * 50, "y" * 50]


def test_output_of_a_thread_that_a_task_starts_is_not_lost_to_another_task(session):
    def work(word):
        import threading

        thread = threading.Thread(target=print, args=(word,))
        thread.start()
        thread.join()
        print("own")

    task = session.spawn(work, "child")
    task.wait(20)

    assert "own" in task.stdout


def test_the_last_of_much_output_is_kept(session, capsys):
    task = session.spawn(lambda: print("x" * 3_000_000 + "END"))
    task.wait(30)

    assert task.stdout.endswith("END\n")
    assert len(task.stdout) <= 1_000_000


def test_output_of_a_failing_task_is_kept(session):
    def work():
        print("so far")
        raise OwnError

    task = session.spawn(work)
    task.wait(20)

    assert task.stdout == "so far\n"


def test_a_task_that_flushes_its_stream_is_served(session):
    def work():
        import sys

        print("a", flush=True)
        sys.stdout.flush()
        sys.stdout.writelines(["b\n", "c\n"])
        return sys.stdout.isatty(), sys.stdout.writable()

    task = session.spawn(work)

    assert task.result(20) == (False, True)
    assert task.stdout == "a\nb\nc\n"


@pytest.mark.parametrize("name", ["encoding", "name"])
def test_a_task_finds_a_stream_with_an_encoding(session, name):
    def work(name):
        import sys

        return getattr(sys.stdout, name)

    assert isinstance(session.spawn(work, name).result(20), str)


# -- where tasks run -----------------------------------------------------------------


def test_unscoped_tasks_spread_over_all_engines(session):
    """Not all on the first, nor in this process."""

    def look():
        import time

        time.sleep(0.02)
        return sk.myid()

    ran = session.fetch([session.spawn(look) for _ in range(40)], timeout=60)

    assert set(ran) == {0, 1, 2, 3}
    assert max(ran.count(worker) for worker in session.workers) <= 20


def test_a_task_goes_to_its_large_input(session):
    for worker in session.workers:
        big = session.spawn(lambda: bytes(20_000_000), scope=ProcessScope(worker))
        big.wait(30)
        tasks = [session.spawn(lambda b: (len(b), sk.myid()), big) for _ in range(4)]
        assert {t.result(30) for t in tasks} == {(20_000_000, worker)}
        assert "input" in tasks[0].explain().sentence() or "move" in tasks[0].explain().sentence()


def test_long_tasks_are_shared_out_evenly(session):
    """8 x 0.2 s on 8 processors of 4 engines."""

    def nap():
        import time

        time.sleep(0.2)
        return sk.task_processor()

    began = time.monotonic()
    ran = session.fetch([session.spawn(nap) for _ in range(8)], timeout=30)
    took = time.monotonic() - began

    assert len(set(ran)) == 8
    # one after another would be 1.6 s
    assert took < 1.0


def test_tasks_of_one_processor_run_one_after_another_and_in_order(session):
    def log(i, path):
        with open(path, "a") as file:  # noqa: PTH123
            file.write(f"{i} ")

    import tempfile

    with tempfile.NamedTemporaryFile("r") as file:
        tasks = [
            session.spawn(log, i, file.name, scope=ExactScope(ThreadProc(1, 1))) for i in range(50)
        ]
        session.fetch(tasks, timeout=30)
        assert file.read().split() == [str(i) for i in range(50)]


def test_a_thread_processor_is_one_thread_for_life(session):
    for processor in session.processors():
        idents = session.fetch(
            [session.spawn(threading.get_ident, scope=ExactScope(processor)) for _ in range(5)],
            timeout=20,
        )
        assert len(set(idents)) == 1


def test_thread_0_is_the_main_thread_of_its_engine(session):
    def is_main():
        return threading.current_thread() is threading.main_thread()

    for worker in session.workers:
        told = [
            session.spawn(is_main, scope=ExactScope(ThreadProc(worker, t))).result(20)
            for t in (0, 1)
        ]
        assert told == [True, False]


def test_run_calls_once_in_each_process(session):
    assert session.run(sk.myid) == {0: 0, 1: 1, 2: 2, 3: 3}
    assert session.run(add, 1, scope=sk.NodeScope("b")) == {2: 2, 3: 2}
    with pytest.raises(sk.NoProcessorError):
        session.run(sk.myid, scope=ProcessScope(77))


def test_current_task_knows_its_name_and_place(session):
    def look():
        task = sk.current_task()
        return task.name, task.node, task.worker

    task = session.options(name="self-aware", scope=ProcessScope(3)).spawn(look)
    assert task.result(20) == ("self-aware", "b", 3)
    assert sk.current_task() is None
    assert sk.myid() == "client"
    with pytest.raises(sk.ScopekitError, match="no task runs here"):
        sk.task_processor()


# -- sessions ------------------------------------------------------------------------


def test_a_closed_session_says_that_it_is_closed(own_folders):
    session = sk.start(0)
    chunk, task = session.tochunk(1), session.spawn(add, 1)
    session.close()

    for use in (
        lambda: session.spawn(add, 1),
        lambda: session.tochunk(1),
        lambda: session.plan(add, 1),
        lambda: session.add_workers(1),
        lambda: session.run(add, 1),
        lambda: session.options(name="x").spawn(add, 1),
    ):
        with pytest.raises(sk.ScopekitError, match="is closed"):
            use()
    assert "closed" in repr(session)
    session.close()
    assert task.done()
    del chunk


@pytest.mark.slow
def test_a_result_after_the_close_is_refused_in_words(own_folders):
    with sk.start(1) as session:
        task, chunk = session.spawn(list, "ab"), session.tochunk(1, processor=ThreadProc(0, 0))
        number = session.spawn(add, 1)
        session.wait([task, number], timeout=20)
        assert chunk.fetch() == 1

    for fetch in (task.result, chunk.fetch, lambda: sk.fetch([task, chunk])):
        with pytest.raises(sk.ScopekitError, match="closed"):
            fetch()
    assert task.state == "done"
    # A number came with the word that it was made: it is here.
    assert number.result() == 2
    assert number.exception() is None


@pytest.mark.slow
def test_a_session_inside_of_a_task_harms_no_other_task(own_folders):
    def start_one():
        with sk.start(0) as inner:
            return inner.spawn(int).result()

    def look(items):
        return sk.ProcessScope(), items[0].fetch()

    with sk.start(1) as session:
        session.spawn(start_one).wait(20)
        made = session.spawn(lambda: [sk.tochunk("x")])
        assert session.spawn(look, made).result(20)[1] == "x"
        assert session.spawn(sk.ProcessScope).result(20) == ProcessScope(0)


@pytest.mark.parametrize("use", ["task", "chunk"])
def test_a_handle_of_another_session_is_refused(session, use):
    with sk.start(0) as other:
        foreign = other.spawn(add, 1) if use == "task" else other.tochunk(1)
        with pytest.raises(sk.ScopekitError, match=r"argument 'x' belongs to another session"):
            session.spawn(add, foreign)
        assert sk.fetch(foreign) in (1, 2)


def test_the_innermost_session_is_current(session):
    assert sk.current_session() is session
    with sk.start(0) as inner:
        assert sk.current_session() is inner
        assert sk.spawn(sk.myid).result() == 0
    assert sk.current_session() is session
    assert sk.spawn(sk.myid, scope=ProcessScope(2)).result(20) == 2


def test_a_scope_means_the_worker_of_the_session_it_is_used_in(session):
    with sk.start(0):
        scope = ProcessScope(0)
        assert session.spawn(sk.myid, scope=scope).result(20) == 0
        assert session.spawn(sk.myid, scope=ProcessScope(0)).result(20) == 0
        assert session.tochunk(1, scope=scope).worker == 0
        assert session.run(sk.myid, scope=scope) == {0: 0}
        assert session.satisfiable(scope)
        assert {processor.worker for processor in session.processors(scope)} == {0}


def test_statistics_and_events_tell_of_tasks(session):
    session.spawn(add, 1).result(20)

    assert session.statistics()["tasks"]["done"] > 0
    assert session.statistics()["workers"] == 4
    kinds = [event["kind"] for event in session.events()]
    assert "TaskSpawned" in kinds
    assert "RunFinished" in kinds
    assert "4 workers on 2 nodes" in session.summary()


# -- engines that die ----------------------------------------------------------------


@pytest.fixture(scope="module")
def mortal(own_folders):
    """Engines of which each test may kill one."""
    with sk.start(6) as session:
        session.run(int)
        yield session


@pytest.fixture
def victim(mortal):
    return mortal.workers[-1]


def kill(session, worker, until):
    session._link.kill_engine(worker)
    until(lambda: worker not in session.workers, "the engine is gone")


def hold(path, started):
    import pathlib
    import time

    pathlib.Path(started).touch()
    limit = time.monotonic() + 60
    while not pathlib.Path(path).exists() and time.monotonic() < limit:
        time.sleep(0.005)
    return sk.myid()


def test_a_task_whose_engine_dies_runs_again_elsewhere(mortal, tmp_path, until):
    gate, started = tmp_path / "gate", tmp_path / "started"
    task = mortal.spawn(hold, str(gate), str(started))
    other = mortal.spawn(hold, str(gate), str(tmp_path / "other"))
    until(started.exists, "the task runs")
    died = task.worker

    kill(mortal, died, until)
    gate.touch()

    assert task.result(30) != died
    assert other.result(30) in mortal.workers


@pytest.mark.parametrize(
    "at_once",
    [
        False,
        True,
    ],
    ids=["known to run", "just begun"],
)
def test_a_task_that_may_not_run_twice_ends_in_a_named_error(
    mortal, tmp_path, until, at_once, monkeypatch
):
    gate, started = tmp_path / "gate", tmp_path / "started"
    task = mortal.options(name="once-only", idempotent=False).spawn(hold, str(gate), str(started))
    if at_once:
        # what its engine says from now on comes too late
        monkeypatch.setattr(mortal._driver, "_read_reports", lambda *_: None)
    until(started.exists, "the task runs")
    if not at_once:
        until(lambda: task.state == "running", "it is known that the task runs")
    kill(mortal, task.worker, until)
    monkeypatch.undo()
    gate.touch()

    with pytest.raises(sk.WorkerLostError, match="once-only"):
        task.result(30)


def test_what_a_dead_engine_held_is_lost_and_said_so(mortal, victim, until):
    chunk = mortal.tochunk("x", scope=ProcessScope(victim))
    result = mortal.spawn(bytes, 10, scope=ProcessScope(victim))
    result.wait(20)
    copied = mortal.spawn(bytes, 20, scope=ProcessScope(victim))
    survivor = mortal.spawn(len, copied, scope=ProcessScope(mortal.workers[0]))
    assert survivor.result(20) == 20

    kill(mortal, victim, until)

    with pytest.raises(sk.ChunkLostError, match=f"worker {victim}"):
        result.result(10)
    with pytest.raises(sk.SchedulingError) as caught:
        mortal.spawn(len, chunk)
    assert f"worker {victim}" in str(caught.value)
    with pytest.raises(sk.ChunkLostError):
        mortal.spawn(len, result).result(10)
    # the copy that another engine made is as good
    assert copied.result(10) == bytes(20)
    assert chunk.state == "lost"


def test_the_scope_of_a_dead_engine_names_it_as_gone(mortal, victim, until):
    kill(mortal, victim, until)

    with pytest.raises(sk.NoProcessorError, match=rf"Gone for good: worker {victim}"):
        mortal.spawn(add, 1, scope=ProcessScope(victim))
    assert mortal.spawn(add, 1).result(20) == 2
    assert victim not in mortal.run(int)


@pytest.mark.slow
def test_a_task_ends_in_words_when_the_last_engine_dies_and_the_session_closes(
    own_folders, tmp_path, until
):
    gate, started = tmp_path / "gate", tmp_path / "started"
    with sk.start(1) as session:
        task = session.spawn(hold, str(gate), str(started))
        dependant = session.spawn(add, task)
        until(started.exists, "the task runs")

        kill(session, 0, until)

        with pytest.raises(sk.ScopekitError, match=task.name):
            task.result(20)
        with pytest.raises(sk.ScopekitError, match=task.name):
            dependant.result(20)
        with pytest.raises(sk.SchedulingError):
            session.spawn(add, 1)


@pytest.mark.slow
def test_a_value_on_its_way_when_its_engine_dies_is_lost_in_words(own_folders, until):
    with sk.start(2) as session:
        big = session.spawn(lambda: bytes(200_000_000), scope=ProcessScope(0))
        big.wait(60)
        reader = session.spawn(len, big, scope=ProcessScope(1))

        kill(session, 0, until)

        # either it was read before, or its loss is told
        assert isinstance(reader.exception(60), (type(None), sk.ChunkLostError))
        with pytest.raises(sk.ChunkLostError, match="worker 0"):
            big.result(60)
        assert session.spawn(add, 1).result(20) == 2


def test_a_task_whose_last_possible_engine_dies_ends_in_the_error_that_says_so(mortal, victim):
    import os

    task = mortal.options(name="deadly", scope=ProcessScope(victim)).spawn(os._exit, 1)

    with pytest.raises(sk.WorkerLostError, match=f"worker {victim} died .* nobody else may run it"):
        task.result(30)


def test_a_client_value_that_does_not_pickle_keeps_its_tasks_out_of_engines(session):
    import threading

    lock = session.tochunk(threading.Lock())

    with pytest.raises(sk.ScopeConflictError, match="argument"):
        session.spawn(repr, lock).result(20)
    assert "lock" in session.spawn(repr, lock, scope=ProcessScope("client")).result(20)
    with pytest.raises(sk.ScopeConflictError, match=r"'lock' allows client"):
        session.spawn(_hold, lock=lock)


def _hold(lock):
    return lock


def test_an_await_that_is_given_up_leaves_no_word_behind(session, caplog):
    import asyncio
    import time

    task = None

    async def give_up():
        nonlocal task
        task = session.spawn(time.sleep, 0.3)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(_await(task)), 0.01)

    asyncio.run(give_up())
    task.wait(20)
    session.spawn(int).result(20)

    assert "Event loop is closed" not in caplog.text


async def _await(task):
    return await task
