"""Pickles of calls, values or errors.

A call travels as two pickles: the function, which an engine keeps under its digest,
so that it travels once; then the arguments, in which every handle was replaced by
the number of an input. Reading the arguments puts the values of the inputs in.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import sys
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from scopekit.errors import RemoteError, ScopekitError
from scopekit.handles import Chunk, HiddenHandleError, Task
from scopekit.pinning.hook import Pickler, StayingJudge, what_fails
from scopekit.pinning.packing import NOTHING, CallJudge, Findings, examine
from scopekit.pinning.pin import told_of
from scopekit.pinning.search import joined
from scopekit.pinning.telling import advice, refusal_text
from scopekit.wire.around import innermost
from scopekit.wire.blobs import Blob
from scopekit.wire.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from scopekit.pinning.hook import Judge
    from scopekit.pinning.packing import Culprit, Desk, Noted, Root
    from scopekit.wire.frames import Buffer
    from scopekit.wire.messages import PlainArguments

__all__ = (
    "APART",
    "FIRST_INPUT",
    "Call",
    "KnownFunctions",
    "PickledError",
    "dump_apart",
    "dump_error",
    "dump_own",
    "dump_value",
    "load_arguments",
    "load_value",
    "pack_call",
    "read_handles",
    "taking_out",
    "type_name",
    "value_nbytes",
)

_PROTOCOL = 5
APART = 1 << 16
"""Buffers of so many bytes lie beside the pickle of what holds them."""
_PACKAGE = Path(__file__).parent.parent
_OWN_FRAMES = tuple(str(_PACKAGE / name) + os.sep for name in ("engine", "wire"))
FIRST_INPUT = b""
_CONTAINERS = (list, tuple, dict, set, frozenset)
_PLAIN = frozenset((type(None), bool, int, float, complex, str, bytes))
_LONG = frozenset((str, bytes))
_SHORT = 256
_FUNCTIONS_KEPT = 1024
# A handle is found in so many containers, one inside the other.
_DEEPEST = 250
_functions: dict[Any, _Code] = {}


class Call(NamedTuple):
    """One call, ready to travel.

    Attributes:
        digest: names the function's pickle; FIRST_INPUT if the function is a chunk.
        function: the pickle of the function.
        arguments: plain positional arguments, as messages carry them, or the pickle of
            positional and keyword arguments.
        handles: origin and handle of each input, in order.
        apart: the last of these: chunks of the large buffers that arguments have.
        pinned: what is pinned in it; what stays in this process is among the handles.
        notes: what may go, and ought to be told.
    """

    digest: bytes
    function: bytes
    arguments: PlainArguments | bytes
    handles: tuple[tuple[str, Task | Chunk], ...]
    apart: tuple[Chunk, ...] = ()
    pinned: tuple[Culprit, ...] = ()
    notes: tuple[Noted, ...] = ()


class _Code(NamedTuple):
    """A function, ready to travel; or the chunk of one that stays here."""

    digest: bytes
    function: bytes
    pinned: tuple[Culprit, ...] = ()
    notes: tuple[Noted, ...] = ()
    chunk: Chunk | None = None


_BY_HANDLE = _Code(FIRST_INPUT, b"")


class KnownFunctions:
    """Which functions an engine was sent, the most recently used ones."""

    def __init__(self, kept: int = 4096) -> None:
        self._kept = kept
        self._digests: dict[bytes, None] = {}

    def to_send(self, call: Call) -> tuple[bytes | None, tuple[bytes, ...]]:
        """Counts on a call being sent now.

        Returns:
            The function's pickle, None if the engine has it, with the digests of those
            that the engine is to forget.
        """
        known = call.digest in self._digests
        self._digests.pop(call.digest, None)
        self._digests[call.digest] = None
        forget = []
        while len(self._digests) > self._kept:
            oldest = next(iter(self._digests))
            del self._digests[oldest]
            forget.append(oldest)
        return None if known else call.function, tuple(forget)


class _Slot:
    """Stands in a pickle for the value of an input."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _stand_in(self.number)


def _stand_in(number: int) -> tuple[Any, ...]:
    return (_take_input, (number,))


_reading = threading.local()


def _take_input(number: int) -> Any:
    return _reading.inputs[number]


