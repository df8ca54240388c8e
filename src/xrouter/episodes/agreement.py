"""Which responses say the same, and which of them is the best guess when nobody may choose any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal

from ..catalog.model import Model
from .episode import Response


def agreement_classes(answers: Sequence[str | None]) -> list[int]:
    """A class for each answer, numbered from 0 in order of appearance; -1 where there is none.

    Answers are compared as they are: pass normal forms, which `Response.answer` holds.
    """
    numbers: dict[str, int] = {}
    return [-1 if answer is None else numbers.setdefault(answer, len(numbers)) for answer in answers]


def best_response(responses: Sequence[Response], pool: Iterable[Model]) -> Response | None:
    """The response to hand over at a limit: one of the largest group that agrees; None if every call failed.

    Ties go to a response that says anything at all, then to the more capable model (stated capability, then
    output and input price), then to the earlier response. A response without a readable answer agrees with none.
    """
    models = {model.name: model for model in pool}
    candidates = [response for response in responses if response.ok]
    sizes = Counter(response.answer for response in candidates if response.answer is not None)

    def rank(response: Response) -> tuple[int, bool, float, Decimal, Decimal]:
        model = models[response.model]
        rates = model.price.rates
        says_something = bool(response.text or (response.completion and response.completion.tool_calls))
        votes = 0 if response.answer is None else sizes[response.answer]
        return votes, says_something, model.capability or 0.0, rates.output, rates.input

    return max(candidates, key=rank, default=None)
