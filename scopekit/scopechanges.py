"""Changes the scope of a chunk from the notebook, moving its value first where it must."""

from __future__ import annotations

import getpass
import socket
import time
from typing import TYPE_CHECKING

from scopekit.errors import ChunkLostError
from scopekit.rescoping import Rescoping, check_rescoping
from scopekit.scheduler import events as ev
from scopekit.scheduler.placement import refusal
from scopekit.scopes import constrain

if TYPE_CHECKING:
    from scopekit.driver import Driver
    from scopekit.graph import ChunkRecord
    from scopekit.scopes import Scope

__all__ = ("change_scope",)

_MOVE_SECONDS = 60.0


def change_scope(driver: Driver, chunk_id: int, scope: Scope, *, declassify: bool) -> None:
    """Has a chunk be valid on another scope from now on.

    Args:
        driver: runs the scheduler.
        chunk_id: the chunk.
        scope: where it is to be valid.
        declassify: True if that may be in more places than before.

    Raises:
        ScopeError: it would be valid nowhere, or in more places although nobody said so.
        NoProcessorError: there is no such processor now.
        ChunkLostError: its value is gone.
        TimeoutError: its value is valid elsewhere from now on, and did not come there.
    """
    driver.send_now()
    driver.wait_until(lambda: not _is_coming(driver, chunk_id), _MOVE_SECONDS)
    with driver.lock:
        chunk = _held(driver, chunk_id)
        before = chunk.scope
        widened = check_rescoping(chunk_id, before, scope, declassify=declassify)
        topology = driver.scheduler.topology
        if not any(topology.admits(scope, process.worker) for process in topology.processes):
            raise refusal(f"chunk {chunk_id}", (("rescope", scope),), topology)
        stays = any(topology.admits(scope, worker) for worker in chunk.holders)
    if not stays:
        _move(driver, chunk_id, scope, declassify=declassify)
    change = Rescoping(chunk_id, before, scope, widened, _user(), time.time())
    driver.handle(ev.ChunkRescoped(change, None))
    driver.send_now()
    if not driver.wait_until(lambda: driver.is_followed(chunk_id), _MOVE_SECONDS):
        raise TimeoutError(
            f"the scope of chunk {chunk_id} was changed, and a holder did not say within"
            f" {_MOVE_SECONDS:.0f} s that it goes by it; it will once it hears of it"
        )


def _is_coming(driver: Driver, chunk_id: int) -> bool:
    """Tells whether a value is still on its way to the process that will hold it."""
    chunk = driver.scheduler.chunks.get(chunk_id)
    return chunk is not None and chunk.state == "pending"


def _held(driver: Driver, chunk_id: int) -> ChunkRecord:
    chunk = driver.scheduler.chunks.get(chunk_id)
    if chunk is None or chunk.state != "held":
        state = "released" if chunk is None else chunk.state
        raise ChunkLostError(
            f"chunk {chunk_id} is {state}: it has no value whose scope could change"
        )
    return chunk


def _move(driver: Driver, chunk_id: int, scope: Scope, *, declassify: bool) -> None:
    """Brings a value into a scope in which nobody holds it yet."""
    with driver.lock:
        chunk = _held(driver, chunk_id)
        topology = driver.scheduler.topology
        among = [p.worker for p in topology.processes if topology.admits(scope, p.worker)]
        busy = driver.scheduler.busy()
        to = min(among, key=lambda worker: busy.get(worker, 0))
        before = chunk.scope
    if declassify and constrain(before, scope) != scope:
        # On its way it is valid on both: where it is, and where it is to be.
        both = Rescoping(chunk_id, before, before | scope, True, _user(), time.time())
        driver.handle(ev.ChunkRescoped(both, None))
    driver.handle(ev.CopyAsked(chunk_id, to, time.time()))
    driver.send_now()

    def arrived() -> bool:
        return to in _held(driver, chunk_id).holders

    if not driver.wait_until(arrived, _MOVE_SECONDS):
        raise TimeoutError(
            f"chunk {chunk_id} did not come to worker {to} within {_MOVE_SECONDS:.0f} s; its scope"
            " was not narrowed"
        )


def _user() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # nobody in the password file has this id
        name = "unknown user"
    return f"{name} at {socket.gethostname()}"
