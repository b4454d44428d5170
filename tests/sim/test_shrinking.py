"""A world that fails becomes a small one that fails in the same way."""

import pytest

import scopekit.scopes
import scopekit.testing
from scopekit.testing import (
    Plan,
    Spawn,
    Violation,
    Worker,
    draw_plan,
    failure_of,
    replay,
    run_seeds,
    script,
    shrink,
)
from scopekit.testing.__main__ import main
from scopekit.testing.sabotage import NeverDrops, NeverRetries


def read(text):
    """The plan that a script replays."""
    plans = []
    names = {**vars(scopekit.scopes), **vars(scopekit.testing), "replay": plans.append}
    exec("\n".join(text.splitlines()[3:]), names)
    return plans[0]


def test_a_failing_plan_is_shrunk_to_what_it_takes():
    seed = next(seed for seed in range(100) if failure_of(draw_plan(seed), NeverRetries))
    plan = draw_plan(seed)

    small = shrink(plan, NeverRetries)

    assert len(small.acts) == 1
    assert small.acts[0].fails
    assert small.acts[0].retries
    assert failure_of(small, NeverRetries).rule == failure_of(plan, NeverRetries).rule


def test_a_plan_that_does_not_fail_stays_as_it_is():
    plan = draw_plan(1)

    assert shrink(plan) is plan


@pytest.mark.parametrize("seed", range(40))
def test_a_script_gives_the_plan_again(seed):
    plan = draw_plan(seed)

    assert read(script(plan)) == plan


def test_a_replay_tells_what_happens_and_raises_what_is_wrong():
    lines = []
    plan = Plan(1, (Worker(),), (Spawn(0.0, 10),))

    with pytest.raises(Violation, match="I10"):
        replay(plan, NeverDrops, tell=lines.append)
    assert any("StartRun(task=10" in line for line in lines)


def test_a_failure_is_told_with_its_seed_and_script():
    tally = run_seeds(range(20), NeverDrops)

    text = tally.failures[0].text(NeverDrops)
    assert f"# seed {tally.failures[0].seed}: I10" in text
    assert failure_of(read("\n".join(text.splitlines()[1:])), NeverDrops).rule == "I10"


def test_the_command_runs_seeds_and_replays_one(capsys, tmp_path):
    assert main(["--seeds", "5", "--from", "3", "--keep", str(tmp_path / "seeds")]) == 0
    assert "5 worlds" in capsys.readouterr().out
    assert not (tmp_path / "seeds").exists()

    assert main(["--replay", "3", "--tasks", "5", "--workers", "2:3"]) == 0
    assert "Outcome(" in capsys.readouterr().out
