"""Bodies and queries of the admin API: JSON in, checked values out. Every refusal names the field."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from ..accounts.budget import Budget
from ..errors import RequestError
from ..ledger.moments import moment
from ..settings_tables.access import Limits
from ..toml_reader import nearest

MAX_LIMIT = 1000
MAX_BUDGETS = 4
LIMITS = ("requests_per_minute", "tokens_per_minute", "parallel_requests")


def json_object(body: bytes) -> dict[str, Any]:
    """The object in a body; an empty one is {}."""
    try:
        data = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise RequestError(f"the body must be a JSON object, got {type(data).__name__}")
    return data


def key_fields(data: Mapping[str, Any], now: float) -> dict[str, Any]:
    """The fields of a key that the body sets, for `manage.create_key` and `manage.change_key`."""
    fields = _read(data, _KEY_FIELDS)
    if "expires_in_s" in fields:
        if "expires_at" in fields:
            raise RequestError(
                "expires_in_s and expires_at exclude each other: give one", param="expires_in_s"
            )
        lifetime_s = fields.pop("expires_in_s")
        fields["expires_at"] = None if lifetime_s is None else now + lifetime_s
    return fields


def account_fields(data: Mapping[str, Any], *, new: bool) -> dict[str, Any]:
    """The fields of a user, team or tag that the body sets; `id` only of a new one."""
    return _read(data, {"id": _text, **_ACCOUNT_FIELDS} if new else _ACCOUNT_FIELDS)


def grace_s(data: Mapping[str, Any]) -> float:
    return float(_read(data, {"grace_s": _seconds}).get("grace_s") or 0)


def page_of(query: Mapping[str, str], default: int) -> int:
    """The `limit` of a list."""
    return _whole_text(query, "limit", default, 1, MAX_LIMIT)


def offset_of(query: Mapping[str, str]) -> int:
    return _whole_text(query, "offset", 0, 0, 10**9)


def moment_of(query: Mapping[str, str], name: str, now: float) -> float | None:
    """Unix seconds, a span back from now (7d) or an ISO date."""
    text = query.get(name)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        return moment(text, now, name)
    if not math.isfinite(seconds):
        raise RequestError(f"{name} must be a time, got {text!r}", param=name)
    return seconds


def known_query(query: Mapping[str, str], *names: str) -> None:
    for name, value in query.items():
        if name not in names:
            raise RequestError(
                f"query parameter {name!r} is unknown; there are {', '.join(names)}{nearest(name, names)}",
                param=name,
            )
        if not value.isprintable():
            raise RequestError(f"{name} must be printable text, got {value!r}", param=name)


def _read(data: Mapping[str, Any], readers: Mapping[str, Callable[[Any, str], Any]]) -> dict[str, Any]:
    for name in data:
        if name not in readers:
            raise RequestError(
                f"{name} is no field here; there are {', '.join(readers)}{nearest(name, readers)}", param=name
            )
    return {name: readers[name](value, name) for name, value in data.items()}


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise RequestError(f"{name} must be text, got {_kind(value)}", param=name)
    return value


def _text_or_none(value: Any, name: str) -> str | None:
    return None if value is None else _text(value, name)


def _texts(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise RequestError(f"{name} must be a list of texts, got {_kind(value)}", param=name)
    return tuple(_text(item, name) for item in value)


def _texts_or_none(value: Any, name: str) -> tuple[str, ...] | None:
    return None if value is None else _texts(value, name)


def _seconds(value: Any, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e11:
        raise RequestError(f"{name} must be a number of seconds from 0 up, got {_kind(value)}", param=name)
    return float(value)


def budgets(value: Any, name: str = "budgets") -> tuple[Budget, ...]:
    """From [{"amount_usd": "10", "period": "month"}]."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise RequestError(
            f'{name} must be a list such as [{{"amount_usd": "10", "period": "month"}}], got {_kind(value)}',
            param=name,
        )
    if len(value) > MAX_BUDGETS:
        raise RequestError(f"{name} may hold one budget a period: day, week, month, total", param=name)
    return tuple(_budget(item, f"{name}[{i}]") for i, item in enumerate(value))


def _budget(data: Mapping[str, Any], name: str) -> Budget:
    for wanted in ("amount_usd", "period"):
        if wanted not in data:
            raise RequestError(f"{name}.{wanted} is missing", param=f"{name}.{wanted}")
    fields = _read(data, {"amount_usd": _dollars, "period": _text})
    return Budget(fields["amount_usd"], fields["period"])


def _dollars(value: Any, name: str) -> Decimal:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        try:
            return Decimal(str(value))
        except InvalidOperation:
            pass
    raise RequestError(f'{name} must be an amount of US dollars such as "2.50", got {value!r}', param=name)


def _limits(value: Any, name: str) -> Limits:
    if not isinstance(value, dict):
        raise RequestError(
            f"{name} must be an object with {', '.join(LIMITS)}, got {_kind(value)}", param=name
        )
    return Limits(**_read(value, dict.fromkeys(LIMITS, _limit)))


def _limit(value: Any, name: str) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10**12:
        raise RequestError(f"{name} must be a whole number from 1 up, or null for none", param=name)
    return value


def _whole_text(query: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = query.get(name, str(default))
    if not text.isascii() or not text.isdecimal() or len(text) > 10 or not low <= int(text) <= high:
        raise RequestError(f"{name} must be a whole number from {low} to {high}, got {text!r}", param=name)
    return int(text)


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__


_ACCOUNT_FIELDS: Mapping[str, Callable[[Any, str], Any]] = {"budgets": budgets, "limits": _limits}
_KEY_FIELDS: Mapping[str, Callable[[Any, str], Any]] = {
    "name": _text,
    "user": _text_or_none,
    "team": _text_or_none,
    "models": _texts_or_none,
    "tags": _texts,
    "expires_at": _seconds,
    "expires_in_s": _seconds,
    **_ACCOUNT_FIELDS,
}
