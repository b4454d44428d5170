"""A marker in sealed values is searched for everywhere outside of their scope."""

import secrets
import traceback
from pathlib import Path

import pytest

import scopekit as sk
from scopekit.errors import ScopekitError
from scopekit.report import write_report

INSIDE = sk.ProcessScope(1)


def make(folder):
    """Make the marker where it is valid; only the file that the test reads has it besides."""
    marker = secrets.token_hex(12)
    (Path(folder) / "marker").write_text(marker)
    return sk.tochunk({"key": marker, "rows": [marker] * 3}, scope=sk.sealed(sk.ProcessScope()))


def tell(value):
    import logging
    import sys
    import warnings

    print(value)
    print(value, file=sys.stderr)
    logging.getLogger("canary").error("%s", value)
    warnings.warn(str(value), stacklevel=1)
    return value


def fail(value):
    raise RuntimeError(f"cannot use {value}")


def fail_late(value):
    try:
        fail(value)
    except RuntimeError as error:
        raise LookupError(value["key"]) from error


def spread(value):
    return sk.spawn(str, value)


def keep_by_hand(value):
    return [sk.tochunk(value["key"]), sk.tochunk(value["rows"])]


def exercise(session, folder):
    """Do to a sealed value what users do; returns the marker and every text that came of it."""
    secret = session.options(name="make", scope=INSIDE).spawn(make, folder)
    secret.wait(30)
    tasks = [session.spawn(f, secret) for f in (tell, fail, fail_late, spread, keep_by_hand, str)]
    tasks += [session.spawn(str, task) for task in tasks]
    tasks.append(session.spawn(len, secret, result_scope=sk.AnyScope()))
    texts = []
    for task in [secret, *tasks]:
        try:
            texts.append(repr(task.result(30)))
        except Exception as error:  # noqa: BLE001  # every error is looked at
            texts += traceback.format_exception(error)
        texts += [repr(task), task._repr_html_(), str(task.facts()), task.stdout, task.stderr]
        texts += [str(task.explain()), task.explain()._repr_html_()]
        try:
            chunk = session.fetch(task, raw=True, timeout=30)
        except Exception as error:  # noqa: BLE001  # every error is looked at
            texts += traceback.format_exception(error)
        else:
            texts += [repr(chunk), chunk._repr_html_(), str(chunk.facts())]
    with pytest.raises(ScopekitError):
        session.rescope(secret, sk.AnyScope())
    texts += [repr(session), session._repr_html_(), str(session.statistics())]
    texts += [str(session.events()), str(session.rescopings), str(session.summary())]
    texts += [str(session.graph().nodes(data=True)), str(session.graph().edges(data=True))]
    return (Path(folder) / "marker").read_text(), texts


def found_in(marker, texts, folders, inside):
    """Where the marker turned up outside of its scope."""
    found = [text[:200] for text in texts if marker in text]
    for folder in folders:
        paths = [path for path in folder.rglob("*") if path.is_file() and path != inside]
        found += [str(path) for path in paths if marker.encode() in _bytes(path)]
    return found


def _bytes(path):
    try:
        return path.read_bytes()
    except OSError:  # a socket, or gone since
        return b""


def test_nothing_of_a_sealed_value_is_found_outside_of_its_scope(
    session, own_folders, tmp_path, capfd, caplog
):
    inside = tmp_path / "inside"
    inside.mkdir()
    marker, texts = exercise(session, str(inside))
    session.run(lambda: None)
    report = tmp_path / "report.html"
    write_report(session, report)
    texts += [*capfd.readouterr(), caplog.text, report.read_text()]

    assert found_in(marker, texts, [own_folders, Path.cwd()], inside / "marker") == []


def test_a_planted_leak_is_found(session, own_folders, tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    marker, texts = exercise(session, str(inside))
    told = session.spawn(
        lambda d: sk.rescope(sk.tochunk(d["key"]), sk.AnyScope(), declassify=True),
        session.spawn(lambda m: sk.tochunk({"key": m}, sealed=True), marker),
    )
    (tmp_path / "log").write_text(f"task gave {told.result(30)}")

    assert found_in(marker, [*texts, told.result(30)], [own_folders], inside / "marker") == [
        marker,
        str(tmp_path / "log"),
    ]
