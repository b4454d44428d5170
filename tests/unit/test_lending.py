"""Memory that a process lends to others of its node."""

import gc
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from scopekit.wire import lending
from scopekit.wire.lending import Lender, Loan, LoanOverError, borrow, can_borrow

SIZE = 300_000


@pytest.fixture
def lender():
    lender = Lender()
    yield lender
    lender.close()


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_what_is_lent_is_read_as_it_was(lender):
    buffers = [b"head", bytes(range(256)) * 100, b"", memoryview(b"tail")]

    assert [bytes(view) for view in borrow(lender.lend(buffers))] == [bytes(b) for b in buffers]


def test_buffers_begin_where_a_cache_line_does(lender):
    mapped = borrow(lender.lend([b"x", b"yy", b"zzz"]))

    assert [np.frombuffer(view, np.uint8).ctypes.data % 64 for view in mapped] == [0, 0, 0]


def test_what_is_borrowed_cannot_be_written_to(lender):
    (view,) = borrow(lender.lend([bytes(SIZE)]))

    with pytest.raises(TypeError):
        view[0] = 1


def test_what_is_borrowed_as_one_s_own_can_be_and_nobody_else_sees_it(lender):
    loan = lender.lend([bytes(SIZE)])
    (own,), (other,) = borrow(loan, own=True), borrow(loan)
    own[0] = 1

    assert (own[0], other[0]) == (1, 0)


def test_memory_is_used_again_when_nobody_reads_it(lender):
    first = lender.lend([b"a" * SIZE])
    lender.end(first)
    second = lender.lend([b"b" * SIZE])

    assert second.descriptor == first.descriptor
    assert bytes(borrow(second)[0]) == b"b" * SIZE


def test_memory_is_not_used_again_while_somebody_reads_it(lender):
    first = lender.lend([b"a" * SIZE])
    (view,) = borrow(first)
    lender.end(first)
    second = lender.lend([b"b" * SIZE])

    assert second.descriptor != first.descriptor
    assert bytes(view) == b"a" * SIZE
    del view
    lender.end(second)
    descriptors = {lender.lend([b"c" * SIZE]).descriptor for _ in range(2)}
    assert descriptors == {first.descriptor, second.descriptor}


def test_a_piece_of_what_was_borrowed_keeps_all_of_it(lender):
    loan = lender.lend([b"a" * SIZE, b"b" * SIZE])
    piece = borrow(loan)[1][10:20]
    lender.end(loan)
    gc.collect()

    assert lender.lend([b"c" * SIZE]).descriptor != loan.descriptor
    assert bytes(piece) == b"b" * 10


def test_who_comes_too_late_is_told_so(lender):
    loan = lender.lend([b"a" * SIZE])
    lender.end(loan)
    lender.lend([b"b" * SIZE])

    with pytest.raises(LoanOverError):
        borrow(loan)


def test_what_is_written_anew_at_this_moment_is_over(lender):
    loan = lender.lend([b"a" * SIZE])
    lender.end(loan)
    assert lending._lock_for_writing(loan.descriptor)

    with pytest.raises(LoanOverError):
        borrow(loan)


def test_a_loan_of_a_process_that_does_not_exist_is_over():
    with pytest.raises(LoanOverError):
        borrow(Loan(1 << 22, 3, b"s" * 16, (1,)))


@pytest.mark.parametrize("packed", [b"", b"x" * 31, b"x" * 33])
def test_what_is_no_card_is_refused(packed):
    with pytest.raises(LoanOverError):
        Loan.from_bytes(packed)


def test_a_card_shows_who_can_borrow(lender):
    card = Loan.from_bytes(lender.card.to_bytes())

    assert can_borrow(card)
    assert not can_borrow(card._replace(stamp=b"another stamp..."))
    assert not can_borrow(None)


def test_a_loan_tells_whether_it_still_holds_a_value(lender):
    value = bytearray(b"a" * (SIZE + 3))
    loan = lender.lend([b"head", value])

    assert lender.holds(loan, [b"head", value])
    value[-1] = 0
    assert not lender.holds(loan, [b"head", value])
    assert not lender.holds(loan, [b"head", value, b"more"])


def test_no_more_is_lent_than_there_are_files_for(lender, monkeypatch):
    monkeypatch.setattr(lending, "_LENT_AT_ONCE", 3)
    loans = [lender.lend([b"x"]) for _ in range(2)]

    with pytest.raises(OSError, match="nothing more"):
        lender.lend([b"x"])
    lender.end(loans[0])
    lender.lend([b"x"])


def test_little_memory_is_kept_that_nobody_uses(lender, monkeypatch):
    monkeypatch.setattr(lending, "_IDLE_BYTES", 4 * SIZE)
    before = descriptors()
    for loan in [lender.lend([b"x" * SIZE]) for _ in range(10)]:
        lender.end(loan)

    assert descriptors() - before <= 4


def test_closing_leaves_no_file_open_and_ends_no_view():
    before = descriptors()
    lender = Lender()
    (view,) = borrow(lender.lend([b"a" * SIZE]))
    lender.close()

    assert bytes(view) == b"a" * SIZE
    del view
    assert descriptors() == before
    with pytest.raises(OSError, match="nothing more"):
        lender.lend([b"x"])


def read(loan, connection):
    views = borrow(loan)
    connection.send(bytes(views[0]))
    connection.recv()


def other_process(loan):
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=read, args=(loan, far))
    process.start()
    return process, near


def test_another_process_reads_it_and_its_death_ends_the_loan(lender):
    loan = lender.lend([b"a" * SIZE])
    process, near = other_process(loan)
    assert near.recv() == b"a" * SIZE
    lender.end(loan)

    assert lender.lend([b"b" * SIZE]).descriptor != loan.descriptor
    os.kill(process.pid, signal.SIGKILL)
    process.join(20)
    assert lender.lend([b"c" * SIZE]).descriptor == loan.descriptor


def test_threads_lend_and_end_at_once(lender):
    wrong = []

    def work(letter):
        for _ in range(100):
            loan = lender.lend([letter * SIZE])
            (view,) = borrow(loan)
            lender.end(loan)
            wrong.extend({bytes(view)} - {letter * SIZE})
            del view

    threads = [threading.Thread(target=work, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
