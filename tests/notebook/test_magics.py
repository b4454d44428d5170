"""The magics, in a kernel of their own, with real engines."""

from __future__ import annotations

import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

# -- one cell, one task ------------------------------------------------------------------------


def test_a_cell_shows_its_output_and_value_below_itself(notebook):
    cell = notebook.shows("%%spawn name='first'\nprint('hello')\n6 * 7", "42")
    assert cell.texts[0].startswith("Task first: done on node ")
    assert "worker" in cell.texts[0]
    assert "hello" in cell.texts[0]


def test_names_become_handles_at_once(notebook, tmp_path):
    gate = tmp_path / "gate"
    spawned = notebook.run(
        f"%%spawn\nimport os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
        "first, second = 1, 2"
    )
    seen = notebook.run("type(first).__name__, type(second).__name__, first.done(), first.id")
    assert seen.text.startswith("('Task', 'Task', False")
    gate.touch()
    notebook.wait_for(spawned, "done on")
    assert notebook.run("first.result() + second.result()").text == "3"


def test_what_a_cell_reads_of_another_is_a_dependency(notebook):
    notebook.run("%%spawn scope=worker(1)\nleft = [1, 2]")
    notebook.run("%%spawn scope=worker(0)\nright = len(left) + 1")
    assert notebook.run("right.result(), right.worker, left.worker").text == "(3, 0, 1)"


def test_handles_count_inside_containers(notebook):
    notebook.run("parts = [sk.spawn(pow, 2, n) for n in range(3)]")
    notebook.shows("%%spawn\nsum(parts)", "7")


def test_other_variables_travel_by_value(notebook):
    notebook.run("base = {'a': 20}\ndef double(x): return 2 * x\nimport json")
    code = "%%spawn\nbase['a'] += 1\ndouble(base['a']), json.dumps(base)"
    notebook.shows(code, """(42, '{"a": 21}')""")
    assert notebook.run("base").text == "{'a': 20}"


def test_what_the_notebook_imported_too_stays_its_own(notebook):
    notebook.run("import string, random\nfrom math import tau")
    code = "%%spawn\nimport string, random as string2, calendar\nfrom math import tau, e as pi\ntau"
    notebook.shows(code, "6.283185307179586")
    names = "string, tau, string2, calendar, pi"
    seen = notebook.run(f"[type(value).__name__ for value in ({names})]")
    assert seen.text == "['module', 'float', 'Task', 'Task', 'Task']"


def test_names_that_only_the_engines_have(notebook):
    assert notebook.run("%px import fractions; here = fractions.Fraction(1, 3)").status == "ok"
    notebook.shows("%%spawn\nhere + fractions.Fraction(1, 6)", "Fraction(1, 2)")


def test_a_cell_leaves_the_engines_names_alone(notebook):
    notebook.spawn("%%spawn scope=worker(0)\nmine = 1\nimport colorsys")
    seen = notebook.run("%px print('mine' in globals(), 'colorsys' in globals())")
    assert "False False" in seen.text
    assert "True" not in seen.text


def test_functions_and_classes_of_a_cell_work_on_other_engines(notebook):
    notebook.run(
        "%%spawn scope=worker(0)\nimport math\nclass Point:\n"
        "    def __init__(self, x): self.x = x\n    def norm(self): return math.sqrt(self.x)\n"
        "def root(x): return Point(x).norm()\npoint = Point(16)"
    )
    code = "%%spawn scope=worker(1)\nroot(9), point.norm(), type(point) is Point"
    notebook.shows(code, "(3.0, 4.0, True)")


def test_a_cell_may_await(notebook):
    notebook.shows("%%spawn\nimport asyncio\nawait asyncio.sleep(0.01, 'slept')", "'slept'")


def test_a_cell_run_again_does_not_wait_for_its_earlier_run(notebook):
    code = (
        "%%spawn\nfor k in range(3):\n    last = k\ndef g(): return h()\ndef h(): return last\ng()"
    )
    notebook.shows(code, "2")
    notebook.shows(code, "2")
    assert "argument" not in notebook.run("print(last.explain())").text


@pytest.mark.parametrize("code", ["None", "5;", "value = 5"])
def test_nothing_is_shown_where_there_is_nothing_to_show(notebook, code):
    cell = notebook.spawn(f"%%spawn\n{code}")
    # what comes after this cell's end would come before that of a later one
    notebook.shows("%%spawn\n1", "1")
    assert not any(cell.texts[1:])


def test_a_value_is_shown_in_its_own_forms(notebook):
    cell = notebook.spawn(
        "%%spawn\nclass Rich:\n    def _repr_html_(self): return '<i>rich</i>'\nRich()",
        "<__main__.Rich",
    )
    assert "<i>rich</i>" in cell.html


