"""Recorded completions, served again: the same code that serves can be run on yesterday's answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..catalog.model import Model
from ..errors import ConfigurationError, ProviderTimeoutError, ProviderUnavailableError
from ..messages import Chunk, Completion, Request, Usage
from .usage import usage_object

PIECE_CHARS = 64


@dataclass(frozen=True, slots=True)
class Recording:
    """What one model said to one query. `failed` marks a call that brought no answer at the time.

    latency_s: seconds, as recorded. answer: the normalised final answer where the recording knows it.
    """

    text: str
    usage: Usage
    latency_s: float = 0.0
    answer: str | None = None
    failed: bool = False


class ReplayProvider:
    """Answers from recordings by (pool name of the model, `Request.query`).

    speed: None answers at once; 1.0 takes as long as the recorded call did, 10.0 a tenth of that. The
        completion's `latency_s` is the recorded one in any case.
    A request that allows fewer output tokens than were recorded gets a cut text without a final answer, in its share of
    the time.
    Raises ProviderUnavailableError for a call that was not recorded or that failed when it was.
    """

    def __init__(
        self,
        recordings: Mapping[tuple[str, str], Recording],
        *,
        speed: float | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        if speed is not None and not speed > 0:
            raise ConfigurationError(f"speed must be above 0 or None, got {speed!r}", param="speed")
        self._recordings = recordings
        self._speed = speed
        self._sleep = sleep

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        recording = self._recordings.get((model.name, request.query))
        finish_reason = "stop"
        if recording is not None:
            recording, finish_reason = _limited(recording, request.max_output_tokens)
        if recording is not None and self._speed is not None:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._sleep(recording.latency_s / self._speed)
            except TimeoutError as error:
                raise ProviderTimeoutError(
                    f"the recorded call of model {model.name!r} took {recording.latency_s:g} s",
                    model=model.name,
                ) from error
        if recording is None:
            raise ProviderUnavailableError(
                f"nothing is recorded of model {model.name!r} for the query {request.query[:80]!r}",
                model=model.name,
            )
        if recording.failed:
            raise ProviderUnavailableError(
                f"the recorded call of model {model.name!r} failed", model=model.name
            )
        message = {"role": "assistant", "content": recording.text}
        return Completion(
            message=message,
            usage=recording.usage,
            finish_reason=finish_reason,
            served_model=model.id,
            latency_s=recording.latency_s,
            raw={
                "id": "replay",
                "object": "chat.completion",
                "created": 0,
                "model": model.id,
                "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
                "usage": usage_object(recording.usage),
            },
            answer=recording.answer,
        )

    async def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        completion = await self.complete(model, request, timeout_s=timeout_s)
        text = completion.text
        yield _chunk(model, [{"index": 0, "delta": {"role": "assistant", "content": ""}}])
        for start in range(0, len(text), PIECE_CHARS):
            piece = {"content": text[start : start + PIECE_CHARS]}
            yield _chunk(model, [{"index": 0, "delta": piece}])
        yield _chunk(model, [{"index": 0, "delta": {}, "finish_reason": completion.finish_reason}])
        yield _chunk(model, [], completion.usage)

    async def aclose(self) -> None:
        return None


def _limited(recording: Recording, limit: int | None) -> tuple[Recording, str]:
    """What the model would have said within this many output tokens, and why it stopped. A cut text keeps its share
    of the characters and has no final answer any more."""
    tokens = recording.usage.completion_tokens
    if limit is None or tokens <= limit:
        return recording, "stop"
    usage = replace(
        recording.usage,
        completion_tokens=limit,
        reasoning_tokens=min(recording.usage.reasoning_tokens, limit),
    )
    text = recording.text[: -(-len(recording.text) * limit // tokens)]
    latency_s = recording.latency_s * limit / tokens
    return replace(recording, text=text, usage=usage, latency_s=latency_s, answer=None), "length"


def _chunk(model: Model, choices: list[dict[str, Any]], usage: Usage | None = None) -> Chunk:
    data: dict[str, Any] = {
        "id": "replay",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": model.id,
        "choices": [{"finish_reason": None, **choice} for choice in choices],
    }
    if usage is not None:
        data["usage"] = usage_object(usage)
    return Chunk(data, usage)
