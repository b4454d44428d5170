"""Every example of the README and the docs runs and prints what stands below it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [page for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")] if page.is_file()]
LIMIT = 60


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.name)
def test_examples_print_what_the_page_says(page, tmp_path):
    program = tmp_path / "example.py"
    program.write_text("".join(blocks(page, "python")))

    answer = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=LIMIT, check=False
    )

    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == "".join(blocks(page, "text")).splitlines()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text()
    links = re.findall(r'(?:\]\(|src="|srcset=")([^)"#]+)', text)
    local = [link for link in links if not link.startswith("http")]

    assert [link for link in local if not (page.parent / link).exists()] == []
