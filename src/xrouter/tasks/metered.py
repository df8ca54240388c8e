"""A hard limit on what a run pays: before each attempt its worst case is set aside, after it what was spent is booked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from decimal import Decimal

from ..catalog.model import Model
from ..episodes.calls import REFUSALS
from ..episodes.cost import output_limit, worst_cost
from ..episodes.plausible import believed
from ..errors import ProviderError, ProviderRequestError, RunBudgetError
from ..messages import Chunk, Completion, Request, Usage
from ..providers.health import Health, health_of
from ..providers.provider import Provider
from .live_store import LiveStore
from .live_work import NoRoom, Spending

log = logging.getLogger(__name__)

POLL_S = 0.25
"""How often to look whether calls under way, perhaps of other processes, have left some room."""
NOTED_SHARE = Decimal("0.1")
"""Of the limit: what has been spent is logged each time it has grown by as much."""


class RunPurse:
    """The money of a run, over all of its processes and resumptions: `limit_usd` for all that its file remembers.

    call_timeout_s: of one attempt.
    """

    def __init__(self, store: LiveStore, limit_usd: Decimal, call_timeout_s: float) -> None:
        self.limit_usd = limit_usd
        self.spending: Spending = store.found
        """As of this process's last call."""
        self._store = store
        self._lease_s = 2 * call_timeout_s + 60
        self._noted = self.spending.spent_usd

    async def set_aside(self, model: str, most: Decimal) -> int:
        """A number to `settle` under. Waits while calls under way may leave enough.

        Raises RunBudgetError where they cannot.
        """
        while True:
            taking = asyncio.ensure_future(self._store.set_aside(model, most, self.limit_usd, self._lease_s))
            try:
                found = await asyncio.shield(taking)
            except asyncio.CancelledError:
                taken = await taking
                if not isinstance(taken, NoRoom):
                    await self._store.settle(taken, None)
                raise
            if not isinstance(found, NoRoom):
                return found
            if not found.may_come:
                raise self._used_up(found.spending, model, most)
            await asyncio.sleep(POLL_S)

    async def settle(self, number: int, usd: Decimal, *, failed: bool) -> None:
        self.spending = await self._store.settle(number, usd, failed=failed)
        spent = self.spending.spent_usd
        if spent - self._noted >= self.limit_usd * NOTED_SHARE:
            self._noted = spent
            log.info("the run has spent %s of %s USD in %d calls", spent, self.limit_usd, self.spending.calls)

    def _used_up(self, spending: Spending, model: str, most: Decimal) -> RunBudgetError:
        return RunBudgetError(
            f"world.max_cost_usd = {self.limit_usd:f} is used up: {spending.spent_usd:f} USD are spent,"
            f" {spending.set_aside_usd:f} USD set aside for calls whose end is not known, and one of model {model!r}"
            f" may cost {most:f} USD; every answer is kept in {self._store.path}, so raise the limit and resume"
            " (or lower world.max_output_tokens, so that less is set aside for a call)",
            param="world.max_cost_usd",
        )


class MeteredProvider:
    """Put around one endpoint, below retries, hedges and the choice among endpoints, so that it sees each attempt.

    No more than `max_concurrency` attempts of a model are under way at once; the rest wait before any money is set
    aside for them. An attempt that failed in a way that may have been charged, or was cancelled, is booked at its worst.
    """

    def __init__(self, inner: Provider, purse: RunPurse, *, max_concurrency: int) -> None:
        self.inner = inner
        self._purse = purse
        self._max_concurrency = max_concurrency
        self._slots: dict[tuple[str, str], tuple[asyncio.AbstractEventLoop, asyncio.Semaphore]] = {}

    def health(self, model: Model) -> Health:
        return health_of(self.inner, model)

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        """Raises ProviderError and RunStoppedError."""
        async with self._slots_of(model):
            most = worst_cost(model, request, output_limit(model, request))
            number = await self._purse.set_aside(model.name, most)
            spent, failed = most, True
            try:
                completion = await self.inner.complete(model, request, timeout_s=timeout_s)
                spent, failed = model.price.cost(believed(completion.usage, model, request)), False
            except ProviderError as error:
                spent = _charged(error, model, request, most)
                raise
            finally:
                await self._purse.settle(number, spent, failed=failed)
            return completion

    def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        raise ProviderRequestError("a run's calls are not streamed", model=model.name)

    async def aclose(self) -> None:
        await self.inner.aclose()

    def _slots_of(self, model: Model) -> asyncio.Semaphore:
        key, loop = (model.name, model.id), asyncio.get_running_loop()
        known = self._slots.get(key)
        if known is None or known[0] is not loop:  # a semaphore belongs to one loop
            known = self._slots[key] = (loop, asyncio.Semaphore(self._max_concurrency))
        return known[1]


def _charged(error: ProviderError, model: Model, request: Request, most: Decimal) -> Decimal:
    """As the upstream reported, nothing where it refused, else the worst."""
    if isinstance(error.usage, Usage):
        return model.price.cost(believed(error.usage, model, request))
    return Decimal(0) if isinstance(error, REFUSALS) else most
