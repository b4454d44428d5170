"""Batches of orders or of reports as frames, nearly all of which are columns of numbers.

A session says the same few things thousands of times a second: run this, that is done.
What is number in them travels as columns, what repeats (names of processors, scopes and
types) once with a column of places, and what is left in one pickle for the whole batch.
All other items travel in a list that is pickled; a column of kinds keeps their order.
"""

from __future__ import annotations

import io
import pickle
import struct
from array import array
from contextlib import contextmanager
from functools import lru_cache
from itertools import accumulate, chain, pairwise, repeat
from typing import TYPE_CHECKING, Any, get_args

from scopekit.errors import ProtocolError
from scopekit.graph import StoredChunk
from scopekit.scopes import AnyScope, ThreadProc
from scopekit.wire import messages as msg
from scopekit.wire.codec import dump_own
from scopekit.wire.frames import pack, unpack
from scopekit.wire.parcels import Parcel

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from scopekit.graph import WorkerId
    from scopekit.scopes import Scope
    from scopekit.wire.frames import Buffer, Column

    Packer = Callable[[Sequence[Any]], tuple[list[Column], list[Buffer]]]
    Unpacker = Callable[["_Parts", int], Iterable[Any]]

__all__ = ("decode_orders", "decode_reports", "encode_orders", "encode_reports")

_ORDERS = 1
_REPORTS = 2
_OTHER, _COLUMNS, _PUT = range(3)
_KINDS = 3
_SHORT = struct.Struct("<3sBB")  # magic, version, kind; a pickle follows
_MAGIC = b"skp"
_VERSION = 1
_TYPES = {_ORDERS: frozenset(get_args(msg.Order)), _REPORTS: frozenset(get_args(msg.Report))}
_PROTOCOL = 5
_FEW = 8
_LARGE = 1 << 12
_NAMES_END = "\0"
_NO_PLACES = [array("I", [0]), array("I")]


def encode_orders(orders: Sequence[msg.Order]) -> list[Buffer]:
    """Lays a batch of orders out.

    Returns:
        The buffers of one frame; large arguments and values are among them as they are.
    """
    return _encode(_ORDERS, orders, {msg.Run: (_COLUMNS, _pack_runs), msg.Put: (_PUT, _pack_puts)})


def decode_orders(frame: Sequence[Buffer]) -> list[msg.Order]:
    """Reads a batch of orders, in the order in which they were given.

    Raises:
        ProtocolError: the frame is no such batch.
    """
    return _decode(_ORDERS, frame, {_COLUMNS: _unpack_runs, _PUT: _unpack_puts})


def encode_reports(reports: Sequence[msg.Report]) -> list[Buffer]:
    """Lays a batch of reports out.

    Returns:
        The buffers of one frame.
    """
    return _encode(_REPORTS, reports, {msg.Finished: (_COLUMNS, _pack_finished)})


def decode_reports(frame: Sequence[Buffer]) -> list[msg.Report]:
    """Reads a batch of reports, in the order in which they were given.

    Raises:
        ProtocolError: the frame is no such batch.
    """
    return _decode(_REPORTS, frame, {_COLUMNS: _unpack_finished})


# -- a batch of any kind ------------------------------------------------------------


