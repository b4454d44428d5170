import io
import pickle
import random
import subprocess
import sys

import networkx as nx
import pytest

from scopekit.encoding import PALETTE
from scopekit.places import Process, Topology
from scopekit.plots import plot_dag, plot_timeline
from scopekit.plots.timeline import ticks as time_ticks
from scopekit.plots.words import shortened, width_of
from scopekit.scopes import (
    AnyScope,
    CudaProc,
    DefaultScope,
    ExactScope,
    NodeScope,
    ProcessorTypeScope,
    ProcessScope,
    ThreadProc,
    UnionScope,
)

HOMES = {0: "a", 1: "a", 2: "b", 3: "b"}
TOPOLOGY = Topology(
    Process(
        worker,
        node,
        (ThreadProc(worker, 0), ThreadProc(worker, 1), *([CudaProc(3, 0)] if worker == 3 else [])),
    )
    for worker, node in HOMES.items()
)
SCOPES = (
    DefaultScope(),
    AnyScope(),
    NodeScope("a"),
    ProcessScope(2),
    ExactScope(ThreadProc(1, 1)),
    UnionScope(NodeScope("a"), ProcessScope(3)),
    UnionScope([ExactScope(processor) for processor in TOPOLOGY.processors[::2]]),
    ProcessorTypeScope(CudaProc),
    ProcessScope(0) & ProcessScope(1),
    ProcessScope(99),
)
STATES = ("done", "running", "queued", "waiting", "failed", "blocked", "cancelled", "unmatched")


def session_graph(count, *, name="demo", width=8):
    """A graph as a session gives it, with every state and kind of scope in it."""
    draw = random.Random(count)
    graph = nx.DiGraph(topology=TOPOLOGY, session=name)
    for key in range(count):
        state = STATES[draw.choice((0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7))]
        ran = state in {"done", "running", "failed"}
        processor = draw.choice(TOPOLOGY.processors) if ran else None
        start = key * 0.01 if ran else None
        graph.add_node(
            key,
            kind="chunk" if key == 3 else "task",
            name=f"step_{key % 5}-{key}",
            function=f"step_{key % 5}",
            state="held" if key == 3 else state,
            scope=SCOPES[key % len(SCOPES)],
            scopes_written=key % 3 == 0,
            processor=processor,
            worker=processor and processor.worker,
            node=processor and HOMES[processor.worker],
            spawned=0.0,
            started=start,
            finished=start + 0.3 if ran and state != "running" else None,
            nbytes=draw.choice((None, 10, 2**20, 2**30)),
            cell=1,
            explanation=None,
        )
        for source in range(max(0, key - width), key):
            if draw.random() < 0.2:
                graph.add_edge(source, key, name="x", nbytes=2**18)
    return graph


class FakeSession:
    def __init__(self, graph):
        self._graph = graph

    def graph(self):
        return self._graph


DRAWINGS = {
    "graph": plot_dag,
    "placement": lambda source, **options: plot_dag(source, by="placement", **options),
    "timeline": plot_timeline,
}


def png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


@pytest.fixture(params=DRAWINGS)
def drawing(request):
    return DRAWINGS[request.param]


@pytest.mark.parametrize("count", [0, 1, 5, 300])
def test_a_picture_is_saved_as_png(drawing, count):
    assert png(drawing(session_graph(count))).startswith(b"\x89PNG")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_paper_has_the_theme_s_colour(drawing, theme):
    figure = drawing(session_graph(3), theme=theme)
    brightness = sum(figure.get_facecolor()[:3]) / 3

    assert (brightness > 0.9) == (theme == "light")


def test_no_figure_is_registered_with_pyplot(drawing):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    png(drawing(session_graph(5)))

    assert plt.get_fignums() == before


def test_drawing_changes_no_setting_of_matplotlib(drawing):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    png(drawing(session_graph(5)))

    assert dict(mpl.rcParams) == before


