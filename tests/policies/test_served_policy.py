from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from conftest import make_model
from episode_kit import completion
from learner_kit import fitted_policy
from synthetic import replaying_pool, synthetic_outcomes

from xrouter.catalog.price import Rates
from xrouter.episodes.cost import estimate_prompt_tokens, predicted_cost
from xrouter.episodes.environment import Environment
from xrouter.episodes.episode import (
    Call,
    CallModels,
    Decision,
    DirectAnswer,
    Observation,
    Preference,
    Response,
    Select,
)
from xrouter.errors import BudgetExceededError, CheckpointError
from xrouter.messages import Request, Usage
from xrouter.policies.arrays import FEW, PoolView, ServedPolicy, able_M, imagined_answer, last_resort, observe
from xrouter.policies.baselines import Cheapest, SingleModel
from xrouter.policies.checkpoint import load_policy
from xrouter.policies.doubt import CUT_AFTER_ANSWER, NO_ANSWER
from xrouter.rollout import rollout

OUTCOMES = synthetic_outcomes(seed=12, queries=40, models=5)
POOL = tuple(make_model(name) for name in ("a", "b", "c"))
REQUEST = Request.from_text("What is 3 + 4?")


def response(
    model: str, answer: str | None, *, call_id: str = "c1", failed: bool = False, usd: str = "0.01"
) -> Response:
    return Response(
        call_id=call_id,
        model=model,
        turn=1,
        completion=None if failed else completion(),
        answer=answer,
        usage=Usage(10, 20),
        cost_usd=Decimal(usd),
        latency_s=0.1,
        error="it failed" if failed else None,
    )


def observation(
    *responses: Response, request: Request = REQUEST, pool: tuple = POOL, **fields: object
) -> Observation:
    values: dict[str, object] = {"preference": Preference(cost_weight=0.7), "turns_left": 2}
    return Observation(request, pool, responses=responses, **(values | fields))  # type: ignore[arg-type]


def test_what_came_back_is_seen_by_model() -> None:
    seen = observe(
        observation(
            response("c", "7", call_id="c1", usd="0.03"),
            response("a", None, call_id="c2", failed=True, usd="0.01"),
        )
    )
    assert seen.allowed_BM.tolist() == [[False, True, False]]
    assert seen.responded_BM.tolist() == [[False, False, True]]
    assert seen.failed_BM.tolist() == [[True, False, False]]
    assert seen.answer_BM.tolist() == [[-1, -1, 0]]
    assert seen.tokens_BM.tolist() == [[20.0, 0.0, 20.0]]
    np.testing.assert_allclose(seen.cost_BM, [[0.01, 0.0, 0.03]])
    assert seen.cost_weight_B.tolist() == [0.7]
    assert seen.turns_left_B.tolist() == [2]
    assert seen.money_left_B.tolist() == [np.inf]
    assert seen.prompt_tokens_B.tolist() == [estimate_prompt_tokens(REQUEST)]


def test_flaws_are_seen_as_doubt() -> None:
    seen = observe(
        observation(
            replace(response("a", None), flaws=frozenset({"refused"})),
            replace(response("b", "7"), flaws=frozenset({"truncated"})),
            response("c", "7"),
        )
    )
    assert seen.doubt_BM.tolist() == [[NO_ANSWER, CUT_AFTER_ANSWER, 0.0]]
    assert seen.answer_BM.tolist() == [[-1, 0, 0]]
    assert seen.alike_B.tolist() == [False]


def test_free_texts_that_are_alike_are_one_class_and_said_to_be_alike() -> None:
    said = "The committee meets every second Tuesday in the old town hall beside the river."
    texts = [replace(response(name, None), completion=completion(said)) for name in ("a", "b")]
    seen = observe(observation(*texts))
    assert seen.answer_BM.tolist() == [[0, 0, -1]]
    assert seen.alike_B.tolist() == [True]


def test_equal_answers_are_one_class() -> None:
    answers = ("7", "8", "7")
    responses = [
        response(m.name, answer, call_id=f"c{i}")
        for i, (m, answer) in enumerate(zip(POOL, answers, strict=True))
    ]
    assert observe(observation(*responses)).answer_BM.tolist() == [[0, 1, 0]]


def test_of_two_responses_of_one_model_the_last_counts_and_both_cost() -> None:
    seen = observe(
        observation(response("b", "7", call_id="c1"), response("b", "8", call_id="c2", usd="0.02"))
    )
    assert seen.answer_BM[0, 1] == 1
    assert seen.cost_BM[0, 1] == pytest.approx(0.03)


