"""Metrics in Prometheus' text format, by prometheus_client.

With several workers each writes its values to files of a folder that PROMETHEUS_MULTIPROC_DIR names before this file is
imported (`workers.shared_metrics`); whichever worker is asked for /metrics adds them up.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from ..messages import Usage
from .metrics import CIRCUIT_LEVEL, Circuit, Metrics
from .record import RequestRecord
from .workers import FOLDER_VARIABLE

OTHER = "other"
_APIS = frozenset(
    ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens", "/v1/embeddings",
     "/v1/models", "/healthz", "/readyz", "/metrics", "/drain"]
)  # fmt: skip
_LONG_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
_SHORT_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_DIRECTIONS = ("input", "cached_input", "output", "reasoning")
_OUTCOMES = 32
"""Different outcomes that become labels: more than there are codes of errors."""


class _Labelled:
    """A metric whose labelled children are looked up once: `labels()` costs twice what counting does."""

    def __init__(self, metric: Any, method: str) -> None:
        self._metric = metric
        self._method = method
        self._children: dict[tuple[str, ...], Callable[[float], None]] = {}

    def __call__(self, value: float, *labels: str) -> None:
        count = self._children.get(labels)
        if count is None:
            count = self._children[labels] = getattr(self._metric.labels(*labels), self._method)
        count(value)


class PrometheusMetrics(Metrics):
    """Labels are bounded: the names given here, HTTP statuses, codes of errors, and "other"."""

    def __init__(self, *, models: Collection[str], policies: Collection[str] = ()) -> None:
        self._models = frozenset(models)
        self._policies = frozenset(policies)
        self._outcomes: set[str] = set()
        self._registry = CollectorRegistry()
        self._requests = self._counter("requests", "Requests.", "api", "status", "model", "policy")
        self._latency = self._seconds("request", "Until the last byte.", _LONG_S, "api", "model")
        self._first_byte = self._seconds(
            "first_byte", "Until the first byte of the answer.", _LONG_S, "api", "model"
        )
        self._overhead = self._seconds("overhead", "The gateway's own time in a request.", _SHORT_S, "api")
        self._calls = self._counter("upstream_calls", "Attempts at calling a model.", "model", "outcome")
        self._call_time = self._seconds("upstream_call", "One attempt.", _LONG_S, "model")
        self._call_first = self._seconds(
            "upstream_first_byte", "Until a model's first piece.", _LONG_S, "model"
        )
        self._retries = self._counter("upstream_retries", "Attempts after a failed one.", "model")
        self._tokens = self._counter("tokens", "Tokens that models counted.", "model", "direction")
        self._cost = self._counter("cost_usd", "US dollars booked.", "model")
        self._saved = self._counter(
            "cache_saved_usd", "US dollars that cached answers cost the first time.", "cache"
        )
        self._cache = self._counter("cache_requests", "Requests by what the cache did.", "cache")
        self._budget = self._counter("budget_refusals", "Requests that a budget had no room for.", "kind")
        self._limits = self._counter("rate_limit_refusals", "Requests over a rate limit.", "kind")
        self._decision = self._seconds("decision", "One decision of the policy.", _SHORT_S, "policy")
        self._ledger = self._seconds("ledger_commit", "Until rows are durable.", _SHORT_S)
        self._circuit = _Labelled(
            Gauge("xrouter_circuit_state", "0 closed, 1 half open, 2 open; the worst of all workers.", ["model"],
                  registry=self._registry, multiprocess_mode="livemax"), "set"
        )  # fmt: skip
        self._in_flight = self._gauge("requests_in_flight", "Requests under way.")
        self._streams = self._gauge("streams_open", "Streams under way.")

    def request_started(self) -> None:
        self._in_flight.inc()

    def request_ended(self, record: RequestRecord) -> None:
        api = record.api if record.api in _APIS else OTHER
        model, policy = self._model(record.model), self._policy(record.policy)
        self._in_flight.dec()
        self._requests(1, api, str(record.status), model, policy)
        self._latency(record.latency_s, api, model)
        self._overhead(record.overhead_s, api)
        if record.first_byte_s is not None:
            self._first_byte(record.first_byte_s, api, model)
        if record.cost_usd:
            self._cost(float(record.cost_usd), model)
        if record.cache != "off":
            self._cache(1, record.cache)
        if record.saved_usd:
            self._saved(float(record.saved_usd), record.cache)

    def stream_opened(self) -> None:
        self._streams.inc()

    def stream_closed(self) -> None:
        self._streams.dec()

    def upstream_call(self, model: str, outcome: str, seconds: float, usage: Usage | None = None) -> None:
        model = self._model(model)
        self._calls(1, model, self._outcome(outcome))
        self._call_time(seconds, model)
        if usage is not None:
            counts = (
                usage.prompt_tokens - usage.cached_tokens,
                usage.cached_tokens,
                usage.completion_tokens - usage.reasoning_tokens,
                usage.reasoning_tokens,
            )
            for direction, count in zip(_DIRECTIONS, counts, strict=True):
                if count > 0:
                    self._tokens(count, model, direction)

    def upstream_first_byte(self, model: str, seconds: float) -> None:
        self._call_first(seconds, self._model(model))

    def retried(self, model: str) -> None:
        self._retries(1, self._model(model))

    def circuit(self, model: str, state: Circuit) -> None:
        self._circuit(CIRCUIT_LEVEL[state], self._model(model))

    def decided(self, policy: str, seconds: float) -> None:
        self._decision(seconds, self._policy(policy))

    def ledger_committed(self, seconds: float) -> None:
        self._ledger(seconds)

    def budget_refused(self, kind: str) -> None:
        self._budget(1, kind)

    def rate_limited(self, kind: str) -> None:
        self._limits(1, kind)

    async def render(self) -> bytes:
        if FOLDER_VARIABLE not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        # It reads the files of every worker there ever was.
        return await asyncio.to_thread(generate_latest, registry)

    def _model(self, name: str) -> str:
        return name if name in self._models else OTHER

    def _policy(self, name: str) -> str:
        return name if name in self._policies else OTHER if name else ""

    def _outcome(self, outcome: str) -> str:
        if outcome not in self._outcomes:
            if len(self._outcomes) >= _OUTCOMES:
                return OTHER
            self._outcomes.add(outcome)
        return outcome

    def _counter(self, name: str, text: str, *labels: str) -> _Labelled:
        return _Labelled(Counter(f"xrouter_{name}", text, labels, registry=self._registry), "inc")

    def _seconds(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Callable[..., None]:
        histogram = Histogram(
            f"xrouter_{name}_seconds", text, labels, registry=self._registry, buckets=buckets
        )
        return _Labelled(histogram, "observe") if labels else histogram.observe

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"xrouter_{name}", text, registry=self._registry, multiprocess_mode="livesum")
