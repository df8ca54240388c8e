"""What an upstream's refusal means: HTTP status or error object in, ProviderError out. No I/O."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from math import isfinite

import orjson

from ..errors import (
    ProviderAuthError,
    ProviderError,
    ProviderRateLimitError,
    ProviderRequestError,
    ProviderResponseError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)

MAX_EXCERPT_CHARS = 300
_MIN_SECRET_CHARS = 4
_BY_TYPE: Mapping[str, type[ProviderError]] = {
    "rate_limit_exceeded": ProviderRateLimitError,
    "rate_limit_error": ProviderRateLimitError,
    "insufficient_quota": ProviderAuthError,
    "invalid_api_key": ProviderAuthError,
    "authentication_error": ProviderAuthError,
    "permission_error": ProviderAuthError,
    "invalid_request_error": ProviderRequestError,
    "context_length_exceeded": ProviderRequestError,
    "server_error": ProviderUnavailableError,
    "overloaded_error": ProviderUnavailableError,
    "api_error": ProviderUnavailableError,
    "timeout_error": ProviderTimeoutError,
}
_ADVICE: Mapping[type[ProviderError], str] = {
    ProviderAuthError: "check the provider's API key and the credit of its account",
    ProviderRateLimitError: "slow down or raise the account's limit",
}


def error_of_status(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    provider: str,
    model: str,
    secrets: Iterable[str] = (),
) -> ProviderError:
    """The error that an HTTP answer other than 200 stands for, with a bounded excerpt free of `secrets`."""
    error = _error_object(body)
    said = excerpt(message_of(error) or body.decode("utf-8", "replace"), secrets)
    if status == 429 and _names(error) & {"insufficient_quota"}:
        kind: type[ProviderError] = ProviderAuthError
    else:
        kind = class_of_status(status)
    return _build(kind, f"HTTP {status}", said, provider, model, retry_after_s(headers))


def error_of_object(
    error: object, *, provider: str, model: str, secrets: Iterable[str] = ()
) -> ProviderError:
    """The error that an `error` member inside a 200 answer or a stream stands for."""
    said = excerpt(message_of(error) or repr(error), secrets)
    code = error.get("code") if isinstance(error, Mapping) else None
    kind: type[ProviderError] = ProviderResponseError
    if isinstance(code, int) and not isinstance(code, bool) and 400 <= code < 600:
        kind = class_of_status(code)
    else:
        known = [_BY_TYPE[name] for name in sorted(_names(error)) if name in _BY_TYPE]
        if known:
            kind = known[0]
    return _build(kind, "an error object", said, provider, model, None)


def retry_after_s(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `Retry-After` (seconds or an HTTP date; RFC 9110, 10.2.3).

    None where the header is missing or unreadable; never negative. `now` is Unix seconds.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        seconds = _number(lower.get(name))
        if seconds is not None:
            return max(0.0, seconds * unit)
    try:
        date = parsedate_to_datetime(lower.get("retry-after", ""))
        return max(0.0, date.timestamp() - (time.time() if now is None else now))
    except (ValueError, OverflowError):
        return None


def excerpt(text: str, secrets: Iterable[str] = ()) -> str:
    """The text on one line, cut to MAX_EXCERPT_CHARS, with every secret (whole or masked by stars) replaced."""
    for secret in secrets:
        if len(secret) < _MIN_SECRET_CHARS:
            continue
        text = text.replace(secret, "[redacted]")
        if len(secret) >= 2 * _MIN_SECRET_CHARS:
            masked = re.escape(secret[:_MIN_SECRET_CHARS]) + r"[\w-]*(?:[*.]{2,}|…)[\w-]*"
            text = re.sub(masked, "[redacted]", text)
    text = " ".join(text.split())
    return text if len(text) <= MAX_EXCERPT_CHARS else text[: MAX_EXCERPT_CHARS - 1] + "…"


def message_of(error: object) -> str:
    """The words of an upstream's error member: an object with a message, or a string."""
    if isinstance(error, str):
        return error
    if isinstance(error, Mapping):
        for name in ("message", "detail", "msg"):
            if isinstance(error.get(name), str):
                return str(error[name])
    return ""


def _error_object(body: bytes) -> object:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if isinstance(parsed, list) and parsed:  # Gemini wraps its error in a list
        parsed = parsed[0]
    if isinstance(parsed, Mapping):
        return parsed.get("error") or parsed
    return None


def _names(error: object) -> set[str]:
    if not isinstance(error, Mapping):
        return set()
    return {value for value in (error.get("code"), error.get("type")) if isinstance(value, str)}


def class_of_status(status: int) -> type[ProviderError]:
    """The error class of an HTTP status that is no success."""
    if status in (401, 402, 403):
        return ProviderAuthError
    if status == 408:
        return ProviderTimeoutError
    if status == 429:
        return ProviderRateLimitError
    if 400 <= status < 500:
        return ProviderRequestError
    if status >= 500:
        return ProviderUnavailableError
    return ProviderResponseError


def _build(
    kind: type[ProviderError],
    what: str,
    said: str,
    provider: str,
    model: str,
    wait_s: float | None,
) -> ProviderError:
    message = f"provider {provider!r} answered {what} for model {model!r}"
    if said:
        message += f": {said}"
    if kind in _ADVICE:
        message += f" ({_ADVICE[kind]})"
    return kind(message, model=model, retry_after_s=wait_s)


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and isfinite(number) else None
