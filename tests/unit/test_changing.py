import pytest
from scheduling import Watched, asked_back, dropped, sends, sent, settled, starts, told

from scopekit.errors import ChunkLostError, NoProcessorError
from scopekit.graph import ChunkRecord, Input
from scopekit.places import Process, Topology
from scopekit.scheduler import events as ev
from scopekit.scheduler.leaving import losses
from scopekit.scopes import LabelScope, NodeScope, ProcessScope, ThreadProc

GPU = LabelScope("gpu")


@pytest.fixture
def watched():
    """Workers 0 and 1 with the label gpu, and 2 without, all on one node."""
    labels = {0: ("gpu",), 1: ("gpu",), 2: ()}
    return Watched(Topology(Process.with_threads(w, "a", 1, labels[w]) for w in labels))


def put(watched, chunk, worker, scope):
    home = ThreadProc(worker, 0)
    watched.scheduler.expect(ChunkRecord(chunk, scope, processor=home, handles=1))
    watched.store(chunk, worker, scope)


def of_chunk(chunk):
    return Input("argument", chunk, handle=True)


def failure_of(commands):
    (settle,) = [command for command in commands if isinstance(command, ev.Settle)]
    return settle.failure


# -- tasks ----------------------------------------------------------------------------------


def test_a_label_brings_work_that_waits_for_it(watched):
    camera = LabelScope("camera")
    watched.spawn(1, scope=camera, wait_for=60)
    assert watched.state(1) == "unmatched"

    assert sent(watched.label(2, "camera")) == {1: 2}


def test_what_has_not_begun_and_may_not_run_there_any_more_comes_back(watched):
    watched.scheduler.durations.learn("f", 0.001)
    for number in (1, 3):
        watched.spawn(number, scope=GPU & ProcessScope(0) | GPU & ProcessScope(2))
    watched.start(1)
    commands = watched.label(0)

    assert asked_back(commands) == [(0, 3)]
    assert isinstance(failure_of(watched.hand_back(3)), NoProcessorError)
    assert settled(watched.finish(1)) == {1: "done"}


def test_what_comes_back_runs_where_it_may(watched):
    watched.spawn(1, scope=GPU)
    first = watched.worker_of(1)
    assert asked_back(watched.label(first)) == [(first, 1)]

    assert sent(watched.hand_back(1)) == {1: 1 - first}


def test_what_lacks_an_input_comes_back_at_once(watched):
    watched.spawn(1, scope=ProcessScope(0), function="long")
    watched.spawn(3, 2, scope=GPU)
    first = watched.worker_of(3)
    commands = watched.label(first)

    assert told(commands) == [(first, 3)]
    assert sent(commands) == {3: 1 - first}


def test_a_label_that_a_task_excludes_sends_it_away(watched):
    watched.spawn(1, scope=~GPU)
    assert watched.worker_of(1) == 2

    assert asked_back(watched.label(2, "gpu")) == [(2, 1)]


def test_what_is_lined_up_is_judged_by_the_new_labels(watched):
    for number in range(1, 41, 2):
        watched.spawn(number, scope=GPU & ProcessScope(0), function="long")
    lined_up = [n for n in range(1, 41, 2) if watched.scheduler.tasks[n].line]
    assert lined_up
    commands = watched.label(0)

    assert {n for n, state in settled(commands).items() if state == "failed"} == set(lined_up)


def test_what_other_workers_have_stays(watched):
    watched.spawn(1, scope=GPU & ProcessScope(1))
    commands = watched.label(0)

    assert (asked_back(commands), told(commands)) == ([], [])


def test_the_late_word_of_a_change_of_a_dead_process_changes_nothing(watched):
    process = watched.scheduler.topology.process(0)
    watched.leave(0)

    assert watched.handle(ev.ProcessesChanged((process,), watched.tick())) == []
    assert watched.scheduler.topology.process(0) is None


def test_more_processors_of_a_process_are_used(watched):
    watched.spawn(1, scope=ProcessScope(0), function="long")
    watched.spawn(3, scope=ProcessScope(2), function="long")
    more = Process.with_threads(0, "a", 2, ("gpu",))
    watched.handle(ev.ProcessesChanged((more,), watched.tick()))
    watched.spawn(5, scope=ProcessScope(0), function="long")

    assert watched.scheduler.tasks[5].processor == ThreadProc(0, 1)
    # The bits moved, of those that have a processor, too.
    mask = watched.scheduler.topology.mask
    assert watched.scheduler.tasks[3].allowed == mask(ProcessScope(2))
    assert [r.spec.id for r in losses(watched.scheduler, [2]).tasks] == [3]


# -- chunks -----------------------------------------------------------------------------------


def test_a_value_leaves_a_process_that_may_not_have_it_any_more(watched):
    put(watched, 11, 0, GPU)
    commands = watched.label(0)

    assert sends(commands) == [(11, 0, 1)]
    assert dropped(commands) == []
    assert watched.chunk(11).holders == (0,)
    assert dropped(watched.arrive(1, 11)) == [(0, 11)]
    assert watched.chunk(11).holders == (1,)
    assert not watched.scheduler.table.outside