def test_a_line_is_a_task_too(notebook):
    notebook.run("n = 4")
    notebook.run("%spawn squares = [k * k for k in range(n)]")
    assert notebook.run("squares.result()").text == "[0, 1, 4, 9]"


def test_ipythons_own_syntax_serves_in_a_cell(notebook):
    notebook.shows("%%spawn\nfound = !echo from the shell\nfound[0]", "'from the shell'")


# -- output ------------------------------------------------------------------------------------


def test_output_arrives_under_its_cell_while_a_later_one_runs(notebook, tmp_path):
    gate, end = tmp_path / "gate", tmp_path / "end"
    wait = "import os, time\nwhile not os.path.exists({!r}): time.sleep(0.01)\n".format
    spawned = notebook.run(f"%%spawn\nprint('early')\n{wait(str(gate))}print('late')")
    later = notebook.send(f"print('meanwhile')\n{wait(str(end))}")
    notebook.wait_for(later, "meanwhile")
    notebook.wait_for(spawned, "early")
    gate.touch()
    notebook.wait_for(spawned, "late")
    notebook.wait_for(spawned, "done on")
    assert not later.idle
    end.touch()
    notebook.finish(later)
    assert later.text == "meanwhile\n"
    assert "early\nlate" in spawned.texts[0]


def test_output_is_text_and_never_markup(notebook):
    cell = notebook.spawn("%%spawn\nprint('<b>&', '\\x1b[31mred\\x1b[0m')", "red")
    notebook.wait_for(cell, "done on")
    assert "&lt;b&gt;&amp; red" in cell.html
    assert "<b>&" not in cell.html


def test_what_a_progress_bar_overwrites_is_gone(notebook):
    cell = notebook.spawn("%%spawn\nfor k in range(5): print(f'\\r{20 * k} %', end='')", "80 %")
    notebook.wait_for(cell, "done on")
    assert "60 %" not in cell.text


def test_what_a_cell_displays_is_printed(notebook):
    cell = notebook.spawn("%%spawn\ndisplay({'shown': 1})\nprint('after')", "after")
    notebook.wait_for(cell, "done on")
    assert "{'shown': 1}\nafter" in cell.texts[0]


def test_standard_error_is_told_apart(notebook):
    cell = notebook.spawn("%%spawn\nimport sys\nprint('oops', file=sys.stderr)", "oops")
    notebook.wait_for(cell, "done on")
    assert "rgba(213,64,64,.12)" in cell.html


def test_only_the_last_megabyte_is_kept(notebook):
    cell = notebook.spawn("%%spawn\nprint('begin')\nprint('x' * 1_000_000)\nprint('end')", "end")
    notebook.wait_for(cell, "done on")
    assert "begin" not in cell.text
    assert len(cell.texts[0]) < 1_100_000


# -- what goes wrong -----------------------------------------------------------------------------


def test_an_error_points_at_the_line_of_the_cell(notebook):
    cell = notebook.spawn(
        "%%spawn name='divide'\ndef inverse(x):\n    return 1 / x\n\nbad = inverse(0)",
        "ZeroDivisionError: division by zero",
    )
    text = cell.texts[0]
    assert text.startswith("Task divide: failed on")
    assert "raised by task divide on node" in text
    assert "line 4, in <module>\n    bad = inverse(0)" in text
    assert "line 2, in inverse\n    return 1 / x" in text
    assert "scopekit/engine" not in text


def test_a_group_of_errors_keeps_its_shape(notebook):
    cell = notebook.spawn(
        "%%spawn\nraise ExceptionGroup('many', [ValueError(1), TypeError(2)])", "TypeError: 2"
    )
    assert '  |   File "<cell ' in cell.text
    assert "scopekit/engine" not in cell.text


def test_sessions_come_and_go(notebook):
    assert notebook.run("%scopekit start 0").status == "ok"
    notebook.shows("%%spawn\ninline = 3\ninline", "3")
    assert "is closed" in notebook.run("%scopekit stop").text
    assert notebook.run("sk.current_session() is session").text == "True"


def test_a_dependant_names_the_task_that_failed(notebook):
    notebook.run("%%spawn name='source'\ntorn = [][0]")
    cell = notebook.spawn("%%spawn name='sink'\ntorn + 1", "task sink needs its result")
    assert "raised by task source" in cell.text
    assert "IndexError" in cell.text


def test_a_name_that_nobody_has(notebook):
    cell = notebook.spawn("%%spawn\nnowhere_at_all", "NameError")
    assert "neither the notebook nor this engine has 'nowhere_at_all'" in cell.text


