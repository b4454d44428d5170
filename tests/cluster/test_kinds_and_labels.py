"""Places on real engines: threads, processors of other kinds, the client as one of them."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
import time

import cloudpickle
import pytest

import scopekit as sk
from scopekit import AnyScope, CudaProc, ExactScope, NodeScope, ProcessScope, ThreadProc
from scopekit.scopes import processors
from scopekit.testing import stand_in_accelerator

# Functions travel as those of a notebook do.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def own_kinds(monkeypatch):
    """Kinds that are registered here are the only ones, and forgotten afterwards."""
    for table in ("_types", "_by_name"):
        monkeypatch.setattr(processors, table, dict(getattr(processors, table)))
    monkeypatch.setattr(processors, "_probes", {})


@pytest.fixture
def elsewhere(request):
    """Tell a test that its tasks spawn elsewhere than where they run."""
    if request.config.getoption("--wire") == "views":
        pytest.skip("over views a task spawns where it runs alone")


def thread():
    main = threading.main_thread()
    here = threading.current_thread()
    return threading.get_ident(), threading.get_native_id(), here is main, os.getpid()


def where(*_args):
    return sk.myid()


def proc(*_args):
    return sk.task_processor()


# -- asking for processors ------------------------------------------------------------------


def threads_of(*workers):
    return {ThreadProc(worker, thread) for worker in workers for thread in (0, 1)}


def test_the_processors_of_a_scope_can_be_asked_for(session):
    """C079, C080, C081."""
    assert set(session.compatible_processors(sk.scope(worker=0))) == threads_of(0)
    assert sk.compatible_processors(sk.scope(worker=0, thread=1)) == (ThreadProc(0, 1),)
    assert set(session.compatible_processors(sk.scope(workers=[0, 2]))) == threads_of(0, 2)
    assert set(session.compatible_processors(AnyScope() - NodeScope("a"))) == {
        *threads_of(2, 3),
        ThreadProc("client", 0),
    }


def test_processors_are_counted_as_they_are_listed(session):
    """C082, C083."""
    scopes = [None, sk.scope(worker=0), NodeScope("b"), AnyScope(), sk.scope("default")]
    for scope in scopes:
        assert session.num_processors(scope) == len(session.compatible_processors(scope))
    assert sk.num_processors() == session.num_processors() == 8
    assert sk.num_processors(all=True) == len(session.topology.processors) == 9
    assert session.num_processors(NodeScope("a"), all=True) == 9


# -- threads ----------------------------------------------------------------------------


def test_a_thread_processor_is_one_thread_for_life(session):
    seen = {}
    for _ in range(5):
        for processor in session.processors():
            task = session.spawn(thread, scope=ExactScope(processor))
            seen.setdefault(processor, set()).add(task.result(20))

    assert len(seen) == 8
    assert all(len(threads) == 1 for threads in seen.values()), seen
    idents = {(pid, native) for ((_, native, _, pid),) in map(tuple, seen.values())}
    assert len(idents) == 8


def test_thread_0_is_the_main_thread_of_its_engine_and_no_other_is(session):
    for processor in session.processors():
        _, _, is_main, pid = session.spawn(thread, scope=ExactScope(processor)).result(20)

        assert is_main == (processor.thread == 0)
        assert pid == session.topology.process(processor.worker).pid


def test_the_thread_of_px_is_that_of_thread_0(session):
    """Cells of %px run where tasks of thread 0 run: both on the engine's main thread."""
    view = session._link.client[0]
    of_px = view.apply_sync(thread)
    of_task = session.spawn(thread, scope=ExactScope(ThreadProc(0, 0))).result(20)

    assert of_px == of_task


def test_a_task_that_waits_lends_its_own_thread_to_others(session):
    def outer():
        return sk.fetch([sk.spawn(thread) for _ in range(3)]), thread()

    with sk.with_options(scope=ExactScope(ThreadProc(1, 1))):
        nested, own = session.spawn(outer).result(20)

    assert nested == [own] * 3


@pytest.mark.parametrize("number", [0, 1])
def test_a_connection_bound_to_its_thread_works_under_an_exact_scope(session, number):
    """SQLite refuses a connection in any other thread than the one that made it."""
    home = ExactScope(ThreadProc(2, number))

    def connect():
        connection = sqlite3.connect(":memory:")
        connection.execute("CREATE TABLE t (x)")
        return sk.tochunk(connection, scope=sk.ExactScope(sk.task_processor()))

    def insert(connection, x):
        connection.execute("INSERT INTO t VALUES (?)", (x,))

    def total(connection):
        return connection.execute("SELECT sum(x) FROM t").fetchone()[0]

    connection = session.spawn(connect, scope=home)
    session.wait([session.spawn(insert, connection, x) for x in range(50)])

    assert session.spawn(total, connection).result(20) == sum(range(50))
    assert session.fetch(connection, raw=True).scope == home
    other = ExactScope(ThreadProc(2, 1 - number))
    with pytest.raises(sk.ScopeConflictError):
        session.spawn(total, session.fetch(connection, raw=True), scope=other)


