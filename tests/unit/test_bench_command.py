"""The words of ``scopekit bench``, and what is wrong with some."""

import json
import sys

import pytest

from scopekit import cli
from scopekit.bench import command, rounds
from scopekit.bench.figures import Failure, Figure
from scopekit.bench.rounds import Found


@pytest.fixture
def asked(monkeypatch):
    """What would have been measured; nothing is."""
    seen = []

    def run_rounds(asked, say):
        seen.append(asked)
        figures = [
            Figure("chain", "", system, 0, 10.0 * (1 + place), "µs")
            for place, system in enumerate(asked.systems)
        ]
        return Found(figures, [], [1.0])

    monkeypatch.setattr(command, "run_rounds", run_rounds)
    return seen


def absent(monkeypatch, *peers):
    monkeypatch.setattr(command, "is_installed", lambda peer: peer not in peers)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--peers", "processes,spark"], "unknown peer spark; there are processes, ipyparallel,"),
        (["--only", "chain,naps"], "unknown workload naps; there are start, noops,"),
        (["--patterns", "plaid"], "unknown pattern plaid; there are trivial, no_comm,"),
        (["--wires", "radio"], "unknown wire radio; there are direct, views"),
        (["--workers", "0"], "0 is no number of 1 or more"),
        (["--rounds", "many"], "many is no number of 1 or more"),
        (["--limit", "-1"], "argument --limit"),
        (["extra"], "unrecognized arguments: extra"),
    ],
)
def test_what_is_unknown_is_an_error_that_says_what_is_known(words, complaint, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["bench", *words])

    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_everything_that_is_installed_is_measured(asked, monkeypatch, capsys):
    absent(monkeypatch, "ray", "parsl")

    code = cli.main(["bench"])

    (one,) = asked
    assert code == 0
    assert one.systems == ("direct", "views", "processes", "ipyparallel", "dask")
    assert (one.workers, one.rounds, one.quick) == (2, 3, False)
    assert capsys.readouterr().err == (
        "scopekit: ray is not installed; pip install ray\n"
        "scopekit: parsl is not installed; pip install parsl\n"
    )


def test_a_peer_that_is_asked_for_must_be_installed(asked, monkeypatch, capsys):
    absent(monkeypatch, "dask")

    code = cli.main(["bench", "--peers", "dask,processes"])

    assert (code, asked) == (2, [])
    assert capsys.readouterr().err == (
        'scopekit: dask is not installed; pip install "dask[distributed]"\n'
    )


def test_no_peers_are_no_complaint(asked, monkeypatch, capsys):
    absent(monkeypatch, "dask")

    assert cli.main(["bench", "--peers", "none", "--wires", "direct"]) == 0
    assert asked[0].systems == ("direct",)
    assert capsys.readouterr().err == ""


def test_names_are_put_in_the_order_of_the_table(asked):
    cli.main(["bench", "--peers", "ipyparallel, processes", "--only", "tree,chain", "--quick"])

    assert asked[0].systems[-2:] == ("processes", "ipyparallel")
    assert asked[0].workloads == ("chain", "tree")
    assert asked[0].rounds == 1


def test_the_tables_have_figures_ratios_and_targets(asked, capsys):
    cli.main(["bench", "--peers", "processes", "--only", "chain"])

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["Chain", "of", "500,", "µs", "10", "20", "30"] in lines
    assert ["Chain", "of", "500", "0.333"] in lines
    assert [line for line in lines if line[-2:] == ["not", "reached"]]


def test_a_run_is_kept_and_told_of_again(asked, tmp_path, capsys):
    kept, page = tmp_path / "run.json", tmp_path / "page.md"
    names = ("machine", "workloads", "Task Bench", "scopekit alone", "targets", "how", "failures")
    page.write_text("".join(f"<!-- benchmark: {name} -->\n<!-- end -->\n" for name in names))
    cli.main(["bench", "--peers", "processes", "--only", "chain", "--json", str(kept)])
    told = capsys.readouterr().out

    code = cli.main(["bench", "--load", str(kept), "--docs", str(page)])

    assert code == 0
    assert len(asked) == 1
    assert capsys.readouterr().out == told
    assert "| Chain of 500, µs | 10 | 20 | 30 |" in page.read_text()


def test_a_page_that_is_not_there_is_told_before_anything_is_measured(asked, tmp_path, capsys):
    assert cli.main(["bench", "--docs", str(tmp_path / "none.md")]) == 2
    assert asked == []
    assert "No such file" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_told_before_anything_is_measured(asked, tmp_path, capsys):
    assert cli.main(["bench", "--json", str(tmp_path / "none" / "run.json")]) == 2
    assert asked == []
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{}", "no json", json.dumps({"format": 99})])
def test_a_file_of_something_else_is_told(text, tmp_path, capsys):
    file = tmp_path / "run.json"
    file.write_text(text)

    assert cli.main(["bench", "--load", str(file)]) == 2
    assert capsys.readouterr().err.startswith("scopekit: ")


