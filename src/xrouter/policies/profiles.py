"""What a policy knows of each model before calling it: skill and answer length as functions of the query.

Axes: B queries, M models of a pool, N profiled models, D text features (see `policies.text`).

A profile is linear in the text features, so a model joins by fitting one row, and a model that was never
measured gets the average profile shifted to the quality its descriptors suggest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ..catalog.model import Model
from .inference import quadrature, steepness
from .states import Floats

Floats32 = NDArray[np.float32]
MIN_CHANCE, MAX_CHANCE = 0.02, 0.98
AS_ESTIMATED = np.array([0.0, 1.0], np.float32)
REASONING_LENGTH = 3.0
"""How much longer the answers of a reasoning model are, hidden tokens included, where nobody measured it."""
UNKNOWN_SPREAD = float(np.log(2.0))
"""Spread of lengths in checkpoints that hold none: one standard deviation is twice the length."""
SPREAD_PRIOR = 50.0
LEAST_SPREAD = 0.2
"""Lengths that vary less than this did so for a reason of the recording, such as hidden tokens that were assumed."""
CAP_DEVIATIONS = 1.0
"""Under a cap on cost a call must fit though its answer be this many standard deviations longer than expected: an answer
that the cap cuts off is worth little. Chosen on held-out training queries."""
DESCRIPTORS = ("constant", "log input price", "log output price", "reasoning")


@dataclass(frozen=True, eq=False)
class Profiles:
    """Fitted on outcomes.

    skill_ND: score of each model on a query = features . row.
    tokens_ND, tokens_scale_N: output tokens = scale * exp(features . row).
    tokens_spread_N: standard deviation of the logarithm of output tokens around it; lengths are taken as log-normal.
    prompt_N2: tokens the model counts for a prompt = first + second * estimate (templates and tokenizers differ).
    typical_D: mean text features; typical_prompt_tokens: mean prompt length. Both define a pool's reference cost.
    descriptor_weights: mean score of an unmeasured model = weights . descriptors(model), see `descriptors`.
    same_2D: probability that two wrong answers, and two right ones, are equal = features . row.
    loadings_NE: how success follows the hidden ease of queries, in logits (see `policies.inference`).
    """

    names: tuple[str, ...]
    skill_ND: Floats32
    tokens_ND: Floats32
    tokens_scale_N: Floats32
    tokens_spread_N: Floats32
    prompt_N2: Floats32
    typical_D: Floats32
    typical_prompt_tokens: float
    descriptor_weights: Floats32
    same_2D: Floats32
    loadings_NE: Floats32

    def of_pool(self, models: Sequence[Model]) -> PoolProfile:
        """The profiles of these models; a model is found by its name or its provider's id."""
        position = {name: i for i, name in enumerate(self.names)}
        rows = [position.get(model.name, position.get(model.id)) for model in models]
        known_M = np.array([row is not None for row in rows])
        mean_skill_D, mean_tokens_D = self.skill_ND.mean(0), self.tokens_ND.mean(0)
        typical_skill = float(self.typical_D @ mean_skill_D)
        typical_tokens = float(np.exp(self.typical_D @ mean_tokens_D))
        common_spread = float(np.sqrt(np.mean(self.tokens_spread_N**2)))
        skill, tokens, scale, spread, prompt, loadings = [], [], [], [], [], []
        for model, row in zip(models, rows, strict=True):
            if row is None:
                shifted = mean_skill_D.copy()
                shifted[0] += self.expected_skill(model) - typical_skill
                skill.append(shifted)
                tokens.append(mean_tokens_D)
                scale.append(np.float32(self.expected_tokens(model) / typical_tokens))
                spread.append(common_spread)
                prompt.append(AS_ESTIMATED)
                loadings.append(self.loadings_NE.mean(0))
            else:
                skill.append(self.skill_ND[row])
                tokens.append(self.tokens_ND[row])
                scale.append(self.tokens_scale_N[row])
                spread.append(float(self.tokens_spread_N[row]))
                prompt.append(self.prompt_N2[row])
                loadings.append(self.loadings_NE[row])
        price_M2 = np.array(
            [[float(m.price.rates.input), float(m.price.rates.output)] for m in models], np.float64
        )
        return PoolProfile(
            known_M=known_M,
            skill_MD=np.array(skill, np.float32),
            tokens_MD=np.array(tokens, np.float32),
            tokens_scale_M=np.array(scale, np.float32),
            tokens_spread_M=np.array(spread, np.float64),
            common_spread=common_spread,
            prompt_M2=np.array(prompt, np.float32),
            usd_per_token_M2=price_M2 / 1e6,
            typical_D=self.typical_D,
            typical_prompt_tokens=self.typical_prompt_tokens,
            same_2D=self.same_2D,
            loadings_ME=np.array(loadings, np.float64),
        )

    def expected_skill(self, model: Model) -> float:
        """Mean score guessed for a model nobody measured: its stated capability, else from its descriptors."""
        guess = (
            float(self.descriptor_weights @ descriptors(model))
            if model.capability is None
            else model.capability
        )
        return float(np.clip(guess, 0.05, 0.97))

    def expected_tokens(self, model: Model) -> float:
        """Output tokens of a typical answer of a model nobody measured: as stated, else as the others' are."""
        if model.typical_output_tokens is not None:
            return float(model.typical_output_tokens)
        usual = float(np.mean(self.tokens_scale_N * np.exp(self.tokens_ND @ self.typical_D)))
        return usual * (REASONING_LENGTH if model.reasoning else 1.0)


