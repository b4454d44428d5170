"""A map gives values in order, reads no further than it may, and fits its tasks to the calls."""

import itertools
import sys
import warnings

import pytest
import tqdm.auto
import tqdm.std

import scopekit as sk
from scopekit.mapping import _Sizes


@pytest.fixture
def session():
    with sk.start(0) as session:
        yield session


class OnPurposeError(Exception):
    pass


def odd_only(x):
    if x % 2 == 0:
        raise OnPurposeError(x)
    return x


def counted(limit=None):
    """An iterator that tells how many of its items were asked for."""
    read = []

    def numbers():
        for number in itertools.count() if limit is None else range(limit):
            read.append(number)
            yield number

    return numbers(), read


# -- values --------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [{}, {"chunksize": 1}, {"chunksize": 7}, {"batch": 100}])
def test_values_come_in_order(session, sizes):
    assert list(session.map(pow, range(50), [2] * 50, **sizes)) == [i * i for i in range(50)]


def test_the_shortest_iterable_ends_it(session):
    assert list(session.map(pow, itertools.count(), [2, 2, 2])) == [0, 1, 4]
    assert list(session.map(pow, [], itertools.count())) == []


def test_it_ends_once_and_for_all(session):
    got = session.map(abs, [-1])

    assert next(got) == 1
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(got)


def test_the_module_s_map_acts_on_the_current_session(session):
    assert list(sk.map(abs, [-1, -2])) == [1, 2]


# -- errors --------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [None, 1, 2, 3, 10])
def test_an_error_is_raised_at_its_turn_with_the_index_in_a_note(session, chunksize):
    got = session.map(odd_only, [1, 3, 5, 8, 7, 10], chunksize=chunksize)

    assert [next(got) for _ in range(3)] == [1, 3, 5]
    with pytest.raises(OnPurposeError, match="8") as caught:
        next(got)
    assert "this is element 3 of the map" in caught.value.__notes__
    with pytest.raises(StopIteration):
        next(got)


@pytest.mark.parametrize("chunksize", [1, 2, 3])
def test_an_error_of_an_input_comes_after_the_values_before_it(session, chunksize):
    def inputs():
        yield from (1, 3, 5)
        raise OnPurposeError

    got = session.map(odd_only, inputs(), chunksize=chunksize)

    assert [next(got) for _ in range(3)] == [1, 3, 5]
    with pytest.raises(OnPurposeError) as caught:
        next(got)
    assert "this is element 3 of the map" in caught.value.__notes__


class Stubborn:
    def __reduce__(self):
        raise TypeError("not this one")

    def __call__(self, x):
        return x


def test_what_cannot_be_a_task_at_all_is_refused_at_the_call(session):
    with pytest.raises(sk.ScopekitError, match="function"):
        session.map(Stubborn(), [1])


def test_a_later_argument_that_does_not_pickle_is_refused_at_its_turn(session):
    got = session.map(type, [1, Stubborn()], chunksize=1)

    assert next(got) is int
    with pytest.raises(sk.ScopekitError, match="cannot be sent"):
        next(got)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"chunksize": 0}, "chunksize=0"),
        ({"batch": "2"}, "chunksize='2'"),
        ({"chunksize": True}, "chunksize=True"),
        ({"buffersize": 0}, "buffersize=0"),
        ({"chunksize": 1, "batch": 1}, "the same"),
        ({"nmae": "x"}, "map has no option 'nmae'"),
    ],
)
def test_bad_numbers_and_options_are_refused_where_they_are_written(session, given, what):
    with pytest.raises(sk.ScopeError, match=what):
        session.map(abs, [1], **given)


def test_without_an_iterable_it_says_what_to_do(session):
    with pytest.raises(sk.ScopeError, match="use spawn"):
        session.map(abs)
    with pytest.raises(TypeError):
        session.map(abs, 5)


@pytest.mark.parametrize("chunksize", [1, 2, 5])
def test_a_call_that_fails_is_tried_again_as_often_as_asked(session, chunksize, tmp_path):
    def flaky(x):
        with (tmp_path / str(x)).open("a") as file:
            file.write("x")
        if len((tmp_path / str(x)).read_text()) < 3:
            raise OnPurposeError
        return x

    assert list(session.map(flaky, range(4), chunksize=chunksize, retries=2)) == [0, 1, 2, 3]
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(OnPurposeError):
        list(session.map(flaky, range(4), chunksize=chunksize, retries=1))


def test_calls_that_are_kept_go_one_by_one_each_by_its_name(session, tmp_path):
    store = sk.FileStore(tmp_path / "{name}")
    for _ in range(2):
        assert list(session.map(abs, [-1, -2], checkpoint=store, restore=store)) == [1, 2]
    with sk.with_options(checkpoint=store):
        assert list(session.map(abs, [-3], name="mine")) == [3]

    assert sorted(path.name for path in tmp_path.iterdir()) == ["abs_0_", "abs_1_", "mine_0_"]
    with pytest.raises(sk.ScopeError, match="leave chunksize= out"):
        session.map(abs, [1], checkpoint=store, chunksize=2)


