"""Processors are values: compared, ordered, pickled, never changed."""

import pickle
import subprocess
import sys

import cloudpickle
import pytest

from scopekit.errors import ScopeError
from scopekit.scopes import (
    CudaProc,
    ExactScope,
    Kind,
    OSProc,
    Processor,
    ThreadProc,
    processor_type,
)
from scopekit.scopes.processors import kind_names, probe_of, type_named, type_of


def test_a_processor_has_a_worker_a_kind_and_an_index():
    thread, process, device = ThreadProc(0, 1), OSProc("client"), CudaProc(2, 3)

    assert (thread.worker, thread.kind.name, thread.index, thread.thread) == (0, "thread", 1, 1)
    assert (process.worker, process.kind.name, process.index) == ("client", "os", 0)
    assert (device.worker, device.kind.name, device.index, device.device) == (2, "cuda", 3, 3)


def test_running_tasks_in_the_client_is_opt_in():
    assert ThreadProc(0, 0).default_enabled
    assert not ThreadProc("client", 0).default_enabled
    assert not OSProc(0).default_enabled
    assert not CudaProc(0, 0).default_enabled


def test_equality_is_by_kind_worker_and_index():
    assert ThreadProc(0, 1) == ThreadProc(0, 1)
    assert hash(ThreadProc(0, 1)) == hash(ThreadProc(0, 1))
    others = [ThreadProc(0, 2), ThreadProc(1, 1), CudaProc(0, 1), OSProc(0), "ThreadProc(0, 1)"]
    assert all(ThreadProc(0, 1) != other for other in others)


def test_the_order_is_by_worker_with_the_client_last():
    expected = [OSProc(0), ThreadProc(0, 0), ThreadProc(0, 1), ThreadProc(10, 0), OSProc("client")]

    assert sorted(expected) == expected
    with pytest.raises(TypeError):
        ThreadProc(0, 0) < 1  # noqa: B015 - the comparison is what raises


@pytest.mark.parametrize("worker", [-1, True, "0", "Client", None, 1.0, (0,), [0]])
def test_a_worker_is_an_engine_id_or_the_client(worker):
    with pytest.raises(ScopeError, match="names no worker"):
        ThreadProc(worker, 0)


@pytest.mark.parametrize("index", [-1, False, "0", None, 0.0])
def test_an_index_is_a_natural_number(index):
    with pytest.raises(ScopeError, match="numbers no thread"):
        ThreadProc(0, index)


def test_integers_of_other_types_are_accepted():
    class Seven:
        def __index__(self):
            return 7

    assert ThreadProc(Seven(), Seven()) == ThreadProc(7, 7)
    assert type(ThreadProc(Seven(), 0).worker) is int


def test_a_processor_cannot_be_changed():
    thread = ThreadProc(0, 1)

    with pytest.raises(AttributeError, match="cannot be set"):
        thread.worker = 2
    with pytest.raises(AttributeError, match="cannot be deleted"):
        del thread.index
    with pytest.raises(AttributeError):
        thread.colour = "red"
    assert thread == ThreadProc(0, 1)


def test_text():
    assert [repr(p) for p in (ThreadProc(0, 1), OSProc("client"), CudaProc(2, 0))] == [
        "ThreadProc(0, 1)",
        "OSProc('client')",
        "CudaProc(2, 0)",
    ]
    assert [p.describe() for p in (ThreadProc(0, 1), OSProc("client"), CudaProc(2, 0))] == [
        "worker 0, thread 1",
        "client, os",
        "worker 2, cuda 0",
    ]


def test_the_base_makes_no_processor():
    with pytest.raises(TypeError, match="base of the kinds"):
        Processor(0, 0)


def test_concrete_kinds_are_final():
    with pytest.raises(TypeError, match=r"subclassing ThreadProc; .*processor_type"):
        type("Mine", (ThreadProc,), {})
    with pytest.raises(TypeError, match=r"subclassing Processor; .*processor_type"):
        type("Mine", (Processor,), {})


def test_a_kind_of_ones_own():
    camera = processor_type("unit_camera")

    assert issubclass(camera, Processor)
    assert camera is processor_type("unit_camera")
    assert camera is type_named("unit_camera")
    assert camera.kind == Kind("unit_camera", default_enabled=False)
    assert camera(0, 1) == camera(0, 1) != camera(0, 2)
    assert repr(camera(0, 1)) == "processor_type('unit_camera')(0, 1)"
    assert camera(0, 1).describe() == "worker 0, unit_camera 1"
    assert "unit_camera" in kind_names()
    with pytest.raises(TypeError, match="subclassing unit_camera"):
        type("Mine", (camera,), {})


def test_a_kind_can_be_registered_again_with_another_default():
    opted_in = processor_type("unit_npu")
    enabled = processor_type("unit_npu", default_enabled=True)

    assert not opted_in(0, 0).default_enabled
    assert enabled(0, 0).default_enabled
    assert not enabled("client", 0).default_enabled
    assert opted_in(0, 0) != enabled(0, 0)
    assert type_named("unit_npu") is enabled
    assert repr(enabled(0, 0)) == "processor_type('unit_npu', default_enabled=True)(0, 0)"


def test_a_kind_keeps_its_latest_probe():
    def probe():
        return 2

    processor_type("unit_probed", probe=probe)
    assert probe_of("unit_probed") is probe
    processor_type("unit_probed")
    assert probe_of("unit_probed") is None


@pytest.mark.parametrize("name", ["thread", "os", "cuda"])
def test_built_in_kinds_cannot_be_registered(name):
    with pytest.raises(ScopeError, match="built-in"):
        processor_type(name)


@pytest.mark.parametrize("name", ["", "two words", "1st", "a.b", None])
def test_a_kind_is_named_by_an_identifier(name):
    with pytest.raises(ScopeError, match="identifier"):
        processor_type(name)


@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_processors_pickle_with_their_class(pickler):
    camera = processor_type("unit_camera")
    for processor in (ThreadProc(0, 1), OSProc("client"), CudaProc(2, 3), camera(1, 0)):
        copied = pickle.loads(pickler.dumps((processor, type(processor))))
        assert copied == (processor, type(processor))
        assert type(copied[0]) is type(processor)


@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_a_process_that_never_saw_a_kind_reads_it_from_a_pickle(pickler):
    enabled = processor_type("unit_enabled", default_enabled=True)
    camera = processor_type("unit_camera")
    data = pickler.dumps([enabled(0, 1), camera(0, 1), camera, ExactScope(camera(3, 0))])
    code = (
        "import pickle, sys; found = pickle.loads(bytes.fromhex(sys.argv[1])); "
        "print(found[0].default_enabled, found[1], type(found[1]) is found[2], found[3])"
    )

    ran = subprocess.run(
        [sys.executable, "-c", code, data.hex()], capture_output=True, text=True, check=True
    )
    camera_text = "processor_type('unit_camera')"
    assert ran.stdout.strip() == (f"True {camera_text}(0, 1) True ExactScope({camera_text}(3, 0))")


def test_the_module_makes_kinds_only():
    with pytest.raises(AttributeError, match="no attribute 'blah'"):
        type_of.__globals__["__getattr__"]("blah")
