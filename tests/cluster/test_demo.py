"""The demo tells its stories, writes its report, and leaves nothing behind when cut short."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scopekit.wire import reaper

pytest.importorskip("cv2")

LIMIT = 60


def demo(folder, *options):
    command = [sys.executable, "-m", "scopekit", "demo", "--headless", "--out", str(folder)]
    return [*command, *options]


def test_the_demo_tells_all_and_writes_one_page(tmp_path):
    began = time.monotonic()
    answer = subprocess.run(
        demo(tmp_path / "out"), capture_output=True, text=True, timeout=LIMIT, check=False
    )

    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stderr == ""
    assert "6 of 6 stories went as they should." in answer.stdout
    assert time.monotonic() - began < LIMIT
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.html"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<svg") > 2
    assert "read frame 1" in page
    for outside in ('src="http', 'href="http', "url(http", "@import"):
        assert outside not in page


def test_a_wrong_story_gives_exit_code_1(tmp_path):
    answer = subprocess.run(
        demo(tmp_path / "out", "--camera", "99"),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )

    assert answer.returncode == 1
    assert "5 of 6 stories went as they should." in answer.stdout
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "terminated"])
@pytest.mark.parametrize("moment", ["Starting four engines", "1. A camera"])
def test_an_interrupted_demo_leaves_nothing(sign, moment, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch), "SCOPEKIT_TEST_MARK": str(tmp_path)}
    process = subprocess.Popen(
        demo(tmp_path / "out"),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        for line in process.stdout:
            if moment in line:
                break
        # a terminal's Ctrl-C reaches every process of the group
        os.killpg(process.pid, sign)
        _, error = process.communicate(timeout=LIMIT)

    assert process.returncode == 130
    assert error == "scopekit: interrupted; its engines are ended\n"
    deadline = time.monotonic() + LIMIT
    while left := _left(scratch, tmp_path):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def _left(scratch, mark):
    alive = [f"process {pid}" for pid in reaper.marked_processes([f"SCOPEKIT_TEST_MARK={mark}"])]
    return alive + [str(path) for path in Path(scratch).glob("scopekit-*")]