def pack_call(
    function: Callable[..., Any] | Task | Chunk,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    name: str,
    keep: Callable[[memoryview], Chunk] | None = None,
    desk: Desk | None = None,
) -> Call:
    """Pickles a call, with its handles taken out.

    Args:
        function: what to call, or a handle to it.
        args: its positional arguments; handles count at any depth of lists, tuples,
            dicts and sets.
        kwargs: its keyword arguments, likewise.
        name: what messages call the task.
        keep: makes chunks of the large buffers of arguments; None leaves these in the
            pickle.
        desk: who spawns, and keeps what is pinned here; None refuses that.

    Raises:
        ScopekitError: the function or an argument does not pickle; names which.
    """
    found: list[tuple[str, Task | Chunk]] = []
    names: Sequence[str] = ()
    code = _BY_HANDLE
    if isinstance(function, (Task, Chunk)):
        found.append(("function", function))
    else:
        code = _known_function(function, name, desk)
        digest, pickled, pinned, notes, chunk = code
        if chunk is not None:
            found.append(("function", chunk))
        elif not kwargs:
            plain = _plain_arguments(function, args)
            if plain is not None:
                call = Call(digest, pickled, *plain)
                return call._replace(pinned=pinned, notes=notes) if pinned or notes else call
        names = _parameter_names(function)
    plain_args = tuple(
        _take_out(value, _origin(names, index), found) for index, value in enumerate(args)
    )
    plain_kwargs = {
        key: _take_out(value, f"argument '{key}'", found) for key, value in kwargs.items()
    }
    buffers: list[memoryview] = []
    stays = None if keep is None else taking_out(buffers)
    judge = StayingJudge() if desk is None else CallJudge(desk, _stand_in, len(found))
    arguments, met = _dump_arguments(plain_args, plain_kwargs, names, name, stays, judge=judge)
    pinned, notes = code.pinned, code.notes
    if met is not NOTHING and desk is not None:
        found += [(culprit.origin, _kept(desk, value, culprit)) for value, culprit in met.stay]
        pinned, notes = pinned + met.pinned, notes + met.notes
    apart = () if keep is None else tuple(map(keep, buffers))
    found += [("a large argument", chunk) for chunk in apart]
    return Call(code.digest, code.function, arguments, tuple(found), apart, pinned, notes)


def _plain_arguments(
    function: Any, args: tuple[Any, ...]
) -> tuple[PlainArguments, tuple[tuple[str, Task | Chunk], ...]] | None:
    """Takes the handles out of arguments that need no pickle of their own.

    Returns:
        The arguments with the handles, None if one of them does need a pickle.
    """
    places: list[int] = []
    for place, value in enumerate(args):
        kind = type(value)
        if kind is Task or kind is Chunk:
            places.append(place)
        elif kind not in _PLAIN or (kind in _LONG and len(value) > _SHORT):
            return None
    if not places:
        return (args, ()), ()
    values: list[Any] = list(args)
    names = _parameter_names(function)
    handles = []
    for place in places:
        handles.append((_origin(names, place), values[place]))
        values[place] = None
    return (tuple(values), tuple(places)), tuple(handles)


def _known_function(function: Any, name: str, desk: Desk | None) -> _Code:
    """Returns a function, ready to travel."""
    key = fingerprint(function)
    if key is None:
        return _dump_function(function, name, desk)
    known = _functions.get(key)
    if known is None:
        known = _dump_function(function, name, desk)
        while len(_functions) >= _FUNCTIONS_KEPT:
            _functions.pop(next(iter(_functions)), None)
        _functions[key] = known
    return known


def _parameter_names(function: Any) -> Sequence[str]:
    code = getattr(innermost(function), "__code__", None)
    if code is None:
        return ()
    names: Sequence[str] = code.co_varnames[: code.co_argcount]
    return names


def _origin(names: Sequence[str], index: int) -> str:
    return f"argument '{names[index]}'" if index < len(names) else f"argument {index + 1}"


