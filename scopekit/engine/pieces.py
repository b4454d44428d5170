"""The pieces of shards in one process: each is made where it is first needed, once."""

from __future__ import annotations

import threading
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from scopekit.scopes import Processor

__all__ = ("Pieces", "Recipe")

_CLOSE_SECONDS = 5.0


class Recipe(NamedTuple):
    """How the pieces of a shard are made; it stands for the piece in what travels.

    Attributes:
        name: what messages call the shard.
        make: makes a piece.
        by_processor: True if each processor has a piece of its own, False if each process.
        close: ends a piece; None to call its ``close`` where it has one.
    """

    name: str
    make: Callable[[], Any]
    by_processor: bool
    close: Callable[[Any], object] | None = None

    def end(self, piece: Any) -> None:
        """Ends a piece."""
        close = self.close
        if close is not None:
            close(piece)
        elif callable(found := getattr(piece, "close", None)):
            found()


class _Piece:
    """One piece, or the place where it will be.

    Attributes:
        processor: where it was made, and is closed: some things are bound to their thread.
        shared: True once a chunk of it was made, whose handles may outlive the shard's.
    """

    __slots__ = ("lock", "made", "processor", "recipe", "shared", "value")

    def __init__(self, recipe: Recipe, processor: Processor) -> None:
        self.lock = threading.RLock()
        self.recipe = recipe
        self.processor = processor
        self.made = self.shared = False
        self.value: Any = None


class Pieces:
    """Makes pieces and keeps them, by the chunk of their recipe."""

    def __init__(self) -> None:
        self._pieces: dict[int, dict[Processor | None, _Piece]] = {}
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def local(self, chunk: int, recipe: Recipe, processor: Processor) -> Any:
        """Returns the piece for what runs on a processor of this process.

        Args:
            chunk: the id of the recipe's chunk.
            recipe: makes it, if it is not there yet.
            processor: where the code runs that asks; the piece is made there.

        Raises:
            BaseException: what the recipe raised; the next who asks tries again.
        """
        place = processor if recipe.by_processor else None
        with self._lock:
            pieces = self._pieces.setdefault(chunk, {})
            piece = pieces.get(place)
            if piece is None:
                piece = pieces[place] = _Piece(recipe, processor)
        if not piece.made:
            # Others that need it wait as long as it takes to make.
            with piece.lock:
                if not piece.made:
                    _make(piece, processor)
        return piece.value

    def share(self, value: Any) -> bool:
        """Takes note that a piece is a chunk as well, and is not to end with its shard.

        Returns:
            True if it belongs to one processor, False if to the process.
        """
        by_processor = False
        for pieces in list(self._pieces.values()):
            for piece in list(pieces.values()):
                if piece.made and piece.value is value:
                    piece.shared = True
                    by_processor = piece.recipe.by_processor
        return by_processor

    def forget(
        self, chunks: Iterable[int], run_on: Callable[[Processor, Callable[[], None]], bool]
    ) -> None:
        """Ends the pieces of shards that nobody has a handle to any more.

        Args:
            chunks: the chunks of recipes, among others.
            run_on: has a processor run something soon; False if it was run at once.
        """
        with self._lock:
            gone = [self._pieces.pop(chunk, {}) for chunk in chunks]
        for pieces in gone:
            for piece in pieces.values():
                if not piece.shared:
                    run_on(piece.processor, _closer(piece))

    def close(self, run_on: Callable[[Processor, Callable[[], None]], bool]) -> None:
        """Ends all pieces, each where it was made; within seconds, or not at all."""
        with self._lock:
            left = [piece for pieces in self._pieces.values() for piece in pieces.values()]
            self._pieces.clear()
        waits = []
        for piece in left:
            ended = threading.Event()
            close = _closer(piece)

            def end(close: Callable[[], None] = close, ended: threading.Event = ended) -> None:
                try:
                    close()
                finally:
                    ended.set()

            if run_on(piece.processor, end):
                waits.append(ended)
        for ended in waits:
            ended.wait(_CLOSE_SECONDS)


def _make(piece: _Piece, processor: Processor) -> None:
    recipe = piece.recipe
    try:
        piece.value = recipe.make()
    except BaseException as error:
        error.add_note(f"raised while the piece of {recipe.name} for this place was made")
        raise
    piece.processor = processor
    piece.made = True


def _closer(piece: _Piece) -> Callable[[], None]:
    def close() -> None:
        if not piece.made:
            return
        piece.made = False
        value, piece.value = piece.value, None
        try:
            piece.recipe.end(value)
        except Exception:  # noqa: BLE001  # whoever let go of the shard waits for nothing
            traceback.print_exc()

    return close