def _encode(
    kind: int, items: Sequence[Any], packers: dict[type, tuple[int, Packer]]
) -> list[Buffer]:
    """Packs items of each kind together, or all as one pickle where there are few.

    The first column counts the items of each kind; the second has the kind of each item,
    where there is more than one.
    """
    if len(items) < _FEW and all(map(_is_small, items)):
        return [_SHORT.pack(_MAGIC, _VERSION, kind) + _dump_short(list(map(_slim, items)))]
    types = list(map(type, items))
    kinds = [packers[found][0] if found in packers else _OTHER for found in dict.fromkeys(types)]
    number = dict(zip(dict.fromkeys(types), kinds, strict=True))
    groups: dict[int, Sequence[Any]]
    if len(number) == 1:
        each, groups = array("B"), {kinds[0]: items}
    else:
        each = array("B", map(number.__getitem__, types))
        groups = {
            wanted: [item for item, found in zip(items, each, strict=True) if found == wanted]
            for wanted in kinds
        }
    columns: list[Column] = [array("I", [len(groups.get(n, ())) for n in range(_KINDS)]), each]
    blobs: list[Buffer] = []
    for wanted, packer in [*packers.values(), (_OTHER, _pack_others)]:
        if group := groups.get(wanted):
            try:
                further = packer(group)
            except Exception:
                # Something unusual in one of them, such as an id beyond 64 bits.
                if packer is _pack_others:
                    raise
                return _encode(kind, items, {t: p for t, p in packers.items() if p[0] != wanted})
            columns += further[0]
            blobs += further[1]
    return pack(kind, columns, blobs)


def _is_small(item: Any) -> bool:
    """Tells whether one pickle of this and of a few more is the quickest way."""
    if type(item) is msg.Run:
        return not isinstance(item.arguments, bytes) or len(item.arguments) < _LARGE
    return type(item) is not msg.Put or item.parcel.nbytes < _LARGE


def _decode(kind: int, frame: Sequence[Buffer], unpackers: dict[int, Unpacker]) -> list[Any]:
    if frame and frame[0][: len(_MAGIC)] == _MAGIC:
        return _decode_short(kind, frame)
    found, columns, blobs = unpack(frame)
    if found != kind:
        raise ProtocolError("a frame holds something else than was expected")
    parts = _Parts(columns, blobs)
    counts, each = parts.column("I", _KINDS), parts.column("B")
    _check_kinds(counts, each)
    with _telling_what_is_wrong():
        lists = _take_all(parts, counts, unpackers)
        _check_types(kind, lists.get(_OTHER, ()))
        return _merge(lists, each)


def _decode_short(kind: int, frame: Sequence[Buffer]) -> list[Any]:
    if len(frame) != 1 or frame[0][: _SHORT.size] != _SHORT.pack(_MAGIC, _VERSION, kind):
        raise ProtocolError("a frame holds something else than was expected")
    with _telling_what_is_wrong():
        items: list[Any] = pickle.loads(memoryview(frame[0])[_SHORT.size :])[0]
        items = [_whole(kind, item) if type(item) is tuple else item for item in items]
        _check_types(kind, items)
        return items


def _slim(item: Any) -> Any:
    """Leaves out what nearly every item has alike: for one alone, that is most of the cost."""
    if type(item) is msg.Run:
        place = item.processor
        plain = item.result_scope is None and item.around is None and item.how is None
        if type(place) is ThreadProc and plain:
            return (*item[:6], (place.worker, place.index), item.inputs, item.outputs)
    elif type(item) is msg.Finished and len(item.results) == 1:
        chunk, scope, place, *rest = item.results[0]
        if type(place) is ThreadProc and type(scope) is AnyScope:
            return (*item[2:], item.task, chunk, (place.worker, place.index), *rest)
    return item


def _whole(kind: int, slim: tuple[Any, ...]) -> Any:
    if kind == _ORDERS:
        task, name, digest, function, forget, arguments, place, inputs, outputs = slim
        called = (task, name, digest, function, forget, arguments)
        return msg.Run(*called, _thread(*place), inputs, outputs, None)
    started, finished, value, task, chunk, place, type_name, nbytes = slim
    stored = StoredChunk(chunk, AnyScope(), _thread(*place), type_name, nbytes)
    return msg.Finished(task, (stored,), started, finished, value)


def _dump_short(items: list[Any]) -> bytes:
    if len(items) > 1:
        return _dump_others(items)
    try:
        return pickle.dumps([items], _PROTOCOL)
    except Exception:  # noqa: BLE001  # a class of a notebook
        return _dump_others(items)


