"""Removing workers from a session: drained, what may move moved, what is lost said first."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from scopekit.errors import ScopekitError
from scopekit.scheduler import events as ev
from scopekit.scheduler.leaving import is_drained, losses

if TYPE_CHECKING:
    from collections.abc import Collection

    from scopekit.driver import Driver
    from scopekit.graph import WorkerId
    from scopekit.scheduler.leaving import Losses

__all__ = ("drain",)

_NAMED = 5
_LOOK_AGAIN_SECONDS = 0.25


def drain(driver: Driver, workers: Collection[WorkerId], *, force: bool, timeout: float) -> None:
    """Has workers end what they run, gives the rest to others, and moves what they hold.

    Args:
        driver: runs the session's scheduler.
        workers: the workers.
        force: True to go on although something will be lost.
        timeout: seconds to wait at most.

    Raises:
        ScopekitError: something would be lost, or they were not drained in time; they
            stay as they were.
    """
    until = time.monotonic() + timeout
    known = driver.scheduler
    chosen = tuple(workers)
    try:
        drained = False
        while not drained:
            _refuse_losses(driver, chosen, force=force)
            left = until - time.monotonic()
            if left <= 0:
                _refuse_delay(chosen, timeout)
            # Again and again: what they make in the meantime is to move, too.
            driver.handle(ev.DrainAsked(chosen, time.time()))
            driver.wake()
            limit = min(_LOOK_AGAIN_SECONDS, left)
            drained = driver.wait_until(lambda: is_drained(known, chosen), limit)
        _refuse_losses(driver, chosen, force=force)
    except BaseException:
        driver.handle(ev.DrainEnded(chosen, time.time()))
        driver.wake()
        raise


def _refuse_delay(workers: tuple[WorkerId, ...], timeout: float) -> None:
    raise ScopekitError(
        f"workers {list(workers)} were not drained within {timeout:g} s; they stay. Give more"
        " time, or cancel what they run."
    )


def _refuse_losses(driver: Driver, workers: tuple[WorkerId, ...], *, force: bool) -> None:
    if force:
        return
    with driver.lock:
        lost = losses(driver.scheduler, workers)
        if lost.tasks or lost.chunks:
            raise ScopekitError(_text(driver, workers, lost))


def _text(driver: Driver, workers: tuple[WorkerId, ...], lost: Losses) -> str:
    lines = [f"  {record.spec.name}: only there it may run" for record in lost.tasks]
    for chunk in lost.chunks:
        name = driver.scheduler.name_of(driver.scheduler.maker_of(chunk.id))
        what = f"the result of {name}" if chunk.maker is not None else f"chunk {chunk.id}"
        lines.append(f"  {what} ({chunk.type}): valid on {chunk.scope.describe()}")
    shown = lines[:_NAMED]
    if len(lines) > _NAMED:
        shown.append(f"  and {len(lines) - _NAMED} more")
    return (
        f"with workers {list(workers)} would be lost:\n"
        + "\n".join(shown)
        + "\nFetch what you need and drop its handle, or say remove_workers(..., force=True)."
    )
