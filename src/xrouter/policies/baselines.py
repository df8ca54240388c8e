"""Policies that ask one model and take its answer: the marks every learned policy is held against.

Axes: B episodes, M models of the pool, N models the policy was fitted on, D = 2N estimates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ..catalog.model import Model
from .states import Choices, Floats, States

VERSION = "1"
TYPICAL_OUTPUT_TOKENS = 500
"""Weighs output against input price where models are ranked by list price alone."""
UNFITTED = -1e6
"""Value of a model the policy was not fitted on, minus its price: taken only where nothing else may be called."""


def ask_best(value_BM: Floats, states: States) -> Choices:
    """Asks the callable model of the highest value; once a response is there, hands over the best of those."""
    rows = np.arange(len(states))
    responded_B = states.responded_BM.any(1)
    pick_B = np.where(states.allowed_BM, value_BM, -np.inf).argmax(1)
    call_BM = np.zeros_like(states.allowed_BM)
    call_BM[rows, pick_B] = ~responded_B & states.allowed_BM[rows, pick_B]
    best_B = np.where(states.responded_BM, value_BM, -np.inf).argmax(1)
    return Choices(call_BM, np.where(responded_B, best_B, -1), np.full(len(states), np.nan))


def list_price_BM(states: States) -> Floats:
    """US dollars of a call by list price, at a typical length of the answer."""
    usd_M2 = (
        np.array([[float(m.price.rates.input), float(m.price.rates.output)] for m in states.models]) / 1e6
    )
    return np.asarray(states.prompt_tokens_B[:, None] * usd_M2[:, 0] + TYPICAL_OUTPUT_TOKENS * usd_M2[:, 1])


def columns_of(names: Sequence[str], models: Sequence[Model]) -> NDArray[np.int64]:
    """Where each pool model stands in `names`, found by its name or its provider's id; -1 if it does not."""
    at = {name: i for i, name in enumerate(names)}
    return np.array([at.get(model.name, at.get(model.id, -1)) for model in models], np.int64)


def no_features(queries: Sequence[str]) -> Floats:
    return np.zeros((len(queries), 0))


@dataclass(frozen=True)
class SingleModel:
    """One model for everything. Where it may not be called, the model nearest in list price; where the pool
    does not hold it at all, the dearest.
    """

    name: str
    version: str = VERSION

    def encode(self, queries: Sequence[str]) -> Floats:
        return no_features(queries)

    def decide(self, text_BD: Floats, states: States) -> Choices:
        price_BM = list_price_BM(states)
        column = int(columns_of((self.name,), states.models).argmax())
        if states.models[column].name != self.name and states.models[column].id != self.name:
            return ask_best(price_BM, states)
        distance = np.abs(np.log(price_BM + 1e-12) - np.log(price_BM[:, [column]] + 1e-12))
        distance[:, column] = -1.0
        return ask_best(-distance, states)


@dataclass(frozen=True)
class RandomModel:
    """Any callable model with equal chance; the same seed and query give the same model."""

    seed: int = 0
    name: str = "random"
    version: str = VERSION

    def encode(self, queries: Sequence[str]) -> Floats:
        salt = crc32(str(self.seed).encode())
        seeds = [crc32(query.encode(errors="replace"), salt) for query in queries]
        return np.array([[np.random.default_rng(seed).random()] for seed in seeds]).reshape(len(queries), 1)

    def decide(self, text_BD: Floats, states: States) -> Choices:
        allowed = states.allowed_BM
        wanted_B = np.floor(text_BD[:, 0] * allowed.sum(1))
        position_BM = np.cumsum(allowed, 1) - 1
        return ask_best((position_BM == wanted_B[:, None]).astype(np.float64), states)


@dataclass(frozen=True)
class Cheapest:
    """The callable model with the lowest list price."""

    name: str = "cheapest"
    version: str = VERSION

    def encode(self, queries: Sequence[str]) -> Floats:
        return no_features(queries)

    def decide(self, text_BD: Floats, states: States) -> Choices:
        return ask_best(-list_price_BM(states), states)


@dataclass(frozen=True, eq=False)
class EstimatedBest:
    """argmax(expected score - lambda * expected cost / reference cost) by estimates that need the query alone.

    models: names the estimates are for, N of them. reference_cost: US dollars, the unit of lambda.
    A subclass says what it expects of a query; that is what `encode` returns, scores first, then costs.
    """

    models: tuple[str, ...]
    reference_cost: float
    version: str = field(default=VERSION, kw_only=True)

    def estimates(self, queries: Sequence[str]) -> tuple[Floats, Floats]:
        """score_BN, cost_BN in US dollars."""
        raise NotImplementedError

    def encode(self, queries: Sequence[str]) -> Floats:
        return np.concatenate(self.estimates(queries), axis=1)

    def decide(self, text_BD: Floats, states: States) -> Choices:
        score_BN, cost_BN = np.split(text_BD, 2, axis=1)
        value_BN = score_BN - states.cost_weight_B[:, None] * cost_BN / self.reference_cost
        column_M = columns_of(self.models, states.models)
        value_BM = np.where(column_M >= 0, value_BN[:, column_M], UNFITTED - list_price_BM(states))
        return ask_best(value_BM, states)


@dataclass(frozen=True, eq=False)
class StaticBest(EstimatedBest):
    """The same model for every query: argmax(train mean score - lambda * train mean cost / reference cost)."""

    mean_score_N: Floats
    mean_cost_N: Floats
    name: str = "static"

    def estimates(self, queries: Sequence[str]) -> tuple[Floats, Floats]:
        shape = (len(queries), len(self.models))
        return np.broadcast_to(self.mean_score_N, shape), np.broadcast_to(self.mean_cost_N, shape)


def present_means(values_QM: Floats, present_QM: NDArray[np.bool_]) -> Floats:
    """Mean of each column over its present rows; 0 for a column without any."""
    return np.asarray(np.where(present_QM, values_QM, 0.0).sum(0) / np.maximum(present_QM.sum(0), 1))


def baseline_names() -> tuple[str, ...]:
    """Baselines that need no fitting; any model's name is one too."""
    return ("cheapest", "random")


def baseline(name: str) -> Cheapest | RandomModel | SingleModel:
    """A baseline that needs no fitting: cheapest, random, or one model by its name."""
    if name == "cheapest":
        return Cheapest()
    return RandomModel() if name == "random" else SingleModel(name)
