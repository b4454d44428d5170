"""Batches: what was said arrives, in order; what is no batch is refused before a pickle is read."""

import pickle
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopekit.errors import ProtocolError
from scopekit.graph import How, StoredChunk
from scopekit.scopes import AnyScope, CudaProc, ProcessScope, ThreadProc
from scopekit.wire import messages as msg
from scopekit.wire.batches import decode_orders, decode_reports, encode_orders, encode_reports
from scopekit.wire.codec import PickledError
from scopekit.wire.frames import APART, pack, unpack
from scopekit.wire.lending import Loan
from scopekit.wire.parcels import Parcel

ids = st.integers(0, 2**64 - 1)
strange_ids = ids | st.integers(2**64, 2**70)
texts = st.text(max_size=8)
processors = st.sampled_from(
    [*(ThreadProc(0, n) for n in range(3)), ThreadProc("client", 1), CudaProc(1, 0)]
)
scopes = st.sampled_from([AnyScope(), ProcessScope(0), ProcessScope(0) | ProcessScope(2)])
tuples = st.lists(ids, max_size=3).map(tuple)
plain = st.tuples(
    st.lists(st.none() | st.integers() | texts | st.binary(max_size=9), max_size=3).map(tuple),
    st.lists(st.integers(0, 3), max_size=2).map(tuple),
)
arguments = plain | st.binary(max_size=9) | st.just(b"x" * APART)
digests = st.sampled_from([b"", b"a" * 16, b"b" * 16])
times = st.floats(0, 2e9)
chunks = st.builds(StoredChunk, ids, scopes, processors, texts, ids)
runs = st.builds(
    msg.Run,
    task=strange_ids | ids,
    name=texts,
    digest=digests,
    function=st.none() | st.binary(max_size=9),
    forget=st.just(()) | st.lists(digests, max_size=2).map(tuple),
    arguments=arguments,
    processor=processors,
    inputs=tuples,
    outputs=st.just((1,)) | tuples,
    result_scope=st.none() | scopes,
    around=st.none() | st.none() | st.sampled_from([("one",), ("another", 2)]),
    how=st.none()
    | st.builds(How, split=st.booleans(), result_scopes=st.lists(st.none() | scopes).map(tuple)),
)
parcels = st.builds(
    Parcel,
    st.lists(st.binary(max_size=9) | st.just(b"y" * APART), min_size=1, max_size=3).map(tuple),
) | st.builds(lambda pid, sizes: Parcel((), Loan(pid, 3, b"s" * 16, sizes)), ids, tuples)
puts = st.builds(msg.Put, ids, parcels, scopes, processors, st.booleans())
orders = (
    runs
    | puts
    | st.builds(msg.Send, ids, st.integers(0, 9))
    | st.builds(msg.Drop, tuples)
    | st.just(msg.Beat())
)
finished = st.builds(
    msg.Finished,
    strange_ids | ids,
    st.lists(chunks, min_size=1, max_size=1).map(tuple) | st.lists(chunks, max_size=3).map(tuple),
    times,
    times,
    st.none() | st.tuples(st.none() | st.integers() | texts),
)
reports = (
    finished
    | st.builds(msg.Started, ids, times)
    | st.builds(msg.Output, ids, st.just("stdout"), texts)
    | st.builds(msg.ChunkPut, chunks)
    | st.just(msg.RunError(1, PickledError(None, "E", "text", "", "here"), 1.0, 2.0))
)


def noop(task):
    return msg.Run(
        *(task, f"noop-{task}", b"d" * 16, None, (), ((), ()), ThreadProc(0, task % 2)),
        *((), (task + 1,), None),
    )


def done(task):
    stored = StoredChunk(task + 1, AnyScope(), ThreadProc(0, 0), "int", 28)
    return msg.Finished(task, (stored,), 1.5, 2.5, (task,))


def received(frame):
    return [bytes(buffer) for buffer in frame]


@given(st.lists(orders, max_size=30))
def test_orders_arrive_as_they_were_and_in_order(given_orders):
    arrived = decode_orders(received(encode_orders(given_orders)))

    assert given_orders == arrived
    assert list(map(type, given_orders)) == list(map(type, arrived))


@given(st.lists(reports, max_size=30))
def test_reports_arrive_as_they_were_and_in_order(given_reports):
    arrived = decode_reports(received(encode_reports(given_reports)))

    assert given_reports == arrived
    assert list(map(type, given_reports)) == list(map(type, arrived))


def test_what_arrives_has_the_types_that_were_sent():
    run = noop(1)._replace(function=b"f" * APART, arguments=b"a" * APART)
    put = msg.Put(1, Parcel((b"p" * APART,)), AnyScope(), ThreadProc(0, 0), True)
    *runs, arrived = decode_orders(encode_orders([run] * 9 + [put]))

    assert {bytes} == {type(run.arguments) for run in runs} | {type(arrived.parcel.parts[0])}
    assert {bytes} == {type(run.function) for run in runs}
    assert all(report.results[0].scope is AnyScope() for report in _round([done(1)] * 9))