def test_importing_the_plots_does_not_load_matplotlib():
    code = (
        "import sys, scopekit.plots; "
        "print([m for m in ('matplotlib', 'networkx', 'numpy', 'IPython') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_a_notebook_shows_the_figure_by_itself(drawing):
    assert drawing(session_graph(2))._repr_png_().startswith(b"\x89PNG")


def test_a_figure_pickles():
    figure = pickle.loads(pickle.dumps(plot_dag(session_graph(2))))

    assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_session_is_asked_for_its_graph(drawing):
    figure = drawing(FakeSession(session_graph(3, name="my session")))

    assert "my session" in texts(figure)


def test_no_source_means_the_current_session(monkeypatch):
    import scopekit

    session = FakeSession(session_graph(3, name="the current one"))
    monkeypatch.setattr(scopekit, "current_session", lambda: session, raising=False)

    assert "the current one" in texts(plot_dag())


def test_few_tasks_are_drawn_with_their_names_and_scopes():
    said = texts(plot_dag(session_graph(5)))

    assert {"step_0-0", "step_1-1", "default", "a", "a/w1/t1"} <= set(said)


def test_many_tasks_are_drawn_without_names():
    said = texts(plot_dag(session_graph(300)))

    assert not [text for text in said if text.startswith("step_")]


@pytest.mark.parametrize("count", [600])
def test_pictures_of_many_tasks_stay_of_a_size_to_be_looked_at(count):
    figure = plot_dag(session_graph(count, width=20))
    width, height = figure.get_size_inches() * figure.dpi

    assert 400 < width < 1900
    assert 200 < height < 2200


@pytest.mark.parametrize("count", [5, 120])
def test_nothing_is_clipped_at_the_edge(drawing, count):
    figure = drawing(session_graph(count))
    png(figure)
    paper = figure.bbox
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert paper.x0 <= box.x0, text
        assert box.x1 <= paper.x1, text
        assert paper.y0 <= box.y0, text
        assert box.y1 <= paper.y1, text


@pytest.mark.parametrize("count", [5, 40])
def test_texts_do_not_overlap(drawing, count):
    figure = drawing(session_graph(count))
    png(figure)
    boxes = [text.get_window_extent().shrunk(0.9, 0.8) for text in figure.axes[0].texts]
    clashes = [
        (figure.axes[0].texts[i].get_text(), figure.axes[0].texts[j].get_text())
        for i in range(len(boxes))
        for j in range(i)
        if boxes[i].overlaps(boxes[j])
    ]

    assert clashes == []


def test_lanes_are_named_after_nodes_workers_and_processors():
    said = texts(plot_dag(session_graph(12), by="placement"))

    assert {"not placed", "node a", "node b", "worker 0", "worker 3", "cuda 0"} <= set(said)


def test_a_task_stands_in_the_lane_of_its_processor():
    graph = session_graph(1)
    graph.nodes[0].update(state="done", processor=ThreadProc(2, 1), scope=DefaultScope())
    figure = plot_dag(graph, by="placement")
    heights = {text.get_text(): text.get_position()[1] for text in figure.axes[0].texts}
    lane = max(
        text.get_position()[1] for text in figure.axes[0].texts if text.get_text() == "worker 2"
    )

    assert heights["step_0-0"] == pytest.approx(lane, abs=12)


def test_the_legend_names_the_scopes_and_states_that_there_are():
    graph = session_graph(1)
    graph.nodes[0].update(state="failed", scope=NodeScope("b"))
    said = texts(plot_dag(graph))

    assert {"may run on", "node b", "state", "failed"} <= set(said)
    assert "done" not in said


def test_a_box_is_filled_with_the_colours_of_its_scope():
    from matplotlib.colors import to_hex

    graph = session_graph(1)
    graph.nodes[0].update(scope=UnionScope(NodeScope("a"), ProcessScope(3)), processor=None)
    figure = plot_dag(graph)
    drawn = {to_hex(patch.get_facecolor()).upper() for patch in figure.axes[0].patches}
    shades = {shade for branch in PALETTE for shade in branch}

    assert len(drawn & shades) == 2


def test_axes_of_the_user_are_drawn_into():
    from matplotlib.figure import Figure

    mine = Figure(figsize=(12, 4))
    left, right = mine.subplots(1, 2)

    assert plot_dag(session_graph(5), ax=left) is mine
    assert plot_timeline(session_graph(5), ax=right) is mine
    assert left.texts
    assert right.texts
    assert png(mine).startswith(b"\x89PNG")


def test_dollar_signs_in_names_are_no_formulas():
    graph = session_graph(1, name="$x^$ $")
    graph.nodes[0]["name"] = "a$b$_{"

    assert "a$b$_{" in texts(plot_dag(graph))
    assert png(plot_dag(graph))


def test_a_misspelt_view_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"'graph' or 'placement'"):
        plot_dag(session_graph(1), by="lanes")
    with pytest.raises(ValueError, match=r"'light' or 'dark'"):
        plot_timeline(session_graph(1), theme="blue")


