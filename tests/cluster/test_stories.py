"""The six stories go as they should on real engines; a wrong placement is told."""

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
