"""The magics: cells of a notebook that become tasks."""

from __future__ import annotations

import difflib
import html
import sys
from dataclasses import fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import no_var_expand

from scopekit.api import fetch, start
from scopekit.encoding import Encoding
from scopekit.engine.cell import SHOWN, remember_source, spawned_cell
from scopekit.errors import SchedulingError, ScopeError, ScopekitError
from scopekit.handles import Task
from scopekit.notebook.board import Board, Desk, say
from scopekit.notebook.cells import CellNames, OptionTextError, analyse, split_options
from scopekit.notebook.displays import swatch_html
from scopekit.opensessions import innermost_session
from scopekit.options import Options, get_options, prefer
from scopekit.scopes import AnyScope, DefaultScope, NodeScope, ProcessScope
from scopekit.scopes import scope as make_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scopekit.explanation import Explanation
    from scopekit.scopes import Scope
    from scopekit.session import Session

__all__ = ("register", "unregister")


def register(shell: Any) -> None:
    """Adds the magics to a shell."""
    unregister(shell)
    magics = _Magics(shell)
    magics.desk.watch()
    for kind, name, function in magics.table():
        shell.register_magic_function(function, kind, name)


def unregister(shell: Any) -> None:
    """Takes the magics out again, unless somebody else has replaced them."""
    owners: set[_Magics] = set()
    for known in shell.magics_manager.magics.values():
        for name, function in list(known.items()):
            owner = getattr(function, "__self__", None)
            if isinstance(owner, _Magics):
                owners.add(owner)
                del known[name]
    for owner in owners:
        owner.desk.unwatch()


# -- what scopes are called in options ----------------------------------------------------


def _worker(*ids: Any, **more: Any) -> Scope:
    return make_scope(worker=_one_or_all(ids), **more)


def _node(*names: Any, **more: Any) -> Scope:
    return make_scope(node=_one_or_all(names), **more)


def _thread(*numbers: Any, **more: Any) -> Scope:
    return make_scope(thread=_one_or_all(numbers), **more)


def _one_or_all(values: tuple[Any, ...]) -> Any:
    return values[0] if len(values) == 1 else list(values) or "all"


_WORDS: dict[str, Any] = {
    "worker": _worker,
    "node": _node,
    "thread": _thread,
    "any": AnyScope(),
    "default": DefaultScope(),
    "prefer": prefer,
}


