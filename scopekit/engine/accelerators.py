"""The processors of a process besides its threads: how many there are, what runs their tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scopekit.engine.cuda import count_devices, use_device
from scopekit.engine.lanes import InlineLane, ThreadLane
from scopekit.scopes import CudaProc, processor_type
from scopekit.scopes.processors import type_of
from scopekit.wire.codec import load_value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scopekit.engine.lanes import Lane
    from scopekit.graph import WorkerId
    from scopekit.scopes import Kind, Processor

__all__ = ("find_processors", "lane_for", "probe_kind")


def find_processors(
    worker: WorkerId, kinds: Iterable[tuple[Kind, bytes]]
) -> tuple[tuple[Processor, ...], tuple[str, ...]]:
    """Counts the processors of every kind.

    Args:
        worker: the id of this process.
        kinds: the kinds that were registered, each with the pickle of its probe.

    Returns:
        The processors, with what went wrong.
    """
    found: list[Processor] = [CudaProc(worker, device) for device in range(count_devices())]
    troubles = []
    for kind, probe in kinds:
        more, trouble = probe_kind(worker, kind, probe)
        found += more
        troubles += [] if trouble is None else [trouble]
    return tuple(found), tuple(troubles)


def probe_kind(
    worker: WorkerId, kind: Kind, probe: bytes
) -> tuple[tuple[Processor, ...], str | None]:
    """Counts the processors of one kind; those of a probe that raises are none.

    Args:
        worker: the id of this process.
        kind: the kind.
        probe: the pickle of what counts them.

    Returns:
        The processors, with what went wrong or None.
    """
    # By its name, too, it is known here from now on.
    processor_type(kind.name, default_enabled=kind.default_enabled)
    try:
        count = load_value(probe)()
        made = type_of(kind)
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            return (), f"the probe of {kind.name!r} gave {count!r}, which counts nothing"
        return tuple(made(worker, index) for index in range(count)), None
    except Exception as error:  # noqa: BLE001  # a user's function may raise anything
        return (), f"the probe of {kind.name!r} raised {type(error).__name__}: {error}"


def lane_for(processor: Processor, *, inline: bool = False) -> Lane:
    """Makes what runs the tasks of a processor: a thread that is its own for life.

    Args:
        processor: the processor.
        inline: True where all tasks run in the thread of their caller.

    Returns:
        The lane.
    """
    if inline:
        return InlineLane()
    name = f"scopekit-{processor.worker}-{processor.kind.name}-{processor.index}"
    if isinstance(processor, CudaProc):
        return ThreadLane(name, lambda: use_device(processor.device))
    return ThreadLane(name)
