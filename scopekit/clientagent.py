"""Makes this process a place of its session: the client, or worker 0 where there is no engine."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from scopekit.engine.accelerators import find_processors, probe_kind
from scopekit.engine.agent import Agent
from scopekit.engine.lanes import InlineLane, ThreadLane
from scopekit.engine.output import routed_output
from scopekit.places import Process, Topology
from scopekit.roster import dump_probe
from scopekit.scopes import ThreadProc
from scopekit.scopes.processors import probed_kinds
from scopekit.wire.identity import identity_card

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from scopekit.driver import Driver
    from scopekit.engine.lanes import Lane
    from scopekit.graph import WorkerId
    from scopekit.labels import Labels
    from scopekit.roster import NodeNames
    from scopekit.scopes import Kind, Processor
    from scopekit.wire import messages as msg
    from scopekit.wire.lending import Lender
    from scopekit.wire.peers import Given, Pushed

__all__ = ("add_kind", "describe_process", "open_agent")


def open_agent(
    worker: WorkerId,
    threads: int,
    publish: Callable[[list[msg.Report]], None],
    *,
    inline: bool,
    fetch: Callable[[WorkerId, Sequence[int]], list[Given]],
    push: Callable[[WorkerId, list[Pushed]], None],
    lender: Lender | None,
    lends_to: Callable[[WorkerId], bool],
) -> Agent:
    """Makes what runs tasks in this process, for as long as its session is open.

    Args:
        worker: the id by which users know this process.
        threads: how many of its threads run tasks.
        publish: takes its reports.
        inline: True where it runs all tasks, each in the thread of its caller.
        fetch: asks another process for chunks.
        push: sends chunks to another process, or says which it may not have.
        lender: lends values to other processes of the node, None if nobody does.
        lends_to: tells which of them can read what it lends.
    """
    lanes: dict[Processor, Lane] = {
        ThreadProc(worker, thread): (
            InlineLane() if inline else ThreadLane("scopekit-client-0", routed_output)
        )
        for thread in range(threads)
    }
    agent = Agent(
        worker,
        Topology(),
        lanes,
        publish,
        fetch=fetch,
        push=push,
        lender=lender,
        lends_to=lends_to,
        background=not inline,
        always_hears=True,
    )
    if inline:
        kinds = [(kind, dump_probe(kind, probe)) for kind, probe in probed_kinds()]
        found, troubles = find_processors(worker, kinds)
        _tell(troubles)
        agent.add_processors(found)
    return agent


def describe_process(agent: Agent, names: NodeNames, labels: Labels, session: str) -> Process:
    """Describes this process as the topology of its session has it.

    Args:
        agent: what runs its tasks.
        names: names the nodes.
        labels: knows the labels of each worker.
        session: the id of the session.
    """
    card = identity_card()
    node = names.name(card["node_name"], card["node"])
    return Process(
        agent.worker,
        node,
        agent.processors,
        labels.of(agent.worker, node),
        pid=os.getpid(),
        incarnation=session,
    )


def add_kind(agent: Agent, driver: Driver, kind: Kind, probe: bytes) -> None:
    """Counts the processors of a further kind in this process, where it is all that there is.

    Args:
        agent: what runs its tasks.
        driver: learns of them.
        kind: the kind.
        probe: the pickle of what counts them.
    """
    found, trouble = probe_kind(agent.worker, kind, probe)
    _tell([] if trouble is None else [trouble])
    agent.add_processors(found)
    driver.change_processes(
        [agent.worker], lambda process: replace(process, processors=agent.processors), {}
    )


def _tell(troubles: Iterable[str]) -> None:
    for trouble in troubles:
        sys.stderr.write(f"scopekit: {trouble}\n")