class _Magics:
    """The magics of one shell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self.desk = Desk(shell)
        self._last: Task | Explanation | None = None

    def table(self) -> list[tuple[str, str, Callable[..., Any]]]:
        """Returns kind, name and function of each magic."""
        line = {
            "spawn": self.spawn,
            "fetch": self.fetch,
            "why": self.why,
            "scopes": self.scopes,
            "dag": self.dag,
            "timeline": self.timeline,
            "scopekit": self.scopekit,
        }
        found: list[tuple[str, str, Callable[..., Any]]] = [
            ("line", name, function) for name, function in line.items()
        ]
        return [("cell", "spawn", self.spawn), *found]

    # -- spawning -----------------------------------------------------------------

    def spawn(self, line: str, cell: str | None = None) -> None:
        """Run the cell as one task on an engine; the notebook goes on at once.

        ::

            %%spawn scope=worker(2) result_scope=worker(2) name='open camera'
            cam = open_camera(path)

            %spawn frame = read(cam)

        Options, each a Python expression, in any order::

            scope=          where the task may run
            compute_scope=  the same, and wins over scope=
            result_scope=   where its results are valid; it runs inside of that, too
            single=         the one worker on which to run
            name=           what graphs and messages call it
            wait_for=       seconds to wait for a processor that does not exist yet
            idempotent=     False if it may not be started again after its worker died
            prefer=         where it would rather run: a scope, or a list of them in order;
                            prefer(worker(2), busy=5) waits up to 5 seconds for it
            priority=       the higher, the sooner it runs if it has to wait for a processor
            meta=           True if the cell is to see handles instead of their values
            get_result=     True to bring what it gives here as soon as that is made

        Scopes are written worker(2), worker(1, thread=0), worker(0, 1), node("a"),
        thread(0), any, default, or with the notebook's own names; & and | join them.

        Names that the cell reads: a handle (a Task or Chunk) is a dependency, whose value
        the cell sees; another variable of the notebook is sent along by value; a name
        that the notebook does not know is looked up on the engine, so what
        ``%px import numpy as np`` made is there.

        Names that the cell assigns become handles in the notebook at once. What it
        prints, the value of its last expression, or its error appear below the cell when
        they arrive. The value is brought here only where its scope allows.

        ``%why name`` tells why a task runs where it runs, ``%fetch name`` brings a value.
        """
        magic = "%spawn" if cell is None else "%%spawn"
        source = self._python(line if cell is None else cell)
        if not source.strip():
            raise UsageError(f"{magic}: there is nothing to run")
        # A line is all code; options need a cell.
        given = self._options("" if cell is None else line, magic)
        number = _number(self._shell)
        filename = f"<cell {number}>"
        remember_source(source, filename)
        try:
            names = self._without_same_imports(
                analyse(source, filename=filename, notebook=self._known())
            )
        except SyntaxError as error:
            raise _CellSyntaxError(self._shell, error) from None
        if given.name is None and get_options("name", None) is None:
            given = replace(given, name=f"cell {number}")
        outputs = (*names.assigns, SHOWN) if names.shows else names.assigns
        call = (source, filename, outputs)
        task, board = self._submit(given, call, names, number)
        self._last = task
        self._shell.user_ns.update({name: task.outputs[name] for name in names.assigns})
        board.show(task)
        task.add_done_callback(board.finish)

    def _submit(
        self, given: Options, call: tuple[Any, ...], names: CellNames, number: int
    ) -> tuple[Task, Board]:
        session = self._session()
        known = self._known()
        inputs = {name: known[name] for name in names.reads if name in known}
        board = self.desk.board(session, shows=names.shows)
        try:
            task = session.submit(
                given,
                spawned_cell,
                call,
                inputs,
                outputs=call[2],
                cell=number,
                sink=board.write,
            )
        except ScopekitError as error:
            if isinstance(error, SchedulingError):
                self._last = error.explanation
            raise _shortened(error) from None
        return task, board

    def _python(self, cell: str) -> str:
        """Turns what only IPython knows, such as ``!ls``, into Python."""
        text: str = self._shell.input_transformer_manager.transform_cell(cell)
        return text

    def _without_same_imports(self, names: CellNames) -> CellNames:
        """Leaves the notebook what it imported itself: a handle to the same is no use to it."""
        known = self._known()
        same = {
            name
            for name, source in names.imports.items()
            if name in known and known[name] is _imported(*source)
        }
        return replace(names, assigns=tuple(name for name in names.assigns if name not in same))

    def _known(self) -> Mapping[str, Any]:
        """Returns the notebook's variables, without those that IPython put there."""
        hidden = self._shell.user_ns_hidden
        missing = object()
        return {
            name: value
            for name, value in self._shell.user_ns.items()
            if hidden.get(name, missing) is not value
        }

    def _session(self) -> Session:
        session = innermost_session()
        if session is not None:
            return session
        try:
            session = start()
        except ScopekitError as error:
            raise _shortened(error) from None
        count = len(session.workers)
        many, them = ("", "it") if count == 1 else ("s", "them")
        say(f"scopekit started {count} worker{many}; %scopekit stop ends {them}")
        return session

    def _running_session(self) -> Session:
        session = innermost_session()
        if session is None:
            raise UsageError("there is no session; %scopekit start starts one")
        return session

    # -- options --------------------------------------------------------------------

    def _options(self, line: str, magic: str) -> Options:
        try:
            texts = split_options(line)
            known = {option.name for option in fields(Options)}
            unknown: dict[str, Any] = dict.fromkeys(name for name in texts if name not in known)
            Options.checked(unknown, magic)
            values = {name: self._value(name, text) for name, text in texts.items()}
            given = Options.checked(values, magic)
        except OptionTextError as error:
            raise UsageError(f"{magic}: {error}") from None
        except ScopeError as error:
            text = str(error)
            raise UsageError(text if text.startswith(magic) else f"{magic}: {text}") from None
        if given.outputs:
            raise UsageError(
                f"{magic}: the names that a cell assigns are its outputs; leave outputs= out"
            )
        return given

    def _value(self, name: str, text: str) -> Any:
        namespace = {**self._shell.user_ns, **_WORDS}
        try:
            return eval(text, namespace)  # noqa: S307  # an option is an expression of the user's
        except Exception as error:  # noqa: BLE001  # an expression may raise anything
            cause = _cause(error, namespace)
        label = f"{name} {text}" if name.startswith("%") else f"{name}={text}"
        raise UsageError(f"{label}: {cause}")

    def _read(self, text: str, magic: str, *, handle: bool = False) -> Any:
        """Evaluates what stands behind a line magic; the last task if that is nothing."""
        if not text.strip():
            if self._last is None:
                raise UsageError(f"{magic} wants a name; nothing was spawned yet")
            return self._last
        value = self._value(magic, text.strip())
        if handle and not isinstance(value, Task):
            raise UsageError(f"{magic} {text.strip()}: a {type(value).__name__} is no task")
        return value

    # -- looking ----------------------------------------------------------------------

    def fetch(self, line: str) -> Any:
        """Bring a value here: ``%fetch x`` or ``y = %fetch x``."""
        value = self._read(line, "%fetch")
        try:
            return fetch(value)
        except ScopekitError as error:
            raise _shortened(error) from None

    def why(self, line: str) -> Any:
        """Tell why a task runs where it runs, or why not: ``%why x``; the last one if no name."""
        value = self._read(line, "%why", handle=True)
        return self.desk.here(value.explain() if isinstance(value, Task) else value)

    def scopes(self, line: str) -> None:
        """List the scopes of the session: its nodes and its workers."""
        del line
        topology = self._running_session().topology
        table: dict[str, Scope] = {}
        for process in sorted(topology.processes, key=lambda process: process.node):
            table[f'node("{process.node}")'] = NodeScope(process.node)
            table[f"worker({process.worker!r})"] = ProcessScope(process.worker)
        encoding = Encoding(topology)
        rows = [
            (text, topology.mask(s).bit_count(), encoding.scope(s)) for text, s in table.items()
        ]
        width = max((len(text) for text, _, _ in rows), default=0)
        plain = "\n".join(f"{text:<{width}}  {_processors(count)}" for text, count, _ in rows)
        marked = "".join(
            f"<tr><td style='text-align:left'>{swatch_html(paint)}"
            f"<code>{html.escape(text)}</code></td><td>{_processors(count)}</td></tr>"
            for text, count, paint in rows
        )
        self.desk.publish({"text/plain": plain, "text/html": f"<table>{marked}</table>"})

    def dag(self, line: str) -> Any:
        """Show the task graph of the session."""
        return self._picture(line, "dag")

    def timeline(self, line: str) -> Any:
        """Show what ran where and when."""
        return self._picture(line, "timeline")

    def _picture(self, line: str, kind: str) -> Any:
        del line
        from scopekit import plots  # noqa: PLC0415  # loads when first needed

        session = self._running_session()
        live = getattr(session, kind, None)
        return live() if live is not None else getattr(plots, f"plot_{kind}")(session)

    def scopekit(self, line: str) -> Any:
        """Start or stop engines: ``%scopekit start [n]``, ``stop`` or ``status``."""
        word, _, rest = line.strip().partition(" ")
        if word == "start":
            count = self._value("%scopekit start", rest.strip()) if rest.strip() else None
            try:
                return start(count)
            except ScopekitError as error:
                raise _shortened(error) from None
        if rest or word not in ("", "status", "stop"):
            raise UsageError("write %scopekit start [n], %scopekit stop or %scopekit status")
        session = innermost_session()
        if session is None:
            say("there is no session; %scopekit start starts one")
        elif word == "stop":
            session.close()
            say(f"session {session.name} is closed")
        return None if word == "stop" else session


