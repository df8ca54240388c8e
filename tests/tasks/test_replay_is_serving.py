"""What is judged on recordings is what is served: the arrays and the environment make the same episodes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learner_kit import fitted_policy
from synthetic import replaying_pool, synthetic_outcomes

from xrouter.catalog.model import Model
from xrouter.episodes.agreement import best_response
from xrouter.episodes.cost import estimate_prompt_tokens, estimate_query_tokens
from xrouter.episodes.environment import Environment
from xrouter.episodes.episode import Episode, Preference, Response
from xrouter.errors import BudgetExceededError, NoAnswerError
from xrouter.messages import Completion, Request, Usage
from xrouter.policies.arrays import ServedPolicy, observe
from xrouter.policies.baselines import Cheapest, RandomModel, SingleModel
from xrouter.policies.cascade import AgreementCascade
from xrouter.policies.doubt import doubt
from xrouter.policies.network import Payoff
from xrouter.policies.states import ArrayPolicy, Choices, Floats, States
from xrouter.rollout import rollout
from xrouter.tasks.outcomes import Outcomes
from xrouter.tasks.replay import Replay, Rollouts, best_at_limit

OUTCOMES = synthetic_outcomes(seed=4, queries=60, models=6)
WEIGHTS = (0.0, 0.003, 0.05, 0.3, 2.0, 30.0)


@dataclass(frozen=True)
class Arbitrary:
    """Any set of models in any turn, nothing at all, or any response: by a hash of the query and the turn.

    It never looks at the rules, so every ending comes about, running out of turns above all.
    """

    share: float
    name: str = "arbitrary"
    version: str = "1"

    def encode(self, queries: Sequence[str]) -> Floats:
        return np.array([[len(query) * 7919 % 10007] for query in queries], np.float64)

    def decide(self, text_BD: Floats, states: States) -> Choices:
        call_BM = np.zeros_like(states.allowed_BM)
        select_B = np.full(len(states), -1)
        for b in range(len(states)):
            rng = np.random.default_rng([int(text_BD[b, 0]), int(states.turns_left_B[b])])
            call_BM[b] = states.allowed_BM[b] & (rng.random(call_BM.shape[1]) < self.share)
            responded = np.flatnonzero(states.responded_BM[b])
            if len(responded) and rng.random() < 0.3:
                call_BM[b], select_B[b] = False, rng.choice(responded)
        return Choices(call_BM, select_B, np.full(len(states), np.nan))


POLICIES: dict[str, ArrayPolicy] = {
    "network": fitted_policy(OUTCOMES),
    "network that was never trained": fitted_policy(OUTCOMES, noise=0.0),
    "wild network": fitted_policy(OUTCOMES, noise=2.0),
    "network for the gated reward": fitted_policy(OUTCOMES, payoff=Payoff(1.0, 0.8)),
    "arbitrary": Arbitrary(0.4),
    "arbitrary, few calls": Arbitrary(0.1),
    "cheapest": Cheapest(),
    "random": RandomModel(3),
    "single": SingleModel("model-2"),
    "cascade": AgreementCascade("model-0", "model-1", "model-5"),
}


def serve(
    policy: ArrayPolicy,
    outcomes: Outcomes,
    weight: float,
    max_turns: int,
    target: float | None = None,
    cap: Decimal | None = None,
) -> list[Episode]:
    """Every query through the code that serves; where there is no answer, what the error says was spent."""
    pool = replaying_pool(outcomes)
    served = ServedPolicy(policy)

    async def one(prompt: str) -> Episode:
        preference = Preference(
            cost_weight=weight, target_quality=target, max_cost_usd=cap, max_turns=max_turns
        )
        environment = Environment(pool, Request.from_text(prompt), preference)
        try:
            return await rollout(served, environment)
        except (NoAnswerError, BudgetExceededError) as error:
            failed: Episode = error.episode
            return failed

    async def all_of_them() -> list[Episode]:
        return [await one(prompt) for prompt in outcomes.recording.prompts]

    return asyncio.run(all_of_them())


def assert_same_episodes(
    policy: ArrayPolicy,
    outcomes: Outcomes,
    weight: float,
    max_turns: int,
    target: float | None = None,
    cap: Decimal | None = None,
) -> Rollouts:
    record = outcomes.recording
    query = np.arange(len(record))
    replayed = Replay(record, max_turns).run(
        policy,
        policy.encode(record.prompts),
        query,
        np.full(len(query), weight),
        target_quality_B=np.full(len(query), target or np.nan),
        max_cost_usd_B=np.full(len(query), np.inf if cap is None else float(cap)),
    )
    for q, episode in enumerate(serve(policy, outcomes, weight, max_turns, target, cap)):
        turns = replayed.turn_BM[q]
        for turn, step in enumerate(episode.steps, start=1):
            called = [record.models[m].name for m in np.flatnonzero(turns == turn)]
            assert [response.model for response in step.responses] == called, (q, turn)
        assert turns.max(initial=0) <= len(episode.steps)
        assert episode.outside_training == (not replayed.familiar_B[q]), q
        source = int(replayed.answer_from_B[q])
        handed_over = None if source < 0 else record.models[source].name
        assert (episode.answer_from.model if episode.answer_from else None) == handed_over, q
        exact = sum(
            (
                record.models[m].price.cost(
                    Usage(int(record.prompt_tokens_QM[q, m]), int(record.tokens_QM[q, m]))
                )
                for m in np.flatnonzero(turns)
            ),
            Decimal(0),
        )
        limited = {
            r.model for r in episode.responses if r.completion and r.completion.finish_reason == "length"
        }
        assert {record.models[m].name for m in np.flatnonzero(replayed.cut_BM[q])} == limited
        if limited:
            exact = episode.cost_usd
        assert episode.cost_usd == exact
        assert replayed.cost_B[q] == pytest.approx(float(exact), rel=1e-12)
        if episode.stop_reason == "selected":
            np.testing.assert_allclose(
                np.nan if episode.confidence is None else episode.confidence,
                replayed.confidence_B[q],
                atol=1e-4,  # a wild network amplifies the rounding of its float32 sums
            )
        if episode.stop_reason == "selected" and target is not None:
            missed = episode.confidence is None or episode.confidence < target
            assert (episode.degraded is not None) == missed
    return replayed


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("name", [name for name in POLICIES if "network" in name])
def test_a_network_policy_replays_as_it_serves(name: str, weight: float) -> None:
    assert_same_episodes(POLICIES[name], OUTCOMES, weight, max_turns=3)


@pytest.mark.parametrize("name", [name for name in POLICIES if "network" not in name])
def test_every_other_policy_replays_as_it_serves(name: str) -> None:
    assert_same_episodes(POLICIES[name], OUTCOMES, 0.3, max_turns=3)


@pytest.mark.parametrize("max_turns", [1, 2, 5])
@pytest.mark.parametrize("name", ["network", "wild network", "arbitrary", "arbitrary, few calls"])
def test_it_does_so_for_any_number_of_turns(name: str, max_turns: int) -> None:
    assert_same_episodes(POLICIES[name], OUTCOMES.rows(range(30)), 0.05, max_turns)


@pytest.mark.parametrize("target", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("max_turns", [1, 2, 3, 5])
@pytest.mark.parametrize("name", ["network", "wild network"])
def test_a_target_quality_replays_as_it_is_served(name: str, max_turns: int, target: float) -> None:
    assert_same_episodes(POLICIES[name], OUTCOMES.rows(range(30)), 0.1, max_turns, target)


@pytest.mark.parametrize("cap", ["0.000001", "0.0001", "0.0004", "0.0015", "0.01", "1"])
@pytest.mark.parametrize(
    "name", ["network", "wild network", "arbitrary", "arbitrary, few calls", "single", "cascade", "cheapest"]
)
def test_a_cost_cap_replays_as_it_is_served(name: str, cap: str) -> None:
    replayed = assert_same_episodes(POLICIES[name], OUTCOMES, 0.0, 3, cap=Decimal(cap))
    assert replayed.cost_B.max() <= float(cap) * (1 + 1e-12)


def test_caps_are_tight_enough_to_refuse_and_to_cut() -> None:
    """Guards the test above."""
    tight = assert_same_episodes(POLICIES["arbitrary"], OUTCOMES, 0.0, 3, cap=Decimal("0.0015"))
    free = assert_same_episodes(POLICIES["arbitrary"], OUTCOMES, 0.0, 3)
    assert tight.cut_BM.any()
    assert tight.called_BM.sum() < free.called_BM.sum()
    assert (tight.whole_answer_from_B < tight.answer_from_B).any()
    assert not free.cut_BM.any()


@pytest.mark.parametrize("target", [None, 0.7])
@pytest.mark.parametrize("name", ["network", "wild network"])
def test_queries_outside_training_replay_as_they_are_served(name: str, target: float | None) -> None:
    few = OUTCOMES.rows(range(20))
    strange = ("zxqv wrtpk", "日本の首都はどこにありますか", *few.recording.prompts[2:])
    few = replace(few, recording=replace(few.recording, prompts=strange))
    replayed = assert_same_episodes(POLICIES[name], few, 0.05, 3, target)
    assert not replayed.familiar_B[:2].any()
    assert replayed.familiar_B[2:].any()


def test_a_cap_and_a_target_together() -> None:
    assert_same_episodes(POLICIES["network"], OUTCOMES, 0.1, 3, 0.7, Decimal("0.002"))


def test_a_cap_holds_where_the_recorded_prompt_is_longer_than_the_query() -> None:
    record = OUTCOMES.recording
    extra_QM = np.full(record.prompt_tokens_QM.shape, 5000)
    usd_per_token_M = np.array([float(model.price.rates.input) for model in record.models]) / 1e6
    record = replace(
        record,
        prompt_tokens_QM=record.prompt_tokens_QM + extra_QM,
        cost_QM=record.cost_QM + extra_QM * usd_per_token_M,
    )
    query, policy = np.arange(len(record)), POLICIES["arbitrary"]
    played = Replay(record).run(
        policy,
        policy.encode(record.prompts),
        query,
        np.zeros(len(query)),
        max_cost_usd_B=np.full(len(query), 0.004),
    )
    assert played.called_BM.any()
    assert played.cost_B.max() == pytest.approx(0.004)
    assert played.cost_B.max() <= 0.004 + 1e-15


def test_it_does_so_among_models_that_only_their_place_tells_apart() -> None:
    twins = OUTCOMES.pool(["model-1", "model-4", "model-2"]).rows(range(30))
    record = twins.recording
    models = tuple(replace(model, price=record.models[0].price) for model in record.models)
    cost = [
        [
            float(record.models[0].price.cost(Usage(int(n_in), int(n_out))))
            for n_in, n_out in zip(*row, strict=True)
        ]
        for row in zip(record.prompt_tokens_QM, record.tokens_QM, strict=True)
    ]
    twins = replace(twins, recording=replace(record, models=models, cost_QM=np.array(cost)))
    for name in ("arbitrary", "arbitrary, few calls", "cheapest"):
        assert_same_episodes(POLICIES[name], twins, 0.1, max_turns=4)


def test_the_policies_under_test_do_all_there_is_to_do() -> None:
    """Guards the tests above: without several turns, parallel calls and every ending they would prove little."""
    episodes = [
        episode
        for name in ("network", "wild network", "arbitrary", "arbitrary, few calls")
        for episode in serve(POLICIES[name], OUTCOMES, 0.01, 3)
    ]
    assert {"selected", "turn_limit", "failed"} <= {episode.stop_reason for episode in episodes}
    assert any(sum(bool(step.responses) for step in episode.steps) > 1 for episode in episodes)
    assert any(len(step.responses) > 1 for episode in episodes for step in episode.steps)


@pytest.mark.parametrize("query", ["", "abc", "漢字 and words", "x" * 4001, OUTCOMES.recording.prompts[0]])
def test_a_recorded_query_is_as_long_as_the_request_that_carries_it(query: str) -> None:
    assert estimate_query_tokens(query) == estimate_prompt_tokens(Request.from_text(query))


def test_the_first_observation_is_the_same_in_every_field() -> None:
    request = Request.from_text(OUTCOMES.recording.prompts[7])
    served = observe(Environment(replaying_pool(OUTCOMES), request, Preference(cost_weight=0.2)).observation)
    replayed = Replay(OUTCOMES.recording).start(np.array([7]), np.array([0.2]))
    for name in (name for name in States.__annotations__ if name != "models"):
        np.testing.assert_array_equal(getattr(served, name), getattr(replayed, name), err_msg=name)


def test_a_model_that_was_never_asked_cannot_be_called() -> None:
    present = OUTCOMES.recording.present_QM.copy()
    present[:, 0] = False
    record = replace(OUTCOMES.recording, present_QM=present)
    query = np.arange(len(record))
    for policy in POLICIES.values():
        played = Replay(record).run(policy, policy.encode(record.prompts), query, np.full(len(query), 30.0))
        assert not played.called_BM[:, 0].any()
        assert not (played.answer_from_B == 0).any()


def test_where_no_model_was_asked_there_is_no_answer_and_no_cost() -> None:
    record = replace(OUTCOMES.recording, present_QM=np.zeros_like(OUTCOMES.recording.present_QM))
    query = np.arange(5)
    policy = POLICIES["network"]
    played = Replay(record).run(policy, policy.encode(record.prompts), query, np.full(5, 0.1))
    assert not played.called_BM.any()
    assert played.answer_from_B.tolist() == [-1] * 5
    assert played.cost_B.tolist() == [0.0] * 5


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_the_best_at_a_limit_is_the_environments_best(seed: int) -> None:
    """Few answers, prices and capabilities, so that every tie comes about."""
    rng = np.random.default_rng(seed)
    base = OUTCOMES.models
    models: tuple[Model, ...] = tuple(
        replace(
            base[rng.integers(2)],
            name=f"m{i}",
            capability=[None, 0.2, 0.9][rng.integers(3)],
        )
        for i in range(5)
    )
    turn = rng.integers(0, 4, 5)
    cut = rng.random(5) < rng.choice([0.0, 0.4])
    answer = np.where((turn > 0) & ~(cut & (rng.random(5) < 0.5)), rng.integers(-1, 3, 5), -1)
    order = sorted(np.flatnonzero(turn), key=lambda i: (turn[i], i))
    responses = [
        Response(
            call_id=f"c{i}",
            model=f"m{i}",
            turn=int(turn[i]),
            completion=Completion({"role": "assistant", "content": "said"}, Usage()),
            answer=None if answer[i] < 0 else str(answer[i]),
            usage=Usage(),
            cost_usd=Decimal(0),
            latency_s=0.0,
            flaws=frozenset({"truncated"}) if cut[i] else frozenset(),
        )
        for i in order
    ]
    doubt_M = np.zeros(5)
    doubt_M[order] = [doubt(response) for response in responses]
    states = replace(
        Replay(OUTCOMES.recording.columns(np.arange(5))).start(np.array([0]), np.array([0.0])),
        models=models,
        responded_BM=(turn > 0)[None],
        answer_BM=answer[None],
        doubt_BM=doubt_M[None],
    )
    best = best_response(responses, models)
    expected = -1 if best is None else int(best.model[1:])
    assert best_at_limit(states, turn[None]).tolist() == [expected]
