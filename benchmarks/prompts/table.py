"""What the arms come to: means, and paired differences with 95% bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xrouter.evaluation.bootstrap import Interval, interval, resampled_means, resamples
from xrouter.tasks.graders import grade

from .questions import Questions, Rows

Floats = NDArray[np.float64]
RESAMPLES = 10_000
MEASURES = {"score": (1, 3), "output tokens": (1, 1), "cut": (1, 2), "USD per 1,000": (1000, 4)}
"""By factor and digits. cut: the share of answers that ended at the token limit."""


@dataclass(frozen=True)
class Measured:
    """One model on one kind of question, or on all: values[arm][measure] has one figure a question."""

    model: str
    kind: str
    values: Mapping[str, Mapping[str, Floats]]

    def mean(self, arm: str, measure: str) -> Interval:
        return _interval(self.values[arm][measure])

    def difference(self, arm: str, base: str, measure: str) -> Interval:
        """What `arm` adds to `base` on the same questions."""
        return _interval(self.values[arm][measure] - self.values[base][measure])


def _interval(values_Q: Floats) -> Interval:
    weights_RQ = resamples(len(values_Q), RESAMPLES, seed=0)
    return interval(float(values_Q.mean()), resampled_means(weights_RQ, values_Q[None])[:, 0])


def measured(
    plan: Mapping[str, Any], found: Questions, rows: Rows, models: Sequence[str], writer: str
) -> list[Measured]:
    """Every model on every kind and on all of them, over the questions that it answered in every arm.

    untold: all but the questions whose answer the writer's prompt gives away.
    """
    told = {
        question.task.id
        for question in found.judged
        if (row := rows.get((question.id_in("write"), writer))) and grade(question.task, row.text) > 0.5
    }
    done = []
    for model in models:
        whole = [
            question
            for question in found.judged
            if all((question.id_in(arm), model) in rows for arm in plan["arms"])
        ]
        parts = {kind: [question for question in whole if question.kind == kind] for kind in plan["kinds"]}
        parts |= {"all": whole, "untold": [question for question in whole if question.task.id not in told]}
        for kind, part in parts.items():
            if not part:
                continue
            values: dict[str, dict[str, Floats]] = {}
            for arm in plan["arms"]:
                answers = [(question.task, rows[question.id_in(arm), model]) for question in part]
                tokens = np.array([row.completion_tokens for _, row in answers], np.float64)
                values[arm] = {
                    "score": np.array([grade(task, row.text) for task, row in answers]),
                    "output tokens": tokens,
                    "cut": (tokens >= plan["max_output_tokens"]).astype(np.float64),
                    "USD per 1,000": np.array([float(row.cost_usd) for _, row in answers]),
                }
            done.append(Measured(model, kind, values))
    return done


def table(results: Sequence[Measured], base: str) -> str:
    """Markdown: the means of `base`, and what each other arm adds to them."""
    lines = [
        f"| model | kind | questions | arm | {' | '.join(MEASURES)} |",
        "|---|---|---:|---|" + "---:|" * len(MEASURES),
    ]
    for result in results:
        for arm in sorted(result.values, key=lambda name: name != base):
            cells = [
                _shown(result.mean(arm, measure), measure, signed=False)
                if arm == base
                else _shown(result.difference(arm, base, measure), measure, signed=True)
                for measure in MEASURES
            ]
            count = str(len(result.values[arm]["score"]))
            lines.append("| " + " | ".join((result.model, result.kind, count, arm, *cells)) + " |")
    return "\n".join(lines)


def _shown(found: Interval, measure: str, *, signed: bool) -> str:
    factor, digits = MEASURES[measure]
    form = f"{'+' if signed else ''}.{digits}f"
    value, low, high = (format(factor * x, form) for x in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]"
