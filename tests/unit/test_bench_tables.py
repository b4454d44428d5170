"""Figures become tables, ratios and verdicts; a page takes them between its marks."""

import json
from dataclasses import replace

import pytest

from scopekit.bench.figures import Failure, Figure, best
from scopekit.bench.page import blocks, with_blocks
from scopekit.bench.patterns import PATTERNS
from scopekit.bench.record import Record
from scopekit.bench.report import (
    figures_table,
    ratios_table,
    targets_table,
    tell_failures,
    tell_free_cores,
)
from scopekit.bench.rounds import Asked, Found
from scopekit.bench.tables import Table, amount
from scopekit.bench.targets import Ratio, Target, ratio
from scopekit.bench.workloads import WORKLOADS


def figure(system, value, workload="chain", case="", *, number=0, bound=""):
    return Figure(workload, case, system, number, value, "µs", bound)


@pytest.fixture
def record():
    asked = Asked(
        systems=("direct", "views", "ray"),
        workloads=("chain", "metg", "placement"),
        workers=2,
        rounds=2,
        quick=False,
        patterns=tuple(PATTERNS),
        limit=9,
    )
    found = Found(
        figures=[
            figure("direct", 10.0),
            figure("direct", 8.0, number=1),
            figure("ray", 2000.0),
            figure("direct", 0.5, "metg", "no_comm", bound="<"),
            figure("ray", 5.0, "metg", "no_comm"),
            Figure("placement", "edges that must", "direct", 0, 56, ""),
        ],
        failures=[Failure("chain", "", "views", 0, "KeyError: 'x'")],
        free_cores=[0.9, 1.0],
    )
    machine = {
        "date": "2026-01-02",
        "cores": 2,
        "memory_gb": 7.5,
        "system": "Linux",
        "architecture": "x86_64",
        "implementation": "CPython",
        "python": "3.11.7",
    }
    return Record(asked, found, machine, {"scopekit": "1.0", "ray": "2.60.0", "parsl": "1"})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.00123456, "0.00123"),
        (0.7, "0.700"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (123.4, "123"),
        (12345.6, "12,346"),
        (56, "56"),
    ],
)
def test_amounts_have_three_digits(value, text):
    assert amount(value) == text


def test_a_table_for_a_terminal_puts_figures_below_each_other():
    table = Table(("", "one", "other"), (("chain", "1.00", "23.0"), ("no-ops", "200", "-")))

    assert table.text() == "         one  other\nchain   1.00   23.0\nno-ops   200      -"


def test_a_table_for_a_page_is_markdown():
    table = Table(("", "one"), (("chain", "1.00"),))

    assert table.markdown() == "|  | one |\n| :-- | --: |\n| chain | 1.00 |"


def test_the_best_figure_is_the_smallest_that_is_known():
    figures = [figure("ray", 3.0), figure("ray", 2.0, bound=">"), figure("ray", 4.0)]

    assert best(figures, "chain", "", "ray").value == 3.0
    assert best(figures[1:2], "chain", "", "ray").value == 2.0
    assert best(figures, "chain", "", "dask") is None
    assert best(figures, "chain", "other", "ray") is None


@pytest.mark.parametrize(
    ("ours", "theirs", "bound"),
    [
        ("", "", ""),
        ("<", "", "<"),
        ("", ">", "<"),
        ("<", ">", "<"),
        (">", "<", ">"),
        ("<", "<", "?"),
    ],
)
def test_a_ratio_is_known_as_far_as_its_figures_are(ours, theirs, bound):
    figures = [figure("direct", 1.0, bound=ours), figure("ray", 4.0, bound=theirs)]

    assert ratio(figures, "chain", "", "direct", "ray") == Ratio(0.25, bound)


@pytest.mark.parametrize(
    ("value", "bound", "verdict"),
    [
        (0.9, "", "reached"),
        (1.0, "", "reached"),
        (1.1, "", "not reached"),
        (0.9, "<", "reached"),
        (1.1, "<", "cannot be told"),
        (0.9, ">", "cannot be told"),
        (1.1, ">", "not reached"),
    ],
)
def test_a_target_is_reached_or_not_or_that_cannot_be_told(value, bound, verdict):
    figures = [figure("direct", value, bound=bound), figure("ray", 1.0)]

    assert Target(1.0, "ray", "chain").verdict(figures) == verdict


def test_a_target_without_figures_is_not_measured():
    assert Target(1.0, "ray", "chain").verdict([figure("direct", 1.0)]) == "not measured"


def test_figures_say_what_failed_and_what_was_not_asked_for(record):
    table = figures_table(record.found, record.asked.systems, ["chain", "metg", "placement"])

    assert table.headings == ("", "scopekit", "scopekit, views", "Ray")
    assert table.rows == (
        ("Chain of 500, µs", "8", "failed", "2,000"),
        ("METG(50 %): no_comm, µs", "< 0.500", "-", "5"),
        ("Stencil on two nodes: edges that must", "56", "-", "-"),
    )


