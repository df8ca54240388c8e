"""Reading TOML tables key by key, so that every mistake names file, dotted key and value."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from .errors import ConfigurationError

_SECRET = re.compile("key|token|secret|password|authorization", re.IGNORECASE)


def nearest(word: str, known: Iterable[str]) -> str:
    """'; did you mean ...?' where a known word comes close, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


class Reader:
    """Reads one TOML table by name -> reader; remembers file and dotted key, for messages."""

    def __init__(self, file: str, table: Mapping[str, Any], prefix: str = "") -> None:
        self.file = file
        self.table = table
        self.prefix = prefix

    def read(self, readers: Mapping[str, Callable[[Reader, str], Any]]) -> dict[str, Any]:
        for key in self.table:
            if key not in readers:
                raise ConfigurationError(
                    f"{self.file}: unknown key {self.dotted(key)} = {_shown(key, self.table[key])}"
                    f"{nearest(key, readers)} (known: {', '.join(readers)})",
                    param=self.dotted(key),
                )
        return {key: readers[key](self, key) for key in self.table}

    def dotted(self, key: str) -> str:
        return f"{self.prefix}.{key}" if self.prefix else key

    def wrong(self, key: str, wanted: str) -> ConfigurationError:
        value = self.table[key]
        return ConfigurationError(
            f"{self.file}: {self.dotted(key)} must be {wanted}, got {_shown(key, value)}",
            param=self.dotted(key),
        )

    def text(self, key: str) -> str:
        value = self.table[key]
        if not isinstance(value, str) or not value:
            raise self.wrong(key, "a non-empty string")
        return value

    def path(self, key: str) -> Path:
        return Path(self.text(key)).expanduser()

    def flag(self, key: str) -> bool:
        value = self.table[key]
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.table[key]
        if not isinstance(value, list) or not value or not all(isinstance(v, str) and v for v in value):
            raise self.wrong(key, 'a non-empty list of strings such as ["gpt-4o-mini"]')
        return tuple(value)

    def subtable(self, key: str) -> Reader:
        value = self.table[key]
        if not isinstance(value, dict):
            raise self.wrong(key, f"a table, written [{self.dotted(key)}]")
        return Reader(self.file, value, self.dotted(key))

    def subtables(self, key: str) -> dict[str, Reader]:
        outer = self.subtable(key)
        return {name: outer.subtable(name) for name in outer.table}

    def text_map(self, key: str) -> dict[str, str]:
        inner = self.subtable(key)
        return {name: inner.text(name) for name in inner.table}


def whole(low: int, high: int | None = None) -> Callable[[Reader, str], int]:
    """A reader of whole numbers in [low, high]."""

    def read(reader: Reader, key: str) -> int:
        value = reader.table[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < low or (high or value) < value:
            upper = "" if high is None else f" to {high}"
            raise reader.wrong(key, f"a whole number from {low}{upper}")
        return value

    return read


def number(low: float, high: float = math.inf, *, above: bool = False) -> Callable[[Reader, str], float]:
    """A reader of finite numbers in [low, high], or strictly above `low`."""

    def read(reader: Reader, key: str) -> float:
        value = reader.table[key]
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not good or value > high or value < low or (above and value == low):
            limits = f"above {low}" if above else f"from {low}"
            raise reader.wrong(key, f"a number {limits}" + (f" to {high}" if high < math.inf else ""))
        return float(value)

    return read


def one_of(*choices: str) -> Callable[[Reader, str], str]:
    """A reader of one of these words."""

    def read(reader: Reader, key: str) -> str:
        value = reader.text(key)
        if value not in choices:
            raise reader.wrong(key, f"one of {', '.join(choices)}")
        return value

    return read


def _shown(key: str, value: object) -> str:
    """The value for a message; never a secret that was put where only its name belongs."""
    return "(not shown)" if _SECRET.search(key) and not isinstance(value, (int, float)) else repr(value)
