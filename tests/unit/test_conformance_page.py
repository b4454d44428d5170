import re
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
# Numbers up to 189 that were never given.
NONE = "11 29 37 44 59 63 66 72 94 98 101 108 113 118 120 128 133 141 144 154 161 165 169 182 188"


@pytest.fixture
def maker(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    sys.modules.pop("make_conformance", None)
    import make_conformance

    return make_conformance


def test_the_page_has_the_cases_as_the_tests_are(maker):
    page = maker.PAGE.read_text(encoding="utf-8")

    assert maker.with_tables(page) == page
    assert page.count("| C168 |") == 1


def test_every_case_has_a_test(maker):
    given = {f"C{number:03}" for number in range(1, 190) if str(number) not in NONE.split()}

    assert maker.numbered().keys() == given


def test_each_case_that_is_answered_otherwise_has_a_test(maker):
    otherwise, _, _ = maker.PAGE.read_text(encoding="utf-8").partition("## Which test")

    assert set(re.findall(r"C\d{3}", otherwise)) <= maker.numbered().keys()
