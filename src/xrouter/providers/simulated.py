"""Models that only pretend: stated skill, price, latency and failure rate, answers out of a question bank.

`Model.options` of such a model:
    skills         domain -> probability of a right answer
    latency_s      seconds one call takes
    failure_rate   probability that a call fails as an unavailable upstream does
    output_tokens  length of an answer, roughly
Whether a call is right, wrong or fails depends on the seed, the model, the question and the request's own
`seed` alone. Every text says that it is simulated; token counts are estimates and marked so.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..catalog.model import Model
from ..errors import ProviderTimeoutError, ProviderUnavailableError
from ..messages import Chunk, Completion, Request
from ..toml_reader import Reader, number, whole
from .question_bank import DOMAINS, questions, solve
from .usage import estimate_usage, usage_object

__all__ = ["LABEL", "Behaviour", "SimulatedProvider", "questions", "read_behaviour"]

LABEL = "[simulated]"
_PADDING = "This working is made up to give the answer a length."
_TOKENS_OF_PADDING = 13


@dataclass(frozen=True, slots=True)
class Behaviour:
    """`Model.options`, checked."""

    skills: Mapping[str, float] = field(default_factory=dict)
    latency_s: float = 0.0
    failure_rate: float = 0.0
    output_tokens: int = 20


def read_behaviour(model: Model) -> Behaviour:
    """Raises ConfigurationError naming the option and its value."""
    return Behaviour(**Reader("catalog", model.options, f"models.{model.name}.options").read(_READERS))


class SimulatedProvider:
    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        started = time.monotonic()
        behaviour = read_behaviour(model)
        if timeout_s is not None and timeout_s < behaviour.latency_s:
            await asyncio.sleep(timeout_s)
            raise ProviderTimeoutError(
                f"simulated model {model.name!r} gave no answer within {timeout_s:g} s", model=model.name
            )
        await asyncio.sleep(behaviour.latency_s)
        draw = self._draw(model, request)
        if draw.random() < behaviour.failure_rate:
            raise ProviderUnavailableError(
                f"simulated model {model.name!r} failed, as it does now and then", model=model.name
            )
        text, finish_reason = _cut(_answer(behaviour, request.query, draw), request.max_output_tokens)
        message = {"role": "assistant", "content": text}
        usage = estimate_usage(request, message)
        raw = {
            "id": f"chatcmpl-simulated-{draw.getrandbits(48):012x}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model.id,
            "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
            "usage": usage_object(usage),
        }
        latency_s = time.monotonic() - started
        return Completion(message, usage, finish_reason, served_model=model.id, latency_s=latency_s, raw=raw)

    async def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        completion = await self.complete(model, request, timeout_s=timeout_s)
        head = {key: completion.raw[key] for key in ("id", "created", "model")}
        head["object"] = "chat.completion.chunk"
        for delta in ({"role": "assistant", "content": ""}, *_pieces(completion.text)):
            yield Chunk({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        last = {"index": 0, "delta": {}, "finish_reason": completion.finish_reason}
        yield Chunk({**head, "choices": [last]})
        yield Chunk({**head, "choices": [], "usage": completion.raw["usage"]}, completion.usage)

    async def aclose(self) -> None:
        """Nothing is held open."""

    def _draw(self, model: Model, request: Request) -> random.Random:
        key = f"{self.seed}\n{model.name}\n{request.params.get('seed')}\n{request.query}"
        return random.Random(hashlib.sha256(key.encode()).digest())


def _answer(behaviour: Behaviour, query: str, draw: random.Random) -> str:
    solved = solve(query)
    if solved is None:
        return (
            f"{LABEL} This is a simulated model: it answers only the questions of its own bank. "
            "Set an API key or install the local models to get a real answer."
        )
    right = draw.random() < behaviour.skills.get(solved.domain, 0.5)
    answer = solved.answer if right else draw.choice(solved.wrong)
    padding = " ".join([_PADDING] * (behaviour.output_tokens // _TOKENS_OF_PADDING))
    return f"{LABEL} {padding}".rstrip() + f"\nThe answer is {answer}."


def _cut(text: str, max_tokens: int | None) -> tuple[str, str]:
    """The text within the output limit, by the same rough measure that usage is counted with."""
    data = text.encode()
    if max_tokens is None or len(data) <= 4 * max_tokens:
        return text, "stop"
    return data[: 4 * max_tokens].decode(errors="ignore"), "length"


def _pieces(text: str) -> list[dict[str, str]]:
    return [{"content": piece} for piece in re.findall(r"\S+\s*|\s+", text)]


def _skills(reader: Reader, key: str) -> dict[str, float]:
    return reader.subtable(key).read(dict.fromkeys(DOMAINS, number(0, 1)))


_READERS: Mapping[str, Callable[[Reader, str], Any]] = {
    "skills": _skills,
    "latency_s": number(0),
    "failure_rate": number(0, 1),
    "output_tokens": whole(1),
}
