"""What the routing model replied, one JSON line each, written as it comes in: nothing that was paid for is lost.

The first line says what was asked; a journal goes on only with the same. Replies decide everything else, since recorded
models always answer alike: an episode whose replies are all here is played again without asking.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from ...errors import ConfigurationError, DataError
from ...messages import Completion, Message, Usage

Key = tuple[str, float, int]


@dataclass(frozen=True, slots=True)
class RouterReply:
    """The reply in one turn (from 1) of one query at one cost weight.

    cost_usd: what it was charged; where it failed, what it may at most have cost. error: why there was no reply; such a
    decision is asked for again by the next run.
    """

    query_id: str
    point: float
    turn: int
    usage: Usage
    cost_usd: Decimal
    seconds: float
    message: Message = field(default_factory=dict)
    finish_reason: str = "stop"
    error: str | None = None

    @property
    def key(self) -> Key:
        return self.query_id, self.point, self.turn

    @property
    def completion(self) -> Completion:
        return Completion(self.message, self.usage, self.finish_reason, latency_s=self.seconds)


class ReplyJournal:
    """An append-only file. Raises ConfigurationError where it belongs to other questions, DataError naming a line that
    does not fit. A last line cut short by a crash is removed."""

    def __init__(self, path: Path, setting: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.rows: list[RouterReply] = []
        self._usable: dict[Key, RouterReply] = {}
        lines = _whole_lines(path) if path.exists() else []
        if lines:
            _compare(path, _json(path, 1, lines[0]).get("setting"), setting)
            for number, line in enumerate(lines[1:], start=2):
                self._take(_row(path, number, line))
        self.found = len(self._usable)
        """Replies of earlier runs."""
        self._file: TextIO = path.open("a", encoding="utf-8")
        if not lines:
            self._write({"setting": dict(setting)})

    def reply(self, key: Key) -> RouterReply | None:
        return self._usable.get(key)

    def append(self, row: RouterReply) -> None:
        self._write(asdict(row))
        self._take(row)

    @property
    def spent_usd(self) -> Decimal:
        return sum((row.cost_usd for row in self.rows), Decimal(0))

    def __enter__(self) -> ReplyJournal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _write(self, value: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(value, default=str) + "\n")
        self._file.flush()

    def _take(self, row: RouterReply) -> None:
        self.rows.append(row)
        if row.error is None:
            self._usable[row.key] = row


def _whole_lines(path: Path) -> list[bytes]:
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    return whole.splitlines()


def _json(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise DataError(f"{path} line {number} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise DataError(f"{path} line {number} is not a JSON object")
    return found


def _row(path: Path, number: int, line: bytes) -> RouterReply:
    fields = _json(path, number, line)
    try:
        usage, cost = Usage(**fields.pop("usage")), Decimal(fields.pop("cost_usd"))
        return RouterReply(**fields, usage=usage, cost_usd=cost)
    except (KeyError, TypeError, InvalidOperation) as error:
        raise DataError(f"{path} line {number} is not a reply of a router: {error!r}") from error


def _compare(path: Path, found: Any, wanted: Mapping[str, Any]) -> None:
    plain = json.loads(json.dumps(dict(wanted), default=str))
    found = found if isinstance(found, dict) else {}
    for name in {**plain, **found}:
        if found.get(name) != plain.get(name):
            raise ConfigurationError(
                f"{path} holds replies given with {name} = {found.get(name)!r}, now it is {plain.get(name)!r}: choose "
                "another --out, or remove the file to ask (and pay) again",
                param=name,
            )
