"""The figures of a language model that routes, as Markdown."""

from __future__ import annotations

from .result import Result
from .tables import number, per_1000, table


def router_figures(result: Result) -> list[str]:
    if not result.router:
        return []
    cost = {point.cost_weight: point.cost_usd.value for point in result.points}
    rows = [
        (
            f"{one.cost_weight:g}",
            f"{one.decisions:.2f}",
            f"{one.prompt_tokens:.0f} + {one.completion_tokens:.0f}",
            per_1000(one.cost_usd),
            f"{one.cost_usd / cost[one.cost_weight]:.0%}" if cost[one.cost_weight] else "0%",
            number(one.seconds),
            f"{one.invalid:.1%}",
            f"{one.stood_in:.1%}",
            f"{one.own_words:.1%}",
            f"{one.unanswered:.1%}",
            ", ".join(f"{kind} {count}" for kind, count in one.problems.items()) or "none",
        )
        for one in result.router
    ]
    head = (
        "lambda",
        "decisions",
        "tokens in + out",
        "own $ per 1000",
        "of its cost",
        "s",
        "invalid",
        "stood in",
        "own words",
        "unanswered",
        "problems",
    )
    return [
        f"## {result.name}: the language model",
        "decisions: a query. tokens, s (median): a decision. own $: its own tokens, part of the cost above. invalid: share "
        "of its replies with something wrong. stood in: share of the queries where a model was asked in its place, since "
        "it could not be reached or made no sense. own words: share that it answered itself, graded after playing.",
        table(head, rows, "rrrrrrrrrrl"),
    ]