def test_simple_mode_is_a_last_turn() -> None:
    assert observe(observation(preference=Preference(simple=True), turns_left=3)).turns_left_B.tolist() == [1]


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    ("request_", "able"),
    [
        (REQUEST, [True, True, True]),
        (
            Request.from_text("?", tools=[{"type": "function", "function": {"name": "f"}}]),
            [False, True, True],
        ),
        (Request.from_messages([{"role": "user", "content": [IMAGE]}]), [False, False, True]),
        (Request.from_text("word " * 10_000), [False, True, False]),
    ],
)
def test_only_models_that_can_take_the_request_are_allowed(request_: Request, able: list[bool]) -> None:
    pool = (
        make_model("plain", tools=False),
        make_model("long", context_window=1_000_000),
        make_model("seeing", modalities=("text", "image")),
    )
    assert able_M(PoolView(pool), request_).tolist() == able
    assert observe(observation(request=request_, pool=pool)).allowed_BM[0].tolist() == able


def test_where_no_model_can_take_the_request_all_may_try() -> None:
    request = Request.from_text("word " * 1_000_000)
    assert able_M(PoolView(POOL), request).tolist() == [True] * 3


def test_a_selection_names_the_call() -> None:
    policy = ServedPolicy(SingleModel("b"))
    decision = policy.decide(observation(response("b", "7", call_id="c4")))
    assert decision.action == Select("c4")
    assert decision.confidence is None


def test_a_call_names_the_model() -> None:
    action = ServedPolicy(SingleModel("b")).decide(observation()).action
    assert isinstance(action, CallModels)
    assert [call.model for call in action.calls] == ["b"]


def test_a_model_that_the_cap_rules_out_is_not_allowed() -> None:
    cap = predicted_cost(OUTCOMES.models[2], REQUEST) * 2
    seen = observe(observation(pool=OUTCOMES.models, money_left_usd=cap))
    assert seen.allowed_BM.tolist() == [[True, True, True, False, False]]
    assert seen.money_left_B.tolist() == [float(cap)]


@pytest.mark.parametrize("cap", ["0.0001", "0.0003", "0.001", "0.003", "0.02"])
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_under_a_cap_that_buys_any_model_no_turn_is_lost_and_there_is_an_answer(
    cap: str, noise: float
) -> None:
    pool, policy = replaying_pool(OUTCOMES), ServedPolicy(fitted_policy(OUTCOMES, noise=noise))
    for weight in (0.0, 0.3):
        preference = Preference(cost_weight=weight, max_cost_usd=Decimal(cap))
        for prompt in OUTCOMES.recording.prompts:
            episode = asyncio.run(rollout(policy, Environment(pool, Request.from_text(prompt), preference)))
            assert episode.answer_from is not None
            assert all(
                step.responses for step in episode.steps if isinstance(step.decision.action, CallModels)
            )


@pytest.mark.parametrize("policy", [fitted_policy(OUTCOMES), Cheapest(), SingleModel("model-4")])
def test_a_cap_that_buys_nothing_is_said_at_once(policy: object) -> None:
    environment = Environment(replaying_pool(OUTCOMES), REQUEST, Preference(max_cost_usd=Decimal("1e-9")))
    with pytest.raises(BudgetExceededError, match="no further call affordable") as error:
        asyncio.run(rollout(ServedPolicy(policy), environment))  # type: ignore[arg-type]
    assert len(error.value.episode.steps) == 1


def test_the_last_resort_is_the_cheapest_that_may_still_be_asked() -> None:
    seen = observe(observation(pool=OUTCOMES.models, money_left_usd=Decimal("0.01")))
    assert last_resort(seen).tolist() == [0]
    assert last_resort(replace(seen, money_left_B=np.array([np.inf]))).tolist() == []
    assert last_resort(replace(seen, responded_BM=np.ones((1, 5), bool))).tolist() == []
    some = replace(seen, allowed_BM=np.array([[False, False, True, True, False]]))
    assert last_resort(some).tolist() == [2]
    none = replace(seen, allowed_BM=np.zeros((1, 5), bool))
    assert last_resort(replace(none, failed_BM=np.array([[True, False, False, False, False]]))).tolist() == [
        1
    ]
    assert last_resort(replace(none, failed_BM=np.ones((1, 5), bool))).tolist() == []


class OwnPolicy:
    name = "own"
    version = "1"

    async def act(self, observation: Observation) -> Decision:
        return Decision(DirectAnswer("42"))


