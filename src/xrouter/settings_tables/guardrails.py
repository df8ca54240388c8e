"""The [guardrails] table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..toml_reader import Reader, number, one_of

OnError = Literal["refuse", "pass"]


@dataclass(frozen=True, slots=True)
class GuardrailSettings:
    """A user's own checks, by dotted path, in this order.

    before: called with the request; after: with the request and the completion.
    on_error: what becomes of a request whose hook failed or took longer than `timeout_s` seconds.
    """

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    on_error: OnError = "refuse"
    timeout_s: float = 5.0


_READERS: Mapping[str, Callable[[Reader, str], Any]] = {
    "before": Reader.texts,
    "after": Reader.texts,
    "on_error": one_of(*get_args(OnError)),
    "timeout_s": number(0, above=True),
}


def read_guardrails(reader: Reader, key: str) -> GuardrailSettings:
    return GuardrailSettings(**reader.subtable(key).read(_READERS))
