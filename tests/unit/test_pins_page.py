import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_has_the_table_as_the_rules_are(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    sys.modules.pop("make_pins", None)
    import make_pins

    page = make_pins.PAGE.read_text(encoding="utf-8")

    assert make_pins.with_table(page) == page
    assert page.count("| 35 |") == 1