def test_a_name_that_was_not_assigned(notebook):
    cell = notebook.spawn("%%spawn\nif False: never = 1", "NameError")
    assert "had not assigned never" in cell.text
    assert notebook.run("never.result()").status == "error"


def test_a_refused_spawn_is_short_and_stops_what_follows(notebook):
    notebook.spawn("%%spawn scope=worker(1) result_scope=worker(1)\ncaptive = 1")
    refused = notebook.send("%%spawn name='thief' scope=worker(0)\ncaptive")
    following = notebook.send("print('went on')")
    notebook.finish(refused)
    notebook.until(lambda: following.reply is not None)
    assert refused.reply["ename"] == "ScopeConflictError"
    assert "argument 'captive'" in refused.text
    assert "magics.py" not in refused.text
    assert len(refused.outputs) == 1
    assert following.status == "aborted"
    assert "never meet" in notebook.run("%why").text


def test_a_value_that_cannot_travel_is_named(notebook):
    notebook.run("import threading\nlatch = threading.Lock()")
    cell = notebook.run("%%spawn\nlatch.acquire()")
    assert cell.status == "error"
    assert "argument 'latch'" in cell.text
    assert "magics.py" not in cell.text


def test_a_value_whose_scope_leaves_the_notebook_out_is_not_shown(notebook):
    cell = notebook.spawn(
        "%%spawn scope=worker(1) result_scope=worker(1)\nsecret = 'se' + 'same'\nsecret",
        "its value stays on",
    )
    notebook.shows("%%spawn\n1", "1")
    assert "sesame" not in cell.text + cell.html
    assert notebook.run("%fetch secret").reply["ename"] == "ScopeViolationError"
    inside = notebook.shows("%%spawn\nlen(secret)", "6")
    assert "worker 1" in inside.texts[0]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("scop=worker(0)", "%%spawn has no option 'scop'. Did you mean scope=?"),
        ("scope=wrker(0)", "scope=wrker(0): name 'wrker' is not defined. Did you mean worker?"),
        ("scope=1/0", "scope=1/0: ZeroDivisionError: division by zero"),
        ("scope=worker(99)", "scope=worker(99): "),
        ("scope=worker(", "a bracket or quote is not closed"),
        ("scope=1 +", "scope=1 +: it is no Python"),
        ("scope=", "scope= has no value"),
        ("name=3", "name=3 is no text"),
        ("fast", "'fast' is not"),
        ("wait_for=-1", "wait_for=-1"),
        ("outputs=2", "%%spawn: the names that a cell assigns are its outputs"),
    ],
)
def test_a_bad_option_is_one_line_under_the_cell(notebook, line, complaint):
    cell = notebook.run(f"%%spawn {line}\nran = 1")
    assert cell.reply["ename"] == "UsageError"
    assert complaint in cell.text
    assert cell.text.startswith("UsageError: ")
    assert cell.text.count("\n") == 1


def test_a_cell_that_is_no_python_is_not_sent(notebook):
    before = notebook.run("len(session.events())").text
    cell = notebook.run("%%spawn\nx = 1\nx = = 2")
    assert cell.status == "error"
    assert "line 2\n" in cell.text or ":2\n" in cell.text
    assert "SyntaxError: invalid syntax" in cell.text
    assert "magics.py" not in cell.text
    assert notebook.run("len(session.events())").text == before


def test_an_empty_cell_is_refused(notebook):
    assert "there is nothing to run" in notebook.run("%%spawn\n  ").text


def test_a_cell_may_see_handles_and_have_its_value_brought(notebook):
    notebook.run("%%spawn scope=worker(1)\nseen = [1, 2]")
    line = "%%spawn meta=True get_result=True name='looking'"
    code = f"{line}\nkind = type(seen).__name__\nkind, seen.fetch()"
    notebook.shows(code, "('Chunk', [1, 2])")
    assert notebook.run("kind.plain_value").text == "('Chunk',)"


# -- options are expressions of the notebook ----------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "scope=worker(1)",
        "scope=worker(where)",
        "scope=worker(1, thread=0)",
        "scope=worker(0, 1) & worker(1)",
        "scope=node(session.nodes[0]) & mine",
        "compute_scope=mine scope=worker(0)",
        "single=1 name='on one' wait_for = 2 idempotent=False",
        "scope=any & mine result_scope=default & mine | worker('client')",
        "prefer=[mine, prefer(worker(0), busy=2)] priority=1",
    ],
)
def test_scopes_are_written_in_few_words(notebook, line):
    notebook.run("where = 1\nmine = sk.ProcessScope(1)")
    notebook.run(f"%%spawn {line}\nimport scopekit\nplace = scopekit.myid()")
    assert notebook.run("sk.wait(place).worker").text == "1"


