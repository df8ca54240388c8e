"""Live models as a world: calls as serving makes them, each answer kept, and never more spent than allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from ..catalog.catalog import Catalog
from ..catalog.model import Model
from ..episodes.episode import Episode
from ..providers.build import build_pool
from ..providers.pool import Pool
from ..settings import Settings
from .grading import Grading
from .live_store import LiveStore
from .metered import MeteredProvider, RunPurse
from .remembering import RememberingProvider
from .task import Task

ATTEMPTS_S = 60.0
"""Seconds beyond the time-outs of all attempts, for the waits between them."""


class LiveWorld:
    """The models of `settings` at their endpoints, with the retries and guards that serve.

    env: where their keys are. path: the file of answers and money, shared by all processes of a run, which are on one host.
    max_cost_usd: USD for all calls that the file remembers, whichever process made them and when. cache_samples,
    max_output_tokens: see `RememberingProvider`.

    An episode is charged what its calls cost without the file, so that its reward does not depend on what is kept there;
    what was really paid is in `figures`. A world is best used on one event loop: its connections belong to it. An upstream's failure is an observation, as in serving. Where the money is used
    up, a call raises RunBudgetError through everything that plays episodes.
    """

    def __init__(
        self,
        settings: Settings,
        env: Mapping[str, str],
        path: Path,
        *,
        max_cost_usd: Decimal,
        cache_samples: int = 1,
        max_output_tokens: int | None = None,
    ) -> None:
        self._store = LiveStore(path)
        self._purse = RunPurse(self._store, max_cost_usd, settings.call_timeout_s)
        self._asked = build_pool(
            settings,
            Catalog.load(settings),
            env,
            around=lambda provider: MeteredProvider(
                provider, self._purse, max_concurrency=settings.max_concurrency_per_model
            ),
        )
        self._remembering = RememberingProvider(
            self._asked,
            self._store,
            samples=cache_samples,
            max_output_tokens=max_output_tokens,
            lease_s=(settings.max_retries + 1) * settings.call_timeout_s + ATTEMPTS_S,
        )
        self._pool = Pool(
            self._asked.models, {}, self._asked.notice, {m.name: self._remembering for m in self._asked}
        )
        self._grading = Grading()

    @property
    def models(self) -> Sequence[Model]:
        return self._pool.models

    @property
    def notice(self) -> str | None:
        """Where models only pretend, that they do."""
        return self._pool.notice

    def knows(self, task: Task) -> bool:
        return True

    def pool(self, names: Sequence[str]) -> Pool:
        return self._pool.restricted_to(names)

    async def quality(self, task: Task, episode: Episode) -> float:
        """Raises as `Grading.grade` does."""
        answer = episode.completion
        return await self._grading.grade(task, answer.text, answer.tool_calls)

    def figures(self) -> Mapping[str, float]:
        """Of all processes, as of this one's last call: USD paid and set aside, calls made, failed. Of this process: calls
        answered without paying again."""
        spending = self._purse.spending
        return {
            "world/paid_usd": float(spending.spent_usd),
            "world/set_aside_usd": float(spending.set_aside_usd),
            "world/calls": float(spending.calls),
            "world/failed": float(spending.failed),
            "world/reused": float(self._remembering.reused),
        }

    async def aclose(self) -> None:
        """Waits for the calls under way, so that what is paid for is kept."""
        await self._remembering.aclose()
        await self._asked.aclose()
        await self._grading.aclose()
        await self._store.aclose()
