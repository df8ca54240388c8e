"""Many episodes at once, as arrays: what a policy sees and what it chooses.

Axes: B episodes, M models of the pool. One conversation being served is a batch of one, so the arrays that
train a policy are the arrays that serve it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..catalog.model import Model

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class States:
    """B observations over one pool.

    cost_weight_B: the caller's lambda. target_quality_B: the probability of a right answer asked for in its place,
        NaN where none was. money_left_B: US dollars, inf without a cap.
    prompt_tokens_B: estimated from the conversation's text.
    allowed_BM: models that may be called now. responded_BM: models with a response at hand.
    answer_BM: class of equal answers within the episode, -1 where there is none.
    tokens_BM, cost_BM: output tokens and US dollars of each response, 0 before a call.
    doubt_BM: log-odds that flaws take from each response's chance (`doubt`), 0 by default.
    discount_BM: US dollars that a warm prompt cache is likely to take off a call, 0 by default.
    alike_B: classes are of free texts that are alike, not of equal answers; False by default.
    """

    models: tuple[Model, ...]
    cost_weight_B: Floats
    target_quality_B: Floats
    turns_left_B: Ints
    money_left_B: Floats
    prompt_tokens_B: Floats
    allowed_BM: Bools
    responded_BM: Bools
    failed_BM: Bools
    answer_BM: Ints
    tokens_BM: Floats
    cost_BM: Floats
    doubt_BM: Floats = field(default_factory=lambda: np.zeros(()))
    alike_B: Bools = field(default_factory=lambda: np.zeros((), bool))
    discount_BM: Floats = field(default_factory=lambda: np.zeros(()))

    def __post_init__(self) -> None:
        if not self.doubt_BM.ndim:
            object.__setattr__(self, "doubt_BM", np.full(self.allowed_BM.shape, float(self.doubt_BM)))
        if not self.discount_BM.ndim:
            object.__setattr__(self, "discount_BM", np.full(self.allowed_BM.shape, float(self.discount_BM)))
        if not self.alike_B.ndim:
            object.__setattr__(self, "alike_B", np.full(len(self), bool(self.alike_B)))

    def __len__(self) -> int:
        return len(self.cost_weight_B)

    def rows(self, index: Ints | Bools) -> States:
        return States(
            self.models,
            *(getattr(self, f.name)[index] for f in fields(self) if f.name != "models"),
        )


@dataclass(frozen=True, eq=False)
class Choices:
    """B decisions: the models to call now, or (where select_B >= 0) the model whose response is handed over.

    confidence_B: probability that the answer that would now be given is right; NaN where the policy has none.
    familiar_B: False where the query is unlike all that the policy was trained on. A policy that leaves it out
        holds every query for familiar.
    """

    call_BM: Bools
    select_B: Ints
    confidence_B: Floats
    familiar_B: Bools = field(default_factory=lambda: np.ones((), bool))

    def __post_init__(self) -> None:
        if not self.familiar_B.ndim:
            object.__setattr__(self, "familiar_B", np.full(len(self.select_B), bool(self.familiar_B)))


class ArrayPolicy(Protocol):
    """A policy over arrays. `encode` is called once a conversation, `decide` once a turn."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def encode(self, queries: Sequence[str]) -> Floats:
        """Text features, one row a query; any width."""
        ...

    def decide(self, text_BD: Floats, states: States) -> Choices: ...


def agreement_BM(states: States) -> Floats:
    """How many responses at hand give the same answer as each response (itself included); 0 without an answer."""
    answer = np.where(states.responded_BM, states.answer_BM, -1)
    same_BMM = (answer[:, :, None] == answer[:, None, :]) & (answer >= 0)[:, :, None]
    agreeing: Floats = same_BMM.sum(2).astype(np.float64)
    return agreeing
