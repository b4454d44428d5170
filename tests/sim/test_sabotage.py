"""A harness that finds nothing proves nothing: it must find the bugs that are planted."""

import figures
import pytest

from scopekit.testing import SABOTAGES, find

WORLDS = 2000
TRIED = {}


@pytest.mark.parametrize("kind", SABOTAGES, ids=lambda kind: kind.__name__)
def test_a_planted_bug_is_found(kind):
    assert kind.__doc__

    catch = find(kind, range(WORLDS))

    assert catch is not None, f"{kind.__name__}: {kind.__doc__}"
    TRIED[kind.__name__] = catch


def test_all_planted_bugs_are_found():
    if not TRIED:
        pytest.skip("no bug was looked for")
    slowest = max(TRIED, key=lambda name: TRIED[name].tried)
    figures.tell(
        "sabotage",
        f"{len(TRIED)} of {len(SABOTAGES)} planted bugs found,"
        f" the last, {slowest}, in {TRIED[slowest].tried} worlds",
    )

    assert len(SABOTAGES) >= 25