def test_a_running_bar_reaches_to_the_end():
    graph = session_graph(2)
    for key, finish in ((0, 4.0), (1, None)):
        graph.nodes[key].update(
            state="done" if finish else "running",
            processor=ThreadProc(key, 0),
            started=1.0,
            finished=finish,
            scope=NodeScope("a"),
        )
    figure = plot_timeline(graph)

    assert "running" in texts(figure)
    assert png(figure)


@pytest.mark.parametrize(
    ("span", "first", "last"),
    [
        (0.0004, "0.00 ms", "0.40 ms"),
        (0.9, "0 ms", "800 ms"),
        (12.0, "0 s", "12 s"),
        (1.0, "0 ms", "1000 ms"),
    ],
)
def test_ticks_are_round_and_end_within_the_span(span, first, last):
    ticks = list(time_ticks(span))

    assert (ticks[0][1], ticks[-1][1]) == (first, last)
    assert ticks[-1][0] <= span * 1.001
    assert 4 <= len(ticks) <= 11


def test_a_long_name_keeps_the_number_that_tells_it_apart():
    short = shortened("a_function_with_a_long_name-17", 10, 80)

    assert short.endswith("…-17")
    assert width_of(short, 10) <= 80


def test_a_long_chain_is_broken_into_lines_and_keeps_its_names():
    graph = session_graph(40)
    graph.remove_edges_from(list(graph.edges))
    graph.add_edges_from((key, key + 1) for key in range(39))
    figure = plot_dag(graph)
    width, height = figure.get_size_inches()

    assert width / height < 4
    assert "step_0-0" in texts(figure)


@pytest.mark.parametrize(
    "topology", [Topology(), Topology([Process.with_threads("client", "here")])]
)
def test_a_session_without_engines_is_drawn(drawing, topology):
    graph = session_graph(2)
    graph.graph["topology"] = topology
    graph.nodes[0].update(state="done", processor=ThreadProc("client", 0), started=0.0, finished=1)

    assert png(drawing(graph))


def test_a_worker_that_is_gone_keeps_its_lane():
    graph = session_graph(1)
    graph.nodes[0].update(processor=ThreadProc(9, 0), worker=9, node="b", state="done")

    assert "worker 9" in texts(plot_dag(graph, by="placement"))


@pytest.mark.parametrize("count", [40, 300])
def test_a_long_chain_is_broken_into_lines_of_all_lanes(count):
    graph = session_graph(count)
    graph.remove_edges_from(list(graph.edges))
    graph.add_edges_from((key, key + 1) for key in range(count - 1))
    figure = plot_dag(graph, by="placement")
    width, height = figure.get_size_inches()

    assert width / height < 3
    assert texts(figure).count("node b") > 1


def test_boxes_without_a_second_line_still_tell_their_workers_apart():
    graph = session_graph(48)
    for key, facts in graph.nodes(data=True):
        facts.update(kind="task", state="done", scope=ProcessScope(2 + key % 2))
    said = texts(plot_dag(graph))

    assert said.count("b/w2") == said.count("b/w3") == 24


def test_a_theme_of_one_s_own_is_drawn_in():
    from dataclasses import replace

    from matplotlib.colors import to_hex

    from scopekit.encoding import LIGHT

    figure = plot_dag(session_graph(2), theme=replace(LIGHT, paper="#fafaf0"))

    assert to_hex(figure.get_facecolor()) == "#fafaf0"