def test_under_a_process_scope_such_a_connection_meets_other_threads(session):
    """What the exact scope is for: two threads of a process are two places."""

    def connect():
        return sk.tochunk(sqlite3.connect(":memory:"), scope=sk.ProcessScope())

    connection = session.spawn(connect, scope=ExactScope(ThreadProc(3, 0)))
    asked = session.spawn(
        lambda c: c.execute("SELECT 1").fetchone(), connection, scope=ExactScope(ThreadProc(3, 1))
    )

    with pytest.raises(sqlite3.ProgrammingError, match="thread"):
        asked.result(20)


# -- the client -----------------------------------------------------------------------------


def test_the_client_runs_tasks_in_this_process_on_a_thread_of_its_own(session):
    for scope in (ProcessScope("client"), sk.scope(worker="client")):
        tasks = [session.spawn(thread, scope=scope) for _ in range(5)]
        ((_, _, is_main, pid),) = set(session.fetch(tasks))

        assert (is_main, pid) == (False, os.getpid())


def test_the_client_is_asked_for_or_not_used(session):
    everywhere = [session.spawn(where) for _ in range(40)]
    assert "client" not in session.fetch(everywhere)
    assert "client" not in {p.worker for p in session.processors()}
    assert ThreadProc("client", 0) in session.processors(AnyScope())
    assert ThreadProc("client", 0) not in session.processors(~ProcessScope("client"))


def test_a_task_of_the_client_does_not_keep_the_notebook_from_anything(session, tmp_path):
    flag = tmp_path / "go on"

    def hold(path):
        deadline = time.monotonic() + 20
        while not os.path.exists(path):  # noqa: PTH110  # the module travels by value
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return "went on"

    held = session.spawn(hold, str(flag), scope=ProcessScope("client"))
    values = session.fetch([session.spawn(abs, -i) for i in range(20)])
    chunk = session.tochunk([1, 2, 3])

    assert values == list(range(20))
    assert session.fetch(chunk) == [1, 2, 3]
    assert session.spawn(sum, chunk).result(20) == 6
    assert not held.done()
    flag.touch()
    assert held.result(20) == "went on"


def test_tasks_of_the_client_use_what_engines_made(session):
    here = ProcessScope("client")
    made = [session.spawn(list, range(n), scope=ProcessScope(n % 2)) for n in range(6)]
    ahead = [session.spawn(len, task, scope=here) for task in made]
    assert session.fetch(ahead, timeout=10) == list(range(6))

    session.wait(made, timeout=10)
    chunk = session.spawn(made_there, scope=ProcessScope(1))
    after = [session.spawn(sum, task, scope=here) for task in made]
    assert session.fetch(after, timeout=10) == [sum(range(n)) for n in range(6)]
    assert session.spawn(len, chunk, scope=here).result(10) == 3
    # The last of them was never fetched, nor is anything left that waits.
    assert not session._agent._backlog.lacks_inputs


def test_a_task_of_the_client_is_refused_what_its_engine_keeps(session):
    kept = session.spawn(made_there, ProcessScope(1), scope=ProcessScope(1))
    session.wait([kept], timeout=10)

    with pytest.raises(sk.SchedulingError, match="worker 1"):
        session.spawn(len, kept, scope=ProcessScope("client")).result(10)


def test_a_task_of_the_client_that_was_sent_ahead_comes_back_from_what_is_kept(session):
    kept = session.spawn(slowly, 0.2, scope=ProcessScope(1))
    task = session.spawn(len, kept, scope=ProcessScope("client") | ProcessScope(1))

    assert task.result(10) == 3
    assert task.worker == 1


def made_there(scope=None):
    return sk.tochunk([1, 2, 3], scope=scope)


def slowly(seconds):
    time.sleep(seconds)
    return made_there(ProcessScope(1))


def test_what_a_task_of_the_client_prints_is_the_task_s(session, capsys, until):
    task = session.spawn(print, "from the client", scope=ProcessScope("client"))
    task.result(20)
    print("from the notebook")

    until(lambda: task.stdout == "from the client\n", "the output is told")
    told = capsys.readouterr().out
    assert told.count("from the client") == 1
    assert "from the notebook" in told


def test_a_task_of_the_client_sees_what_the_notebook_has(session):
    names = {"lock": threading.Lock()}
    chunk = session.tochunk(names, scope=ProcessScope("client"))

    assert session.spawn(id, chunk, scope="any").result(20) == id(names)


