"""The rules that come with scopekit.

Each has the number of its row in ``docs/pins.md``. A rule that joins the table later is soft
in the version that brings it, and hard from the next one on: it must not break a notebook
that ran. That is what ``since`` is for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from scopekit.pinning.table.science import SCIENCE
from scopekit.pinning.table.services import SERVICES
from scopekit.pinning.table.system import SYSTEM

if TYPE_CHECKING:
    from scopekit.pinning.rule import Rule

__all__ = ("TABLE", "VERSION", "in_force")

VERSION = 1
"""Which version of the table this is."""
TABLE: tuple[Rule, ...] = (*SYSTEM, *SERVICES, *SCIENCE)


def in_force(rule: Rule, version: int = VERSION) -> Rule:
    """Returns a rule as it holds in a version: a new hard one is soft at first."""
    if rule.since == version > 1 and rule.strength == "hard":
        return replace(rule, strength="soft")
    return rule
