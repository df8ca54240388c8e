"""docs/security.md names tests that are there, and the limits that the code has."""

from __future__ import annotations

import ast
import re
from dataclasses import fields

import pytest
from docs_kit import ROOT

from xrouter.gateway.connection import ConnectionLimits

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)))


def test_many_are_named() -> None:
    assert len(NAMED) > 30


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[name for _, name in NAMED])
def test_a_named_test_exists(file: str, name: str) -> None:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, functions)}


def test_every_line_of_a_table_has_a_test() -> None:
    rows = [
        line
        for line in PAGE.splitlines()
        if line.startswith("| ") and not line.startswith(("| ---", "| They", "| It "))
    ]
    assert rows
    assert [row for row in rows if "::test_" not in row] == []


def test_the_limits_are_those_of_the_code() -> None:
    limits = {field.name: field.default for field in fields(ConnectionLimits)}
    assert f"{limits['head_s']:.0f} s for a head, {limits['body_s']:.0f} s for a body" in PAGE
    assert f"{limits['body_bytes_per_s'] // 1024} KiB of it" in PAGE
    assert f"{limits['head_bytes'] // 1024} KiB is the most" in PAGE
    assert f"after {limits['unread_s']:.0f} s the connection is cut" in PAGE
