"""A conversation alone is decided as it would be in a batch."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from functools import cache

import numpy as np
import pytest
from conftest import make_model
from hypothesis import given, settings
from hypothesis import strategies as st
from learner_kit import fitted_policy, random_states
from synthetic import synthetic_outcomes

from xrouter.catalog.model import Model
from xrouter.catalog.price import Rates
from xrouter.episodes.episode import Decision, Observation, Preference, Response
from xrouter.messages import Completion, Request, Usage
from xrouter.policies.arrays import ServedPolicy
from xrouter.policies.calibration import calibrate, calibrate_one
from xrouter.policies.checkpoint import load_network
from xrouter.policies.inference import infer, quadrature, steepness
from xrouter.policies.network import NetworkPolicy
from xrouter.policies.single_inference import infer_one
from xrouter.policies.turn_rules import Payoff

OUTCOMES = synthetic_outcomes(seed=1, queries=80, models=6)
PROMPTS = (*OUTCOMES.recording.prompts[:20], "", "zxqv wrtpk", "日本の首都はどこ", "What is 3 + 4? " * 300)


@cache
def policy_of(name: str) -> NetworkPolicy:
    if name == "packaged":
        return load_network()
    noise = 3.0 if name == "wild" else 0.1
    return fitted_policy(OUTCOMES, noise=noise, payoff=Payoff(1.0, 0.8) if name == "gated" else None)


def pool_for(policy: NetworkPolicy, size: int, rng: np.random.Generator) -> tuple[Model, ...]:
    """Models that the policy knows, some that it does not, and two that only their names tell apart."""
    names = rng.choice(policy.profiles.names, min(size, len(policy.profiles.names)), replace=False)
    priced = make_model("priced").price
    models = [
        make_model(
            str(name),
            price=replace(
                priced, rates=Rates(*(Decimal(str(round(x, 4))) for x in rng.uniform(0.02, 8.0, 2)))
            ),
        )
        for name in names
    ]
    return (*models, make_model("new"), make_model("new again"))


@given(
    seed=st.integers(0, 2**32 - 1),
    name=st.sampled_from(["packaged", "fitted", "wild", "gated"]),
    size=st.integers(1, 24),
)
@settings(max_examples=150, deadline=None)
def test_alone_as_in_a_batch_in_every_situation(seed: int, name: str, size: int) -> None:
    rng = np.random.default_rng(seed)
    policy = policy_of(name)
    states = random_states(rng, pool_for(policy, size, rng), 8)
    if seed % 2:  # more classes of answers than are weighed
        answer_BM = np.where(states.responded_BM, rng.integers(-1, 12, states.answer_BM.shape), -1)
        states = replace(states, answer_BM=answer_BM)
    if seed % 3:
        doubt_BM = states.responded_BM * rng.choice([0.0, 0.5, 3.0, 9.0], states.answer_BM.shape)
        states = replace(states, doubt_BM=doubt_BM, alike_B=rng.random(8) < 0.4)
    text_BD = policy.encode([PROMPTS[i] for i in rng.integers(0, len(PROMPTS), 8)])
    together = policy.decide_batch(text_BD, states)
    rounding = 1e-4 if name == "wild" else 1e-6  # weights that are far too large blow up what rounding leaves
    for b in range(8):
        alone = policy.decide(text_BD[b : b + 1], states.rows(np.array([b])))
        assert alone.call_BM[0].tolist() == together.call_BM[b].tolist()
        assert alone.confidence_B[0] == pytest.approx(together.confidence_B[b], abs=rounding)
        assert alone.familiar_B[0] == together.familiar_B[b]
        assert (alone.select_B[0] < 0) == (together.select_B[b] < 0)
        if name == "packaged":  # wild networks are sure of several answers to the last digit
            assert alone.select_B[0] == together.select_B[b]


def observations(rng: np.random.Generator, pool: tuple[Model, ...], count: int) -> list[Observation]:
    """Requests at any point of an episode: answers at hand, failed calls, caps, targets, last turns."""
    out = []
    for _ in range(count):
        responses = tuple(
            Response(
                call_id=f"c{i}",
                model=pool[m].name,
                turn=1,
                completion=Completion({"role": "assistant", "content": "x"}, Usage())
                if rng.random() < 0.85
                else None,
                answer=rng.choice([None, "7", "8", "9"]),
                usage=Usage(50, int(rng.integers(1, 2000))),
                cost_usd=Decimal(str(round(10 ** rng.uniform(-6, -2), 8))),
                latency_s=0.1,
            )
            for i, m in enumerate(rng.permutation(len(pool))[: rng.choice([0, 0, 1, 2, 4])])
        )
        preference = Preference(
            cost_weight=float(rng.choice([0.0, 0.01, 0.1, 1.0, 30.0])),
            target_quality=float(rng.choice([0.5, 0.8, 0.95])) if rng.random() < 0.25 else None,
            simple=bool(rng.random() < 0.1),
        )
        money = Decimal(str(round(10 ** rng.uniform(-5, -1), 8))) if rng.random() < 0.3 else None
        request = Request.from_text(PROMPTS[rng.integers(len(PROMPTS))])
        out.append(Observation(request, pool, preference, responses, int(rng.integers(1, 4)), money))
    return out


@pytest.mark.parametrize("size", [3, 8, 24])
async def test_requests_that_wait_together_are_decided_as_alone(size: int) -> None:
    policy = policy_of("packaged")
    rng = np.random.default_rng(size)
    served = ServedPolicy(policy)
    pools = [pool_for(policy, size, rng), pool_for(policy, size, rng)]
    asked = [observation for pool in pools for observation in observations(rng, pool, 60)]
    asked = [asked[i] for i in rng.permutation(len(asked))]
    together = await asyncio.gather(*map(served.act, asked))
    kinds = set()
    for observation, decision in zip(asked, together, strict=True):
        alone = ServedPolicy(policy).decide(observation)
        assert decision.action == alone.action
        assert decision.confidence == pytest.approx(alone.confidence, abs=1e-6)
        assert decision.outside_training == alone.outside_training
        kinds.add(type(decision.action))
    assert len(kinds) == 2


async def test_a_request_that_cannot_be_observed_harms_no_other() -> None:
    policy = policy_of("packaged")
    rng = np.random.default_rng(0)
    served = ServedPolicy(policy)
    pool = pool_for(policy, 3, rng)
    good = [o for o in observations(rng, pool, 20) if o.responses][:3]
    stranger = replace(good[0].responses[0], model="not of this pool")
    bad = replace(good[0], responses=(stranger,))
    results = await asyncio.gather(*map(served.act, [*good, bad]), return_exceptions=True)
    assert isinstance(results[-1], KeyError)
    assert all(isinstance(result, Decision) for result in results[:-1])


@given(seed=st.integers(0, 2**32 - 1), models=st.integers(1, 14))
@settings(max_examples=150, deadline=None)
def test_inference_alone_as_in_a_batch(seed: int, models: int) -> None:
    rng = np.random.default_rng(seed)
    prior_M, loadings_ME = rng.normal(0, 2, models), rng.normal(0, 1, (models, 2))
    answer_M = rng.integers(-1, rng.integers(1, 12), models)
    same_wrong, same_right = rng.uniform(0, 1, 2)
    expected = infer(
        prior_M[None], answer_M[None], np.array([same_wrong]), np.array([same_right]), loadings_ME
    )
    responded = [m for m in range(models) if answer_M[m] >= 0 or m % 3 == 0]
    chance_M, logit_M, after_M = infer_one(
        prior_M,
        responded,
        answer_M[responded].tolist(),
        same_wrong,
        same_right,
        np.asarray(steepness(loadings_ME))[:, None],
        loadings_ME @ quadrature()[0].T,
    )
    np.testing.assert_allclose(chance_M, expected.chance_BM[0], atol=1e-12)
    np.testing.assert_allclose(after_M, expected.after_BM[0], atol=1e-12)
    np.testing.assert_allclose(1 / (1 + np.exp(-logit_M)), np.clip(chance_M, 1e-6, 1 - 1e-6), atol=1e-12)


@pytest.mark.parametrize("responses", [0, 1, 2, 5])
@pytest.mark.parametrize("chance", [0.0, 1e-9, 0.3, 1.0])
def test_calibration_alone_as_in_a_batch(chance: float, responses: int) -> None:
    lines = np.array([[0.1, 1.1], [-0.2, 0.8]], np.float32)
    expected = calibrate(lines, np.array([chance]), np.array([responses]))[0]
    assert calibrate_one(lines, chance, responses) == pytest.approx(expected, abs=1e-12)


def test_a_payoff_of_one_is_that_of_many() -> None:
    for payoff in (Payoff(), Payoff(1.5, 0.4)):
        for chance, penalty in ((0.3, 0.1), (0.9, 2.0), (0.0, 0.0)):
            assert payoff(np.array([chance]), np.array([penalty]))[0] == payoff(chance, penalty)