class _CellSyntaxError(Exception):
    """A spawning cell is no Python; looks as it does for any other cell.

    IPython would show a SyntaxError of a magic with all the frames of the magic.
    """

    def __init__(self, shell: Any, error: SyntaxError) -> None:
        super().__init__(str(error))
        self._lines = shell.SyntaxTB.structured_traceback(type(error), error, [])

    def _render_traceback_(self) -> list[str]:
        return list(self._lines)


for _method in (_Magics.spawn, _Magics.fetch, _Magics.why, _Magics.scopekit):
    no_var_expand(_method)


def _imported(module: str, attribute: str | None) -> Any:
    """Returns what an import would give here, None if that is not loaded."""
    found = sys.modules.get(module)
    return found if attribute is None else getattr(found, attribute, None)


def _number(shell: Any) -> int:
    """Returns the number of the running cell; the shell may count the next one already."""
    result = getattr(shell.displayhook, "exec_result", None)
    number: int | None = getattr(result, "execution_count", None)
    return shell.execution_count if number is None else number


def _cause(error: Exception, namespace: Mapping[str, Any]) -> str:
    text = str(error) if not isinstance(error, SyntaxError) else f"it is no Python: {error.msg}"
    if isinstance(error, NameError) and error.name is not None:
        near = difflib.get_close_matches(error.name, namespace, 1)
        text += f". Did you mean {near[0]}?" if near else ""
    known = isinstance(error, (SyntaxError, NameError, ScopekitError))
    return text if known else f"{type(error).__name__}: {text}"


def _processors(count: int) -> str:
    return f"{count} processor{'' if count == 1 else 's'}"


def _shortened(error: ScopekitError) -> ScopekitError:
    """Makes IPython show an error without the frames of its own and of scopekit."""
    lines = [f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())]
    error._render_traceback_ = partial(list, lines)  # type: ignore[attr-defined]
    return error
