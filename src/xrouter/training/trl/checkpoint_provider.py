"""A folder of weights as a provider, for judging a checkpoint without a server.

What waits is answered a batch at a time. Replies are read as a server with a Hermes parser would read them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...catalog.model import Model
from ...errors import ProviderRequestError, ProviderTimeoutError
from ...messages import Chunk, Completion, Request, Usage
from ...providers.provider import Provider
from .chat_template import ChatTemplate
from .policy_model import device_of, load_tokenizer, load_weights, stop_ids, window_of
from .replies import completion_of
from .sampler import Sampler

DEFAULT_REPLY = 512
"""Tokens of a reply where the request names no limit."""


def checkpoint_provider(folder: Path, *, max_batch: int = 16, device: str | None = None) -> Provider:
    """Answers with the model in this folder, on `device` ("cpu", "cuda"; None = a GPU where there is one).

    Raises ConfigurationError for a folder without a model, a tokenizer or a chat template.
    """
    model, _ = load_weights(str(folder), device_of(device or "auto"))
    tokenizer = load_tokenizer(str(folder))
    template = ChatTemplate(tokenizer, stop_ids(model, tokenizer))
    return CheckpointProvider(
        Sampler(model, template.stop_ids, temperature=0.0, batch=max_batch),
        template,
        max_batch=max_batch,
        window=window_of(model),
    )


@dataclass(slots=True)
class _Asked:
    request: Request
    ids: list[int]
    limit: int
    temperature: float
    reply: asyncio.Future[Completion]


class CheckpointProvider:
    """Greedy unless a request has a temperature. Everything runs in one thread beside the event loop."""

    def __init__(self, sampler: Sampler, template: ChatTemplate, *, max_batch: int, window: int) -> None:
        self._sampler = sampler
        self._template = template
        self._max_batch = max_batch
        self._window = window
        self._waiting: list[_Asked] = []
        self._answering: asyncio.Task[None] | None = None

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        started = time.monotonic()
        asked = self._asked(model, request)
        self._waiting.append(asked)
        if self._answering is None or self._answering.done():
            self._answering = asyncio.create_task(self._answer_all())
        try:
            completion = await asyncio.wait_for(asked.reply, timeout_s)
        except TimeoutError as error:
            raise ProviderTimeoutError(
                f"the model gave no answer within {timeout_s:g} s", model=model.name
            ) from error
        return replace(completion, latency_s=time.monotonic() - started)

    def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        raise ProviderRequestError("a checkpoint answers whole, not in a stream", model=model.name)

    async def aclose(self) -> None:
        if self._answering is not None:
            self._answering.cancel()
            await asyncio.wait([self._answering])

    def _asked(self, model: Model, request: Request) -> _Asked:
        """Raises ProviderRequestError for a prompt that fills the window."""
        ids = self._template.prompt(request)
        named = request.max_output_tokens or DEFAULT_REPLY
        room = self._window - len(ids)
        if room < 1:
            raise ProviderRequestError(
                f"the prompt has {len(ids)} tokens, the model's window is {self._window}", model=model.name
            )
        temperature = float(request.params.get("temperature") or 0.0)
        reply = asyncio.get_running_loop().create_future()
        return _Asked(request, ids, min(named, room), temperature, reply)

    async def _answer_all(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # what the loop is about to ask joins the batch
            batch = self._next_batch()
            if not batch:
                continue
            try:
                completions = await asyncio.to_thread(self._replies, batch)
            except Exception as error:  # noqa: BLE001 - it belongs to those who asked, not to this task
                for asked in batch:
                    if not asked.reply.done():
                        asked.reply.set_exception(error)
                continue
            for asked, completion in zip(batch, completions, strict=True):
                if not asked.reply.done():
                    asked.reply.set_result(completion)

    def _next_batch(self) -> list[_Asked]:
        """The oldest ones that wait, of one temperature."""
        waiting = [asked for asked in self._waiting if not asked.reply.done()]
        batch = [asked for asked in waiting if asked.temperature == waiting[0].temperature][: self._max_batch]
        taken = set(map(id, batch))
        self._waiting = [asked for asked in waiting if id(asked) not in taken]
        return batch

    def _replies(self, batch: Sequence[_Asked]) -> list[Completion]:
        sampler = self._sampler.at(batch[0].temperature)
        spoken = sampler.replies([asked.ids for asked in batch], [asked.limit for asked in batch])
        completions = []
        for asked, sampled in zip(batch, spoken, strict=True):
            ended = sampled.ids[-1] in self._template.stop_ids
            text = self._template.text(sampled.ids[:-1] if ended else sampled.ids)
            usage = Usage(len(asked.ids), len(sampled.ids))
            completions.append(completion_of(text, asked.request, usage, cut=not ended))
        return completions
