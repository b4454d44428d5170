"""Words among the ids of jobs to abort: heard by whom they are meant for, and by nobody else."""

from types import SimpleNamespace

import pytest

from scopekit.wire.knocks import listen_for_knocks, stop_word


class Kernel:
    """As much of an engine's kernel as hears requests to abort."""

    def __init__(self):
        self.aborted = set()
        self.control_handlers = {"abort_request": self.abort_request}
        self.answered = []

    def abort_request(self, stream, ident, parent):
        self.aborted.update(parent["content"]["msg_ids"])
        self.answered.append(ident)

    def hear(self, *words):
        handler = self.control_handlers["abort_request"]
        return handler("stream", "ident", {"content": {"msg_ids": list(words)}})


@pytest.fixture
def kernel():
    return Kernel()


def test_each_session_hears_its_own_words(kernel):
    one, other = [], []
    ends = [
        listen_for_knocks(kernel, "scopekit-1", one.append),
        listen_for_knocks(kernel, "scopekit-2", other.append),
    ]
    kernel.hear(stop_word("scopekit-1", 3), stop_word("scopekit-2", 5), stop_word("scopekit-1", 7))
    for end in ends:
        end()

    assert (one, other) == ([[3, 7]], [[5]])
    assert kernel.aborted == set()
    assert kernel.answered == ["ident"]


def test_jobs_are_aborted_as_ever(kernel):
    end = listen_for_knocks(kernel, "scopekit-1", lambda _: pytest.fail("nothing was said to us"))
    kernel.hear("0f1e-4", stop_word("scopekit-9", 3), "a:b:c")
    end()

    assert kernel.aborted == {"0f1e-4", "scopekit-9:stop:3", "a:b:c"}


def test_whoever_listens_no_more_leaves_no_trace(kernel):
    before = dict(kernel.control_handlers)
    first = listen_for_knocks(kernel, "scopekit-1", print)
    second = listen_for_knocks(kernel, "scopekit-2", print)
    first()
    assert kernel.control_handlers != before
    second()

    assert kernel.control_handlers == before


def test_a_kernel_that_cannot_be_listened_at_does_no_harm():
    listen_for_knocks(SimpleNamespace(), "scopekit-1", print)()


def test_the_kernels_of_engines_can_be_listened_at():
    """Private names of ipykernel: if this fails, tasks over views stop once they have ended."""
    from ipyparallel.engine.kernel import IPythonParallelKernel

    assert "abort_request" in IPythonParallelKernel.control_msg_types
    assert callable(IPythonParallelKernel.abort_request)
