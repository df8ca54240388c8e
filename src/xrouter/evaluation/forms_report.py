"""The tables of a target quality and of a cost cap."""

from __future__ import annotations

from .result import Result
from .tables import number, per_1000, table, with_interval


def forms(result: Result) -> list[str]:
    """Markdown paragraphs; none where neither was played."""
    parts = []
    if result.targets:
        parts += [
            f"## {result.name}: asked for a target quality",
            "The cheapest way to a probability of a right answer. missed: share of the answers that say they fall short "
            "of it; all are in the score and the cost.",
            table(
                ("asked", "score", "mean confidence", "$ per 1000", "calls", "missed", "score where reached"),
                [
                    (
                        f"{point.target_quality:g}",
                        with_interval(point.score),
                        number(point.confidence),
                        per_1000(point.cost_usd.value),
                        f"{point.calls_per_query:.2f}",
                        f"{point.missed:.1%}",
                        number(point.score_where_reached),
                    )
                    for point in result.targets
                ],
                "rrrrrrr",
            ),
        ]
    if result.caps:
        parts += [
            f"## {result.name}: under a cap on each query's cost",
            "The best answer the money buys (lambda 0). unanswered: share where the cap left no whole answer; they score 0.",
            table(
                ("cap, $", "score", "mean cost, $", "largest cost, $", "calls", "unanswered"),
                [
                    (
                        f"{point.max_cost_usd:g}",
                        with_interval(point.score),
                        f"{point.cost_usd.value:.3g}",
                        f"{point.largest_cost_usd:.3g}",
                        f"{point.calls_per_query:.2f}",
                        f"{point.unanswered:.1%}",
                    )
                    for point in result.caps
                ],
                "rrrrrr",
            ),
        ]
    return parts
