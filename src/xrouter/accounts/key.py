"""Virtual keys: what a client shows to be served.

A secret is 256 random bits, so its plain SHA-256 is all that need be stored: a slow hash protects words that people
choose, which can be guessed; this cannot, whatever a guess costs.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from hmac import compare_digest

from ..settings_tables.access import NO_LIMITS, Limits
from .budget import Budget

PREFIX = "xr-"
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_LENGTH = 43
"""Digits of base 62 that hold 256 bits."""
_SECRET = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_LENGTH}}}")


@dataclass(frozen=True, slots=True)
class VirtualKey:
    """Times are Unix seconds.

    hash: SHA-256 of the secret, in hex; shown: how the secret begins, to recognise it by.
    user, team: whose budgets and limits it shares.
    models: names or globs of the pool's models that it may use; None = all.
    tags: every request of this key carries them.
    revoked: since when it is good for nothing.
    previous_hash, previous_until: the secret before the last rotation, and until when it is still taken.
    """

    id: str
    name: str
    hash: str = field(repr=False)
    shown: str
    created: float
    user: str | None = None
    team: str | None = None
    models: tuple[str, ...] | None = None
    tags: tuple[str, ...] = ()
    expires_at: float | None = None
    revoked: float | None = None
    budgets: tuple[Budget, ...] = ()
    limits: Limits = NO_LIMITS
    previous_hash: str | None = field(default=None, repr=False)
    previous_until: float | None = None

    def refusal(self, secret_hash: str, now: float) -> str | None:
        """Why a secret with this hash does not open the gateway now; None if it does."""
        if self.revoked is not None:
            return "is revoked"
        if self.expires_at is not None and now >= self.expires_at:
            return "has expired"
        if compare_digest(secret_hash, self.hash):
            return None
        if self.previous_hash is None or not compare_digest(secret_hash, self.previous_hash):
            return "is unknown"
        if self.previous_until is None or now >= self.previous_until:
            return "was replaced by a newer one"
        return None


def new_secret() -> str:
    """`xr-` and 256 random bits in base 62."""
    number, digits = secrets.randbits(256), []
    for _ in range(_LENGTH):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return PREFIX + "".join(reversed(digits))


def new_id() -> str:
    return secrets.token_hex(6)


def is_secret(text: str) -> bool:
    """Whether a text has the form of a secret; nothing else is worth a look into the store."""
    return _SECRET.fullmatch(text) is not None


def hash_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def shown(secret: str) -> str:
    """The first characters, with too little of the secret to be of use."""
    return secret[: len(PREFIX) + 5] + "..."


@lru_cache(maxsize=1024)
def allowed(patterns: tuple[str, ...] | None, models: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `models` that a name or glob of `patterns` allows, in their order; None allows all."""
    if patterns is None:
        return models
    return tuple(model for model in models if _matches(patterns, model))


def _matches(patterns: Sequence[str], model: str) -> bool:
    return any(fnmatchcase(model, pattern) for pattern in patterns)
