"""Which engines a session takes, and what it calls their nodes."""

import sys

import pytest

from scopekit.errors import ScopekitError
from scopekit.roster import NodeNames, check_card

HERE = "{}.{}".format(*sys.version_info[:2])


def card(**changed):
    return {
        "python": HERE,
        "pid": 1,
        "node": "n",
        "node_name": "host",
        "cloudpickle": "3.1",
        "scopekit": "0.1",
        **changed,
    }


def test_an_engine_with_all_that_is_needed_is_taken():
    check_card(0, card())


def test_an_engine_of_another_python_is_refused_by_name_of_both_versions():
    with pytest.raises(ScopekitError, match=rf"worker 3 runs Python 3\.8 .* {HERE}"):
        check_card(3, card(python="3.8"))


@pytest.mark.parametrize("package", ["cloudpickle", "scopekit"])
def test_an_engine_that_lacks_a_package_is_refused_with_the_command_that_installs_it(package):
    with pytest.raises(ScopekitError, match=f"no {package}.*pip install {package}"):
        check_card(3, card(**{package: None}))


def test_an_engine_that_does_not_answer_is_refused():
    with pytest.raises(ScopekitError, match="worker 3 did not say what it is"):
        check_card(3, None)


def test_processes_of_one_machine_share_its_name():
    names = NodeNames()

    assert names.name("host", "id-1") == "host"
    assert names.name("host", "id-1") == "host"


def test_machines_that_share_a_host_name_are_told_apart():
    names = NodeNames()

    assert names.name("host", "id-1") == "host"
    assert names.name("host", "id-2") == "host#2"
    assert names.name("host", "id-1") == "host"
    assert names.name("host", "id-2") == "host#2"