@contextmanager
def _telling_what_is_wrong() -> Iterator[None]:
    try:
        yield
    except ProtocolError:
        raise
    except Exception as error:
        raise ProtocolError(f"a batch cannot be read: {type(error).__name__}: {error}") from error


def _check_types(kind: int, items: Iterable[Any]) -> None:
    if not _TYPES[kind].issuperset(map(type, items)):
        raise ProtocolError("a batch holds something that is never said")


def _take_all(
    parts: _Parts, counts: Column, unpackers: dict[int, Unpacker]
) -> dict[int, list[Any]]:
    # All is looked at before any pickle is read: these only make iterators.
    order = [*unpackers.items(), (_OTHER, _unpack_others)]
    made = {wanted: unpacker(parts, counts[wanted]) for wanted, unpacker in order if counts[wanted]}
    parts.end()
    if len(made) != sum(map(bool, counts)):
        raise ProtocolError("a batch holds items of a kind that does not exist")
    lists = {wanted: list(items) for wanted, items in made.items()}
    if any(len(items) != counts[wanted] for wanted, items in lists.items()):
        raise ProtocolError("a batch holds another number of items than it says")
    return lists


def _merge(lists: dict[int, list[Any]], each: Column) -> list[Any]:
    if len(each):
        return list(map(next, map({w: iter(i) for w, i in lists.items()}.__getitem__, each)))
    return next(iter(lists.values()), [])


def _check_kinds(counts: Column, each: Column) -> None:
    if not len(each):
        if sum(map(bool, counts)) > 1:
            raise ProtocolError("a batch does not say which item is of which kind")
    elif [each.count(kind) for kind in range(_KINDS)] != list(counts) or len(each) != sum(counts):
        raise ProtocolError("a batch holds other kinds of items than it says")


class _Parts:
    """Hands columns and blobs out, each looked at first."""

    def __init__(self, columns: list[Column], blobs: list[Buffer]) -> None:
        self._columns = iter(columns)
        self._blobs = iter(blobs)

    def column(self, code: str, count: int | None = None) -> Column:
        column = next(self._columns, None)
        if column is None or column.typecode != code:
            raise ProtocolError("a batch lacks a column")
        if count is not None and len(column) != count:
            raise ProtocolError("a column of a batch has another length than the others")
        return column

    def optional(self, code: str, count: int) -> Column | None:
        """Takes a column that is left out where nothing is in it."""
        column = self.column(code)
        if len(column) not in (0, count):
            raise ProtocolError("a column of a batch has another length than the others")
        return column if len(column) else None

    def places(self, count: int) -> tuple[int, Column]:
        """Takes a column of places in a list, with the length that the list must have."""
        size = self.column("I", 1)[0]
        places = self.column("I", count)
        if count and max(places) >= size:
            raise ProtocolError("a batch refers to something that is not in it")
        return size, places

    def optional_places(self, count: int) -> tuple[int, Column | None]:
        """Takes a column of places that is left out where it would say nothing."""
        size = self.column("I", 1)[0]
        places = self.optional("I", count)
        if places is not None and max(places) >= size:
            raise ProtocolError("a batch refers to something that is not in it")
        return size, places

    def blob(self) -> Buffer:
        blob = next(self._blobs, None)
        if blob is None:
            raise ProtocolError("a batch lacks a blob")
        return blob

    def end(self) -> None:
        if next(self._columns, None) is not None or next(self._blobs, None) is not None:
            raise ProtocolError("a batch goes on after its end")


# -- pieces ---------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _thread(worker: WorkerId, index: int) -> ThreadProc:
    return ThreadProc(worker, index)


# What nearly every item names, in fewer steps than by its own way.
_QUICK: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    ThreadProc: lambda processor: (_thread, (processor.worker, processor.index)),
    AnyScope: lambda _: (AnyScope, ()),
    msg.Run: lambda run: (msg.Run, tuple(run)),
    msg.Finished: lambda report: (msg.Finished, tuple(report)),
    StoredChunk: lambda stored: (StoredChunk, tuple(stored)),
}