def test_a_task_of_the_client_spawns_tasks_on_engines(session):
    def outer():
        tasks = [sk.spawn(where, scope=sk.ProcessScope(w)) for w in (0, 3)]
        return [sk.myid(), *sk.fetch(tasks), sk.spawn(where, scope=sk.ProcessScope()).result()]

    assert session.spawn(outer, scope=ProcessScope("client")).result(20) == [
        "client",
        0,
        3,
        "client",
    ]


def test_a_task_of_an_engine_spawns_one_on_the_client(session, elsewhere):
    def outer():
        return sk.spawn(thread, scope=sk.ProcessScope("client")).result()[-1]

    assert session.spawn(outer, scope=ProcessScope(1)).result(20) == os.getpid()


def test_a_coroutine_runs_on_the_client_while_one_runs_in_the_notebook(session):
    async def here():
        async def there():
            await asyncio.sleep(0)
            return sk.myid()

        return await session.spawn(there, scope=ProcessScope("client"))

    assert asyncio.run(here()) == "client"


# -- kinds of processors --------------------------------------------------------------------


@pytest.fixture(scope="module")
def accelerated():
    """Two engines, each with two accelerators."""
    with pytest.MonkeyPatch.context() as patch:
        for table in ("_types", "_by_name", "_probes"):
            patch.setattr(processors, table, dict(getattr(processors, table)))
        kind = stand_in_accelerator(2)
        with sk.start(nodes={"a": 1, "b": 1}) as session:
            session.options(single="client").spawn(int).result(20)
            yield session, kind


def test_a_kind_is_counted_in_each_engine_and_opted_in_to(accelerated):
    """C087, C088, C104."""
    session, kind = accelerated
    devices = {kind(worker, index) for worker in (0, 1) for index in (0, 1)}

    assert set(session.processors(sk.ProcessorTypeScope(kind))) == devices
    assert set(session.processors(sk.scope(type="accelerator", worker=1))) == {
        kind(1, 0),
        kind(1, 1),
    }
    assert not devices & set(session.processors())
    chunk = session.tochunk(1)
    ran = set(session.fetch([session.spawn(proc, chunk) for _ in range(30)]))
    assert ran <= {ThreadProc(0, 0), ThreadProc(1, 0)}
    with pytest.raises(sk.ScopeConflictError):
        session.spawn(proc, scope=sk.DefaultScope() & sk.ProcessorTypeScope(kind))


def test_each_processor_of_a_kind_has_a_thread_of_its_own(accelerated):
    """C088."""
    session, kind = accelerated
    seen = {}
    for _ in range(3):
        for processor in session.processors(sk.ProcessorTypeScope(kind)):
            scope = ExactScope(processor)
            found, at = session.fetch(
                [session.spawn(proc, scope=scope), session.spawn(thread, scope=scope)]
            )
            assert found == processor
            seen.setdefault(processor, set()).add(at)

    assert all(len(threads) == 1 for threads in seen.values())
    assert len({(pid, native) for ((_, native, _, pid),) in map(tuple, seen.values())}) == 4


def test_a_chunk_on_a_device_draws_its_tasks_there(accelerated):
    session, kind = accelerated

    def upload():
        return sk.tochunk([1, 2, 3], scope=sk.ExactScope(sk.task_processor()))

    device = ExactScope(kind(1, 1))
    tensor = session.spawn(upload, scope=device)

    with pytest.raises(sk.ScopeConflictError, match="say scope='any'"):
        session.spawn(proc, tensor).result(20)
    assert session.spawn(proc, tensor, scope="any").result(20) == kind(1, 1)
    assert session.fetch(tensor, raw=True).scope == device
    with pytest.raises(sk.ScopeViolationError):
        tensor.result(20)


def test_a_task_names_a_kind_that_its_notebook_registered(accelerated):
    session, kind = accelerated

    def outer():
        return sk.compatible_processors(sk.scope(type="accelerator")), sk.task_processor()

    found, here = session.spawn(outer, scope=ExactScope(kind(0, 1))).result(20)
    assert here == kind(0, 1)
    assert len(found) == 4


def test_a_kind_is_counted_at_once_in_a_session_that_is_open(session, own_kinds):
    """C088: by registration, also late."""
    late = sk.processor_type("registered_late", probe=lambda: 1)
    found = session.processors(sk.ProcessorTypeScope(late))

    assert found == tuple(late(worker, 0) for worker in (0, 1, 2, 3))
    tasks = [session.spawn(proc, scope=ExactScope(each)) for each in found]
    assert session.fetch(tasks, timeout=20) == list(found)
    again = sk.processor_type("registered_late", probe=lambda: 1)
    assert session.processors(sk.ProcessorTypeScope(again)) == found


