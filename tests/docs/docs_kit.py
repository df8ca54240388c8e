"""What the documentation tests read out of Markdown."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is where its fence stands, from 1."""

    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks(language: str, *documents: Path) -> list[Block]:
    return [
        Block(document, text[: match.start()].count("\n") + 1, match[1], match[2])
        for document in documents or DOCUMENTS
        for text in [document.read_text(encoding="utf-8")]
        for match in _FENCE.finditer(text)
        if match[1] == language
    ]


def shell_lines(*documents: Path) -> list[tuple[str, str]]:
    """(place, command) of every line of the sh blocks."""
    return [
        (f"{block}+{i}", line.strip())
        for block in blocks("sh", *documents)
        for i, line in enumerate(block.text.splitlines(), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]


def inline_code(document: Path) -> list[str]:
    return _INLINE.findall(_FENCE.sub("", document.read_text(encoding="utf-8")))


def links(document: Path) -> list[str]:
    """Relative links, without the part after #."""
    found = _LINK.findall(_FENCE.sub("", document.read_text(encoding="utf-8")))
    return [link.partition("#")[0] for link in found if "://" not in link and not link.startswith("#")]


def isolated(home: Path) -> dict[str, str]:
    """An environment without keys, settings or a home of the user's own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().endswith("_API_KEY") and not name.startswith(("XROUTER_", "XDG_"))
    }
    return {**kept, "HOME": str(home)}