def _dump_plain(values: Sequence[Any]) -> bytes:
    """Pickles values, each apart from the others.

    Two tasks that were given one list must not share it: neither would with a pickle each.
    """
    with io.BytesIO() as file:
        pickler = pickle.Pickler(file, _PROTOCOL)
        pickler.fast = True
        pickler.dispatch_table = _QUICK
        pickler.dump(values)
        return file.getvalue()


def _load(blob: Buffer, *lengths: int) -> list[Any]:
    """Reads a list of lists that must have these lengths."""
    lists: list[Any] = pickle.loads(blob)
    if list(map(len, lists)) != list(lengths):
        raise ProtocolError("a list of a batch has another length than the batch says")
    return lists


def _by_value(values: Sequence[Hashable]) -> tuple[list[Any], list[Column]]:
    """Returns each value once, and columns that say where each of them stands."""
    distinct = dict.fromkeys(values)
    place = dict(zip(distinct, range(len(distinct)), strict=True))
    return list(distinct), [array("I", [len(place)]), array("I", map(place.__getitem__, values))]


def _by_identity(values: Sequence[Any]) -> tuple[list[Any], list[Column]]:
    """Does the same for values that are slow to compare, and few objects in fact."""
    ids = list(map(id, values))
    distinct = dict(zip(ids, values, strict=True))
    _, columns = _by_value(ids)
    return list(map(distinct.__getitem__, dict.fromkeys(ids))), columns


def _lengths_and_ids(tuples: Sequence[tuple[int, ...]]) -> list[Column]:
    lengths = array("I", map(len, tuples))
    flat = array("Q", chain.from_iterable(tuples))
    return [lengths if len(flat) else array("I"), flat]


def _tuples(parts: _Parts, count: int) -> Iterable[tuple[int, ...]]:
    lengths, flat = parts.optional("I", count), parts.column("Q")
    if lengths is None:
        if len(flat):
            raise ProtocolError("a column of a batch has another length than the others")
        return repeat((), count)
    if sum(lengths) != len(flat):
        raise ProtocolError("a column of a batch has another length than the others")
    if lengths.count(1) == count:
        return zip(flat)  # one column: tuples of one
    ends = accumulate(lengths, initial=0)
    return [tuple(flat[begin:end]) for begin, end in pairwise(ends)]


def _sparse(values: Sequence[Any]) -> tuple[Column, list[Buffer]]:
    """Packs bytes that few items have: which items, and a blob for each."""
    places = [place for place, value in enumerate(values) if isinstance(value, bytes)]
    return array("I", places), [values[place] for place in places]


def _few(values: Sequence[Any]) -> tuple[Column, list[Any]]:
    """Packs what few items have: which items, and what."""
    if values.count(None) == len(values):
        return array("I"), []
    places = [place for place, value in enumerate(values) if value is not None]
    return array("I", places), [values[place] for place in places]


def _spread(places: Column, values: Sequence[Any], count: int) -> Iterable[Any]:
    if not len(places):
        return repeat(None, count)
    spread: list[Any] = [None] * count
    for place, value in zip(places, values, strict=True):
        spread[place] = value
    return spread


def _some_places(parts: _Parts, count: int) -> Column:
    places = parts.column("I")
    if len(places) and (max(places) >= count or len(set(places)) != len(places)):
        raise ProtocolError("a batch refers to something that is not in it")
    return places


def _dense(parts: _Parts, count: int) -> list[bytes | None]:
    places = _some_places(parts, count)
    values: list[bytes | None] = [None] * count
    for place in places:
        values[place] = bytes(parts.blob())
    return values


def _with_one_any(scopes: list[Scope | None]) -> list[Scope | None]:
    """Puts the one AnyScope where another was read, which is slower to compare."""
    one = AnyScope()
    return [one if type(scope) is AnyScope else scope for scope in scopes]