def _round(reports):
    return decode_reports(received(encode_reports(reports)))


def test_thousands_of_runs_take_few_bytes():
    frame = encode_orders([noop(task) for task in range(1000)])

    assert sum(map(len, frame)) < 60_000
    assert len(pickle.dumps([noop(1)])) > 60


def test_large_arguments_and_values_are_not_copied_to_be_sent():
    large = b"x" * APART
    put = msg.Put(1, Parcel((large,)), AnyScope(), ThreadProc(0, 0), True)
    frame = encode_orders([noop(1)._replace(arguments=large), put])

    assert [large, large] == frame[1:]
    assert all(buffer is large for buffer in frame[1:])


@pytest.mark.parametrize("count", [2, 20])
def test_two_tasks_do_not_share_an_argument_that_they_were_both_given(count):
    shared = [1]
    runs = [noop(task)._replace(arguments=((shared,), ())) for task in range(count)]
    first, second, *_ = decode_orders(received(encode_orders(runs)))

    first.arguments[0][0].append(2)
    assert second.arguments[0][0] == [1]


def test_a_value_that_holds_itself_arrives():
    endless = []
    endless.append(endless)
    (arrived,) = _round([done(1)._replace(value=(endless,))])

    assert arrived.value[0][0] is arrived.value[0]


EMPTY = msg.Put(1, Parcel((b"",)), AnyScope(), ThreadProc(0, 0), True)


@pytest.fixture
def armed(monkeypatch):
    """Fails the test when any pickle is read."""

    def loads(*_):
        pytest.fail("a pickle was read")

    monkeypatch.setattr("scopekit.wire.batches.pickle.loads", loads)


BATCHES = [
    (decode_orders, encode_orders([noop(task) for task in range(20)])),
    (decode_orders, encode_orders([noop(1), msg.Beat()] * 9)),
    (
        decode_orders,
        encode_orders([EMPTY] * 9),
    ),
    (decode_reports, encode_reports([done(task) for task in range(20)])),
    (decode_reports, encode_reports([done(1)._replace(results=done(1).results * 2)] * 9)),
]


@pytest.mark.parametrize(("decode", "frame"), BATCHES)
def test_a_column_that_is_longer_or_shorter_is_refused_before_a_pickle_is_read(
    armed, decode, frame
):
    kind, columns, blobs = unpack(frame)
    for number in range(len(columns)):
        for count in (-1, 1):
            if number == 1 and not columns[number]:
                continue  # kinds are left out where there is one; others are looked at below
            changed = list(columns)
            column = columns[number]
            changed[number] = column[:-1] if count < 0 else column + array(column.typecode, [0] * 2)
            if changed[number] != column:
                with pytest.raises(ProtocolError):
                    decode(pack(kind, changed, blobs))


@pytest.mark.parametrize(("decode", "frame"), BATCHES)
def test_a_batch_that_lacks_a_part_or_has_one_too_many_is_refused(armed, decode, frame):
    kind, columns, blobs = unpack(frame)
    for changed in (columns[:-1], [*columns, array("B")], [array("H"), *columns[1:]]):
        with pytest.raises(ProtocolError):
            decode(pack(kind, changed, blobs))
    for changed in (blobs[:-1], [*blobs, b""]):
        with pytest.raises(ProtocolError):
            decode(pack(kind, columns, changed))


@pytest.mark.parametrize(("decode", "frame"), BATCHES)
def test_a_place_that_does_not_exist_is_refused_before_a_pickle_is_read(armed, decode, frame):
    kind, columns, blobs = unpack(frame)
    for number, column in enumerate(columns):
        if column.typecode == "I" and len(column) == 20:
            changed = list(columns)
            changed[number] = column[:-1] + array("I", [2**32 - 1])
            with pytest.raises(ProtocolError):
                decode(pack(kind, changed, blobs))


@pytest.mark.parametrize("count", [1, 20])
def test_orders_are_no_reports(armed, count):
    with pytest.raises(ProtocolError):
        decode_reports(encode_orders([noop(1)] * count))


def test_a_short_batch_of_something_that_is_never_said_is_refused():
    (frame,) = encode_orders([noop(1)])
    for changed in ([frame[:-1]], [frame, b""], [frame[:5] + pickle.dumps([[1]])], [frame[:5]]):
        with pytest.raises(ProtocolError):
            decode_orders(changed)


@pytest.mark.parametrize("blob", [b"", b"garbage", pickle.dumps(3), pickle.dumps([[1]])])
def test_a_pickle_of_something_else_is_refused(blob):
    for decode, frame in BATCHES:
        kind, columns, blobs = unpack(frame)
        for number, before in enumerate(blobs):
            if before[:2] == pickle.dumps(0, 5)[:2]:
                changed = [*blobs[:number], blob, *blobs[number + 1 :]]
                with pytest.raises(ProtocolError):
                    decode(pack(kind, columns, changed))


@given(st.lists(st.binary(max_size=60), max_size=2))
def test_any_bytes_are_refused(frame):
    for decode in (decode_orders, decode_reports):
        with pytest.raises(ProtocolError):
            decode(frame)
