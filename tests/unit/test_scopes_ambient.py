"""The surroundings of a scope, and the stand-in for a session that other tests use."""

from dataclasses import dataclass

import pytest

from scopekit.places import Process, Topology
from scopekit.scopes import ProcessScope, ambient


@dataclass
class StandIn:
    """Surroundings made of a topology."""

    topology: Topology
    here: object = "client"

    def node_of(self, worker):
        return self.topology.node_of(worker)

    def knows(self, worker):
        return self.topology.knows(worker)

    @property
    def workers(self):
        return self.topology.workers

    @property
    def nodes(self):
        return self.topology.nodes


@pytest.fixture
def restored_provider():
    before = ambient.set_provider(None)
    yield
    ambient.set_provider(before)


def test_outside_a_session_there_are_no_surroundings(restored_provider):
    assert ambient.current() is None
    assert ambient.node_of(0) is None


def test_a_provider_is_asked_each_time(restored_provider):
    found = []
    ambient.set_provider(lambda: found[-1] if found else None)

    assert ambient.current() is None
    found.append(StandIn(Topology([Process.with_threads(0, "a")])))
    assert ambient.current() is found[0]
    assert ambient.node_of(0) == "a"
    assert ambient.node_of(1) is None


def test_setting_a_provider_returns_the_one_before(restored_provider):
    def provider():
        return None

    ambient.set_provider(provider)

    assert ambient.set_provider(None) is provider


def test_a_process_scope_keeps_the_node_that_it_was_made_with(restored_provider):
    ambient.set_provider(lambda: StandIn(Topology([Process.with_threads(0, "a")])))
    made = ProcessScope(0)
    ambient.set_provider(None)

    assert made.node == "a"
    assert made == ProcessScope(0, node="a")
    assert ProcessScope(0).node is None
