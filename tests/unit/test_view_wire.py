"""What is known of an engine over views: in which order its words count, when it is asked."""

import pytest

from scopekit.wire import views
from scopekit.wire.views import _Line


@pytest.fixture
def line(monkeypatch):
    """One whose clock stands at a thousand seconds."""
    monkeypatch.setattr(views.time, "monotonic", lambda: 1000.0)
    return _Line(heard=1000.0)


def test_batches_are_handed_on_in_order_and_once(line):
    assert line.take(1, ["a"]) == [["a"]]
    assert line.take(3, ["c"]) == []
    assert line.take(1, ["a"]) == []
    assert line.take(4, ["d"]) == []
    assert line.take(3, ["c"]) == []
    assert line.take(2, ["b"]) == [["b"], ["c"], ["d"]]
    assert line.take(2, ["b"]) == []
    assert line.take(5, ["e"]) == [["e"]]
    assert line.early == {}


def test_a_gap_is_asked_after_at_once_and_then_ever_less_often(line):
    assert not line.is_due(1000.0)
    line.take(2, ["b"])
    assert line.is_due(1000.0)
    line.asked, line.wait = 1000.5, 6.0
    assert not line.is_due(1006.0)
    assert line.is_due(1007.0)


def test_an_answer_that_is_late_is_asked_after(line):
    line.batch, line.number = b"orders", 1
    assert not line.is_due(1002.0)
    assert line.is_due(1000.0 + views._ASK_SECONDS + 0.1)


def test_one_that_owes_nothing_is_not_asked(line):
    line.take(1, ["a"])

    assert not line.is_due(9999.0)
    # Unless its tasks have not ended, which others know.
    assert line.is_silent(9999.0)


def test_an_engine_is_told_now_and_then_what_it_need_not_keep(line):
    for number in range(1, views._MOST_UNTOLD + 2):
        line.take(number, [])
        assert line.is_due(1000.0) == (number > views._MOST_UNTOLD)
    line.question, line.asked = "asked", 1000.0
    assert not line.is_due(1001.0)
    assert line.is_due(1000.0 + views._ASK_SECONDS_MOST)


def test_what_an_engine_published_and_nobody_heard_is_asked_for(line):
    line.take(1, ["a"])
    line.published = 2
    assert line.lacks_some
    line.asked = 999.0
    assert line.is_due(1000.0)
    line.take(2, ["b"])
    assert not line.lacks_some
