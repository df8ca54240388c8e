"""The [access] table."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ..toml_reader import Reader, number, one_of, whole
from .addresses import read_ledger

Down = Literal["open", "closed"]

_VARIABLE = re.compile("[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Limits:
    """How fast: requests and tokens (prompt and answer together) a minute, requests at the same time. None = no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    parallel_requests: int | None = None

    def over(self, default: Limits) -> Limits:
        """These limits, with the default's where one is not set."""
        return Limits(
            _first(self.requests_per_minute, default.requests_per_minute),
            _first(self.tokens_per_minute, default.tokens_per_minute),
            _first(self.parallel_requests, default.parallel_requests),
        )


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class WhenStateIsDown:
    """What happens to requests while the shared state cannot be reached: "closed" refuses those that a budget or a
    limit concerns; "open" serves them: budgets by the books alone, limits not at all."""

    budgets: Down = "closed"
    limits: Down = "open"


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Who may use the gateway, and how much.

    require_keys: whether /v1/* needs a key before the first one is made; afterwards it always does. None = only where
        the gateway listens on more than loopback.
    admin_key_env: the environment variable that holds the key of /admin, never the key itself.
    store: where keys and budgets are kept, a SQLite file or a postgresql:// URL; None = a file beside the ledger, or
        the ledger's own database.
    key_cache_s: seconds for which a process goes on trusting what it knows of a key: a key that was revoked in another
        process stops within them.
    shrink_to_budget: where a budget has too little room for a request's worst case, cap the request at what is left
        instead of refusing it.
    limits: of every key that sets none of its own.
    """

    require_keys: bool | None = None
    admin_key_env: str = "XROUTER_ADMIN_KEY"
    store: Path | str | None = None
    key_cache_s: float = 5.0
    shrink_to_budget: bool = False
    when_state_is_down: WhenStateIsDown = field(default_factory=WhenStateIsDown)
    limits: Limits = NO_LIMITS


def read_access(reader: Reader, key: str) -> AccessSettings:
    return AccessSettings(**reader.subtable(key).read(_READERS))


def _first(own: int | None, default: int | None) -> int | None:
    return default if own is None else own


def _variable(reader: Reader, key: str) -> str:
    value = reader.text(key)
    if not _VARIABLE.fullmatch(value):
        raise reader.wrong(
            key, "the name of an environment variable such as XROUTER_ADMIN_KEY, not the key itself"
        )
    return value


def _limits(reader: Reader, key: str) -> Limits:
    return Limits(**reader.subtable(key).read(_LIMIT_READERS))


def _when_down(reader: Reader, key: str) -> WhenStateIsDown:
    return WhenStateIsDown(**reader.subtable(key).read(_DOWN_READERS))


_LIMIT_READERS: Mapping[str, Callable[[Reader, str], Any]] = {
    "requests_per_minute": whole(1),
    "tokens_per_minute": whole(1),
    "parallel_requests": whole(1),
}
_DOWN_READERS: Mapping[str, Callable[[Reader, str], Any]] = {
    "budgets": one_of(*get_args(Down)),
    "limits": one_of(*get_args(Down)),
}
_READERS: Mapping[str, Callable[[Reader, str], Any]] = {
    "require_keys": Reader.flag,
    "admin_key_env": _variable,
    "store": read_ledger,
    "key_cache_s": number(0, 3600),
    "shrink_to_budget": Reader.flag,
    "when_state_is_down": _when_down,
    "limits": _limits,
}
