from html.parser import HTMLParser

import pytest

from scopekit.explanation import Explanation, Operand
from scopekit.holding import HeldChunk, HeldTask, Holdings
from scopekit.notebook.displays import (
    MAX_ROWS,
    chunk_html,
    chunk_text,
    explanation_html,
    holdings_html,
    session_html,
    session_text,
    task_html,
    task_text,
)
from scopekit.places import Process, Topology
from scopekit.scopes import DefaultScope, NodeScope, ProcessScope, ThreadProc

TOPOLOGY = Topology(
    Process.with_threads(worker, node, 2) for worker, node in {0: "a", 1: "a", 2: "b"}.items()
)
EVIL = "<script>alert('x')</script>"


class Page(HTMLParser):
    """Reads HTML strictly enough to notice tags that do not match."""

    VOID = ("br", "hr", "img", "meta", "rect", "use", "path", "circle", "polyline", "polygon")

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.rows, self.attributes = [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    @property
    def text(self):
        return "".join(self.words)


def session(**changes):
    worker = {"worker": 0, "node": "a", "pid": 41, "processors": 2, "running": 1, "queued": 3}
    facts = {
        "name": "demo",
        "state": "open",
        "tasks": {"failed": 1, "done": 5},
        "workers": [worker],
    }
    return facts | changes


def task(**changes):
    facts = {
        "id": 7,
        "name": "read-7",
        "state": "done",
        "scope": NodeScope("b"),
        "processor": ThreadProc(2, 1),
        "worker": 2,
        "node": "b",
        "duration": 0.0125,
        "error": None,
        "topology": TOPOLOGY,
    }
    return facts | changes


def chunk(**changes):
    facts = {
        "id": 9,
        "type": "Camera",
        "nbytes": 4096,
        "scope": ProcessScope(2),
        "processor": ThreadProc(2, 0),
        "node": "b",
        "state": "held",
    }
    return facts | changes


def explain(*operands, topology=TOPOLOGY, chosen=None, outcome="placed"):
    mask, told = topology.everything, []
    for origin, scope in operands:
        rest = mask & topology.mask(scope)
        removed = mask.bit_count() - rest.bit_count()
        told.append(Operand(origin, scope, removed, topology.mask(scope).bit_count()))
        mask = rest
    return Explanation(
        task="read-7",
        outcome=outcome,
        operands=tuple(told),
        candidates=len(topology.processors),
        left=topology.select(mask),
        chosen=chosen,
        rule="least busy",
        topology=topology,
    )


PLACED = explain(
    ("scope=", NodeScope("b")), ("argument 'cam'", ProcessScope(2)), chosen=ThreadProc(2, 1)
)
CONFLICT = explain(
    ("scope=", ProcessScope(0)), ("argument 'x'", ProcessScope(2)), outcome="conflict"
)


def test_a_session_shows_its_workers_and_counts():
    page = Page(session_html(session()))

    assert ["worker 0", "a", "41", "2", "1", "3"] in page.rows
    assert "5 done" in page.text
    assert page.text.index("5 done") < page.text.index("1 failed")


def test_a_session_without_tasks_says_so():
    assert "no tasks yet" in Page(session_html(session(tasks={}))).text
    assert "no tasks yet" in session_text(session(tasks={}, workers=[]))


def test_a_worker_may_list_its_processors():
    workers = [{**session()["workers"][0], "processors": TOPOLOGY.processors[:2]}]

    assert ["worker 0", "a", "41", "2", "1", "3"] in Page(
        session_html(session(workers=workers))
    ).rows


def test_a_session_has_a_text():
    assert session_text(session()) == (
        "Session demo (open): 5 done, 1 failed\n  worker 0 on node a, pid 41: 1 running, 3 queued"
    )


def test_a_task_shows_where_it_may_run_and_where_it_ran():
    rows = Page(task_html(task())).rows

    assert ["may run on", "node b"] in rows
    assert ["runs on", "node b, worker 2, thread 1"] in rows
    assert ["took", "12.5 ms"] in rows


def test_a_task_that_waits_shows_no_place():
    rows = dict(Page(task_html(task(state="waiting", processor=None, duration=None))).rows)

    assert set(rows) == {"state", "may run on"}


def test_a_task_known_by_little_is_shown_all_the_same():
    facts = {"id": 3, "state": "done", "processor": None, "node": None}

    assert "Task 3" in Page(task_html(facts)).text
    assert task_text(facts) == "Task 3: done"


def test_a_failed_task_names_the_type_of_its_error():
    assert ["error", "ValueError"] in Page(task_html(task(state="failed", error="ValueError"))).rows
    assert "with ValueError" in task_text(task(state="failed", error="ValueError"))


def test_a_chunk_shows_type_size_and_place():
    rows = Page(chunk_html(chunk())).rows

    assert ["type", "Camera"] in rows
    assert ["size", "4.1 kB"] in rows
    assert ["valid on", "worker 2"] in rows
    assert chunk_text(chunk()) == "Chunk 9: Camera, 4.1 kB, held on node b, worker 2, thread 0"


def test_a_released_chunk_is_shown_without_a_place():
    rows = dict(Page(chunk_html(chunk(processor=None, state="released"))).rows)

    assert "held on" not in rows
    assert rows["state"] == "released"


@pytest.mark.parametrize("known", [True, False])
def test_a_swatch_needs_the_topology_and_the_words_do_not(known):
    html = task_html(task(topology=TOPOLOGY if known else None))

    assert ("linear-gradient" in html) == known
    assert "node b" in html


def test_an_explanation_has_sentence_funnel_and_matrix():
    page = Page(explanation_html(PLACED))

    assert "read-7 runs on node b, worker 2, thread 1: least busy" in page.text
    assert ["all processors", "", "", "6"] in page.rows
    assert ["scope=", "node b", "\N{MINUS SIGN}4", "2"] in page.rows
    assert ["argument 'cam'", "worker 2", "0", "2"] in page.rows
    assert ["b/w2/t1 ←", "✓", "✓"] in page.rows
    assert ["a/w0/t0", "✕", "✕"] in page.rows


def test_the_first_operand_that_removes_a_processor_is_emphasised():
    html = explanation_html(PLACED)
    rows = [row for row in html.split("<tr>") if "a/w0/t0" in row]

    assert len(rows) == 1
    assert rows[0].count("<b ") == 1
    assert rows[0].index("<b ") < rows[0].rindex("✕")


def test_a_conflict_says_what_would_help():
    text = Page(explanation_html(CONFLICT)).text

    assert "never meet" in text
    assert "without argument 'x' there would be 2" in text
    assert "without scope= there would be 2" in text


def test_a_long_matrix_is_folded_and_keeps_what_matters():
    topology = Topology(Process.with_threads(worker, "a", 2) for worker in range(100))
    html = explanation_html(
        explain(("scope=", ProcessScope(97)), topology=topology, chosen=ThreadProc(97, 1))
    )
    page = Page(html)
    processors = [row[0] for row in page.rows if row[0].startswith("w")]

    assert len(processors) == MAX_ROWS
    assert processors[:2] == ["w97/t1 ←", "w97/t0"]
    assert "details" in page.tags
    assert f"and {200 - MAX_ROWS} more" in page.text


def test_an_explanation_without_operands_has_no_matrix():
    page = Page(explanation_html(explain(chosen=ThreadProc(0, 0))))

    assert page.tags.count("table") == 1


def test_the_explanation_calls_this_display():
    assert PLACED._repr_html_() == explanation_html(PLACED)


@pytest.mark.parametrize(
    "html",
    [
        session_html(session(name=EVIL, state=EVIL, tasks={EVIL: 1})),
        session_html(session(workers=[{**session()["workers"][0], "node": EVIL}])),
        task_html(task(name=EVIL, node=EVIL, error=EVIL, scope=NodeScope(EVIL))),
        chunk_html(chunk(type=EVIL, state=EVIL, scope=NodeScope(EVIL))),
        explanation_html(explain((EVIL, NodeScope(EVIL)), ("b", DefaultScope()))),
    ],
)
def test_all_text_is_escaped(html):
    page = Page(html)

    assert "script" not in page.tags
    assert EVIL in page.text


@pytest.mark.parametrize(
    "html",
    [session_html(session()), task_html(task()), chunk_html(chunk()), explanation_html(PLACED)],
)
def test_displays_fit_pages_of_any_colour_and_sites_that_strip_styles(html):
    page = Page(html)
    names = {name for name, _ in page.attributes}

    assert names <= {"style"}
    assert not {"style", "script", "svg", "link"} & set(page.tags)
    assert "color:#000" not in html
    assert "color:#fff" not in html.lower()


# -- holdings ------------------------------------------------------------------------


def holdings(*, chunks=(), tasks=()):
    return Holdings(0, "a", tuple(chunks), tuple(tasks), TOPOLOGY)


def held_chunk(number, *, lost=False, others=()):
    return HeldChunk(number, f"chunk {number}", EVIL, 2_000, ProcessScope(0), others, lost)


def test_holdings_show_what_would_be_lost():
    page = Page(
        holdings_html(
            holdings(
                chunks=[held_chunk(1, lost=True), held_chunk(2, others=(1, 2))],
                tasks=[HeldTask(7, EVIL, "running", lost=False)],
            )
        )
    )

    assert "2 of them" not in page.text
    assert "1 of them would be lost with it" in page.text
    assert [EVIL, "running", "kept"] in page.rows
    assert ["chunk 1", EVIL, "2 kB", "worker 0", "", "lost"] in page.rows
    assert ["chunk 2", EVIL, "2 kB", "worker 0", "1, 2", "kept"] in page.rows
    assert "script" not in page.tags


def test_holdings_of_nothing_are_one_line():
    page = Page(holdings_html(holdings()))

    assert "safe to remove" in page.text
    assert page.rows == []


def test_long_holdings_are_cut():
    many = holdings(chunks=[held_chunk(n) for n in range(MAX_ROWS + 5)])

    assert "and 5 more" in Page(holdings_html(many)).text
    assert len(Page(holdings_html(many)).rows) == MAX_ROWS + 1
    assert "and 25 more" in many.text()