def _take_out(
    value: Any,
    origin: str,
    found: list[tuple[str, Task | Chunk]],
    above: frozenset[int] = frozenset(),
) -> Any:
    if isinstance(value, (Task, Chunk)):
        if isinstance(value, Task) and value.parts:
            return tuple(_take_out(part, origin, found) for part in value.parts)
        found.append((origin, value))
        return _Slot(len(found) - 1)
    if type(value) not in _CONTAINERS or not _holds_handles(value, origin):
        return value
    if id(value) in above:
        raise ScopekitError(
            f"{origin or 'this'} is a {type(value).__name__} that holds a task or chunk, and"
            " itself. Pass the handle outside of it."
        )
    return _rebuild(value, origin, found, above | {id(value)})


def _holds_handles(value: Any, origin: str) -> bool:
    """Tells whether a handle hides in a container, looking at types before values.

    Raises:
        ScopekitError: one hides deeper than it can be taken out.
    """
    # Not by recursion: a million lists within lists would be as many frames deep.
    seen = {id(value)}
    todo = [(value, 1)]
    while todo:
        container, depth = todo.pop()
        items = list(container.values()) if type(container) is dict else container
        kinds = dict.fromkeys(map(type, items))
        if any(issubclass(kind, (Task, Chunk)) for kind in kinds):
            if depth > _DEEPEST:
                raise ScopekitError(
                    f"{origin or 'this value'} holds a task or chunk within {depth} containers,"
                    f" one inside the other; it is looked for in {_DEEPEST}. Pass it further up."
                )
            return True
        if any(kind in _CONTAINERS for kind in kinds):
            inner = [i for i in items if type(i) in _CONTAINERS and id(i) not in seen]
            seen.update(map(id, inner))
            todo += [(item, depth + 1) for item in inner]
    return False


def _rebuild(
    value: Any, origin: str, found: list[tuple[str, Task | Chunk]], above: frozenset[int]
) -> Any:
    if type(value) is dict:
        return {key: _take_out(item, origin, found, above) for key, item in value.items()}
    return type(value)(_take_out(item, origin, found, above) for item in value)


def _dump_function(function: Any, name: str, desk: Desk | None) -> _Code:
    judge = StayingJudge() if desk is None else CallJudge(desk)
    roots = [("function", getattr(function, "__name__", "it"), function)]
    try:
        pickled = dump_value(function, None, judge)
    except HiddenHandleError as error:
        raise ScopekitError(f"{name}: its function cannot be sent to an engine: {error}") from None
    except Exception as error:
        _refuse_stuck(name, examine(judge, roots), error)
        culprit, _ = what_fails(function) or (None, error)
        raise ScopekitError(
            f"{name}: its function cannot be sent to an engine: {_why(error)}. A closure or a"
            " global that it uses holds something that lives only here. Open it inside the"
            " function, or keep one on an engine with tochunk and pass the chunk."
            f"{advice(error, culprit)}"
        ) from error
    digest = hashlib.blake2b(pickled, digest_size=16).digest()
    if not judge.met:
        return _Code(digest, pickled)
    met = examine(judge, roots)
    _refuse_stuck(name, met)
    if desk is None or not met.stay:
        return _Code(digest, pickled, met.pinned, met.notes)
    # It stays where the things are that it holds.
    chunk = desk.keep_pinned(function, *joined([culprit.pin for culprit in met.pinned]))
    return _Code(FIRST_INPUT, b"", met.pinned, met.notes, chunk)


def _kept(desk: Desk, value: Any, culprit: Culprit) -> Chunk:
    assert culprit.pin.scope is not None
    return desk.keep_pinned(value, culprit.pin.scope, told_of([culprit.pin]))


def _refuse_stuck(name: str, met: Findings, error: Exception | None = None) -> None:
    """Raises if something has to stay that no task can be sent to."""
    if met.stuck:
        besides = "" if error is None else f"\nBesides, {_why(error)}."
        raise ScopekitError(refusal_text(name, met.stuck + met.pinned) + besides) from None


