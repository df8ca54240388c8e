"""The gate: who may pass, with which models, how fast, and for how much money.

Money is set aside before a request runs, its worst case from every budget that it touches, and let go once its cost is
booked: requests under way at once can then not overspend together, whatever they cost in the end. The books are the
truth of what was spent; the state knows what is set aside and which total of the books is the newest.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from decimal import ROUND_FLOOR, Decimal

from ..errors import QuotaExceededError, RateLimitedError, StateError
from ..ledger.ledger import Ledger, Spent
from ..ledger.totals import EXACT
from ..settings_tables.access import AccessSettings
from ..state.limits import PICODOLLARS, picodollars
from ..state.state import Hold, State, Take
from .admission import Admission
from .budget import Budget, renews_at, scope_of
from .caller import Caller, Callers, Subject
from .store import AccountStore

logger = logging.getLogger("xrouter.accounts")

SPENT_FRESH_S = 5.0
"""How long a total read from the books is passed on without reading again. The state counts the newest it was shown, so
an old one does harm only where another gateway died between booking and settling; its reservation still stands then."""
LAPSE_MARGIN_S = 60.0
SHRINK_TRIES = 6
PARALLEL_RETRY_S = 1.0
LOG_EVERY_S = 10.0
MAX_SCOPES = 100_000


class Gate:
    """One a process.

    require_keys: whether a key is needed though none was ever made.
    request_timeout_s: what a request may take at most; what it set aside lapses LAPSE_MARGIN_S later.
    clock: seconds, never going back.
    """

    def __init__(
        self,
        store: AccountStore,
        ledger: Ledger,
        state: State,
        access: AccessSettings,
        *,
        require_keys: bool,
        request_timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._state = state
        self._access = access
        self._ttl_s = request_timeout_s + LAPSE_MARGIN_S
        self._clock = clock
        self._callers = Callers(store, access, require_keys=require_keys, clock=clock)
        self._spent: dict[str, tuple[Spent, float]] = {}
        self._log_again_at = float("-inf")

    def forget(self) -> None:
        """Keys or budgets have changed in this process: read them anew."""
        self._callers.forget()

    async def identify(self, secret: str | None, now: float | None = None) -> Caller:
        """The caller behind the secret of a request. `now` is Unix seconds.

        Raises KeyRefusedError; AccountsError where the store cannot be read.
        """
        return await self._callers.identify(secret, time.time() if now is None else now)

    def bounds(self, caller: Caller, tags: Sequence[str]) -> bool:
        """Whether a budget or a limit might apply to a request; where none can, its worst cost is not looked at."""
        return bool(caller.subjects or caller.tags or tags)

    async def admit(
        self,
        caller: Caller,
        models: Sequence[str],
        *,
        worst_cost_usd: Decimal,
        prompt_tokens: int,
        least_cost_usd: Decimal = Decimal(0),
        tags: Sequence[str] = (),
        now: float | None = None,
    ) -> Admission:
        """Let one request pass, or say why not.

        models: those of the pool that the request might use. worst_cost_usd: what it may cost at most, with those of
        them that `Caller.allowed` leaves. least_cost_usd: where the request may be capped, a cap below this is none.
        Raises NotAllowedError, RateLimitedError, QuotaExceededError; StateError where the state cannot be reached and
        that closes the gate; LedgerError, AccountsError.
        """
        now = time.time() if now is None else now
        allowed = caller.allowed(models)
        all_tags = (*caller.tags, *tags) if tags else caller.tags
        subjects = caller.subjects
        if all_tags:
            all_tags = tuple(dict.fromkeys(all_tags))
            subjects += await self._callers.tagged(all_tags)
        admission = Admission(self, caller, allowed, all_tags, prompt_tokens=prompt_tokens)
        if subjects:
            await self._take(admission, subjects)
            try:
                await self._reserve(admission, subjects, worst_cost_usd, least_cost_usd, now)
            except BaseException:
                await admission.release()
                raise
        return admission

    async def settle(self, admission: Admission, spent: Sequence[Spent], tokens: int) -> None:
        """`Admission.settle` calls this, once."""
        fresh_until = self._clock() + SPENT_FRESH_S
        for total in spent:
            self._remember(total, fresh_until)
        try:
            if admission.reservation is not None:
                await self._state.settle(admission.reservation, spent)
            if admission.token_takes:
                unused = [
                    Take(take.bucket, take.amount - tokens, take.capacity, take.per_s)
                    for take in admission.token_takes
                ]
                await self._state.give_back(unused)
        except StateError as error:
            self._log("what a request had set aside stays so until it lapses: %s", error)

    async def _take(self, admission: Admission, subjects: Sequence[Subject]) -> None:
        takes, owners, tokens = [], [], []
        for subject in subjects:
            limits = subject.limits
            if limits.requests_per_minute is not None:
                takes.append(_per_minute("requests", subject, 1, limits.requests_per_minute))
                owners.append(subject)
            if limits.tokens_per_minute is not None:
                take = _per_minute("tokens", subject, admission.prompt_tokens, limits.tokens_per_minute)
                takes.append(take)
                tokens.append(take)
                owners.append(subject)
        if not takes:
            return
        try:
            short = await self._state.take(takes)
        except StateError as error:
            if self._access.when_state_is_down.limits == "closed":
                raise
            self._log("rate limits are not enforced: %s", error)
            return
        if short is not None:
            index, wait_s = short
            take, what = takes[index], "requests" if takes[index].bucket.startswith("requests") else "tokens"
            raise RateLimitedError(
                f"{owners[index]} may use {take.capacity:.0f} {what} a minute: try again in {wait_s:.1f} s",
                retry_after_s=wait_s,
                kind=what,
            )
        admission.token_takes = tuple(tokens)

    async def _reserve(
        self,
        admission: Admission,
        subjects: Sequence[Subject],
        worst_usd: Decimal,
        least_usd: Decimal,
        now: float,
    ) -> None:
        parallel = [subject for subject in subjects if subject.limits.parallel_requests is not None]
        owners: list[Subject] = []
        for subject in subjects:
            for budget in subject.budgets:
                admission.budgets[scope_of(subject.owner, budget.period, now)] = budget
                owners.append(subject)
        if not parallel and not owners:
            return
        spent = await self._spent_on(admission.scopes) if owners else ()
        slots = [
            Hold(Spent(f"parallel/{subject.owner}"), 1, subject.limits.parallel_requests or 0)
            for subject in parallel
        ]
        budgets = tuple(admission.budgets.values())
        limits = [_limit(budget) for budget in budgets]
        admission.reservation = secrets.token_hex(16)
        amount = worst = picodollars(worst_usd)
        for tries_left in reversed(range(SHRINK_TRIES)):
            holds = [Hold(total, amount, limit) for total, limit in zip(spent, limits, strict=True)]
            full = await self._set_aside(admission.reservation, slots, holds)
            if full is None:
                if owners:
                    admission.max_cost_usd = (
                        worst_usd if amount == worst else EXACT.divide(amount, PICODOLLARS)
                    )
                return
            if full < len(slots):
                raise RateLimitedError(
                    f"{parallel[full]} may have {slots[full].limit_picodollars} requests under way at the same time:"
                    " try again when one of them has ended",
                    retry_after_s=PARALLEL_RETRY_S,
                    kind="parallel",
                )
            full -= len(slots)
            room = min(
                limit - picodollars(total.cost_usd) for total, limit in zip(spent, limits, strict=True)
            )
            amount = room if room < amount else amount // 2
            too_little = amount <= 0 or amount < picodollars(least_usd)
            if not self._access.shrink_to_budget or too_little or not tries_left:
                raise _no_room(owners[full], budgets[full], spent[full], worst_usd, now)

    async def _set_aside(self, reservation: str, slots: Sequence[Hold], holds: Sequence[Hold]) -> int | None:
        """`State.reserve`, or what the settings want in its place. Raises StateError where they want the gate closed."""
        try:
            return await self._state.reserve(reservation, [*slots, *holds], ttl_s=self._ttl_s)
        except StateError as error:
            down = self._access.when_state_is_down
            if (down.budgets if holds else down.limits) == "closed":
                raise
            self._log("budgets and limits count without what other requests have set aside: %s", error)
        for index, hold in enumerate(holds, start=len(slots)):
            if picodollars(hold.spent.cost_usd) + hold.picodollars > hold.limit_picodollars:
                return index
        return None

    async def _spent_on(self, scopes: Sequence[str]) -> Sequence[Spent]:
        """What the books say, at most SPENT_FRESH_S ago."""
        now = self._clock()
        fresh = {scope: known[0] for scope in scopes if (known := self._spent.get(scope)) and now < known[1]}
        if len(fresh) < len(scopes):
            for total in await self._ledger.spent([scope for scope in scopes if scope not in fresh]):
                fresh[total.scope] = self._remember(total, now + SPENT_FRESH_S)
        return [fresh[scope] for scope in scopes]

    def _remember(self, total: Spent, fresh_until: float) -> Spent:
        known = self._spent.get(total.scope)
        if known is None and len(self._spent) >= MAX_SCOPES:
            del self._spent[next(iter(self._spent))]
        newest = total if known is None or total.version >= known[0].version else known[0]
        self._spent[total.scope] = newest, fresh_until
        return newest

    def _log(self, text: str, error: StateError) -> None:
        if self._clock() >= self._log_again_at:
            self._log_again_at = self._clock() + LOG_EVERY_S
            logger.warning(text, error)


def _per_minute(what: str, subject: Subject, amount: int, limit: int) -> Take:
    """A request of more tokens than a minute has takes them all; the rest is owed when it is settled."""
    return Take(f"{what}/{subject.owner}", min(amount, limit), limit, limit / 60)


def _limit(budget: Budget) -> int:
    return int(EXACT.multiply(budget.amount_usd, PICODOLLARS).to_integral_value(ROUND_FLOOR))


def _no_room(
    owner: Subject, budget: Budget, spent: Spent, worst_usd: Decimal, now: float
) -> QuotaExceededError:
    renewal = renews_at(budget.period, now)
    when = "it does not renew" if renewal is None else f"it renews at {renewal.isoformat()}"
    return QuotaExceededError(
        f"the budget of {owner}, {budget}, has no room for this request ({spent.scope}): {spent.cost_usd:f} USD are"
        f" spent, other requests may be under way, and this one may cost up to {worst_usd:f} USD; {when}",
        kind=owner.owner.partition(":")[0],
    )
