"""What calls brought, one JSON line each, written as they come in: nothing that was paid for is lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from ..errors import ConfigurationError, DataError


@dataclass(frozen=True, slots=True)
class Row:
    """One model's answer to one task, ungraded. A failed call has an `error` and is asked again on resuming.

    cost_usd: what the call was charged; for a failed call, what it may at most have cost.
    answer: the final answer where the provider knows it; None = read it from the text.
    estimated: the tokens were not reported but estimated.
    """

    query_id: str
    model: str
    cost_usd: Decimal
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_s: float = 0.0
    estimated: bool = False
    text: str = ""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    answer: str | None = None
    error: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.query_id, self.model


class Journal:
    """An append-only file of rows. `rows` holds all of them, those of earlier runs first.

    Raises ConfigurationError where a journal is found but not expected, DataError naming a line that does not
    fit. A last line cut short by a crash is removed.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        if path.exists() and not resume:
            raise ConfigurationError(
                f"{path} exists: pass --resume to go on with that collection, or choose another folder with --out"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.rows: list[Row] = _read(path) if path.exists() else []
        self._file: TextIO = path.open("a", encoding="utf-8")

    def append(self, row: Row) -> None:
        self._file.write(json.dumps(asdict(row), default=str) + "\n")
        self._file.flush()
        self.rows.append(row)

    @property
    def answered(self) -> dict[tuple[str, str], Row]:
        """The rows of calls that succeeded, by query id and model."""
        return {row.key: row for row in self.rows if row.error is None}

    @property
    def spent_usd(self) -> Decimal:
        return sum((row.cost_usd for row in self.rows), Decimal(0))

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _read(path: Path) -> list[Row]:
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return [_row(path, number, line) for number, line in enumerate(whole.splitlines(), start=1)]


def _row(path: Path, number: int, line: bytes) -> Row:
    try:
        fields = json.loads(line)
        return Row(
            **{
                **fields,
                "cost_usd": Decimal(fields["cost_usd"]),
                "tool_calls": tuple(fields.get("tool_calls", ())),
            }
        )
    except (ValueError, KeyError, TypeError, InvalidOperation) as error:
        raise DataError(f"{path} line {number} is not a row of a collection: {error}") from error