def _dump_arguments(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    names: Sequence[str],
    name: str,
    stays: Callable[[pickle.PickleBuffer], bool] | None,
    *,
    judge: StayingJudge | CallJudge,
) -> tuple[bytes, Findings]:
    try:
        pickled = dump_value((args, kwargs), stays, judge)
    except HiddenHandleError as error:
        culprit, _ = _culprit(args, kwargs, names) or ("an argument", None)
        raise ScopekitError(f"{name}: {culprit} cannot be sent to an engine: {error}") from None
    except Exception as error:
        _refuse_stuck(name, examine(judge, _roots(args, kwargs, names)), error)
        culprit, (what, cause) = _culprit(args, kwargs, names) or ("an argument", (None, error))
        raise ScopekitError(
            f"{name}: {culprit} cannot be sent to an engine: {_why(cause)}. Make it there, in a"
            " task of its own, and pass that task; or pass what is needed to open it."
            f"{advice(cause, what)}"
        ) from error
    if not judge.met:
        return pickled, NOTHING
    met = examine(judge, _roots(args, kwargs, names))
    _refuse_stuck(name, met)
    return pickled, met


def _roots(args: tuple[Any, ...], kwargs: dict[str, Any], names: Sequence[str]) -> list[Root]:
    """Names the arguments: as messages do, and as an expression."""
    placed = [
        (_origin(names, index), names[index] if index < len(names) else f"args[{index}]", value)
        for index, value in enumerate(args)
    ]
    return placed + [(f"argument '{key}'", key, value) for key, value in kwargs.items()]


def _culprit(
    args: tuple[Any, ...], kwargs: dict[str, Any], names: Sequence[str]
) -> tuple[str, tuple[Any, Exception]] | None:
    """Returns what messages call the argument that does not pickle, and what in it fails."""
    for origin, _, value in _roots(args, kwargs, names):
        failing = what_fails(value)
        if failing is not None:
            return f"{origin} ({type_name(value)})", failing
    return None


def _why(error: BaseException) -> str:
    # cloudpickle has words of its own for it, which say nothing of the value.
    if isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError):
        return "it holds values within values deeper than a pickle can follow"
    return str(error) or type(error).__name__


def dump_value(
    value: Any,
    stays: Callable[[pickle.PickleBuffer], bool] | None = None,
    judge: Judge | None = None,
) -> bytes:
    """Pickles a value, functions and classes of the notebook by value.

    Args:
        value: the value.
        stays: is asked of each buffer whether it is to lie in the pickle.
        judge: decides about what is pinned; None lets nothing go that is.

    Raises:
        PinnedError: it holds what must stay where it is.
    """
    if type(value) in _PLAIN:
        return pickle.dumps(value, _PROTOCOL)
    file = io.BytesIO()
    pickler = Pickler(file, _PROTOCOL, stays)
    strict = None
    if judge is None:
        judge = strict = StayingJudge()
    pickler.judge = judge
    pickler.dump(value)
    if strict is not None and strict.met:
        strict.check()
    return file.getvalue()