def shrunk_spread(
    squares: NDArray[np.floating] | float, answers: NDArray[np.integer] | int, common_variance: float
) -> NDArray[np.float64]:
    """Standard deviation of log lengths from the sum of squared residuals of some answers, drawn towards the common one
    as if `SPREAD_PRIOR` answers had shown that; never below `LEAST_SPREAD`."""
    variance = (np.asarray(squares) + SPREAD_PRIOR * common_variance) / (np.asarray(answers) + SPREAD_PRIOR)
    return np.maximum(np.sqrt(variance), LEAST_SPREAD).astype(np.float64)


def descriptors(model: Model) -> Floats32:
    """The `DESCRIPTORS`: what is known of any model. Prices in USD per Mtok."""
    rates = model.price.rates
    prices = np.log([float(rates.input) + 1e-2, float(rates.output) + 1e-2])
    return np.array([1.0, *prices, float(model.reasoning)], np.float32)


@dataclass(frozen=True, eq=False)
class PoolProfile:
    """Profiles of one pool's models, in its order. usd_per_token_M2: input and output price.

    common_spread: of the lengths of all models ever profiled.
    """

    known_M: NDArray[np.bool_]
    skill_MD: Floats32
    tokens_MD: Floats32
    tokens_scale_M: Floats32
    tokens_spread_M: NDArray[np.float64]
    common_spread: float
    prompt_M2: Floats32
    usd_per_token_M2: NDArray[np.float64]
    typical_D: Floats32
    typical_prompt_tokens: float
    same_2D: Floats32
    loadings_ME: NDArray[np.float64]

    def chance_BM(self, text_BD: NDArray[np.floating]) -> NDArray[np.float64]:
        """Probability that each model answers each query rightly, before any call."""
        return np.clip(text_BD @ self.skill_MD.T, MIN_CHANCE, MAX_CHANCE).astype(np.float64)

    def same_B2(self, text_BD: NDArray[np.floating]) -> NDArray[np.float64]:
        """Probability that two wrong answers to each query, and two right ones, are equal."""
        return np.clip(text_BD @ self.same_2D.T, 0.0, 1.0).astype(np.float64)

    def tokens_BM(self, text_BD: NDArray[np.floating]) -> NDArray[np.float64]:
        """Expected output tokens."""
        exponent = np.clip(text_BD @ self.tokens_MD.T, 0.0, 11.0)
        return (self.tokens_scale_M * np.exp(exponent)).astype(np.float64)

    def cost_BM(
        self, tokens_BM: NDArray[np.float64], prompt_tokens_B: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Expected US dollars of a call. prompt_tokens_B: estimated from the text."""
        prompt_BM = self.prompt_M2[:, 0] + self.prompt_M2[:, 1] * prompt_tokens_B[:, None]
        cost_BM: NDArray[np.float64] = (
            prompt_BM * self.usd_per_token_M2[:, 0] + tokens_BM * self.usd_per_token_M2[:, 1]
        )
        return cost_BM

    def expect_one(self, text_D: Floats, prompt_tokens: float) -> tuple[Floats, Floats, Floats, float, float]:
        """(chance_M, tokens_M, cost_M, same if wrong, same if right) for one query: what the methods above say."""
        M = len(self.known_M)
        estimates = text_D.dot(self._estimates_DK)
        chance_M = np.minimum(np.maximum(estimates[:M], MIN_CHANCE), MAX_CHANCE)
        tokens_M = self._tokens_scale_M * np.exp(np.minimum(np.maximum(estimates[M:-2], 0.0), 11.0))
        fixed_M, of_prompt_M, of_output_M = self._usd_3M
        cost_M = fixed_M + of_prompt_M * prompt_tokens + of_output_M * tokens_M
        same_wrong, same_right = estimates[-2:].tolist()
        return chance_M, tokens_M, cost_M, min(max(same_wrong, 0.0), 1.0), min(max(same_right, 0.0), 1.0)

    @cached_property
    def _estimates_DK(self) -> Floats:
        """Rows of skill, length and sameness side by side."""
        rows = np.concatenate([self.skill_MD, self.tokens_MD, self.same_2D]).astype(np.float64)
        return np.ascontiguousarray(rows.T)

    @cached_property
    def _tokens_scale_M(self) -> Floats:
        return self.tokens_scale_M.astype(np.float64)

    @cached_property
    def _usd_3M(self) -> Floats:
        """US dollars of a call whatever is asked, for each estimated token of the prompt, for each output token."""
        of_input_M, of_output_M = self.usd_per_token_M2.T
        return np.stack([self.prompt_M2[:, 0] * of_input_M, self.prompt_M2[:, 1] * of_input_M, of_output_M])

    @cached_property
    def stretch_M1(self) -> Floats:
        """`inference.steepness`."""
        return np.asarray(steepness(self.loadings_ME), np.float64)[:, None]

    @cached_property
    def ease_MG(self) -> Floats:
        """What a query's hidden ease adds to each model's logit at each node of `inference.quadrature`."""
        return np.asarray(self.loadings_ME @ quadrature()[0].T, np.float64)

    def tokens_quantile_BM(self, tokens_BM: NDArray[np.float64], quantile: float) -> NDArray[np.float64]:
        """Output tokens that an answer stays below with this probability, within (0, 1). tokens_BM: expected."""
        deviations = NormalDist().inv_cdf(quantile)
        spread_M = self.tokens_spread_M
        return np.asarray(tokens_BM * np.exp(deviations * spread_M - spread_M**2 / 2.0), np.float64)

    @cached_property
    def cap_margin_M(self) -> NDArray[np.float64]:
        """Times its expected cost that a call must fit under a cap: `CAP_DEVIATIONS` of a spread half way (in variance)
        between the model's own and the common one, for how a model's lengths vary on new questions is known less well
        than on old ones."""
        spread_M = np.sqrt((self.tokens_spread_M**2 + self.common_spread**2) / 2.0)
        return np.asarray(np.exp(CAP_DEVIATIONS * spread_M), np.float64)

    @cached_property
    def reference_cost(self) -> float:
        """US dollars a typical query costs at the model with the highest expected skill: the unit of lambda."""
        typical_1D = self.typical_D[None]
        best = int((typical_1D @ self.skill_MD.T)[0].argmax())
        cost_1M = self.cost_BM(self.tokens_BM(typical_1D), np.array([self.typical_prompt_tokens]))
        return max(float(cost_1M[0, best]), 1e-12)
