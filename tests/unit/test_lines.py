from hypothesis import given
from hypothesis import strategies as st

from scopekit.scheduler.lines import Ranked


@given(st.lists(st.integers()), st.lists(st.tuples(st.integers(), st.integers(-2, 2))))
def test_it_is_served_by_priority_and_oldest_first_among_equals(before, given):
    line = Ranked(before)
    for task, priority in given:
        line.push(task, priority)
    entries = [(0, task) for task in before] + [(priority, task) for task, priority in given]
    expected = sorted(entries, key=lambda entry: -entry[0])

    assert list(line) == [task for _, task in expected]
    assert len(line) == len(expected)
    for least in (-1, 0, 1):
        above = [task for priority, task in expected if priority > least]
        assert sorted(line.above(least)) == sorted(above)
    for priority, task in expected:
        assert (line.priority, line[0]) == (priority, task)
        assert line.popleft() == task
    assert not line


def test_who_says_nothing_has_priority_0():
    line = Ranked([1])
    line.push(2, 1)
    line.append(3)

    assert list(line) == [2, 1, 3]
