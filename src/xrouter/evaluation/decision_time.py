"""How long a decision takes: one conversation at a time on one thread, its text features included."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter, process_time

import numpy as np

from ..catalog.model import Model
from ..episodes.cost import estimate_query_tokens
from ..episodes.episode import Observation, Preference
from ..messages import Request
from ..policies.arrays import ServedPolicy
from ..policies.states import ArrayPolicy

QUERY_TOKENS = 500
POOL = 24
WARM_UP = 3


@dataclass(frozen=True)
class DecisionTime:
    """Milliseconds of a first decision, over `queries` queries.

    cpu_ms: median of the processor time, which other work on the machine hardly changes.
    """

    cpu_ms: float
    median_ms: float
    p95_ms: float
    queries: int


def decision_times(
    policies: Mapping[str, ArrayPolicy],
    queries: Sequence[str],
    pool: tuple[Model, ...],
    cost_weight: float = 0.1,
    max_turns: int = 3,
    at_most_s: float = 30.0,
) -> dict[str, DecisionTime]:
    """The first decision on each query, as it is served. Policies take turns query by query, so that whatever else
    the machine does meets them all alike. A policy that has used up `at_most_s` seconds answers no further query.
    """
    served = {name: ServedPolicy(policy) for name, policy in policies.items()}
    wall: dict[str, list[float]] = {name: [] for name in served}
    processor: dict[str, list[float]] = {name: [] for name in served}
    with one_thread():
        for policy in served.values():
            for query in queries[:WARM_UP]:
                start = perf_counter()
                policy.decide(_observation(query, pool, cost_weight, max_turns))
                if perf_counter() - start > at_most_s / 10:
                    break
        for query in queries:
            observation = _observation(query, pool, cost_weight, max_turns)
            for name, policy in served.items():
                if sum(wall[name]) < at_most_s:
                    start, start_cpu = perf_counter(), process_time()
                    policy.decide(observation)
                    processor[name].append(process_time() - start_cpu)
                    wall[name].append(perf_counter() - start)
    return {
        name: DecisionTime(
            cpu_ms=float(np.median(processor[name])) * 1e3,
            median_ms=float(np.median(wall[name])) * 1e3,
            p95_ms=float(np.quantile(wall[name], 0.95)) * 1e3,
            queries=len(wall[name]),
        )
        for name in served
    }


def long_queries(prompts: Sequence[str], count: int, tokens: int = QUERY_TOKENS) -> list[str]:
    """Texts of about this many estimated tokens, joined from the prompts in order."""
    texts = []
    at = 0
    for _ in range(count):
        text = ""
        while estimate_query_tokens(text) < tokens:
            text += prompts[at % len(prompts)] + "\n\n"
            at += 1
        share = tokens / estimate_query_tokens(text)
        texts.append(text[: int(len(text) * share)])
    return texts


def pool_of(models: Sequence[Model], count: int = POOL) -> tuple[Model, ...]:
    """The first models; where there are too few, some again under other names."""
    return tuple(
        models[i]
        if i < len(models)
        else replace(
            models[i % len(models)],
            name=f"{models[i % len(models)].name}-{i // len(models) + 1}",
            id=f"{models[i % len(models)].id}-{i // len(models) + 1}",
        )
        for i in range(count)
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Holds NumPy, scikit-learn and torch (where it is loaded) to one thread."""
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    before = None if torch is None else torch.get_num_threads()
    with threadpool_limits(1):
        if torch is not None:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if torch is not None:
                torch.set_num_threads(before)


def _observation(query: str, pool: tuple[Model, ...], cost_weight: float, max_turns: int) -> Observation:
    return Observation(Request.from_text(query), pool, Preference(cost_weight=cost_weight), (), max_turns)
