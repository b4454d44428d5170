"""Starts one ipyparallel engine faster than its own command does.

Run by path in place of `python -m ipyparallel.engine`, with the same arguments. Two
things are spared: the engine's imports run while the controller still starts
(so it waits for the connection file itself, which also keeps the key out of
the environment that tasks' children inherit), and the nanny is a fork taken after
the imports in place of a second interpreter that imports all again.
"""

# Nothing is imported before the path is mended and the nanny forked.
# ruff: noqa: PTH100, PTH118, PTH120, PTH123, PLC0415

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

__all__ = ("main",)

_WAIT = 120.0
_TICK = 0.01


def _mend_path() -> None:
    # started by path, the interpreter put this folder first, where a module
    # of ours would hide one of the standard library's
    if sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
        sys.path[0] = ""


def _wait_for_connection_file() -> None:
    """Return once the controller has written the whole file, or after the limit."""
    cluster = os.environ.get("IPP_CLUSTER_ID", "")
    prefix = f"ipcontroller-{cluster}" if cluster else "ipcontroller"
    path = os.path.join(os.environ["IPP_PROFILE_DIR"], "security", f"{prefix}-engine.json")
    deadline = time.monotonic() + _WAIT
    while time.monotonic() < deadline:
        try:
            with open(path, encoding="utf-8") as file:
                json.load(file)
        except (OSError, ValueError):
            time.sleep(_TICK)
        else:
            return


class _ForkedNanny:
    """A nanny that is ready before the engine knows its id."""

    def __init__(self) -> None:
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._orders)
            os.close(self._answers)
            _be_nanny(orders, answers)
        os.close(orders)
        os.close(answers)

    def start(self, **kwargs: Any) -> tuple[str, Any]:
        """Stand in for ipyparallel.engine.nanny.start_nanny."""
        import pickle

        with os.fdopen(self._orders, "wb") as stream:
            pickle.dump({**kwargs, "pid": os.getpid()}, stream)
        answers = os.fdopen(self._answers, encoding="utf-8")
        url = answers.readline().strip()
        if not url:
            message = "the engine's nanny ended before it was ready; see the engine's log"
            raise RuntimeError(message)
        # the engine keeps the stream for life: its closing tells the nanny
        return url, answers


def _be_nanny(orders: int, answers: int) -> None:
    code = 1
    try:
        os.setsid()
        import pickle

        from ipyparallel.engine.nanny import KernelNanny

        with os.fdopen(orders, "rb") as stream:
            kwargs = pickle.load(stream)
        KernelNanny.main(**kwargs, pipe=os.fdopen(answers, "w", buffering=1, encoding="utf-8"))
        code = 0
    except EOFError:
        code = 0  # the engine ended before it registered
    finally:
        os._exit(code)


def main() -> None:
    """Import, wait, run the engine."""
    _mend_path()
    from ipyparallel.engine import app

    # private name of ipyparallel 9; without it the engine starts its nanny as ever
    if hasattr(os, "fork") and hasattr(app, "start_nanny"):
        from ipyparallel.engine import nanny as _  # noqa: F401 -- imported once, before the fork

        app.start_nanny = _ForkedNanny().start
    _wait_for_connection_file()
    app.main()


if __name__ == "__main__":
    main()
