"""What a batch of episodes looks like, as numbers to log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .episode import EpisodeResult


def metrics(results: Sequence[EpisodeResult]) -> dict[str, float]:
    """Means over the episodes; raw score and cost beside the reward, never mixed.

    cost_usd, router_cost_usd: USD an episode. invalid_rate: problems a reply. route/NAME: share of episodes whose answer came
    from it, `router` for its own words; of the ten most frequent. ended/REASON: share of episodes.
    """
    count = len(results)
    if not count:
        return {}
    turns = sum(result.turns for result in results)
    figures = {
        "reward": sum(result.reward for result in results) / count,
        "quality": sum(result.outcome.quality for result in results) / count,
        "cost_usd": float(sum(result.outcome.cost_usd for result in results)) / count,
        "router_cost_usd": float(sum(result.router_cost_usd for result in results)) / count,
        "router_tokens": sum(result.router_usage.completion_tokens for result in results) / count,
        "calls": sum(result.outcome.calls for result in results) / count,
        "turns": turns / count,
        "invalid_rate": sum(sum(result.problems.values()) for result in results) / max(1, turns),
    }
    routes = Counter(result.answered_by or "none" for result in results)
    figures |= {f"route/{name}": number / count for name, number in routes.most_common(10)}
    ends = Counter(result.ended for result in results)
    figures |= {f"ended/{reason}": number / count for reason, number in sorted(ends.items())}
    return figures
