"""Who asks: a secret becomes the key behind it, with its user and team."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import KeyRefusedError, NotAllowedError
from ..settings_tables.access import AccessSettings, Limits
from .account import Account
from .budget import Budget
from .key import VirtualKey, allowed, hash_of, is_secret
from .store import PAGE, AccountStore

MAX_CACHED = 10_000


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose budgets and limits a request must fit: `owner` is `key:<id>`, `user:<id>`, `team:<id>`, `tag:<id>`, or
    `anonymous` for all requests without a key together."""

    owner: str
    budgets: tuple[Budget, ...]
    limits: Limits

    @property
    def bounded(self) -> bool:
        return bool(self.budgets) or self.limits != Limits()

    def __str__(self) -> str:
        kind, _, name = self.owner.partition(":")
        return f"{kind} {name!r}" if name else "requests without a key"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request; `key` is None where none was needed. `subjects` holds only those with budgets or limits."""

    key: VirtualKey | None
    subjects: tuple[Subject, ...] = ()

    @property
    def key_id(self) -> str | None:
        return None if self.key is None else self.key.id

    @property
    def user(self) -> str | None:
        return None if self.key is None else self.key.user

    @property
    def team(self) -> str | None:
        return None if self.key is None else self.key.team

    @property
    def tags(self) -> tuple[str, ...]:
        return () if self.key is None else self.key.tags

    def allowed(self, models: Sequence[str]) -> tuple[str, ...]:
        """Those of these models of the pool that the key may use. Raises NotAllowedError where it is none of them."""
        patterns = None if self.key is None else self.key.models
        good = allowed(patterns, tuple(models))
        if not good and models:
            asked = repr(models[0]) if len(models) == 1 else "any model of the pool"
            raise NotAllowedError(
                f"this key may not use {asked}; it is good for {', '.join(patterns or ())}", param="model"
            )
        return good


class Callers:
    """Looks keys up, and remembers what it found for `key_cache_s` seconds. `forget` when keys have changed here;
    what another process changed is seen once the memory is that old. clock: seconds, never going back."""

    def __init__(
        self,
        store: AccountStore,
        access: AccessSettings,
        *,
        require_keys: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._access = access
        self._require_keys = require_keys
        self._clock = clock
        self._known: dict[str, tuple[Caller, float]] = {}
        self._lookups: dict[str, asyncio.Task[Caller]] = {}
        self._tags: dict[str, Subject] = {}
        self._tags_until = self._open_until = float("-inf")
        self._anonymous = Caller(None, bounded([Subject("anonymous", (), access.limits)]))

    def forget(self) -> None:
        self._known.clear()
        self._lookups.clear()
        self._tags_until = self._open_until = float("-inf")

    async def identify(self, secret: str | None, now: float) -> Caller:
        """The caller behind a secret at Unix time `now`. Raises KeyRefusedError, AccountsError."""
        if not self._require_keys and await self._is_open():
            return self._anonymous
        if secret is None:
            raise KeyRefusedError(
                "an API key is needed: send it as 'Authorization: Bearer xr-...' or 'x-api-key: xr-...'"
            )
        if not is_secret(secret):
            raise KeyRefusedError(
                "this API key is none of ours: they begin with 'xr-' and have 46 characters"
            )
        secret_hash = hash_of(secret)
        found = self._known.get(secret_hash)
        caller = found[0] if found and self._clock() < found[1] else await self._shared_look_up(secret_hash)
        assert caller.key is not None
        refusal = caller.key.refusal(secret_hash, now)
        if refusal is not None:
            raise KeyRefusedError(f"this API key {refusal}: ask for another")
        return caller

    async def tagged(self, tags: Sequence[str]) -> tuple[Subject, ...]:
        """The subjects of those tags that have budgets or limits. Raises AccountsError."""
        if self._clock() >= self._tags_until:
            until = self._clock() + self._access.key_cache_s
            self._tags = {account.id: subject for account, subject in await self._all_tags()}
            self._tags_until = until
        return tuple(self._tags[tag] for tag in dict.fromkeys(tags) if tag in self._tags)

    async def _is_open(self) -> bool:
        """Whether nobody has made a key yet. Once there is one there always is: keys are never deleted."""
        if self._clock() < self._open_until:
            return True
        until = self._clock() + self._access.key_cache_s
        if await self._store.has_keys():
            self._require_keys = True
            return False
        self._open_until = until
        return True

    async def _shared_look_up(self, secret_hash: str) -> Caller:
        """Requests of one key that come at once wait for one look into the store."""
        task = self._lookups.get(secret_hash)
        if task is None:
            task = self._lookups[secret_hash] = asyncio.create_task(self._look_up(secret_hash))
            task.add_done_callback(lambda done: self._looked_up(secret_hash, done))
        return await asyncio.shield(task)

    def _looked_up(self, secret_hash: str, task: asyncio.Task[Caller]) -> None:
        if self._lookups.get(secret_hash) is task:
            del self._lookups[secret_hash]
        if not task.cancelled():
            task.exception()  # those who wait get it; where nobody is left, it is nobody's

    async def _look_up(self, secret_hash: str) -> Caller:
        until = self._clock() + self._access.key_cache_s
        key = await self._store.key_by_hash(secret_hash)
        if key is None:
            raise KeyRefusedError("this API key is unknown: ask for another")
        accounts = [
            await self._store.account("user", key.user) if key.user else None,
            await self._store.account("team", key.team) if key.team else None,
        ]
        subjects = [Subject(f"key:{key.id}", key.budgets, key.limits.over(self._access.limits))]
        subjects += [_subject(account) for account in accounts if account is not None]
        caller = Caller(key, bounded(subjects))
        if self._lookups.get(secret_hash) is asyncio.current_task():
            while len(self._known) >= MAX_CACHED:
                del self._known[next(iter(self._known))]
            self._known[secret_hash] = caller, until
        return caller

    async def _all_tags(self) -> list[tuple[Account, Subject]]:
        found: list[Account] = []
        while page := await self._store.accounts("tag", after=found[-1].id if found else ""):
            found += page
            if len(page) < PAGE:
                break
        return [(tag, subject) for tag in found if (subject := _subject(tag)).bounded]


def bounded(subjects: Sequence[Subject]) -> tuple[Subject, ...]:
    return tuple(subject for subject in subjects if subject.bounded)


def _subject(account: Account) -> Subject:
    return Subject(account.owner, account.budgets, account.limits)
