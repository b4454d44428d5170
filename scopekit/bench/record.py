"""A run with all that belongs to it, and the file that keeps it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from scopekit.bench.figures import Failure, Figure
from scopekit.bench.rounds import Asked, Found

__all__ = ("Record",)

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Record:
    """A run of the benchmark.

    Attributes:
        asked: what was to be done.
        found: what was found.
        machine: on what machine.
        versions: with which versions.
    """

    asked: Asked
    found: Found
    machine: dict[str, Any]
    versions: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """Returns what a file is to keep of it."""
        return {"format": _FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Record:
        """Returns the run that a file keeps.

        Raises:
            ValueError: it keeps none, or one of another version.
        """
        if facts.get("format") != _FORMAT:
            raise ValueError("this is no file that scopekit bench --json wrote")
        asked, found = facts["asked"], facts["found"]
        for name in ("systems", "workloads", "patterns"):
            asked[name] = tuple(asked[name])
        return cls(
            Asked(**asked),
            Found(
                [Figure(**figure) for figure in found["figures"]],
                [Failure(**failure) for failure in found["failures"]],
                found["free_cores"],
            ),
            facts["machine"],
            facts["versions"],
        )
