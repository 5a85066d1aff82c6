"""The threat table names proofs that are there."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TABLE = (TESTS.parent / "docs" / "security.md").read_text()


def proofs_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_every_proof_that_the_threat_table_names_is_there() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", TABLE)
    assert len(named) > 40
    assert [f"{file}::{name}" for file, name in named if name not in proofs_in(TESTS / file)] == []


def test_every_threat_has_a_proof() -> None:
    rows = [line for line in TABLE.splitlines() if line.startswith("| ") and line.count("|") == 4]
    without = [row for row in rows if "::" not in row and not row.startswith(("| threat |", "| --- |"))]
    assert len(rows) > 20
    assert without == []
