import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import networkx as nx
import pytest

from scopekit.places import Process, Topology
from scopekit.report import report_html, write_report
from scopekit.scopes import (
    CudaProc,
    DefaultScope,
    NodeScope,
    ProcessorTypeScope,
    ProcessScope,
    ThreadProc,
    UnionScope,
)

TOPOLOGY = Topology(
    Process.with_threads(worker, node, 2) for worker, node in {0: "a", 1: "a", 2: "b"}.items()
)
EVIL = "<script>alert('x')</script>"


def graph(**changes):
    made = nx.DiGraph(topology=TOPOLOGY, session="demo")
    scopes = (
        DefaultScope(),
        NodeScope("b"),
        UnionScope(NodeScope("b"), ProcessScope(0)),
        ProcessorTypeScope(CudaProc),
        ProcessScope(0) & ProcessScope(1),
    )
    for key, scope in enumerate(scopes):
        ran = key < 3
        facts = {
            "kind": "task",
            "name": f"step-{key}",
            "state": "done" if ran else "blocked",
            "scope": scope,
            "processor": ThreadProc(2, 0) if ran else None,
            "started": key * 1.0 if ran else None,
            "finished": key * 1.0 + 0.25 if ran else None,
            "nbytes": 2_500_000 if key == 1 else None,
            "explanation": f"because {key}",
        }
        made.add_node(key, **(facts | changes))
    made.add_edge(0, 1, name="x", nbytes=10)
    return made


STORIES = (
    ("A handle stays", "It went to its process.", ["cam: worker 2", "a < b"], True),
    ("A secret stays", "It came out.", [], False),
)


@pytest.fixture(scope="module")
def page():
    return report_html(graph(), title="What was done", stories=STORIES)


def rows(html):
    table = html[html.rindex("<table>") :]
    found = re.findall(r"<tr>(.*?)</tr>", table, flags=re.DOTALL)
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, flags=re.DOTALL) for row in found]
    return [[re.sub(r"<[^>]*>", "", cell).strip() for cell in row] for row in cells]


def test_the_report_is_one_file_that_loads_nothing(page):
    outside = re.findall(r"""(?:src|href)\s*=\s*["'](?!#)([^"']*)""", page)

    assert outside == []
    assert "@import" not in page
    assert re.findall(r"url\((?!#)", page) == []
    assert "<script" not in page


def test_the_report_follows_light_and_dark(page):
    light, dark = page.split("prefers-color-scheme:dark")[:2]
    used = set(re.findall(r"var\((--[\w-]+)\)", page))

    assert used
    for name in used:
        assert f"{name}:#" in light, name
        assert f"{name}:#" in dark[: dark.index("}}")], name


def test_every_picture_is_drawn_once(page):
    assert page.count("<figure>") == page.count("<svg xmlns") == 3
    assert not re.search("#030[12]", page)


def test_every_picture_is_well_formed_and_ids_are_unique(page):
    pictures = re.findall(r"<svg xmlns.*?</svg>", page, flags=re.DOTALL)
    ids = re.findall(r'\bid="([^"]*)"', page)

    assert len(pictures) == 3
    for picture in pictures:
        assert ET.fromstring(picture).tag.endswith("svg")
    assert len(ids) == len(set(ids))


def test_what_a_picture_refers_to_is_there(page):
    ids = set(re.findall(r'\bid="([^"]*)"', page))
    wanted = set(re.findall(r"url\(#([^)]*)\)", page)) | set(re.findall(r'href="#([^"]*)"', page))

    assert wanted
    assert wanted <= ids


def test_the_text_of_pictures_stays_text(page):
    assert re.search(r"<text[^>]*>\s*step-1\s*</text>", page)


def test_every_task_has_its_row(page):
    head, *body = rows(page)

    assert head == ["name", "state", "may run on", "ran on", "start", "took", "size", "why"]
    assert body[1] == ["step-1", "done", "b", "b/w2/t0", "1.00 s", "250 ms", "2.5 MB", "because 1"]
    assert body[4] == ["step-4", "blocked", "none", "", "", "", "", "because 4"]


def test_the_header_counts(page):
    facts = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page))

    assert facts == {
        "tasks": "5",
        "chunks": "0",
        "nodes": "2",
        "workers": "3",
        "processors": "6",
        "from first start to last end": "2.25 s",
    }
    assert "3 done" in page
    assert "2 blocked upstream" in page


def test_stories_say_whether_they_went_as_they_should(page):
    assert "1 of 2 went as they should" in page
    assert page.count('<article class="good">') == 1
    assert page.count('<article class="bad">') == 1
    assert "a &lt; b" in page


def test_all_text_is_escaped():
    html = report_html(
        graph(name=EVIL, explanation=EVIL, scope=NodeScope(EVIL)),
        title=EVIL,
        stories=[(EVIL, EVIL, [EVIL], True)],
    )

    assert "<script" not in html
    assert html.count("&lt;script") > 5


def test_the_same_session_gives_the_same_page(page):
    assert report_html(graph(), title="What was done", stories=STORIES) == page


def test_a_session_without_tasks_has_a_report():
    html = report_html(nx.DiGraph(topology=TOPOLOGY, session="empty"))

    assert "Session empty" in html
    assert "<figure>" not in html


def test_the_report_is_written_where_asked(tmp_path):
    class Session:
        def graph(self):
            return nx.DiGraph(topology=TOPOLOGY, session="mine")

    path = write_report(Session(), tmp_path / "report.html", title="Größe")

    assert path == tmp_path / "report.html"
    assert "Größe" in path.read_text(encoding="utf-8")


def test_tags_match(page):
    void = {"meta", "rect", "path", "circle", "polyline", "polygon", "use"}

    class Check(HTMLParser):
        stack = ()

        def handle_starttag(self, tag, attrs):
            if tag not in void:
                self.stack = (*self.stack, tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            if tag not in void:
                assert self.stack[-1] == tag
                self.stack = self.stack[:-1]

    checked = Check()
    checked.feed(page)

    assert checked.stack == ()
