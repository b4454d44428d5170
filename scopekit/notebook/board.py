"""The displays under a cell, kept up to date while later cells run."""

from __future__ import annotations

import html
import re
import sys
import threading
import uuid
from collections import deque
from itertools import groupby
from typing import TYPE_CHECKING, Any

from scopekit.encoding import state_style
from scopekit.handles import Task
from scopekit.notebook.displays import task_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future

    from scopekit.session import Session

from scopekit.notebook.endings import End, end_of

__all__ = ("Board", "CellBoard", "Desk", "say")

_KEPT = 1_000_000
_REPAINT = 0.1
_BYTES_A_SECOND = 1_000_000
_FIRST_LOOK, _LAST_LOOK = 0.2, 2.0
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def say(text: str) -> None:
    """Prints a line to the user's screen."""
    print(text)  # noqa: T201  # this is a user's screen


class Desk:
    """Publishes displays of one shell; prints where there are none."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.live = getattr(shell, "kernel", None) is not None
        self._running = True
        self._late: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {}

    def watch(self) -> None:
        """Begins to follow which cells run."""
        self.shell.events.register("pre_run_cell", self._cell_begins)
        self.shell.events.register("post_run_cell", self._cell_ends)

    def unwatch(self) -> None:
        """Ends what ``watch`` began."""
        self.shell.events.unregister("pre_run_cell", self._cell_begins)
        self.shell.events.unregister("post_run_cell", self._cell_ends)

    def _cell_begins(self, _: Any) -> None:
        self._running = True
        # Whoever runs notebooks without a browser hears only what comes while a cell runs.
        while self._late:
            display_id, (data, metadata) = self._late.popitem()
            self.publish(data, metadata, display_id=display_id, update=True)

    def _cell_ends(self, _: Any) -> None:
        self._running = False

    def publish(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        *,
        display_id: str | None = None,
        update: bool = False,
    ) -> None:
        """Shows a mime bundle under the running cell, or in the place of an earlier one."""
        if not self.live:
            say(data.get("text/plain", ""))
            return
        if update and display_id is not None and not self._running:
            self._late[display_id] = (data, metadata)
        transient = {} if display_id is None else {"display_id": display_id}
        self.shell.display_pub.publish(data, metadata, transient=transient, update=update)

    def here(self, value: Any) -> Any:
        """Returns a value for the notebook to show; prints it where there is none."""
        if self.live:
            return value
        say(str(value))
        return None

    def board(self, session: Session, *, shows: bool) -> Board:
        """Returns what will show a task that the running cell spawns."""
        return (CellBoard if self.live else Board)(self, session, shows=shows)


class Board:
    """Shows a task in a terminal, as it goes; the form without displays."""

    def __init__(self, desk: Desk, session: Session, *, shows: bool) -> None:
        self._desk = desk
        self._session = session
        self._shows = shows

    def show(self, task: Task) -> None:
        """Begins to show the task."""
        say(task_text(task.facts()))

    def write(self, stream: str, text: str) -> None:
        """Takes what the task prints."""
        target = sys.stderr if stream == "stderr" else sys.stdout
        target.write(text)
        target.flush()

    def finish(self, task: Future[Any]) -> None:
        """Shows how the task ended."""
        assert isinstance(task, Task)
        end = end_of(self._desk.shell, self._session, task, shows=self._shows)
        lines = [task_text(task.facts()), end.remark, end.error]
        if end.value is not None:
            lines.append(end.value[0].get("text/plain", ""))
        self.write("stdout", "".join(f"{line}\n" for line in lines if line))


class CellBoard(Board):
    """Shows a task under the cell that spawned it, whichever cell runs meanwhile."""

    def __init__(self, desk: Desk, session: Session, *, shows: bool) -> None:
        super().__init__(desk, session, shows=shows)
        self._ids = uuid.uuid4().hex, uuid.uuid4().hex
        self._lock = threading.RLock()
        self._pieces: deque[tuple[str, str]] = deque()
        self._size = 0
        self._task: Task | None = None
        self._end: End | None = None
        self._timer: threading.Timer | None = None
        self._painted = ""
        self._look = _FIRST_LOOK

    def show(self, task: Task) -> None:
        """Puts displays under the running cell: one for the task, one for its value."""
        # The session's lock is never asked for under our own: its thread writes to us.
        facts = task.facts()
        with self._lock:
            self._task = task
            self._paint(facts, update=False)
            if self._shows:
                self._desk.publish({"text/plain": ""}, display_id=self._ids[1])
            self._paint_in(self._look)

    def write(self, stream: str, text: str) -> None:
        """Takes what the task prints; the oldest goes when it is more than a megabyte."""
        with self._lock:
            self._pieces.append((stream, text[-_KEPT:]))
            self._size += len(self._pieces[-1][1])
            while self._size > _KEPT:
                self._size -= len(self._pieces.popleft()[1])
            self._paint_in(_REPAINT + self._size / _BYTES_A_SECOND)

    def finish(self, task: Future[Any]) -> None:
        """Shows how the task ended."""
        assert isinstance(task, Task)
        end = end_of(self._desk.shell, self._session, task, shows=self._shows)
        facts = task.facts()
        with self._lock:
            if self._task is None:
                return
            self._task, self._end = None, end
            if self._timer is not None:
                self._timer.cancel()
            self._paint(facts)
            if end.value is not None:
                data, metadata = end.value
                self._desk.publish(data, metadata, display_id=self._ids[1], update=True)

    def _paint_in(self, seconds: float) -> None:
        """Repaints soon, if no earlier call has seen to that."""
        if self._task is None:
            return
        if self._timer is not None:
            if self._timer.interval <= seconds:
                return
            self._timer.cancel()
        self._timer = threading.Timer(seconds, self._repaint)
        self._timer.name = "cell-display"
        self._timer.daemon = True
        self._timer.start()

    def _repaint(self) -> None:
        task = self._task
        if task is None:
            return
        if task.done():
            # A session that was closed calls nobody back.
            self.finish(task)
            return
        facts = task.facts()
        with self._lock:
            self._timer = None
            if self._task is not None:
                self._paint(facts)
                self._look = min(2 * self._look, _LAST_LOOK)
                self._paint_in(self._look)

    def _paint(self, facts: Mapping[str, Any], *, update: bool = True) -> None:
        end = self._end or End()
        written = self._written()
        plain = [task_text(facts), *(text for _, text in written), end.remark, end.error]
        marked = _status_html(facts, end.remark)
        marked += "".join(_output_html(stream, text) for stream, text in written)
        if end.error:
            marked += _output_html("stderr", end.error)
        if marked == self._painted:
            return
        self._painted = marked
        bundle = {
            "text/plain": "\n".join(text.rstrip("\n") for text in plain if text),
            "text/html": marked,
        }
        self._desk.publish(bundle, display_id=self._ids[0], update=update)

    def _written(self) -> list[tuple[str, str]]:
        runs = groupby(self._pieces, key=lambda piece: piece[0])
        return [(stream, _settled("".join(p for _, p in pieces))) for stream, pieces in runs]


def _settled(text: str) -> str:
    """Leaves out what a terminal would have overwritten or shown as colour."""
    lines = _ANSI.sub("", text).split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)


def _status_html(facts: Mapping[str, Any], remark: str) -> str:
    dot = (
        "display:inline-block;width:9px;height:9px;border-radius:5px;margin-right:6px;"
        f"background:{state_style(facts['state']).colour}"
    )
    remark = f"; {remark}" if remark else ""
    return (
        f'<div style="opacity:.85"><span style="{dot}"></span>'
        f"{html.escape(task_text(facts).removeprefix('Task '))}{html.escape(remark)}</div>"
    )


def _output_html(stream: str, text: str) -> str:
    tint = ";background:rgba(213,64,64,.12)" if stream == "stderr" else ""
    style = f"margin:0;padding:0 4px;white-space:pre-wrap{tint}"
    return f'<pre style="{style}">{html.escape(text, quote=False)}</pre>'
