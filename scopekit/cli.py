"""The command line: ``scopekit demo``, ``lab``, ``bench``, and ``scopekit --version``.

Exit codes: 0 all went as it should, 1 something did not, 2 it could not be tried,
130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
import webbrowser
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import scopekit
from scopekit.bench.command import add_arguments, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scopekit.demo.telling import StoryResult
    from scopekit.session import Session

__all__ = ("main",)

_WRONG = 1
_IMPOSSIBLE = 2
_INTERRUPTED = 130
_ENDINGS = (signal.SIGINT, signal.SIGTERM)
_DEMO_NEEDS = ("numpy", "cv2")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: the words after the program's name; the process's own if None.

    Returns:
        The exit code.
    """
    given, further = _parser().parse_known_args(arguments)
    if further and given.command != "lab":
        _parser().error(f"unrecognized arguments: {' '.join(further)}")
    try:
        if given.command == "lab":
            return _lab(further)
        if given.command == "bench":
            return _bench(given)
        return _demo(given.out, headless=given.headless, camera=given.camera)
    except KeyboardInterrupt:
        _complain("interrupted; its engines are ended")
        return _INTERRUPTED
    except scopekit.ScopekitError as error:
        _complain(str(error))
        return _IMPOSSIBLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scopekit", description="Scopes for Python: say where a value is valid."
    )
    parser.add_argument("--version", action="version", version=f"scopekit {scopekit.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo", help="tell six stories on four local engines, then write a report"
    )
    demo.add_argument("--headless", action="store_true", help="do not open the report")
    demo.add_argument(
        "--out",
        type=Path,
        default=Path("scopekit-demo"),
        metavar="DIR",
        help="where the report goes (default: ./scopekit-demo)",
    )
    demo.add_argument(
        "--camera", type=int, metavar="N", help="use camera N instead of a video written for this"
    )
    commands.add_parser(
        "lab", help="open the tutorial notebooks in JupyterLab; further words are JupyterLab's"
    )
    add_arguments(
        commands.add_parser(
            "bench", help="measure scopekit beside its peers, with two workers each on this machine"
        )
    )
    return parser


# -- demo --------------------------------------------------------------------------------


def _demo(out: Path, *, headless: bool, camera: int | None) -> int:
    lacking = _lacking(_DEMO_NEEDS)
    if lacking:
        _complain(f'the demo needs {lacking}. Install it: pip install "scopekit[demo]"')
        return _IMPOSSIBLE
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _complain(f"--out {out}: {error.strerror}")
        return _IMPOSSIBLE
    with _interruptible() as asked_to_end:
        good, report = _tell_stories(out, camera, asked_to_end)
    if not headless and _has_display():
        webbrowser.open(report.resolve().as_uri())
    return 0 if good else _WRONG


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Makes Ctrl-C and a polite kill the same tidy end.

    Yields:
        The signals that came. The first raises KeyboardInterrupt, which may get lost
        where Python calls back, in a finalizer for one; the list does not.
    """
    came: list[int] = []

    def interrupt(number: int, _: object) -> None:
        came.append(number)
        # Further ones must not cut short the end that the first one began.
        if len(came) == 1:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _ENDINGS}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lacking(modules: Sequence[str]) -> str:
    """Names what cannot be imported, with the reason where there is one; "" if nothing."""
    for name in modules:
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            if error.name == name:
                return {"cv2": "OpenCV"}.get(name, name)
            return f"{name} ({error})"
        except ImportError as error:
            return f"{name} ({error})"
    return ""


def _tell_stories(out: Path, camera: int | None, asked_to_end: Sequence[int]) -> tuple[bool, Path]:
    from scopekit.demo.stories import NODES, run_stories  # noqa: PLC0415  # only the demo's
    from scopekit.report import write_report  # noqa: PLC0415  # likewise

    began = time.monotonic()
    _print("Starting four engines on this machine, which pretends to be nodes a and b ...")
    with (
        tempfile.TemporaryDirectory(prefix="scopekit-demo-") as folder,
        scopekit.start(nodes=NODES) as session,
    ):
        _print(f"{_places(session)}; ready after {time.monotonic() - began:.1f} s")
        told: list[StoryResult] = []
        for story in run_stories(session, Path(folder), device=camera):
            told.append(story)
            _show(len(told), story)
            if asked_to_end:
                raise KeyboardInterrupt
        stories = [(story.heading, story.paragraph, story.lines, story.ok) for story in told]
        title = "scopekit: six stories, with the refusals that belong to them"
        report = write_report(session, out / "report.html", title=title, stories=stories)
    good = [story for story in told if story.ok]
    _print(f"\n{len(good)} of {len(told)} stories went as they should.")
    _print(f"Report: {report}  ({time.monotonic() - began:.1f} s in all)")
    return len(good) == len(told), report


def _places(session: Session) -> str:
    of_node = {
        node: [w for w in session.workers if session.topology.node_of(w) == node]
        for node in session.nodes
    }
    return "; ".join(
        f"node {node}: workers {', '.join(map(str, workers))}" for node, workers in of_node.items()
    )


def _show(number: int, story: StoryResult) -> None:
    _print(f"\n{number}. {story.heading}  [{'ok' if story.ok else 'NOT AS IT SHOULD'}]")
    _print(fill(story.paragraph, 88, initial_indent="   ", subsequent_indent="   "))
    for line in story.lines:
        _print(f"     {line}")


def _has_display() -> bool:
    if sys.platform in {"win32", "darwin"}:
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


# -- lab ---------------------------------------------------------------------------------


def _lab(further: Sequence[str]) -> int:  # noqa: RET503  # execv never returns
    if find_spec("jupyterlab") is None:
        _complain('JupyterLab is missing. Install it: pip install "scopekit[lab]"')
        return _IMPOSSIBLE
    notebooks = _notebooks()
    if notebooks is None:
        _complain(
            "the notebooks are not part of the installed package. Clone the repository and run"
            " scopekit lab in it; they are in its folder notebooks/."
        )
        return _IMPOSSIBLE
    # Taking this process's place lets Ctrl-C and the exit code be JupyterLab's own.
    command = [sys.executable, "-m", "jupyterlab", str(notebooks), *further]
    os.execv(command[0], command)  # noqa: S606  # a list of words, no shell


def _notebooks() -> Path | None:
    """Finds the notebooks in the current folder or in the checkout this code is part of."""
    for folder in (Path.cwd(), Path(scopekit.__file__).parents[1]):
        if (folder / "notebooks" / "01-scopes.ipynb").is_file():
            return folder / "notebooks"
    return None


# -- bench -------------------------------------------------------------------------------


def _bench(given: argparse.Namespace) -> int:
    try:
        with _interruptible():
            return run(given, _complain)
    except KeyboardInterrupt:
        _complain("interrupted; what it started is ended")
        return _INTERRUPTED


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # this is what a command is for


def _complain(text: str) -> None:
    print(f"scopekit: {text}", file=sys.stderr)  # noqa: T201  # likewise
