"""Users, teams and tags: what several keys or requests share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import RequestError
from ..settings_tables.access import NO_LIMITS, Limits
from .budget import Budget

AccountKind = Literal["user", "team", "tag"]
ACCOUNT_KINDS: tuple[AccountKind, ...] = get_args(AccountKind)

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+:=-]{0,63}")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,100}")


@dataclass(frozen=True, slots=True)
class Account:
    """One user, team or tag with its budgets and limits. A key belongs to one user and one team at most; a request
    carries any number of tags, those of its key included. `created` is Unix seconds."""

    kind: AccountKind
    id: str
    created: float
    budgets: tuple[Budget, ...] = ()
    limits: Limits = NO_LIMITS

    @property
    def owner(self) -> str:
        """Where its budgets' scopes begin."""
        return f"{self.kind}:{self.id}"


def checked_id(text: object, param: str) -> str:
    """A name for a user, team or tag. Raises RequestError naming `param`."""
    if not isinstance(text, str) or not _ID.fullmatch(text):
        raise RequestError(
            f"{param} must be 1 to 64 letters, digits or . _ @ + : = - and begin with a letter or digit, got {text!r}",
            param=param,
        )
    return text


def checked_name(text: object, param: str = "name") -> str:
    """A key's name, for people to read. Raises RequestError naming `param`."""
    if not isinstance(text, str) or not _NAME.fullmatch(text) or text != text.strip():
        raise RequestError(
            f"{param} must be 1 to 100 printable characters without blanks around them, got {text!r}",
            param=param,
        )
    return text
