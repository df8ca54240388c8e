"""docs/architecture.md names what is there: every file, every symbol, every package."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from docs_kit import DOCUMENTS, ROOT, inline_code

SOURCE = ROOT / "src" / "xrouter"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
_REFERENCE = re.compile(r"(?:src/xrouter/)?([\w/]+\.py)(?::([\w.]+))?")


@cache
def symbols(path: Path) -> frozenset[str]:
    """Names bound at the top of a module and, as Class.name, in its classes."""
    found: set[str] = set()

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{prefix}{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            found.update(prefix + target.id for target in targets if isinstance(target, ast.Name))

    visit(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return frozenset(found)


def references(document: Path) -> list[tuple[str, str | None]]:
    matches = (_REFERENCE.fullmatch(code) for code in inline_code(document))
    return [(match[1], match[2]) for match in matches if match]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_and_symbols_exist(document: Path) -> None:
    for file, symbol in references(document):
        path = (ROOT if file.startswith("benchmarks/") else SOURCE) / file
        assert path.is_file(), f"{document.name} names {file}"
        if symbol is not None:
            assert symbol in symbols(path), f"{document.name} names {file}:{symbol}"


def test_the_walk_names_many_symbols() -> None:
    assert len([symbol for _, symbol in references(ARCHITECTURE) if symbol]) > 50


def test_every_package_and_top_module_is_named() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    packages = [path.parent.name for path in SOURCE.glob("*/__init__.py")]
    modules = [path.name for path in SOURCE.glob("*.py") if not path.name.startswith("__")]
    assert [name for name in packages if f"`{name}/`" not in text] == []
    assert [name for name in modules if f"`{name}`" not in text] == []


def test_every_numbered_step_follows_the_last() -> None:
    """The walks count 1, 2, 3 ... without a gap, so that a step can be cited."""
    for heading in (
        "One request, numbered",
        "Training, numbered",
        "Training a language model to route, numbered",
    ):
        section = ARCHITECTURE.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
        steps = [int(number) for number in re.findall(r"^(\d+)\. ", section, re.MULTILINE)]
        assert steps == list(range(1, len(steps) + 1))
