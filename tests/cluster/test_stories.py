"""The six stories go as they should on real engines; a wrong placement is told."""

import contextlib
import re
import secrets
from pathlib import Path

import pytest

import scopekit as sk

pytest.importorskip("cv2")

from scopekit.demo import STORIES, run_stories
from scopekit.demo.stories import NODES, camera, connection, model
from scopekit.demo.telling import Step, StoryResult, Teller, witnessed


@pytest.fixture(scope="module", params=[1, 2], ids=["one thread", "two threads"])
def session(request, own_folders):
    with sk.start(nodes=NODES, threads=request.param) as session:
        yield session


@pytest.fixture(autouse=True)
def leaves_nothing_behind(session, own_folders):
    """The session outlives the single test; the demo's own test looks at what is left."""


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_the_story_goes_as_it_should(story, session, tmp_path):
    result = story(session, tmp_path)

    assert [step for step in result.steps if not step.ok] == []
    assert result.ok
    assert result.heading
    assert result.lines


def test_the_camera_is_read_in_its_process_alone(session, tmp_path):
    result = camera(session, tmp_path)

    reads = {what: actual for what, actual in result.actual.items() if "read frame" in what}
    assert len(reads) == 4
    assert set(reads.values()) == {"worker 2"}


def test_a_missing_camera_breaks_its_story_and_no_other(session, tmp_path):
    results = list(run_stories(session, tmp_path, device=99))

    assert [result.ok for result in results] == [False, True, True, True, True, True]
    assert "OSError" in results[0].actual.values()


def test_the_model_is_one_object(session, tmp_path):
    result = model(session, tmp_path)

    assert result.actual["one object was called each time"] == "[1, 2, 3]"


def test_the_connection_saw_one_thread(session, tmp_path):
    result = connection(session, tmp_path)

    assert result.actual["threads that touched the connection"] == "1"


def test_a_task_elsewhere_makes_a_story_wrong(session):
    teller = Teller(session)
    teller.ran("work", session.spawn(witnessed, 1, scope=sk.ProcessScope(0)), 1, 2)
    result = teller.result("wrong", "A task ran elsewhere", "")

    assert result.steps == (Step("work", ("worker 1", "worker 2"), "worker 0"),)
    assert not result.ok
    assert "SHOULD BE worker 1 or worker 2" in result.lines[0]


def test_what_is_not_refused_makes_a_story_wrong(session):
    teller = Teller(session)
    teller.refused("fetch", sk.ScopeViolationError, lambda: 1)

    assert not teller.result("wrong", "", "").ok


def test_a_story_without_steps_is_not_well():
    assert not StoryResult("empty", "", "", (), ()).ok


def collect_marked(scope, mark, count):
    return sk.tochunk([f"{mark}-{secrets.token_hex(8)}" for _ in range(count)], scope=scope)


def first_of(records, count):
    return records[:count]


def in_memory(mark):
    """Counts marked records in every readable page of this process."""
    record = re.compile(f"{mark}-[0-9a-f]{{16}}".encode())
    pages = [line.split()[:2] for line in Path("/proc/self/maps").read_text().splitlines()]
    count = 0
    with Path("/proc/self/mem").open("rb", buffering=0) as memory:
        for span, permissions in pages:
            begin, end = (int(place, 16) for place in span.split("-"))
            # the kernel's own pages cannot be read, others may be gone by now
            with contextlib.suppress(OSError, ValueError, OverflowError):
                if "r" in permissions:
                    memory.seek(begin)
                    count += len(record.findall(memory.read(end - begin)))
    return count


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="memory is read as Linux shows it")
def test_records_move_inside_the_company_and_never_through_here(session):
    mark = secrets.token_hex(8)
    company = sk.UnionScope(sk.ProcessScope(2), sk.ProcessScope(3))
    records = session.spawn(collect_marked, company, mark, 1000, scope=sk.ProcessScope(2))
    counted = session.spawn(len, records, scope=sk.ProcessScope(3))

    assert counted.result(timeout=30) == 1000
    assert in_memory(mark) == 0

    # the search does find what is let out
    sample = session.spawn(first_of, records, 3).result(timeout=30)
    assert len(sample) == 3
    assert in_memory(mark) >= 3