def test_a_kind_that_is_enabled_runs_what_names_no_scope(own_kinds):
    """C087."""
    kind = sk.processor_type("enabled_kind", default_enabled=True, probe=lambda: 1)
    with sk.start(1) as session:
        assert session.processors() == (ThreadProc(0, 0), kind(0, 0))
        assert session.num_processors(all=True) == 3
        gate = session.spawn(time.sleep, 0.3, scope=ExactScope(ThreadProc(0, 0)))
        assert session.spawn(proc, scope="default").result(20) in session.processors()
        gate.result(20)


def test_a_probe_that_goes_wrong_counts_none_and_is_told(session, own_kinds, capsys):
    def probe():
        raise ImportError("No module named 'camera_driver'")

    broken = sk.processor_type("broken_kind", probe=probe)
    strange = sk.processor_type("strange_kind", probe=lambda: "two")

    told = capsys.readouterr().err
    assert "on worker 2 the probe of 'broken_kind' raised ImportError" in told
    assert "on worker 0 the probe of 'strange_kind' gave 'two'" in told
    for kind in (broken, strange):
        assert session.processors(sk.ProcessorTypeScope(kind)) == ()
    with pytest.raises(sk.NoProcessorError, match="broken_kind processors: 0 of"):
        session.spawn(where, scope=sk.ProcessorTypeScope(broken))


def test_a_probe_that_does_not_pickle_is_refused_where_it_is_registered(session, own_kinds):
    lock = threading.Lock()

    with pytest.raises(sk.ScopekitError, match="probe of 'unpicklable_kind'"):
        sk.processor_type("unpicklable_kind", probe=lambda: lock and 1)
    processors._probes.pop("unpicklable_kind")


def test_workers_that_join_later_count_their_processors_too(own_kinds):
    kind = stand_in_accelerator(1, name="later_kind")
    with sk.start(1) as session:
        (joined,) = session.add_workers(1)

        assert session.spawn(proc, scope=ExactScope(kind(joined, 0))).result(20) == kind(joined, 0)


def test_in_this_process_kinds_are_counted_as_well(own_kinds):
    first = stand_in_accelerator(2, name="inline_kind")
    with sk.start(0) as session:
        second = sk.processor_type("inline_late", probe=lambda: 1)

        assert session.processors(sk.ProcessorTypeScope(first)) == (first(0, 0), first(0, 1))
        for processor in (first(0, 1), second(0, 0)):
            assert session.spawn(proc, scope=ExactScope(processor)).result() == processor


FAKE_DRIVER = """
int cuInit(unsigned flags) { return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
"""
FAKE_CUPY = """
import threading
_current = threading.local()
class cuda:
    class runtime:
        @staticmethod
        def getDeviceCount():
            return 2
    class Device:
        def __init__(self, number):
            self.number = number
        def use(self):
            _current.number = self.number
def current():
    return getattr(_current, "number", 0)
"""


@pytest.fixture(scope="module")
def fake_cuda(tmp_path_factory):
    """A machine with two CUDA devices, as far as a driver and a library can tell."""
    folder = tmp_path_factory.mktemp("cuda")
    (folder / "driver.c").write_text(FAKE_DRIVER)
    (folder / "cupy.py").write_text(FAKE_CUPY)
    compiled = subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", folder / "libcuda.so.1", folder / "driver.c"],
        capture_output=True,
        check=False,
    )
    if compiled.returncode:
        pytest.skip("there is no C compiler to make a driver with")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_LIBRARY_PATH", str(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
        with sk.start(2) as session:
            session.options(single="client").spawn(int).result(20)
            yield session


def test_cuda_devices_are_found_without_loading_a_library_for_that(fake_cuda):
    devices = tuple(CudaProc(worker, device) for worker in (0, 1) for device in (0, 1))
    assert fake_cuda.processors(sk.scope(type="cuda")) == devices
    assert fake_cuda.processors() == (ThreadProc(0, 0), ThreadProc(1, 0))

    assert not fake_cuda.spawn(lambda: "cupy" in sys.modules, scope=ProcessScope(0)).result(20)


def test_a_task_on_a_cuda_device_has_it_as_the_current_one(fake_cuda):
    def current():
        import cupy

        return cupy.current(), sk.task_processor().device

    for _ in range(2):
        seen = [
            fake_cuda.spawn(current, scope=ExactScope(CudaProc(1, device))).result(20)
            for device in (0, 1)
        ]

    assert seen == [(0, 0), (1, 1)]


def test_without_a_driver_there_is_no_cuda_device(session):
    if os.path.exists("/proc/driver/nvidia"):  # noqa: PTH110
        pytest.skip("this machine has CUDA devices")
    with pytest.raises(sk.NoProcessorError, match="cuda processors: 0 of"):
        session.spawn(where, scope=sk.ProcessorTypeScope(CudaProc))
