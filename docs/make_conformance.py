"""Writes the tables of the page on conformance from the tests that have numbers."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).parent / "conformance.md"
_MARK, _END = "<!-- table of cases -->", "<!-- end -->"
# Each with the number of its last case.
_PARTS = {
    "Scopes as values": 15,
    "Intersection": 45,
    "The `scope()` helper": 70,
    "Keys of one's own": 78,
    "Which processors there are": 88,
    "Placement by the scopes of arguments": 104,
    "`compute_scope` and `result_scope`": 124,
    "What can be placed nowhere": 134,
    "Options": 149,
    "`mutable` and `shard`": 162,
    "Futures, errors, queues, cancelling, checkpoints, what happened": 184,
    "Access to values": 189,
}


def numbered() -> dict[str, list[tuple[str, str]]]:
    """Returns each case with the files and names of the tests that have its number."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for each in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(each, ast.FunctionDef) and each.name.startswith("test_"):
                for case in _cases(each):
                    found.setdefault(case, []).append((path.name, each.name))
    return found


def _cases(test: ast.FunctionDef) -> list[str]:
    named = re.findall(r"(?<![a-z0-9])c\d{3}(?![0-9])", test.name)
    said = re.findall(r"\bC\d{3}\b", ast.get_docstring(test) or "")
    return sorted({case.upper() for case in named} | set(said))


def with_tables(page: str) -> str:
    """Returns the text of a page with the tables put in place of what stands there."""
    tests = numbered()
    lines, first = [_MARK], 0
    for part, last in _PARTS.items():
        lines += [f"### {part}", "", "| case | what is shown | where |", "|--|--|--|"]
        within = (case for case in sorted(tests) if first < int(case[1:]) <= last)
        lines += [_row(case, *test) for case in within for test in tests[case]]
        lines.append("")
        first = last
    tables = "\n".join([*lines, _END])
    # As a function: backslashes mean nothing in what it returns.
    return re.sub(rf"{_MARK}\n.*?{_END}", lambda _: tables, page, flags=re.DOTALL)


def _row(case: str, file: str, name: str) -> str:
    words = re.sub(r"^test_(c\d{3}_)*", "", name).replace("_", " ")
    return f"| {case} | {words} | `{file}` |"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