# -- the small ones ------------------------------------------------------------------------------


def test_looking_at_what_there_is(notebook):
    notebook.run("%spawn looked_at = 5")
    assert notebook.run("%fetch looked_at").text == "5"
    assert notebook.run("y = %fetch [looked_at, 1]\ny").text == "[5, 1]"
    assert "runs on" in notebook.run("%why looked_at").text
    assert "runs on" in notebook.run("%why").text
    assert "UsageError: %why y: a list is no task" in notebook.run("%why y").text
    assert "UsageError: %fetch lookd_at" in notebook.run("%fetch lookd_at").text
    scopes = notebook.run("%scopes")
    assert 'node("' in scopes.text
    assert "worker(0)" in scopes.html
    assert "2 workers" in notebook.run("%scopekit status").text
    assert "write %scopekit start" in notebook.run("%scopekit begin").text
    for picture in ("%dag", "%timeline"):
        shown = notebook.run(picture)
        assert shown.status == "ok", shown.text
        assert shown.outputs


def test_help_is_at_hand(notebook):
    reply = notebook.run("%%spawn?").reply
    assert "result_scope=" in reply["payload"][0]["data"]["text/plain"]


def test_the_extension_goes_as_it_came(notebook):
    assert notebook.run("%reload_ext scopekit").status == "ok"
    notebook.shows("%%spawn\n1", "1")
    notebook.run("%unload_ext scopekit")
    assert "not found" in notebook.run("%%spawn\n1").text
    notebook.run("%load_ext scopekit")
    notebook.shows("%%spawn\n1", "1")


# -- other front ends ------------------------------------------------------------------------------


def _notebook_of(*cells):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])


def _run_all(made, manager):
    runner = NotebookClient(made, km=manager, timeout=30)
    try:
        runner.execute()
    finally:
        runner.kc.stop_channels()


def test_a_notebook_that_runs_unattended_shows_how_tasks_ended(notebook):
    made = _notebook_of(
        "%%spawn name='alone'\nprint('out')\nq = 11\nq + 1", "q.result()", "q.result()"
    )
    _run_all(made, notebook.manager)
    nbformat.validate(made)
    first = made.cells[0].outputs
    assert first[0].data["text/plain"].startswith("Task alone: done on")
    assert "out" in first[0].data["text/html"]
    assert first[1].data["text/plain"] == "12"


def test_a_refused_spawn_stops_an_unattended_notebook(notebook):
    made = _notebook_of("%%spawn scope=worker(0) & worker(1)\n1", "never_run = 1")
    with pytest.raises(CellExecutionError, match=r"cannot run anywhere|never meet"):
        _run_all(made, notebook.manager)
    assert made.cells[1].execution_count is None


_TERMINAL = """
import faulthandler
faulthandler.dump_traceback_later(40, exit=True)
import scopekit as sk
from scopekit.notebook import magics
magics.start = lambda: sk.start(0)
%load_ext scopekit
shell = get_ipython()
shell.run_cell_magic("spawn", "name='t'", "print('out'); x = 20\\nx + 1")
shell.run_cell_magic("spawn", "", "1 / 0")
%spawn y = x * 2
print("y is", y.result())
%why y
%scopes
"""


def test_a_terminal_prints_it_all(own_folders):
    script = own_folders / "terminal.ipy"
    script.write_text(_TERMINAL)
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    script.unlink()
    started = "scopekit started 1 worker; %scopekit stop ends it"
    for expected in (
        started,
        "out",
        "Task t: done",
        "21",
        "ZeroDivisionError",
        "y is 40",
        "worker(0)",
    ):
        assert expected in done.stdout, done.stdout + done.stderr


_FIGURE = """%%spawn name='draw'
import matplotlib
matplotlib.use("agg")
import matplotlib.pyplot as plt
figure, axes = plt.subplots()
axes.plot([1, 2, 3])
figure"""


def test_a_figure_is_drawn_where_it_was_made_and_shown_under_its_own_cell(notebook):
    """A figure of pyplot that is read here would be the notebook's, drawn by the next cell."""
    cell = notebook.shows(_FIGURE, "<Figure size 640x480 with 1 Axes>")
    later = notebook.run("2 + 2")

    pictures = [out["data"]["image/png"] for out in cell.outputs if "image/png" in out["data"]]
    assert len(pictures) == 1
    assert len(pictures[0]) > 10_000
    assert later.text == "4"
