import subprocess
import sys

import pytest

from scopekit.encoding import (
    DARK,
    DEFAULT,
    GLYPHS,
    INVALID,
    LIGHT,
    NEUTRAL,
    PALETTE,
    STATES,
    Encoding,
    branches,
    contrast,
    state_style,
    text_on,
)
from scopekit.graph import CHUNK_STATES, TASK_STATES
from scopekit.places import Process, Topology
from scopekit.scopes import (
    AnyScope,
    CudaProc,
    DefaultScope,
    ExactScope,
    InvalidScope,
    LabelScope,
    NodeScope,
    ProcessorTypeScope,
    ProcessScope,
    ThreadProc,
    UnionScope,
)


def topology(homes, threads=2, gpus=(), labels=None):
    return Topology(
        Process(
            worker,
            node,
            tuple(
                [ThreadProc(worker, t) for t in range(threads)]
                + [CudaProc(worker, 0)] * (worker in gpus)
            ),
            tuple((labels or {}).get(worker, ())),
        )
        for worker, node in homes.items()
    )


TWO_NODES = topology(
    {0: "a", 1: "a", 2: "b", 3: "b", "client": "a"}, gpus=(3,), labels={1: ["cam"]}
)


@pytest.fixture
def encoding():
    return Encoding(TWO_NODES)


def hue(colour):
    return next(k for k, shades in enumerate(PALETTE) if colour in shades)


