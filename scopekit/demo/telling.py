"""Keeps the record of a story: what was expected at each step beside what happened."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import scopekit as sk
    from scopekit.scopes import Processor

__all__ = ("PATIENCE", "Step", "StoryResult", "Teller", "Witnessed", "witnessed")

PATIENCE = 20.0
"""Seconds that a story waits for one task; a healthy one takes milliseconds."""


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A value, with the process and the thread that made it as the system names them."""

    value: Any
    pid: int
    thread: int


def witnessed(value: Any) -> Witnessed:
    """Returns a value together with where the current code runs."""
    return Witnessed(value, os.getpid(), threading.get_ident())


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a story did.

    Attributes:
        what: what was done.
        expected: every outcome that is right.
        actual: the outcome.
    """

    what: str
    expected: tuple[str, ...]
    actual: str

    @property
    def ok(self) -> bool:
        """Whether the outcome is right."""
        return self.actual in self.expected


@dataclass(frozen=True, slots=True)
class StoryResult:
    """A story that was told.

    Attributes:
        name: its short name.
        heading: the point it makes.
        paragraph: the point in two sentences.
        lines: what happened, for people.
        steps: what happened, for checking.
    """

    name: str
    heading: str
    paragraph: str
    lines: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def expected(self) -> Mapping[str, tuple[str, ...]]:
        """The right outcomes of each step."""
        return {step.what: step.expected for step in self.steps}

    @property
    def actual(self) -> Mapping[str, str]:
        """The outcome of each step."""
        return {step.what: step.actual for step in self.steps}

    @property
    def ok(self) -> bool:
        """Whether every step went as it should; a story without steps told nothing."""
        return bool(self.steps) and all(step.ok for step in self.steps)


@dataclass
class Teller:
    """Notes the steps of a story while it is told.

    Attributes:
        session: where it happens.
    """

    session: sk.Session
    _lines: list[str] = field(default_factory=list)
    _steps: list[Step] = field(default_factory=list)

    def say(self, line: str) -> None:
        """Adds a line."""
        self._lines.append(line)

    def check(self, what: str, expected: object, actual: object) -> None:
        """Notes a step whose outcome is a plain value."""
        self._note(Step(what, (str(expected),), str(actual)))

    def made(self, what: str, task: sk.Task, worker: int) -> sk.Chunk:
        """Waits for a task that makes a chunk and notes which worker holds it.

        Returns:
            The handle to the chunk.
        """
        task.wait(PATIENCE)
        chunk: sk.Chunk = self.session.fetch(task, raw=True, timeout=PATIENCE)
        step = Step(what, (_worker_text(worker),), _worker_text(chunk.worker))
        self._note(step, because=_reason(task))
        return chunk

    def ran(self, what: str, task: sk.Task, *workers: int) -> Any:
        """Waits for a task and notes in which process it really ran.

        Args:
            what: what the task does.
            task: the task; it returns a ``Witnessed``.
            workers: where it may have run.

        Returns:
            The value that it witnessed.
        """
        seen: Witnessed = task.result(timeout=PATIENCE)
        actual = _worker_text(self._worker(seen.pid))
        self._note(Step(what, tuple(map(_worker_text, workers)), actual), because=_reason(task))
        return seen.value

    def threaded(self, what: str, task: sk.Task, processor: Processor) -> Witnessed:
        """Waits for a task and notes on which exact processor it ran."""
        result: Witnessed = task.result(timeout=PATIENCE)
        ran = task.processor
        actual = "no processor" if ran is None else ran.describe()
        # The session's word counts only if the process that answered agrees with it.
        if ran is not None and ran.worker != self._worker(result.pid):
            actual = f"process {result.pid}, which is not {actual}"
        self._note(Step(what, (processor.describe(),), actual), because=_reason(task))
        return result

    def refused(self, what: str, error: type[Exception], call: Callable[[], object]) -> str:
        """Makes a call that must be refused and notes by which error it was.

        Returns:
            What the error says.
        """
        try:
            call()
        except Exception as refusal:  # noqa: BLE001  # any other error is a finding, too
            self._note(Step(what, (error.__name__,), type(refusal).__name__))
            for line in str(refusal).splitlines():
                self.say(f"    {line}")
            return str(refusal)
        self._note(Step(what, (error.__name__,), "not refused"))
        return ""

    def result(self, name: str, heading: str, paragraph: str) -> StoryResult:
        """Returns the story as it was told so far."""
        return StoryResult(name, heading, paragraph, tuple(self._lines), tuple(self._steps))

    def broke(self, error: BaseException) -> None:
        """Notes that the story could not be told to its end."""
        self._note(Step("the story", ("told to its end",), type(error).__name__))
        for line in str(error).splitlines():
            self.say(f"    {line}")

    def _worker(self, pid: int) -> object:
        processes = self.session.topology.processes
        return next((p.worker for p in processes if p.pid == pid), f"process {pid}")

    def _note(self, step: Step, because: str = "") -> None:
        self._steps.append(step)
        reason = f" ({because})" if because else ""
        wanted = "" if step.ok else f"  SHOULD BE {' or '.join(step.expected)}"
        self.say(f"{step.what}: {step.actual}{reason}{wanted}")


def _reason(task: sk.Task) -> str:
    """Says why a task ran where it ran."""
    explanation = task.explain()
    limits = [
        f"{_place_written(operand.origin)} allows {operand.scope.describe()}"
        for operand in explanation.operands
        if operand.removed and operand.origin != "default"
    ]
    # Where its scopes leave one processor, they are the reason.
    if limits and explanation.rule == "the only processor allowed":
        return "; ".join(limits)
    return "; ".join([explanation.rule, *limits])


def _place_written(origin: str) -> str:
    """Shortens where a scope was written, without the task that an argument comes from."""
    return origin.removesuffix("=").partition(" (result of ")[0]


def _worker_text(worker: object) -> str:
    return f"worker {worker}" if isinstance(worker, int) else str(worker)
