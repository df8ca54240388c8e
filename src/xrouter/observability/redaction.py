"""The redaction hook: a user's own function text -> text over every string of what is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..dotted import load_callable

Redact = Callable[[str], str]


def load_redaction(path: str | None) -> Redact | None:
    """Raises ConfigurationError where the setting `observability.redact` leads nowhere."""
    return None if path is None else load_callable(path, setting="observability.redact")


def redacted(value: Any, redact: Redact | None) -> Any:
    """A copy of JSON-like data whose every string has gone through `redact`; keys stay as they are.

    Raises what the hook raises, and TypeError where it returns no text: then nothing may be kept.
    """
    if isinstance(value, str):
        text = value if redact is None else redact(value)
        if not isinstance(text, str):
            raise TypeError(f"the redaction hook returned {type(text).__name__}, not text")
        return text
    if isinstance(value, Mapping):
        return {key: redacted(item, redact) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(item, redact) for item in value]
    return value