def test_a_copy_is_dropped_at_once_where_another_process_may_have_it(watched):
    put(watched, 11, 0, GPU)
    watched.spawn(1, of_chunk(11), scope=ProcessScope(1))
    watched.arrive(1, 11)
    commands = watched.label(0)

    assert dropped(commands) == [(0, 11)]
    assert sends(commands) == []


def test_a_value_that_nobody_may_have_is_lost_and_said_to_be(watched):
    put(watched, 11, 0, GPU & ProcessScope(0))
    assert dropped(watched.label(0)) == [(0, 11)]

    assert watched.chunk(11).state == "lost"
    assert isinstance(failure_of(watched.spawn(1, of_chunk(11), wait_for=9)), ChunkLostError)


def test_a_lost_result_whose_maker_may_run_nowhere_stays_lost(watched):
    watched.spawn(1, scope=GPU, result_scope=GPU)
    first = watched.worker_of(1)
    watched.finish(1, scope=GPU)
    watched.label(1 - first)
    commands = watched.label(first)
    assert dropped(commands) == [(first, 2)]
    assert watched.chunk(2).state == "lost"
    assert isinstance(failure_of(watched.spawn(3, 2, wait_for=9)), ChunkLostError)


def test_a_lost_result_is_made_again_where_it_may_be(watched):
    watched.spawn(1, scope=GPU | ProcessScope(2), result_scope=GPU | NodeScope("elsewhere"))
    first = watched.worker_of(1)
    watched.finish(1, scope=ProcessScope(first) & GPU)
    commands = watched.label(first)

    assert dropped(commands) == [(first, 2)]
    assert sent(commands) == {1: 1 - first} or sent(commands) == {1: 2}


def test_a_result_that_comes_from_where_it_may_not_stay_moves(watched):
    watched.spawn(1, scope=ProcessScope(0), result_scope=GPU)
    watched.start(1)
    watched.label(0)

    assert sends(watched.finish(1, scope=GPU)) == [(2, 0, 1)]


def test_a_value_whose_new_home_dies_on_the_way_goes_to_another(watched):
    watched.label(2, "gpu")
    put(watched, 11, 0, GPU)
    ((_, _, home),) = sends(watched.label(0))
    commands = watched.leave(home)

    assert sends(commands) == [(11, 0, 3 - home)]


def test_what_does_not_arrive_is_sent_again(watched):
    put(watched, 11, 0, GPU)
    watched.label(0)
    watched.now = watched.scheduler.next_deadline() + 1.0

    assert sends(watched.handle(ev.TimePassed(watched.tick()))) == [(11, 0, 1)]
    watched.arrive(1, 11)
    assert watched.scheduler.next_deadline() is None


def test_a_value_that_turns_out_not_to_pickle_is_lost_where_it_may_not_stay(watched):
    put(watched, 11, 0, GPU)
    watched.label(0)
    commands = watched.handle(ev.ChunkPinned(11, GPU & ProcessScope(0)))

    assert dropped(commands) == [(0, 11)]
    assert watched.chunk(11).state == "lost"


def test_a_copy_that_may_not_stay_where_it_comes_fails_nobody(watched):
    put(watched, 11, 0, GPU | NodeScope("elsewhere"))
    watched.spawn(1, of_chunk(11), scope=ProcessScope(1) | ProcessScope(0))
    watched.spawn(3, of_chunk(11), scope=ProcessScope(1), wait_for=9)
    watched.label(1)
    commands = watched.handle(ev.ChunkFailed(11, 1, ValueError("not here"), watched.tick()))

    assert "failed" not in settled(commands).values()
    assert watched.state(3) == "unmatched"
    assert sent(watched.label(1, "gpu")) == {3: 1}


def test_a_refusal_by_labels_that_changed_meanwhile_is_no_error(watched):
    put(watched, 11, 0, GPU)
    watched.spawn(1, of_chunk(11), scope=ProcessScope(1))
    watched.label(2, "gpu")

    commands = watched.hand_back(1, 11, GPU, worker=1)
    assert settled(commands) == {}
    assert len(starts(commands)) == 1


def test_the_late_word_of_its_home_costs_no_value_its_last_copy(watched):
    watched.label(2, "gpu")
    watched.scheduler.expect(ChunkRecord(11, GPU, processor=ThreadProc(0, 0), handles=1))
    watched.arrive(1, 11)
    assert dropped(watched.label(1)) == [(1, 11)]
    assert sends(watched.label(0)) == [(11, 0, 2)]

    assert dropped(watched.store(11, 0, GPU)) == []
    assert watched.chunk(11).holders == (0,)
    assert dropped(watched.arrive(2, 11)) == [(0, 11)]