def test_ratios_are_ours_by_theirs(record):
    table = ratios_table(record.found, ["ray"], ["chain", "metg"], "direct")

    assert table.headings == ("scopekit / peer", "Ray")
    assert table.rows == (("Chain of 500", "0.00400"), ("METG(50 %): no_comm", "< 0.100"))


def test_targets_are_those_that_were_measured(record):
    assert targets_table(record.found).rows == (
        ("Chain of 500", "scopekit / Ray", "≤ 0.01", "0.00400", "reached"),
        ("METG(50 %): no_comm", "scopekit / Ray", "≤ 0.15", "< 0.100", "reached"),
    )


@pytest.mark.parametrize(("shares", "rough"), [([], False), ([0.95], False), ([1.0, 0.4], True)])
def test_others_on_the_machine_are_told_of(shares, rough):
    told = tell_free_cores(Found(free_cores=shares))

    assert bool(told) == bool(shares)
    assert ("ratios are rough" in told) == rough


def test_failures_are_told_once_for_each_reason(record):
    again = replace(record.found.failures[0], round=1)
    other = replace(again, workload="tree")
    record.found.failures += [again, other]

    told = tell_failures(record.found)

    assert told == ["scopekit, views: Chain of 500, Binary tree over 512: KeyError: 'x'"]


def test_a_workload_that_failed_everywhere_has_a_line(record):
    record.found.failures.append(Failure("tree", "", "ray", 0, "it ended early"))

    table = figures_table(record.found, ["direct", "ray"], ["tree"])

    assert table.rows == (("Binary tree over 512, µs", "-", "failed"),)


def test_patterns_stand_in_their_own_order_and_other_parts_as_they_came():
    names = ("fft", "trivial", "no_comm")
    found = Found([figure("ray", 1.0, "metg", name) for name in names])
    found.figures += [figure("ray", 1.0, "memory", case) for case in ("b", "a")]

    rows = figures_table(found, ["ray"], ["metg", "memory"]).rows

    assert [row[0].split(": ")[1].split(",")[0] for row in rows] == [
        *("trivial", "no_comm", "fft"),
        *("b", "a"),
    ]


def test_a_record_comes_back_from_its_file(record):
    assert Record.from_json(json.loads(json.dumps(record.as_json()))) == record


def test_another_file_is_no_record():
    with pytest.raises(ValueError, match="no file that scopekit bench --json wrote"):
        Record.from_json({"figures": []})


def test_blocks_tell_the_machine_the_versions_and_how_each_figure_is_taken(record):
    made = blocks(record)

    assert "2026-01-02 on 2 cores with 7.5 GB" in made["machine"].replace("\n", " ")
    assert "scopekit 1.0, Ray 2.60.0; 2 workers each" in made["machine"].replace("\n", " ")
    assert "90 %, 100 % of a core" in made["machine"].replace("\n", " ")
    assert "Parsl" not in made["machine"]
    assert "| Chain of 500, µs | 8 | failed | 2,000 |" in made["workloads"]
    assert "| Chain of 500 | 0.00400 |" in made["workloads"]
    assert "| METG(50 %): no_comm, µs | < 0.500 |" in made["Task Bench"]
    assert "edges that must" in made["scopekit alone"]
    assert "- scopekit, views: Chain of 500: KeyError: 'x'" in made["failures"]
    assert made["how"].count("**") == 2 * len(WORKLOADS)
    assert all(len(line) <= 118 for line in made["how"].splitlines())


def test_blocks_of_what_was_not_measured_say_so(record):
    asked = replace(record.asked, workloads=("chain",), systems=("direct",))

    made = blocks(replace(record, asked=asked, found=Found()))

    assert made["Task Bench"] == made["targets"] == "Nothing of this was measured."
    assert made["failures"] == "Nothing failed."


def test_a_page_keeps_what_is_around_its_blocks():
    page = (
        "a\n<!-- benchmark: x -->\n<!-- end -->\nb\n<!-- benchmark: y -->\nold\n<!-- end -->\nc\n"
    )
    made = {"x": r"one \1", "y": "other"}

    written = with_blocks(page, made)

    assert written == (
        "a\n<!-- benchmark: x -->\none \\1\n<!-- end -->\n"
        "b\n<!-- benchmark: y -->\nother\n<!-- end -->\nc\n"
    )
    assert with_blocks(written, made) == written


@pytest.mark.parametrize("page", ["", "<!-- benchmark: x -->\nnever closed"])
def test_a_page_without_marks_is_refused(page):
    with pytest.raises(ValueError, match="the page has no <!-- benchmark: x -->"):
        with_blocks(page, {"x": "text"})
