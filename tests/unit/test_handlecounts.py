"""How many handles a process has to chunks that tasks made by hand."""

import pytest

from scopekit.engine.handlecounts import HandleCounts
from scopekit.graph import StoredChunk
from scopekit.scopes import AnyScope, ThreadProc
from scopekit.wire import messages as msg

OWN = StoredChunk(7, AnyScope(), ThreadProc(0, 0), "str", 1)
FOREIGN = StoredChunk(8, AnyScope(), ThreadProc(1, 0), "str", 1)


@pytest.fixture
def counts():
    counts = HandleCounts()
    counts.add_own(OWN.id)
    return counts


def test_a_chunk_goes_with_its_last_handle_if_none_ever_left(counts):
    assert counts.revive(OWN) is None
    assert counts.revive(OWN) is None

    assert counts.release([OWN.id]) == ([], [])
    assert counts.release([OWN.id]) == ([OWN.id], [])
    assert counts.release([OWN.id]) == ([], [])


def test_the_client_is_asked_about_a_chunk_of_which_a_handle_left(counts):
    counts.revive(OWN)
    counts.export(OWN.id)

    assert counts.release([OWN.id]) == ([], [msg.Unheld((OWN.id,))])
    assert counts.drop([OWN.id]) == [OWN.id]


def test_what_the_client_lets_go_of_stays_for_the_handles_here(counts):
    counts.revive(OWN)
    counts.export(OWN.id)

    assert counts.drop([OWN.id, FOREIGN.id]) == [FOREIGN.id]
    assert counts.release([OWN.id]) == ([OWN.id], [])


def test_a_handle_that_comes_back_counts_again(counts):
    counts.revive(OWN)
    counts.export(OWN.id)
    counts.release([OWN.id])
    counts.revive(OWN)

    assert counts.drop([OWN.id]) == []


def test_the_first_handle_to_a_chunk_of_another_is_told_and_the_last_one_gone(counts):
    assert counts.revive(FOREIGN) == msg.Borrowed(FOREIGN)
    assert counts.revive(FOREIGN) is None

    assert counts.release([FOREIGN.id]) == ([], [])
    assert counts.release([FOREIGN.id]) == ([], [msg.Returned((FOREIGN.id,))])
    assert counts.revive(FOREIGN) == msg.Borrowed(FOREIGN)


def test_a_handle_to_what_a_task_gave_here_is_told_as_one_to_what_is_elsewhere(counts):
    given = StoredChunk(9, AnyScope(), ThreadProc(0, 0), "str", 1)

    assert counts.revive(given) == msg.Borrowed(given)
    assert counts.revive(given) is None
    assert counts.release([given.id]) == ([], [])
    assert counts.release([given.id]) == ([], [msg.Returned((given.id,))])