@pytest.mark.parametrize(("system", "code"), [("views", 1), ("dask", 0)])
def test_what_fails_of_scopekit_itself_counts(system, code, monkeypatch, capsys):
    failure = Failure("chain", "", system, 0, "KeyError: 1")
    monkeypatch.setattr(command, "run_rounds", lambda *_: Found([], [failure], []))

    assert cli.main(["bench", "--peers", "processes"]) == code
    assert "Chain of 500: KeyError: 1" in capsys.readouterr().out


def test_an_interrupt_is_told(monkeypatch, capsys):
    def run_rounds(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run_rounds", run_rounds)

    assert cli.main(["bench", "--peers", "none"]) == 130
    assert capsys.readouterr().err == "scopekit: interrupted; what it started is ended\n"


# -- rounds -----------------------------------------------------------------------------------


def run_rounds(monkeypatch, script, **changes):
    """Runs rounds whose processes say what a function of their order returns."""
    orders, said, patterns = [], [], []

    def measure(order, limit, take):
        if order.workloads == ("free_cores",):
            take({"kind": "figure", "workload": "free_cores", "value": 0.5})
            return
        orders.append((order.system, *order.workloads))
        patterns.append(order.patterns)
        for words in script(order):
            take({"case": "", **words})

    monkeypatch.setattr(rounds, "measure", measure)
    asked = {
        "systems": ("direct", "ray"),
        "workloads": ("noops", "chain", "unions", "memory"),
        "workers": 2,
        "rounds": 2,
        "quick": True,
        "patterns": (),
        "limit": 1,
    } | changes
    found = rounds.run_rounds(rounds.Asked(**asked), said.append)
    return found, orders, (said, patterns)


def good(order):
    for name in order.workloads:
        rest = {"unit": None, "bound": "", "detail": {}}
        yield {"kind": "figure", "workload": name, "value": 1.0, **rest}
        yield {"kind": "finished", "workload": name}


def test_systems_take_turns_and_what_takes_long_is_done_once(monkeypatch):
    found, orders, _ = run_rounds(monkeypatch, good)

    assert orders == [
        ("direct", "noops", "chain"),
        ("direct", "unions"),
        ("ray", "noops", "chain"),
        ("direct", "noops", "chain"),
        ("direct", "unions"),
        ("direct", "memory"),
        ("ray", "noops", "chain"),
    ]
    assert found.failures == []
    assert found.free_cores == [0.5, 0.5]
    assert {(f.workload, f.unit) for f in found.figures if f.system == "ray"} == {
        ("noops", "µs"),
        ("chain", "µs"),
    }


def test_what_a_system_does_not_survive_is_left_out_and_the_rest_done(monkeypatch):
    def script(order):
        if order.workloads[0] == "noops":
            yield {"kind": "failed", "workload": "noops", "reason": "hangs", "fatal": True}
        else:
            yield from good(order)

    found, orders, (said, _) = run_rounds(monkeypatch, script, systems=("ray",), rounds=1)

    assert orders == [("ray", "noops", "chain"), ("ray", "chain")]
    assert [(f.workload, f.reason) for f in found.failures] == [("noops", "hangs")]
    assert "  ray: noops: hangs" in said


def test_a_system_that_does_not_start_fails_in_all(monkeypatch):
    def script(order):
        yield {"kind": "failed", "workload": "start", "reason": "no port", "fatal": True}

    found, orders, _ = run_rounds(monkeypatch, script, systems=("ray",), rounds=1)

    assert orders == [("ray", "noops", "chain")]
    assert [f.workload for f in found.failures] == ["noops", "chain"]


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        (("tree", "no_comm", "fft"), ("no_comm",), ("tree", "no_comm", "fft")),
        (("tree", "fft"), ("tree", "fft"), ("tree", "fft")),
    ],
)
def test_most_patterns_are_in_the_last_round(asked, first, last, monkeypatch):
    changes = {"workloads": ("metg",), "systems": ("ray",), "patterns": asked}
    _, _, (_, patterns) = run_rounds(monkeypatch, good, **changes)

    assert patterns == [first, last]


def test_the_command_line_loads_no_peer():
    import subprocess

    peers = ("numpy", "distributed", "dask", "ray", "parsl", "ipyparallel", "psutil")
    script = f"import sys, scopekit.cli; print([m for m in {peers} if m in sys.modules])"
    command = [sys.executable, "-c", script]

    answer = subprocess.run(command, capture_output=True, text=True, check=True)

    assert answer.stdout == "[]\n"