# -- how far ahead -------------------------------------------------------------------


@pytest.mark.parametrize("given", [{}, {"chunksize": 5}, {"buffersize": 10}])
def test_inputs_are_read_as_values_are_taken(session, given):
    numbers, read = counted()

    got = session.map(abs, numbers, **given)
    before = len(read)
    taken = list(itertools.islice(got, 200))

    assert taken == list(range(200))
    assert before <= 25
    assert len(read) < 200 + 10_000
    got.close()


@pytest.mark.parametrize("chunksize", [None, 1, 3, 50])
def test_a_buffersize_bounds_how_many_calls_are_made_ahead(session, chunksize):
    numbers, read = counted()

    got = session.map(abs, numbers, buffersize=10, chunksize=chunksize)

    for taken in range(1, 100):
        next(got)
        assert len(read) - taken <= 10
    got.close()


def test_after_it_is_closed_nothing_is_read(session):
    numbers, read = counted()
    with session.map(abs, numbers) as got:
        next(got)
    before = len(read)

    assert list(got) == []
    assert len(read) == before


# -- handles -------------------------------------------------------------------------


def test_tasks_and_chunks_may_be_among_the_inputs_and_stand_for_their_values(session):
    tasks = [session.spawn(abs, -i) for i in range(5)]
    mixed = [tasks[0], 10, [tasks[1], 20], session.tochunk((1, 2)), {"k": tasks[2]}]

    assert list(session.map(repr, mixed)) == ["0", "10", "[1, 20]", "(1, 2)", "{'k': 2}"]


def test_the_function_may_be_a_handle(session):
    assert list(session.map(session.tochunk(abs), [-1, -2])) == [1, 2]
    assert list(session.map(session.spawn(lambda: abs), [-1, -2], chunksize=2)) == [1, 2]


# -- names, progress -----------------------------------------------------------------


def test_tasks_are_named_after_the_function_and_the_elements(session):
    list(session.map(abs, range(5), chunksize=2))
    list(session.map(abs, range(2), chunksize=1, name="mine"))

    names = [record.spec.name for record in session._driver.scheduler.tasks.values()]
    assert names == ["abs[0:2]", "abs[2:4]", "abs[4]", "mine[0]", "mine[1]"]


def test_a_progress_bar_counts_the_values(session, capsys, monkeypatch):
    # Other tests may have made this process look like a notebook's.
    monkeypatch.setattr("tqdm.auto.tqdm", tqdm.std.tqdm)
    assert list(session.map(abs, range(30), progress=True)) == list(range(30))
    assert "30/30" in capsys.readouterr().err
    list(session.map(abs, iter(range(3)), progress="counting"))
    assert "counting" in capsys.readouterr().err


def test_without_tqdm_it_warns_and_goes_on(session, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.warns(UserWarning, match="tqdm is not installed"):
        got = session.map(abs, [1], progress=True)
    assert list(got) == [1]


def test_without_progress_nothing_is_shown(session, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(session.map(abs, range(3)))
    assert capsys.readouterr().err == ""


# -- sizes ---------------------------------------------------------------------------


def sizes(fixed=None, processors=4, buffer=None, length=None):
    return _Sizes(fixed, processors, buffer, length)


def test_before_it_knows_how_long_calls_take_each_goes_alone():
    assert sizes().next(0, 0) == 1


def test_long_calls_go_alone():
    made = sizes()
    for _ in range(20):
        made.learn(1, 0.5)

    assert made.next(0, 0) == 1


def test_short_calls_go_together_more_and_more_of_them():
    made, grown = sizes(), []
    for _ in range(8):
        grown.append(made.next(0, 0))
        made.learn(grown[-1], grown[-1] * 1e-6)

    assert grown == [1, 4, 16, 64, 256, 1024, 1024, 1024]


def test_calls_of_a_thousandth_of_a_second_go_together_by_twenty():
    made = sizes()
    for size in (1, 4, 16, 20):
        made.learn(size, size * 1e-3)

    assert 15 <= made.next(0, 0) <= 20


def test_the_last_calls_are_spread_over_all_processors():
    made = sizes(length=1000)
    for size in (1, 4, 16, 64, 256):
        made.learn(size, size * 1e-6)
    made.sent(200)

    assert made.next(0, 0) == 100
    made.sent(795)
    assert made.next(0, 0) == 1


def test_no_more_tasks_are_sent_ahead_than_keep_the_processors_busy():
    assert sizes(processors=2).next(6, 6) == 1
    assert sizes(processors=2).next(7, 7) == 0


def test_with_a_buffer_no_task_takes_all_of_it():
    made = sizes(buffer=100)
    made.learn(1000, 1000 * 1e-6)

    assert made.next(0, 0) == 20
    assert made.next(0, 95) == 5
    assert made.next(0, 100) == 0
