"""Fakes for tests of episodes: a pool that answers from a script, and a policy that decides from one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal
from typing import Any

from conftest import make_model

from xrouter.catalog.model import Model
from xrouter.episodes.environment import Environment
from xrouter.episodes.episode import Action, Call, CallModels, Decision, Observation, Preference
from xrouter.messages import Chunk, Completion, Request, Usage
from xrouter.providers.pool import Pool

QUESTION = Request.from_text("What is 3 + 4?")


def completion(
    text: str = "The answer is 7.", prompt: int = 100, output: int = 50, **fields: Any
) -> Completion:
    return Completion({"role": "assistant", "content": text}, Usage(prompt, output), **fields)


class ScriptedProvider:
    """Answers by model name: a completion, an error to raise, or a function of the request. Counts overlaps."""

    def __init__(self, script: dict[str, Any], delay_s: float = 0.0) -> None:
        self.script = script
        self.delay_s = delay_s
        self.requests: list[tuple[str, Request]] = []
        self.running = self.most_running = self.cancelled = 0

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        self.requests.append((model.name, request))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(self.delay_s)
            made = self.script[model.name]
            if isinstance(made, Callable):  # type: ignore[arg-type]
                made = made(model, request)
            if asyncio.iscoroutine(made):
                made = await made
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        if isinstance(made, Exception):
            raise made
        return made

    async def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        yield Chunk({})

    async def aclose(self) -> None:
        return None


def scripted(script: dict[str, Any], delay_s: float = 0.0, **models: Model) -> tuple[Pool, ScriptedProvider]:
    """A pool of the script's models at 1 / 2 USD per million tokens, or as given by `models`."""
    provider = ScriptedProvider(script, delay_s)
    return Pool(tuple(models.get(name) or make_model(name) for name in script), {"mock": provider}), provider


def environment(pool: Pool, request: Request = QUESTION, **preference: Any) -> Environment:
    return Environment(pool, request, Preference(**preference))


def ask(*names: str) -> Decision:
    return Decision(CallModels(tuple(Call(name) for name in names)))


class ScriptedPolicy:
    name = "scripted"
    version = "1"

    def __init__(self, decisions: Sequence[Decision | Action | Exception]) -> None:
        self.decisions = list(decisions)
        self.seen: list[Observation] = []

    async def act(self, observation: Observation) -> Decision:
        self.seen.append(observation)
        decision = self.decisions.pop(0)
        if isinstance(decision, Exception):
            raise decision
        return decision if isinstance(decision, Decision) else Decision(decision)


def usd(text: str) -> Decimal:
    return Decimal(text)
