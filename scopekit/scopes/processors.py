"""The processors that a scope can name: values, not handles to anything running."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

from scopekit.errors import ScopeError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = (
    "CLIENT",
    "CUDA",
    "OS",
    "THREAD",
    "CudaProc",
    "Kind",
    "OSProc",
    "Processor",
    "ThreadProc",
    "Worker",
    "check_worker",
    "describe_worker",
    "kind_names",
    "order_of_worker",
    "probe_of",
    "probed_kinds",
    "processor_type",
    "type_expression",
    "type_named",
    "type_of",
)

Worker: TypeAlias = int | str
"""An ipyparallel engine id, or ``"client"``."""

CLIENT: Final = "client"


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """A kind of processor.

    Attributes:
        name: the word for it, such as ``"thread"``.
        default_enabled: whether DefaultScope holds processors of this kind.
        indexed: whether a process can have several of them.
    """

    name: str
    default_enabled: bool = False
    indexed: bool = True


THREAD: Final = Kind("thread", default_enabled=True)
OS: Final = Kind("os", indexed=False)
CUDA: Final = Kind("cuda")


def check_worker(worker: object) -> Worker:
    """Return the worker id in its normal type.

    Args:
        worker: an engine id or ``"client"``.

    Returns:
        The id, as an int, or ``"client"``.

    Raises:
        ScopeError: it is neither.

    Example:
        >>> check_worker(3)
        3
    """
    if worker == CLIENT and isinstance(worker, str):
        return CLIENT
    number = _natural(worker)
    if number is None:
        msg = (
            f"{worker!r} names no worker; a worker is an engine id (0, 1, 2, ...) "
            "or 'client', the notebook's own process"
        )
        raise ScopeError(msg)
    return number


def _natural(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None
    return number if number >= 0 else None


def order_of_worker(worker: Worker) -> tuple[bool, Worker]:
    """Return the key that sorts engines by id, with the client last.

    Args:
        worker: a worker id.

    Returns:
        A sort key.

    Example:
        >>> sorted(["client", 2, 0], key=order_of_worker)
        [0, 2, 'client']
    """
    return (isinstance(worker, str), worker)


def describe_worker(worker: Worker) -> str:
    """Return the words for a worker.

    Args:
        worker: a worker id.

    Returns:
        ``"worker 0"``, or ``"client"``.

    Example:
        >>> describe_worker(0)
        'worker 0'
    """
    return CLIENT if worker == CLIENT else f"worker {worker}"


@functools.total_ordering
class Processor:
    """The base of the processor kinds.

    Attributes:
        worker: the worker that the processor belongs to.
        index: which one of its kind it is on that worker.
        kind: the kind of processor; the same for every instance of a class.
    """

    __slots__ = ("_hash", "index", "worker")

    kind: ClassVar[Kind]
    worker: Worker
    index: int

    def __init_subclass__(cls, *, kind: Kind | None = None, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if kind is None:
            base = cls.__mro__[1]
            msg = (
                f"a processor kind cannot be made by subclassing {base.__name__}; "
                "make one with processor_type(name)"
            )
            raise TypeError(msg)
        cls.kind = kind

    def __init__(self, worker: Worker, index: int) -> None:
        if type(self) is Processor:
            msg = "Processor is the base of the kinds; make a ThreadProc, a CudaProc, ..."
            raise TypeError(msg)
        place = check_worker(worker)
        number = _natural(index)
        if number is None:
            name = self.kind.name
            msg = f"{index!r} numbers no {name} processor; they count 0, 1, 2, ..."
            raise ScopeError(msg)
        object.__setattr__(self, "worker", place)
        object.__setattr__(self, "index", number)
        object.__setattr__(self, "_hash", hash((self.kind, place, number)))

    @property
    def default_enabled(self) -> bool:
        """Whether DefaultScope holds it: running tasks in the client is opt-in."""
        return self.kind.default_enabled and self.worker != CLIENT

    def describe(self) -> str:
        """Return the words for the processor.

        Returns:
            Such as ``"worker 0, thread 1"``.

        Example:
            >>> ThreadProc(0, 1).describe()
            'worker 0, thread 1'
        """
        number = f" {self.index}" if self.kind.indexed else ""
        return f"{describe_worker(self.worker)}, {self.kind.name}{number}"

    def __setattr__(self, name: str, value: object) -> None:
        msg = f"a processor cannot be changed: {name!r} cannot be set"
        raise AttributeError(msg)

    def __delattr__(self, name: str) -> None:
        msg = f"a processor cannot be changed: {name!r} cannot be deleted"
        raise AttributeError(msg)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Processor):
            return NotImplemented
        return (self.index, self.worker, self.kind) == (other.index, other.worker, other.kind)

    def __hash__(self) -> int:
        return self._hash  # type: ignore[attr-defined,no-any-return]

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Processor):
            return NotImplemented
        return self._order() < other._order()

    def _order(self) -> tuple[Any, ...]:
        return (order_of_worker(self.worker), self.kind, self.index)

    def _arguments(self) -> tuple[Worker, ...]:
        return (self.worker, self.index) if self.kind.indexed else (self.worker,)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), self._arguments())

    def __repr__(self) -> str:
        arguments = ", ".join(map(repr, self._arguments()))
        return f"{type_expression(self.kind)}({arguments})"


class ThreadProc(Processor, kind=THREAD):
    """A thread that runs tasks; thread 0 is the engine's main thread.

    Args:
        worker: an engine id or ``"client"``.
        thread: the number of the thread, from 0.

    Example:
        >>> ThreadProc(0, 1)
        ThreadProc(0, 1)
    """

    __slots__ = ()

    def __init__(self, worker: Worker, thread: int) -> None:
        super().__init__(worker, thread)

    @property
    def thread(self) -> int:
        """The number of the thread."""
        return self.index


class OSProc(Processor, kind=OS):
    """A process as a place; it never runs tasks.

    Args:
        worker: an engine id or ``"client"``.

    Example:
        >>> OSProc("client")
        OSProc('client')
    """

    __slots__ = ()

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker, 0)


class CudaProc(Processor, kind=CUDA):
    """A CUDA device as one process sees it; opt-in, not part of DefaultScope.

    Args:
        worker: an engine id or ``"client"``.
        device: the number of the device, from 0.

    Example:
        >>> CudaProc(0, 1).default_enabled
        False
    """

    __slots__ = ()

    def __init__(self, worker: Worker, device: int) -> None:
        super().__init__(worker, device)

    @property
    def device(self) -> int:
        """The number of the device."""
        return self.index


_BUILT_IN: Final[dict[Kind, type[Processor]]] = {THREAD: ThreadProc, OS: OSProc, CUDA: CudaProc}
_types: dict[Kind, type[Processor]] = dict(_BUILT_IN)
_by_name: dict[str, type[Processor]] = {kind.name: made for kind, made in _BUILT_IN.items()}
_probes: dict[str, Callable[[], int]] = {}


def processor_type(
    name: str, *, default_enabled: bool = False, probe: Callable[[], int] | None = None
) -> type[Processor]:
    """Register a processor kind of your own.

    Args:
        name: the word for it, a Python identifier such as ``"camera"``.
        default_enabled: whether DefaultScope holds processors of this kind.
        probe: called in a process, says how many of them it has.

    Returns:
        The kind's class; it makes a processor from a worker and an index.

    Raises:
        ScopeError: the name is no identifier, or belongs to a built-in kind.

    Example:
        >>> Camera = processor_type("camera")
        >>> Camera(0, 1)
        processor_type('camera')(0, 1)
    """
    if not (isinstance(name, str) and name.isidentifier()):
        msg = f"{name!r} cannot name a processor kind; use an identifier such as 'camera'"
        raise ScopeError(msg)
    if any(kind.name == name for kind in _BUILT_IN):
        msg = f"{name!r} is a built-in processor kind ({_by_name[name].__name__}); choose another"
        raise ScopeError(msg)
    made = _by_name[name] = type_of(Kind(name, default_enabled))
    _probes.pop(name, None)
    if probe is not None:
        _probes[name] = probe
    return made


def type_of(kind: Kind) -> type[Processor]:
    """Return the class of a kind, which is made when this process never saw it.

    Args:
        kind: a kind of processor.

    Returns:
        The class; always the same one for equal kinds.

    Example:
        >>> type_of(ThreadProc.kind) is ThreadProc
        True
    """
    known = _types.get(kind)
    if known is None:
        known = _types[kind] = _new_type(kind)
    return known


_MADE: Final = {True: "default_", False: "opt_in_"}


def _new_type(kind: Kind) -> type[Processor]:
    # Pickle, cloudpickle too, refers to a class by its module and qualified
    # name; this module's __getattr__ makes the class again from that name.
    namespace = {
        "__slots__": (),
        "__module__": __name__,
        "__qualname__": _MADE[kind.default_enabled] + kind.name,
        "__doc__": f"A processor of the kind {kind.name!r}.",
    }
    return type(kind.name, (Processor,), namespace, kind=kind)


def __getattr__(name: str) -> type[Processor]:
    for default_enabled, prefix in _MADE.items():
        if name.startswith(prefix):
            return type_of(Kind(name.removeprefix(prefix), default_enabled))
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def type_named(name: str) -> type[Processor] | None:
    """Return the class registered under a name.

    Args:
        name: the word for a kind.

    Returns:
        The class, or None where nothing has that name.

    Example:
        >>> type_named("thread")
        <class 'scopekit.scopes.processors.ThreadProc'>
    """
    return _by_name.get(name)


def kind_names() -> tuple[str, ...]:
    """Return the words for the kinds known here.

    Returns:
        The names, sorted.

    Example:
        >>> "thread" in kind_names()
        True
    """
    return tuple(sorted(_by_name))


def probe_of(name: str) -> Callable[[], int] | None:
    """Return the probe registered with a kind.

    Args:
        name: the word for a kind.

    Returns:
        What counts such processors in a process, or None.

    Example:
        >>> probe_of("thread") is None
        True
    """
    return _probes.get(name)


def probed_kinds() -> tuple[tuple[Kind, Callable[[], int]], ...]:
    """Return the kinds that were registered with a probe.

    Returns:
        Each kind with what counts such processors in a process.

    Example:
        >>> probed_kinds()
        ()
    """
    return tuple((_by_name[name].kind, probe) for name, probe in _probes.items())


def type_expression(kind: Kind) -> str:
    """Return the Python expression that gives the class of a kind.

    Args:
        kind: a kind of processor.

    Returns:
        Such as ``"ThreadProc"``.

    Example:
        >>> type_expression(Kind("camera"))
        "processor_type('camera')"
    """
    if kind in _BUILT_IN:
        return _BUILT_IN[kind].__name__
    opted = ", default_enabled=True" if kind.default_enabled else ""
    return f"processor_type({kind.name!r}{opted})"