class NotAPolicy:
    pass


def test_a_policy_of_the_users_own_is_loaded_by_its_dotted_path() -> None:
    assert load_policy(f"{__name__}:OwnPolicy", ()).name == "own"


@pytest.mark.parametrize("path", ["no.such.module:Name", f"{__name__}:Missing", f"{__name__}:NotAPolicy"])
def test_a_dotted_path_that_leads_nowhere_is_named(path: str) -> None:
    with pytest.raises(CheckpointError, match=path.split(":")[1] if "no.such" not in path else "no.such"):
        load_policy(path, ())


async def test_a_streaming_client_is_told_at_once_where_the_answer_will_be_handed_over() -> None:
    """`hand_over` says what the policy would do with a sound answer of the usual length."""
    policy = ServedPolicy(fitted_policy(OUTCOMES))
    pool = replaying_pool(OUTCOMES).models
    seen = set()
    for prompt in OUTCOMES.recording.prompts[:20]:
        for weight in (0.01, 1.0, 30.0):
            asked = observation(
                request=Request.from_text(prompt), pool=pool, preference=Preference(cost_weight=weight)
            )
            whole = await policy.act(asked)
            streamed = await policy.act(replace(asked, streaming=True))
            assert not whole.hand_over
            assert streamed.action == whole.action
            assert isinstance(whole.action, CallModels)
            if len(whole.action.calls) > 1:
                assert not streamed.hand_over
                continue
            imagined = imagined_answer(asked, whole)
            assert imagined is not None
            after = policy.decide(imagined)
            assert streamed.hand_over == isinstance(after.action, Select)
            seen.add(streamed.hand_over)
    assert True in seen


@pytest.mark.parametrize("together", [1, FEW, FEW + 1, 12])
def test_observations_are_decided_alike_however_many_wait(together: int) -> None:
    policy = ServedPolicy(fitted_policy(OUTCOMES))
    pool = replaying_pool(OUTCOMES).models
    prompts = OUTCOMES.recording.prompts[:12]
    waiting = [observation(request=Request.from_text(prompt), pool=pool) for prompt in prompts]
    waiting[1::2] = [
        imagined_answer(asked, Decision(CallModels((Call(pool[0].name),)))) or asked
        for asked in waiting[1::2]
    ]
    alone = [policy.decide(asked) for asked in waiting]
    found = [
        decision for i in range(0, 12, together) for decision in policy.decide_all(waiting[i : i + together])
    ]
    assert [decision.action for decision in found] == [decision.action for decision in alone]
    for decision, expected in zip(found, alone, strict=True):
        assert decision.confidence == pytest.approx(expected.confidence)


def test_nothing_is_imagined_beside_answers_that_are_there() -> None:
    call = Decision(CallModels((Call("a"),)))
    assert imagined_answer(observation(response("b", "7")), call) is None
    assert imagined_answer(observation(response("b", None, failed=True)), call) is not None
    assert imagined_answer(observation(), Decision(CallModels((Call("a"), Call("b"))))) is None


def test_a_warm_prompt_cache_makes_a_call_cheaper_by_the_discount_it_would_lose() -> None:
    cached = replace(
        POOL[0],
        price=replace(POOL[0].price, rates=Rates(Decimal(2), Decimal(8), cached_input=Decimal("0.5"))),
    )
    pool = (cached, *POOL[1:])
    states = observe(observation(pool=pool, warm_tokens={"a": 1000, "gone": 5}))
    assert states.discount_BM.tolist() == [[pytest.approx(1000 * 1.5e-6), 0.0, 0.0]]
    assert not observe(observation(pool=pool)).discount_BM.any()


def test_a_policy_stays_where_the_cache_is_warm() -> None:
    """Of two models alike, the one that has the conversation in its cache is asked."""
    policy = ServedPolicy(load_policy(None, ()).inner)  # type: ignore[attr-defined]
    rates = Rates(Decimal(2), Decimal(8), cached_input=Decimal("0.2"))
    twins = tuple(replace(model, price=replace(model.price, rates=rates)) for model in POOL[:2])
    request = Request.from_text("Summarise. " + "word " * 1500)
    for warm in ("a", "b"):
        asked = observation(
            request=request, pool=twins, preference=Preference(cost_weight=1.0), warm_tokens={warm: 1500}
        )
        action = policy.decide(asked).action
        assert isinstance(action, CallModels)
        assert [call.model for call in action.calls] == [warm]
