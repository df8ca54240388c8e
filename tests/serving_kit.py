"""A gateway on a real socket, in front of a mock upstream, driven by a policy that a test scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from conftest import make_model

from xrouter.episodes.episode import (
    Action,
    Call,
    CallModels,
    Decision,
    DirectAnswer,
    Observation,
    Select,
)
from xrouter.gateway.app import Gateway
from xrouter.gateway.server import bind, running, url_of
from xrouter.ledger.memory import MemoryLedger
from xrouter.policies.policy import Policy
from xrouter.providers.openai import OpenAIProvider
from xrouter.providers.pool import Pool
from xrouter.router import Router
from xrouter.settings import Settings

NAMES = ("small", "big")


class ScriptedPolicy:
    """Decides as the function says; `seen` keeps what it was shown."""

    name = "scripted"
    version = "7"

    def __init__(self, decide: Callable[[Observation], Action], confidence: float | None = 0.75) -> None:
        self._decide = decide
        self._confidence = confidence
        self.seen: list[Observation] = []

    async def act(self, observation: Observation) -> Decision:
        self.seen.append(observation)
        return Decision(self._decide(observation), self._confidence)


def ask_then_select(*models: str) -> ScriptedPolicy:
    """Call these models at once, then hand over the first response that is well."""

    def decide(observation: Observation) -> Action:
        for response in observation.responses:
            if response.ok:
                return Select(response.call_id)
        return CallModels(tuple(Call(name) for name in models))

    return ScriptedPolicy(decide)


def answers_directly(text: str) -> ScriptedPolicy:
    return ScriptedPolicy(lambda observation: DirectAnswer(text))


def make_pool(base_url: str, names: tuple[str, ...] = NAMES) -> Pool:
    """Models `small` (capability 0.3) and `big` (0.9) of one upstream, without retries."""
    models = tuple(make_model(name, capability=0.9 if name == "big" else 0.3) for name in names)
    return Pool(models, {"mock": OpenAIProvider("mock", base_url, "sk-secret-of-the-test")})


def make_router(base_url: str, policy: Policy | None = None, *, settings: Settings | None = None) -> Router:
    return Router(
        policy or ask_then_select("small"),
        pool=make_pool(base_url),
        ledger=MemoryLedger(),
        settings=settings or Settings(max_body_bytes=100_000, request_timeout_s=20.0),
    )


@asynccontextmanager
async def serving(router: Router, *, grace_s: int = 10) -> AsyncIterator[str]:
    """The gateway's URL, e.g. http://127.0.0.1:41234."""
    listener = bind("127.0.0.1", 0)
    async with running(Gateway(router), listener, grace_s=grace_s):
        yield url_of(listener)