# -- items of any kind ----------------------------------------------------------------


def _pack_others(items: Sequence[Any]) -> tuple[list[Column], list[Buffer]]:
    return [], [_dump_others(list(items))]


def _dump_others(items: list[Any]) -> bytes:
    try:
        return _dump_plain([items])
    except Exception:  # noqa: BLE001  # a value that holds itself, or a class of a notebook
        return dump_own([items])


def _unpack_others(parts: _Parts, count: int) -> Iterable[Any]:
    blob = parts.blob()
    return _later(lambda: _load(blob, count)[0])


def _pack_puts(puts: Sequence[msg.Put]) -> tuple[list[Column], list[Buffer]]:
    facts = [(put.chunk, put.parcel.loan, put.scope, put.processor, put.reports) for put in puts]
    counts = array("I", [len(put.parcel.parts) for put in puts])
    return [counts], [dump_own([facts]), *(part for put in puts for part in put.parcel.parts)]


def _unpack_puts(parts: _Parts, count: int) -> Iterable[Any]:
    counts = parts.column("I", count)
    facts = parts.blob()
    values = [tuple(parts.blob() for _ in range(number)) for number in counts]

    def puts() -> Iterable[msg.Put]:
        (items,) = _load(facts, count)
        for (chunk, loan, scope, processor, reports), value in zip(items, values, strict=True):
            # A value may keep its buffers, and is not to keep the whole message with them.
            parcel = Parcel(tuple(map(bytes, value)), loan)
            yield msg.Put(chunk, parcel, scope, processor, reports)

    return puts()


# -- runs -------------------------------------------------------------------------------


def _pack_runs(runs: Sequence[msg.Run]) -> tuple[list[Column], list[Buffer]]:
    columns_of_runs = zip(*runs, strict=True)
    tasks, names, digests, functions, forgets, arguments, *placed = columns_of_runs
    processors, inputs, outputs, scopes, arounds, hows = placed
    digest_list, digest_places = _by_value(digests)
    processor_list, processor_places = _by_identity(processors)
    scope_list, scope_places = _by_identity(scopes)
    forget_list, forget_places = _by_value(forgets)
    around_list, around_places = _by_identity(arounds) if any(arounds) else ([], _NO_PLACES)
    function_places, function_blobs = _sparse(functions)
    pickle_places, pickles = _sparse(arguments)
    how_places, how_list = _few(hows)
    plain = [each for each in arguments if not isinstance(each, bytes)]
    lists = [digest_list, processor_list, scope_list, forget_list, around_list, how_list]
    columns = [
        *(array("Q", tasks), *digest_places, *processor_places, *scope_places, *forget_places),
        *around_places,
        *(function_places, pickle_places, *_lengths_and_ids(inputs), *_lengths_and_ids(outputs)),
        how_places,
    ]
    blobs = [_dump_names(names), *function_blobs, *pickles, dump_own(lists), _dump_plain([plain])]
    return columns, blobs


def _unpack_runs(parts: _Parts, count: int) -> Iterable[Any]:
    tasks = parts.column("Q", count)
    sizes, places = zip(*(parts.places(count) for _ in range(4)), strict=True)
    size_of_arounds, places_of_arounds = parts.optional_places(count)
    # Columns and blobs are two sequences: in each, things come as they were packed.
    names = parts.blob()
    functions, pickled = _dense(parts, count), _dense(parts, count)
    inputs, outputs = _tuples(parts, count), _tuples(parts, count)
    how_places = _some_places(parts, count)
    lists, plain = parts.blob(), parts.blob()

    def runs() -> Iterable[msg.Run]:
        *palettes, around, how_list = _load(lists, *sizes, size_of_arounds, len(how_places))
        palettes[2] = _with_one_any(palettes[2])
        digests, processors, scopes, forgets = (
            map(palette.__getitem__, where) for palette, where in zip(palettes, places, strict=True)
        )
        arounds: Iterable[Any] = repeat(None, count)
        if places_of_arounds is not None:
            arounds = map(around.__getitem__, places_of_arounds)
        arguments = _join_arguments(pickled, plain)
        columns = zip(
            *(tasks, _load_names(names, count), digests, functions, forgets, arguments),
            *(processors, inputs, outputs, scopes, arounds),
            _spread(how_places, how_list, count),
            strict=True,
        )
        return map(msg.Run._make, columns)

    return _later(runs)


