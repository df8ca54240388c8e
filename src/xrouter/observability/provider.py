"""A provider that is watched: every call becomes a span and counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial

from ..catalog.model import Model
from ..messages import Chunk, Completion, Request, Usage
from ..providers.embedder import EmbeddingRequest, Embeddings, embedder_of
from ..providers.health import Health, health_of
from ..providers.provider import Provider
from ..providers.streams import BlockStream, chunks_of, open_stream
from ..trace_context import current_trace, in_trace
from .genai import (
    answer_attributes,
    content_attributes,
    embedding_attributes,
    request_attributes,
    server_attributes,
    span_name,
    usage_attributes,
)
from .metrics import Circuit, Metrics
from .redaction import Redact
from .tracing import Attribute, Tracer, kind_of, span


class WatchedProvider:
    """Wraps `inner`; a Provider itself. Inside a RetryingProvider it sees each attempt, around one each call.

    circuit: a model -> the state of its circuit breaker, told after what may have changed it.
    url: the endpoint's, for spans. capture: prompts and answers go into spans, redacted first.
    """

    def __init__(
        self,
        inner: Provider,
        metrics: Metrics,
        tracer: Tracer,
        *,
        circuit: Callable[[Model], Circuit] | None = None,
        url: str | None = None,
        capture: bool = False,
        redact: Redact | None = None,
    ) -> None:
        self.inner = inner
        self._metrics = metrics
        self._tracer = tracer
        self._circuit = circuit
        self._troubled: set[str] = set()
        self._server = server_attributes(url)
        self._capture = capture
        self._redact = redact

    def __repr__(self) -> str:
        return f"WatchedProvider({self.inner!r})"

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        started = time.perf_counter()
        try:
            with span(self._tracer, span_name(model.id), "client") as watched:
                if watched.recording:
                    watched.set(self._asked(model, request))
                completion = await self.inner.complete(model, request, timeout_s=timeout_s)
                if watched.recording:
                    watched.set(answer_attributes(completion) | self._content(request, completion))
        except BaseException as error:
            self._ended(model, kind_of(error), started, _usage_of(error))
            raise
        self._ended(model, "ok", started, completion.usage)
        return completion

    async def embed(
        self, model: Model, request: EmbeddingRequest, *, timeout_s: float | None = None
    ) -> Embeddings:
        """Raises ProviderRequestError where the endpoint is of a kind that gives no embeddings."""
        inner = embedder_of(self.inner, model)
        started = time.perf_counter()
        try:
            with span(self._tracer, f"embeddings {model.id}", "client") as watched:
                if watched.recording:
                    watched.set({**embedding_attributes(model.provider, model.id), **self._server})
                embeddings = await inner.embed(model, request, timeout_s=timeout_s)
                if watched.recording:
                    watched.set(usage_attributes(embeddings.usage))
        except BaseException as error:
            self._ended(model, kind_of(error), started, _usage_of(error))
            raise
        self._ended(model, "ok", started, embeddings.usage)
        return embeddings

    async def open(self, model: Model, request: Request, *, timeout_s: float | None = None) -> BlockStream:
        """The span ends with the stream; between two blocks the task is the consumer's, so it is current only while
        the stream is opened."""
        started = time.perf_counter()
        watched = self._tracer.start(span_name(model.id), "client", current_trace(), {})
        if watched.recording:
            watched.set(self._asked(model, request))

        def over(error: BaseException | None, usage: Usage | None) -> None:
            outcome = "ok" if error is None else kind_of(error)
            usage = usage or _usage_of(error)
            if error is not None:
                watched.fail(outcome)
            if usage is not None:
                watched.set(usage_attributes(usage))
            watched.end()
            self._ended(model, outcome, started, usage)

        try:
            with in_trace(watched.context):
                opened = await open_stream(self.inner, model, request, timeout_s=timeout_s)
        except BaseException as error:
            over(error, None)
            raise
        self._metrics.upstream_first_byte(model.name, time.perf_counter() - started)
        opened.when_over(lambda error: over(error, opened.reported))
        return opened

    def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        """As `open`, piece by piece."""
        return chunks_of(partial(self.open, model, request, timeout_s=timeout_s))

    def health(self, model: Model) -> Health:
        return health_of(self.inner, model)

    async def aclose(self) -> None:
        await self.inner.aclose()

    def _ended(self, model: Model, outcome: str, started: float, usage: Usage | None) -> None:
        self._metrics.upstream_call(model.name, outcome, time.perf_counter() - started, usage)
        if self._circuit is not None and (outcome != "ok" or model.name in self._troubled):
            # The breaker stands around this call: it knows of its end only once this one is left.
            asyncio.get_running_loop().call_soon(self._tell_circuit, model, self._circuit)

    def _tell_circuit(self, model: Model, circuit: Callable[[Model], Circuit]) -> None:
        state = circuit(model)
        self._metrics.circuit(model.name, state)
        if state == "closed":
            self._troubled.discard(model.name)
        else:
            self._troubled.add(model.name)

    def _asked(self, model: Model, request: Request) -> Mapping[str, Attribute]:
        return {**request_attributes(model.provider, model.id, request), **self._server}

    def _content(self, request: Request, completion: Completion) -> dict[str, Attribute]:
        return content_attributes(request, completion, self._redact) if self._capture else {}


def _usage_of(error: BaseException | None) -> Usage | None:
    """What the upstream reported of a call that failed."""
    usage = getattr(error, "usage", None)
    return usage if isinstance(usage, Usage) else None
