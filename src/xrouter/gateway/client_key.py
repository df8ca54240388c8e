"""The key a client shows, wherever its API puts it."""

from __future__ import annotations

from .asgi import Scope, header


def bearer(scope: Scope) -> str | None:
    """`Authorization: Bearer <key>` (OpenAI's clients), else `x-api-key: <key>` (Anthropic's); None without either.

    Authorization wins where both are there. The key is as it came: checking it is up to the caller.
    """
    scheme, _, key = (header(scope, b"authorization") or b"").strip().partition(b" ")
    if scheme.lower() != b"bearer":
        key = header(scope, b"x-api-key") or b""
    return key.strip().decode("latin-1") or None