class _ApartPickler(Pickler):
    """Pickles what is to outlive its session, where no handle means anything."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, (Chunk, Task)):
            raise pickle.PicklingError(
                "it holds a handle, which means nothing once the session is over; keep what it"
                " stands for"
            )
        return super().reducer_override(obj)


def dump_apart(value: Any, file: BinaryIO) -> None:
    """Pickles a value into a file, to be read in some other session."""
    strict = StayingJudge()
    pickler = _ApartPickler(file, _PROTOCOL)
    pickler.judge = strict
    pickler.dump(value)
    strict.check()


def dump_own(value: Any) -> bytes:
    """Pickles what is made of our own types, as a rule; others may be among them."""
    try:
        return pickle.dumps(value, _PROTOCOL)
    except Exception:  # noqa: BLE001  # a kind of processor may be made in a notebook
        return dump_value(value)


def taking_out(buffers: list[memoryview]) -> Callable[[pickle.PickleBuffer], bool]:
    """Makes what ``dump_value`` asks so that large buffers go into a list instead."""

    def stays(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:
            return True  # it is not in one piece
        if raw.nbytes < APART:
            return True
        buffers.append(raw)
        return False

    return stays


def load_value(pickled: Buffer) -> Any:
    """Reads a value back."""
    return pickle.loads(pickled)


def load_arguments(pickled: bytes, inputs: Sequence[Any]) -> Any:
    """Reads something back, with the values of its inputs put in."""
    buffers = [value.own() for value in inputs if type(value) is Blob]
    # An argument's own __setstate__ may read arguments of another call.
    before = getattr(_reading, "inputs", None)
    _reading.inputs = inputs
    try:
        return pickle.loads(pickled, buffers=buffers)
    finally:
        _reading.inputs = before


def read_handles(value: Any) -> Iterator[Task | Chunk]:
    """Yields the handles in a value, at any depth of lists, tuples, dicts and sets."""
    found: list[tuple[str, Task | Chunk]] = []
    _take_out(value, "", found)
    return (handle for _, handle in found)


def type_name(value: Any) -> str:
    """Names the type of a value, without its module where that is builtins."""
    kind = type(value)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else (f"{kind.__module__}.{kind.__qualname__}")
    )


_WITH_NBYTES = ("numpy", "pandas", "torch", "cupy", "pyarrow")


def value_nbytes(value: Any) -> int:
    """Estimates the size of a value in bytes.

    The attribute is asked for only where the type's package is known to answer:
    a proxy answers anything, some over a network.
    """
    if type(value).__module__.partition(".")[0] in _WITH_NBYTES:
        nbytes = getattr(value, "nbytes", None)
        if isinstance(nbytes, int):
            return nbytes
    try:
        return sys.getsizeof(value)
    except Exception:  # noqa: BLE001  # a user's __sizeof__ may raise anything
        return 0


@dataclass(frozen=True, slots=True)
class PickledError:
    """A task's error, as its engine describes it.

    Attributes:
        pickled: the exception itself, or None where it does not survive pickling.
        type_name: the name of its class.
        message: its text.
        traceback_text: the formatted traceback, user's frames only.
        place: where it was raised.
    """

    pickled: bytes | None
    type_name: str
    message: str
    traceback_text: str
    place: str

    def rebuild(self, who: str) -> BaseException:
        """Makes the exception again.

        Args:
            who: says where it was raised, and whom it concerns.

        Returns:
            The exception as its own type, or RemoteError, with ``who`` and the remote
            traceback as notes.
        """
        error = self._load()
        error.add_note(who)
        if isinstance(error, FileNotFoundError):
            self._advise_about_path(error)
        if self.traceback_text:
            error.add_note(f"Remote traceback:\n{self.traceback_text}")
        return error

    def _advise_about_path(self, error: FileNotFoundError) -> None:
        path = error.filename
        if isinstance(path, (str, bytes)) and os.path.exists(path):  # noqa: PTH110  # a text
            error.add_note(
                f"{os.fsdecode(path)} is there on this machine, and not on {self.place}: a path"
                " means something on one machine. Run the task where the file is, with"
                " scope=sk.NodeScope(...), or send what is in the file."
            )

    def _load(self) -> BaseException:
        if self.pickled is not None:
            with contextlib.suppress(Exception):
                error = load_value(self.pickled)
                if isinstance(error, Exception):
                    return error
        text = f"{self.type_name}: {self.message}" if self.message else self.type_name
        return RemoteError(text, self.type_name, self.traceback_text)


def dump_error(error: BaseException, place: str) -> PickledError:
    """Describes an exception for the process that asked for the task.

    Args:
        error: the exception.
        place: where it was raised, in words.
    """
    return PickledError(
        pickled=_pickled_error(error),
        type_name=type_name(error),
        message=_text(error),
        traceback_text=_format(error),
        place=place,
    )


def _pickled_error(error: BaseException) -> bytes | None:
    try:
        pickled = dump_value(error)
        # An exception whose constructor wants more than its args pickles and never loads.
        same = type(load_value(pickled)) is type(error)
    except Exception:  # noqa: BLE001  # a user's __reduce__ may raise anything
        return None
    return pickled if same else None


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # a user's __str__ may raise anything
        return "<its text could not be had>"


def _format(error: BaseException) -> str:
    """Formats an exception without the frames that ran the task: they are no news to users."""
    try:
        told = traceback.TracebackException.from_exception(error)
        _leave_out_own_frames(told)
        return "".join(told.format()).rstrip()
    except Exception:  # noqa: BLE001  # a user's __str__ may raise anything
        return "".join(traceback.format_tb(error.__traceback__)).rstrip()


def _leave_out_own_frames(told: traceback.TracebackException) -> None:
    told.stack = traceback.StackSummary.from_list(
        [frame for frame in told.stack if not frame.filename.startswith(_OWN_FRAMES)]
    )
    for further in (told.__cause__, told.__context__):
        if further is not None:
            _leave_out_own_frames(further)