def test_contrast_is_that_of_wcag():
    assert contrast("#FFFFFF", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("fill", [shade for shades in PALETTE for shade in shades])
def test_text_reads_on_every_fill(fill):
    assert contrast(text_on(fill), fill) >= 4.5


@pytest.mark.parametrize("shades", PALETTE)
def test_text_is_black_on_light_shades_and_white_on_dark_ones(shades):
    assert [text_on(shade) for shade in shades] == ["#000000", "#000000", "#FFFFFF"]


@pytest.mark.parametrize("shades", PALETTE)
def test_borders_stand_out_from_the_paper(shades):
    node, _, exact = shades
    assert contrast(exact, LIGHT.paper) >= 4.5
    assert contrast(node, DARK.paper) >= 4.5


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_words_read_on_paper_and_bands(theme):
    for ground in (theme.paper, theme.band):
        assert contrast(theme.ink, ground) >= 7
        assert contrast(theme.muted, ground) >= 4.5
    assert contrast(theme.line, theme.paper) >= 3
    assert contrast(text_on(theme.default), theme.default) >= 7


@pytest.mark.parametrize("state", STATES)
def test_every_glyph_stands_out_from_its_disc(state):
    style = STATES[state]

    assert contrast(text_on(style.colour), style.colour) >= 4.5
    assert style.glyph in GLYPHS


def test_every_state_there_is_has_a_style():
    assert {*TASK_STATES, *CHUNK_STATES} <= set(STATES)


def test_states_of_a_task_differ_in_shape_not_in_colour_alone():
    shapes = [(STATES[state].glyph) for state in TASK_STATES]

    assert len(set(shapes)) == len(shapes)


def test_an_unknown_state_is_drawn_all_the_same():
    assert state_style("dreaming").glyph in GLYPHS


def test_all_twelve_fills_differ():
    fills = [shade for shades in PALETTE for shade in shades]

    assert len(set(fills)) == 12


def test_four_names_take_four_hues_whatever_they_are():
    assert sorted(branches(["a", "b", "c", "d"]).values()) == [0, 1, 2, 3]
    assert sorted(branches([f"host{k}" for k in range(16)]).values()) == list(range(16))


def test_a_name_that_comes_later_changes_no_branch():
    names = [f"node-{k}" for k in range(9)]
    early, late = branches(names[:4]), branches(names)

    assert early == {name: late[name] for name in names[:4]}


def test_branches_are_the_same_in_every_process():
    code = "from scopekit.encoding import branches; print(branches(['a', 'b', 'gpu-box']))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert seen == {f"{branches(['a', 'b', 'gpu-box'])}\n"}


def test_the_hue_is_the_node_and_the_shade_the_depth(encoding):
    node, process, exact = (
        encoding.scope(scope).fills
        for scope in (NodeScope("b"), ProcessScope(2), ExactScope(ThreadProc(2, 1)))
    )
    shades = PALETTE[encoding.branches["b"]]

    assert (node, process, exact) == ((shades[0],), (shades[1],), (shades[2],))
    assert hue(encoding.scope(ProcessScope(0)).fills[0]) == encoding.branches["a"] % 4


def test_with_one_node_the_hue_is_the_engine():
    encoding = Encoding(topology({0: "here", 1: "here", "client": "here"}))
    one, other = encoding.scope(ProcessScope(0)), encoding.scope(ProcessScope(1))

    assert encoding.level == "worker"
    assert hue(one.fills[0]) != hue(other.fills[0])
    assert one.badge == "w0"
    assert encoding.scope(NodeScope("here")).fills == (NEUTRAL,)


def test_with_one_engine_the_hue_is_the_processor():
    encoding = Encoding(topology({0: "here"}, threads=3))
    paints = [encoding.scope(ExactScope(ThreadProc(0, t))) for t in range(3)]

    assert encoding.level == "processor"
    assert len({paint.fills for paint in paints}) == 3


def test_a_fifth_node_takes_a_hue_again_under_a_hatch():
    encoding = Encoding(topology({k: f"n{k}" for k in range(6)}))
    swatches = [encoding.scope(NodeScope(f"n{k}")).swatches[0] for k in range(6)]

    assert [swatch.hatch for swatch in swatches] == ["", "", "", "", "lines", "lines"]
    assert len({(swatch.fill, swatch.hatch) for swatch in swatches}) == 6


def test_the_seventeenth_branch_is_neutral():
    encoding = Encoding(topology({k: f"n{k:02}" for k in range(17)}))
    neutral = [k for k in range(17) if encoding.scope(NodeScope(f"n{k:02}")).fills == (NEUTRAL,)]

    assert neutral == [16]


def test_anywhere_is_hollow_and_default_a_pale_ground(encoding):
    anywhere, default = encoding.scope(AnyScope()), encoding.scope(DefaultScope())

    assert (anywhere.hollow, anywhere.fills, anywhere.badge) == (True, (), "any")
    assert (default.hollow, default.fills, default.badge) == (False, (DEFAULT,), "default")
    assert default.grounds(DARK) == (DARK.default,)


def test_nowhere_is_crossed(encoding):
    paint = encoding.scope(ProcessScope(0) & ProcessScope(1))

    assert isinstance(ProcessScope(0) & ProcessScope(1), InvalidScope)
    assert (paint.crossed, paint.fills, paint.stroke()) == (True, (), INVALID)


def test_default_within_a_place_has_the_colour_of_the_place(encoding):
    for place in (NodeScope("a"), ProcessScope(2)):
        assert encoding.scope(DefaultScope() & place).fills == encoding.scope(place).fills


def test_a_union_has_a_stripe_for_each_member_in_a_fixed_order(encoding):
    one = encoding.scope(UnionScope(ProcessScope(0), ProcessScope(2)))
    other = encoding.scope(UnionScope(ProcessScope(2), ProcessScope(0)))

    assert one == other
    assert set(one.fills) == {
        *encoding.scope(ProcessScope(0)).fills,
        *encoding.scope(ProcessScope(2)).fills,
    }
    assert set(one.badge.split(" | ")) == {"a/w0", "b/w2"}


def test_all_the_processes_of_a_node_are_drawn_as_the_node(encoding):
    both = encoding.scope(UnionScope(ProcessScope(2), ProcessScope(3)))

    assert both.fills == encoding.scope(NodeScope("b")).fills


def test_a_union_of_many_counts_what_it_cannot_show(encoding):
    members = [ExactScope(ThreadProc(w, t)) for w in range(3) for t in range(2)]
    paint = encoding.scope(UnionScope(members))

    assert (len(paint.fills), paint.fills[-1], paint.more) == (4, NEUTRAL, 3)
    assert paint.badge == "6 places"


def test_a_kind_of_processor_has_its_hatch(encoding):
    everywhere = encoding.scope(ProcessorTypeScope(CudaProc))
    there = encoding.scope(ProcessorTypeScope(CudaProc, NodeScope("b")))

    assert [s.hatch for s in everywhere.swatches] == ["double"]
    assert everywhere.fills == (NEUTRAL,)
    assert [s.hatch for s in there.swatches] == ["double"]
    assert there.fills == encoding.scope(NodeScope("b")).fills


def test_a_label_is_drawn_as_the_places_that_carry_it(encoding):
    assert encoding.scope(LabelScope("cam")).fills == encoding.scope(ProcessScope(1)).fills


def test_an_exclusion_is_drawn_as_what_is_left(encoding):
    left = encoding.scope(NodeScope("b") - ProcessScope(3))

    assert left.fills == encoding.scope(ProcessScope(2)).fills


def test_a_worker_that_is_gone_keeps_a_drawing(encoding):
    paint = encoding.scope(ProcessScope(77))

    assert paint.fills == (NEUTRAL,)
    assert "77" in paint.badge


def test_a_worker_that_is_gone_keeps_its_hue_where_its_node_is_known():
    encoding = Encoding(TWO_NODES, {9: "b"})

    assert encoding.scope(ProcessScope(9)).fills == encoding.scope(ProcessScope(2)).fills


def test_the_hatch_shows_on_every_shade(encoding):
    for scope in (NodeScope("b"), ProcessScope(3), ExactScope(CudaProc(3, 0))):
        swatch = encoding.scope(scope).swatches[0]
        assert contrast(swatch.hatch_colour, swatch.fill) >= 1.8


def test_processors_are_listed_by_node_worker_kind_and_index(encoding):
    assert [encoding.path(processor) for processor in encoding.ordered()] == [
        *("a/w0/t0", "a/w0/t1", "a/w1/t0", "a/w1/t1", "b/w2/t0", "b/w2/t1"),
        *("b/w3/gpu0", "b/w3/t0", "b/w3/t1"),
    ]


def test_the_client_is_listed_when_it_runs_something(encoding):
    listed = encoding.ordered([ThreadProc("client", 0)])

    assert listed[-1] == ThreadProc("client", 0)
    assert ThreadProc("client", 0) not in encoding.ordered()