def _join_arguments(pickled: list[bytes | None], plain: Buffer) -> list[Any]:
    others: list[Any] = _load(plain, pickled.count(None))[0]
    if len(others) == len(pickled):
        return others
    following = iter(others)
    return [next(following) if item is None else item for item in pickled]


def _dump_names(names: Sequence[str]) -> bytes:
    text = _NAMES_END.join(names)
    if text.count(_NAMES_END) != len(names) - 1:
        raise ValueError("a name holds what ends names")
    return text.encode("utf-8", "surrogatepass")


def _load_names(blob: Buffer, count: int) -> list[str]:
    names = str(blob, "utf-8", "surrogatepass").split(_NAMES_END)
    if len(names) != count:
        raise ProtocolError("a batch has another number of names than of tasks")
    return names


def _later(make: Callable[[], Iterable[Any]]) -> Iterable[Any]:
    """Makes items when they are asked for, once the whole frame was looked at."""
    yield from make()


# -- what finished ------------------------------------------------------------------------


def _pack_finished(reports: Sequence[msg.Finished]) -> tuple[list[Column], list[Buffer]]:
    tasks, results, started, finished, values = zip(*reports, strict=True)
    counts = list(map(len, results))
    chunks = list(chain.from_iterable(results))
    if not chunks:
        raise ValueError("no task of these has a result")
    ids, scopes, processors, types, sizes = zip(*chunks, strict=True)
    scope_list, scope_places = _by_identity(scopes)
    processor_list, processor_places = _by_identity(processors)
    type_list, type_places = _by_value(types)
    columns: list[Column] = [
        array("Q", tasks),
        array("I") if counts.count(1) == len(counts) else array("I", counts),
        *(array("d", started), array("d", finished), array("Q", ids), array("Q", sizes)),
        *(*scope_places, *processor_places, *type_places),
    ]
    lists = [scope_list, processor_list, type_list]
    return columns, [dump_own(lists), _dump_plain([list(values)])]


def _unpack_finished(parts: _Parts, count: int) -> Iterable[Any]:
    tasks, counts = parts.column("Q", count), parts.optional("I", count)
    started, finished = parts.column("d", count), parts.column("d", count)
    total = count if counts is None else sum(counts)
    ids, sizes = parts.column("Q", total), parts.column("Q", total)
    lengths, places = zip(*(parts.places(total) for _ in range(3)), strict=True)
    lists, values = parts.blob(), parts.blob()

    def reports() -> Iterable[msg.Finished]:
        palettes = _load(lists, *lengths)
        palettes[0] = _with_one_any(palettes[0])
        scopes, processors, types = (
            map(palette.__getitem__, where) for palette, where in zip(palettes, places, strict=True)
        )
        facts = zip(ids, scopes, processors, types, sizes, strict=True)
        chunks = map(StoredChunk._make, facts)
        results = zip(chunks) if counts is None else _grouped(chunks, counts)
        columns = zip(tasks, results, started, finished, _load(values, count)[0], strict=True)
        return map(msg.Finished._make, columns)

    return _later(reports)


def _grouped(chunks: Iterable[StoredChunk], counts: Column) -> list[tuple[StoredChunk, ...]]:
    every = tuple(chunks)
    return [every[begin:end] for begin, end in pairwise(accumulate(counts, initial=0))]
