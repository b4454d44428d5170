"""The tables of states, with the pictures of them."""

import sys
from pathlib import Path

import pytest

from scopekit.graph import CHUNK_STATES, FINAL_STATES, TASK_STATES
from scopekit.scheduler.states import CHUNK_MOVES, TASK_MOVES, diagram

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_s_diagrams_are_those_of_the_tables(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    sys.modules.pop("make_diagrams", None)
    import make_diagrams

    page = make_diagrams.PAGE.read_text(encoding="utf-8")

    assert make_diagrams.with_diagrams(page) == page
    assert diagram(TASK_MOVES) in page
    assert diagram(CHUNK_MOVES) in page


@pytest.mark.parametrize(
    ("moves", "states"), [(TASK_MOVES, TASK_STATES), (CHUNK_MOVES, CHUNK_STATES)]
)
def test_the_tables_know_every_state_and_no_other(moves, states):
    assert {state for move in moves for state in move} == set(states)


def test_only_a_lost_result_brings_a_task_out_of_a_final_state():
    assert [move for move in TASK_MOVES if move[0] in FINAL_STATES] == [("done", "waiting")]
