"""What of an episode goes to verl's logs and reward path: numbers by name, the same names for every sample of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from ...episodes.episode import StopReason
from ..router.episode import EpisodeResult

OWN, NOBODY = "router", "none"
ROUTE, ENDED = "route/", "ended/"


def numbers(
    result: EpisodeResult, models: Sequence[str], *, overlong_penalty: float = 0.0, full: bool = False
) -> dict[str, float]:
    """score: what is trained on, the overlong penalty included; `episode_reward` is without it. acc: the grader's score of the answer.

    models: of the whole data set, so that validation means of route/NAME are shares of episodes. cost_usd, router_cost_usd:
    USD of the episode. invalid: problems of all replies. full: the response had no room for a further decision.
    """
    route = result.answered_by or NOBODY
    return {
        "score": result.reward + overlong_penalty,
        "acc": result.outcome.quality,
        "episode_reward": result.reward,
        "overlong_penalty": overlong_penalty,
        "cost_usd": float(result.outcome.cost_usd),
        "router_cost_usd": float(result.router_cost_usd),
        "router_tokens": float(result.router_usage.completion_tokens),
        "calls": float(result.outcome.calls),
        "turns": float(result.turns),
        "invalid": float(sum(result.problems.values())),
        "full": float(full),
        **{f"{ROUTE}{name}": float(name == route) for name in (*models, OWN, NOBODY)},
        **{f"{ENDED}{reason}": float(reason == result.ended) for reason in get_args(StopReason)},
    }


def models_of(extra_info: Mapping[str, Any]) -> list[str]:
    """All models of the data set that this row is of, sorted: every row names every routing tool."""
    kwargs = extra_info.get("tools_kwargs") or {}
    named = {(tool.get("create_kwargs") or {}).get("model") for tool in kwargs.values() if tool}
    return sorted({str(name) for name in named if name} | set(extra_info.get("pool", ())))


def step_metrics(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over the episodes of a step. invalid_rate: problems a reply; problem/KIND: such problems an episode.

    records: each with `numbers` and, under "problems", counts by kind. Routes and ends that nobody took are left out.
    """
    if not records:
        return {}
    count = len(records)
    sums: dict[str, float] = {}
    for record in records:
        for name, value in record["numbers"].items():
            sums[name] = sums.get(name, 0.0) + value
        for kind, value in record["problems"].items():
            sums[f"problem/{kind}"] = sums.get(f"problem/{kind}", 0.0) + value
    means = {
        name: total / count for name, total in sums.items() if total or not name.startswith((ROUTE, ENDED))
    }
    means["invalid_rate"] = means.pop("invalid") * count / max(1.0, sums["turns"])
    return means
