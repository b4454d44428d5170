"""A notebook's front end, as far as tests need one: it knows which cell an output belongs to."""

from __future__ import annotations

import contextlib
import queue
import re
import time
from dataclasses import dataclass, field

import pytest
from jupyter_client.manager import KernelManager

_LIMIT = 30.0
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(eq=False)
class Cell:
    """One run of a cell, with what stands below it now."""

    code: str
    outputs: list[dict] = field(default_factory=list)
    idle: bool = False
    reply: dict | None = None

    @property
    def text(self):
        return "\n".join(self.texts)

    @property
    def texts(self):
        return [_plain(output) for output in self.outputs]

    @property
    def html(self):
        return "".join(out.get("data", {}).get("text/html", "") for out in self.outputs)

    @property
    def status(self):
        return self.reply["status"]


def _plain(output):
    if "traceback" in output:
        return _COLOUR.sub("", "\n".join(output["traceback"]))
    return output.get("text") or output.get("data", {}).get("text/plain", "")


class Notebook:
    """Runs cells in a kernel and takes every output to the cell that it belongs to."""

    def __init__(self, manager):
        self.manager = manager
        self._client = manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=_LIMIT)
        self._cells = {}
        self._displays = {}

    def send(self, code):
        """Hand a cell to the kernel and wait for nothing."""
        cell = Cell(code)
        self._cells[self._client.execute(code)] = cell
        return cell

    def run(self, code):
        """Run a cell to its end."""
        return self.finish(self.send(code))

    def finish(self, cell):
        self.until(lambda: cell.idle and cell.reply is not None)
        return cell

    def spawn(self, code, shown="done on"):
        """Run a spawning cell and wait until the end of its task is shown."""
        cell = self.run(code)
        assert cell.status == "ok", cell.text
        return self.wait_for(cell, shown)

    def shows(self, code, value):
        """Run a spawning cell and wait until its value is shown."""
        cell = self.run(code)
        assert cell.status == "ok", cell.text
        self.until(lambda: cell.texts[1] == value, lambda: f"no {value} in {cell.texts}")
        return cell

    def wait_for(self, cell, text):
        self.until(lambda: text in cell.text, lambda: f"no {text!r} in {cell.text!r}")
        return cell

    def until(self, condition, complaint=lambda: "it did not come to this"):
        deadline = time.monotonic() + _LIMIT
        while not condition():
            assert time.monotonic() < deadline, complaint()
            self._read()

    def _read(self):
        with contextlib.suppress(queue.Empty):
            self._show(self._client.get_iopub_msg(timeout=0.02))
        while self._client.shell_channel.msg_ready():
            message = self._client.get_shell_msg(timeout=_LIMIT)
            cell = self._cells.get(message["parent_header"].get("msg_id"))
            if cell is not None:
                cell.reply = message["content"]

    def _show(self, message):
        cell = self._cells.get(message["parent_header"].get("msg_id"))
        kind, content = message["msg_type"], message["content"]
        if kind == "update_display_data":
            # a display is updated where it stands, whoever sent for it
            for place in self._displays.get(content["transient"]["display_id"], ()):
                place.update(data=content["data"])
        elif cell is None:
            return
        elif kind == "status":
            cell.idle = cell.idle or content["execution_state"] == "idle"
        elif kind in ("stream", "error", "execute_result", "display_data"):
            cell.outputs.append(content)
            display_id = content.get("transient", {}).get("display_id")
            if display_id:
                self._displays.setdefault(display_id, []).append(content)

    def close(self):
        self._client.stop_channels()


@pytest.fixture(scope="module")
def kernel(own_folders):
    manager = KernelManager()
    manager.start_kernel(cwd=str(own_folders))
    yield manager
    manager.shutdown_kernel()
    manager.cleanup_resources()


@pytest.fixture(scope="module")
def notebook(kernel):
    """A notebook with two engines, shared by the tests of a module."""
    made = Notebook(kernel)
    begun = made.run("%load_ext scopekit\nimport scopekit as sk\nsession = sk.start(2)")
    assert begun.status == "ok", begun.text
    yield made
    made.run("session.close()")
    made.close()
