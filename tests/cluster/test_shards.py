"""One of a thing for each place; a task gets the one where it runs."""

import operator
import threading
import time

import pytest

import scopekit as sk


class Piece:
    def __init__(self):
        self.counts = {}
        self.worker = sk.myid()
        self.processor = sk.task_processor()
        self.ident = threading.get_ident()

    def count(self, key):
        self.counts[key] = self.counts.get(key, 0) + 1
        return self.worker, sk.myid()


def on(worker):
    return sk.ProcessScope(worker)


def test_c155_there_is_one_piece_for_each_engine(session):
    shard = session.shard(Piece)
    pieces = list(shard)

    assert len(shard) == len(pieces) == 4
    assert [piece.worker for piece in pieces] == list(session.workers)
    assert [piece.scope for piece in pieces] == [on(worker) for worker in session.workers]
    assert session.fetch(shard.map(lambda piece: piece.worker)) == list(session.workers)


def test_c156_pieces_can_be_for_some_workers_alone(session):
    shard = session.shard(Piece, workers=[1, 3])
    tasks = [session.spawn(Piece.count, shard, 0) for _ in range(20)]

    assert [piece.worker for piece in shard.pieces()] == [1, 3]
    assert {task.result(20)[0] for task in tasks} <= {1, 3}
    with pytest.raises(sk.ScopeConflictError, match="argument 'self'"):
        session.spawn(Piece.count, shard, 0, scope=on(0))


def test_c157_there_can_be_one_for_each_thread(session):
    shard = session.shard(Piece, per="thread")
    made = session.fetch(shard.map(lambda piece: (piece.processor, piece.ident)))
    used = session.fetch(shard.map(lambda piece: (piece.processor, threading.get_ident())))

    assert len(made) == 8
    assert made == used
    assert [p.scope for p in shard] == [sk.ExactScope(processor) for processor, _ in made]


@pytest.mark.parametrize(
    "options",
    [
        {"workers": []},
        {"workers": [77]},
        {"workers": [1], "scope": on(1)},
        {"per": "planet"},
        {"per": int},
        {"scope": "nonsense"},
    ],
)
def test_c158_what_makes_no_sense_is_refused_where_it_is_written(session, options):
    with pytest.raises(sk.ScopeError):
        session.shard(Piece, **options)


def test_c159_nothing_is_lost_of_what_tasks_add(session):
    shard = session.shard(Piece)
    session.wait([session.spawn(Piece.count, shard, i % 7) for i in range(100)])
    total = shard.reduce(operator.add, lambda piece: sum(piece.counts.values()))

    assert total.result(20) == 100


def test_c160_a_task_gets_the_piece_of_its_own_process(session):
    shard = session.shard(Piece)
    seen = session.fetch([session.spawn(Piece.count, shard, 0, scope=on(w)) for w in (0, 1, 2, 3)])

    assert all(made == used for made, used in seen)


def test_c162_the_threads_of_a_process_share_its_piece(session):
    shard = session.shard(list)

    def add(piece):
        piece.append(sk.task_processor())
        return id(piece)

    exact = [sk.ExactScope(sk.ThreadProc(1, thread)) for thread in (0, 1)]
    one, other = session.fetch([session.spawn(add, shard, scope=scope) for scope in exact])

    assert one == other


def test_a_piece_is_made_once_and_by_the_first_that_needs_it(session):
    def make():
        import time

        time.sleep(0.05)
        return [object()]

    shard = session.shard(make, workers=[1])
    ids = session.fetch([session.spawn(lambda piece: id(piece[0]), shard) for _ in range(20)])

    assert len(set(ids)) == 1


def test_pieces_are_made_in_parallel(session):
    def slow():
        time.sleep(0.4)
        return sk.myid()

    shard = session.shard(slow)
    began = time.monotonic()
    made = session.fetch(shard.map(int))

    assert made == list(session.workers)
    assert time.monotonic() - began < 0.4 * 4


def test_one_for_each_node_lives_in_one_process_of_it(session):
    shard = session.shard(Piece, per="node")
    tasks = [session.spawn(Piece.count, shard, 0) for _ in range(8)]

    assert len(shard) == 2
    assert {task.result(20) for task in tasks} <= {(0, 0), (2, 2)}


def test_a_shard_hides_in_containers_and_keywords(session):
    shard = session.shard(Piece, workers=[2])
    task = session.spawn(lambda *, tools: tools["piece"].worker, tools={"piece": shard})

    assert task.result(20) == 2
    assert task.worker == 2


def test_a_task_that_gets_handles_gets_the_piece_all_the_same(session):
    shard = session.shard(Piece, workers=[2])
    task = session.options(meta=True).spawn(lambda piece: piece.worker, shard)

    assert task.result(20) == 2


def test_what_making_a_piece_raises_names_the_shard_and_is_tried_again(session):
    def make():
        import os

        if not os.environ.get("SHARD_TEST_READY"):
            os.environ["SHARD_TEST_READY"] = "1"
            raise OSError("not yet")
        return "made"

    shard = session.shard(make, workers=[1], name="licence")
    with pytest.raises(OSError, match="not yet") as caught:
        session.spawn(str, shard).result(20)

    assert "licence" in "\n".join(caught.value.__notes__)
    assert session.spawn(str, shard).result(20) == "made"


def test_a_shard_has_no_piece_where_no_processor_is(session):
    nowhere = session.shard(Piece, scope=sk.LabelScope("telescope"), name="telescope")

    assert len(nowhere) == 0
    with pytest.raises(sk.NoProcessorError, match="telescope"):
        nowhere.map(str)
    with pytest.raises(sk.NoProcessorError, match="argument"):
        session.spawn(str, nowhere)


def test_a_task_cannot_make_a_shard(session):
    error = session.spawn(lambda: sk.shard(list) and None).exception(20)

    assert "in the notebook" in str(error)


def test_pieces_are_closed_with_the_last_handle(session, until):
    class Closable:
        def close(self):
            import os

            os.environ["CLOSED_PIECES"] = os.environ.get("CLOSED_PIECES", "") + "x"

    def closed():
        import os

        return os.environ.get("CLOSED_PIECES")

    shard = session.shard(Closable, workers=[1])
    session.spawn(lambda piece: None, shard).wait(20)
    assert session.spawn(closed, scope=on(1)).result(20) is None
    del shard

    until(lambda: session.spawn(closed, scope=on(1)).result(20) == "x", "it is closed", 10)


def test_pieces_are_closed_with_the_session_each_on_its_thread(tmp_path):
    class Noted:
        def __init__(self, folder):
            self.folder = folder
            self.worker = sk.myid()
            self.ident = threading.get_ident()

        def leave(self):
            name = f"{self.worker}-{threading.get_ident() == self.ident}-{self.ident}"
            (self.folder / name).touch()

    with sk.start(2, threads=2) as session:
        shard = session.shard(lambda: Noted(tmp_path), per="thread", close=Noted.leave)
        session.wait(shard.map(lambda piece: None))

    names = sorted(path.name.split("-")[:2] for path in tmp_path.iterdir())
    assert names == [["0", "True"], ["0", "True"], ["1", "True"], ["1", "True"]]


def test_workers_that_join_later_have_pieces(own_folders):
    with sk.start(1) as session:
        shard = session.shard(Piece)
        assert len(shard) == 1
        (late,) = session.add_workers(1)
        task = session.spawn(Piece.count, shard, 0, scope=on(late))

        assert task.result(30) == (late, late)
        assert len(shard) == 2
