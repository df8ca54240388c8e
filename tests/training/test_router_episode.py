"""Episodes of a language model that routes, sampled from outside, on recorded outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from outcomes_kit import MODELS, synthetic_outcomes, synthetic_tables
from router_training_kit import TURN_USD, call_ids, calls, episode, sample, says, selects

from xrouter.episodes.cost import predicted_cost
from xrouter.errors import ConfigurationError, DataError, ModelNotFoundError
from xrouter.messages import Completion, Request
from xrouter.tasks.outcomes import Outcomes
from xrouter.tasks.recorded_world import RecordedCalls, RecordedWorld
from xrouter.training.router.metrics import metrics
from xrouter.training.router.play import play
from xrouter.training.router.reward import EpisodeReward, RewardSettings

SUM, POEM, HARD = 0, 1, 9
"""Rows: a sum (even), a poem (odd), and a poem that `large` gets wrong."""


@pytest.fixture
def outcomes(tmp_path: Path) -> Outcomes:
    return synthetic_outcomes(tmp_path / "kit")


@pytest.fixture
def world(outcomes: Outcomes) -> RecordedWorld:
    return RecordedWorld(outcomes)


def usd(model: str) -> float:
    """Of one recorded call: 40 tokens in at a fourth of the price, 100 out."""
    return (40 * MODELS[model] / 4 + 100 * MODELS[model]) / 1e6


async def test_call_read_select_earns_the_recorded_score(outcomes: Outcomes, world: RecordedWorld) -> None:
    one = episode(world, sample(outcomes, SUM))
    first = await one.start()
    assert first is not None
    assert {tool["function"]["name"] for tool in first.params["tools"]} >= {"call_large", "select_response"}
    second = await one.reply(calls("small-sums", "weak"))
    assert second is not None
    assert second.messages[: len(first.messages)] == first.messages, "a turn only adds messages"
    right, wrong = call_ids(second)
    assert await one.reply(selects(right)) is None
    result = one.result
    assert (result.outcome.quality, result.answered_by, result.ended) == (1.0, "small-sums", "selected")
    assert result.called == ("small-sums", "weak")
    assert float(result.router_cost_usd) == pytest.approx(2 * TURN_USD)
    assert float(result.outcome.cost_usd) == pytest.approx(usd("small-sums") + usd("weak") + 2 * TURN_USD)
    assert result.problems == {}

    other = episode(world, sample(outcomes, SUM))
    await other.start()
    await other.reply(calls("small-sums", "weak"))
    await other.reply(selects(wrong))
    assert other.result.outcome.quality == 0.0


async def test_own_words_are_graded_against_the_reference(outcomes: Outcomes, world: RecordedWorld) -> None:
    for text, quality in ((f"r{POEM}", 1.0), ("something else", 0.0)):
        one = episode(world, sample(outcomes, POEM))
        await one.start()
        assert await one.reply(says(text)) is None
        assert one.result.outcome.quality == quality
        assert one.result.answered_by == "router"
        assert one.result.called == ()


async def test_no_model_stands_in_for_a_router_that_makes_no_sense(
    outcomes: Outcomes, world: RecordedWorld
) -> None:
    one = episode(world, sample(outcomes, SUM, max_turns=2))
    assert await one.start() is not None
    refused = await one.reply(says(None, ("call_nobody", {})))
    assert refused is not None
    assert "unknown tool" in str(refused.messages[-1]["content"])
    assert await one.reply(says(None, ("call_nobody", {}))) is None
    result = one.result
    assert (result.outcome.quality, result.ended, result.answered_by) == (0.0, "failed", None)
    assert result.problems == {"unknown_tool": 2}
    assert float(result.outcome.cost_usd) == pytest.approx(2 * TURN_USD), (
        "its tokens are charged all the same"
    )
    assert result.turns == 2


async def test_at_the_last_turn_a_single_call_is_the_answer(outcomes: Outcomes, world: RecordedWorld) -> None:
    one = episode(world, sample(outcomes, HARD, max_turns=1))
    await one.start()
    assert await one.reply(calls("large")) is None
    assert one.result.outcome.quality == 0.0
    assert one.result.answered_by == "large"


async def test_reward_counts_cost_in_calls_of_the_dearest_model(
    outcomes: Outcomes, world: RecordedWorld
) -> None:
    one = sample(outcomes, SUM, cost_weight=0.5, max_turns=1)
    played = episode(world, one)
    await played.start()
    await played.reply(calls("large"))
    unit = predicted_cost(world.pool(["large"])["large"], one.task.request)
    cost = played.result.outcome.cost_usd
    assert played.result.reward == pytest.approx(1 - 0.5 * float(cost / unit))

    gated = RewardSettings("cost_aware", success_bonus=1, penalty_cap=0.6, cost_unit="usd")
    played = episode(world, one, gated)
    await played.start()
    await played.reply(calls("large"))
    assert played.result.reward == pytest.approx(1 - 0.5 * float(cost))


async def test_a_trivial_question_wants_restraint_too(outcomes: Outcomes, world: RecordedWorld) -> None:
    reward = RewardSettings(trivial_call_penalty=0.4)
    easy = sample(outcomes, SUM, cost_weight=0, max_turns=1, trivial=True)
    called, answered = episode(world, easy, reward), episode(world, easy, reward)
    await called.start()
    await called.reply(calls("small-sums"))
    await answered.start()
    await answered.reply(says(f"r{SUM}"))
    assert called.result.reward == pytest.approx(0.6)
    assert answered.result.reward == 1.0


async def test_play_answers_what_waits_a_batch_at_a_time(outcomes: Outcomes, world: RecordedWorld) -> None:
    batches: list[int] = []

    async def replies(requests: Sequence[Request]) -> list[Completion]:
        batches.append(len(requests))
        return [
            selects(ids[0])
            if (ids := call_ids(request))
            else says("r3")
            if "word3" in request.query
            else calls("small-sums")
            for request in requests
        ]

    results = await play([episode(world, sample(outcomes, row)) for row in range(4)], replies)
    assert batches == [4, 3]
    assert [result.index for result in results] == [0, 1, 2, 3]
    assert [result.outcome.quality for result in results] == [1.0, 0.0, 1.0, 1.0]
    figures = metrics(results)
    assert figures["quality"] == 0.75
    assert figures["calls"] == 0.75
    assert figures["turns"] == 1.75
    assert figures["route/small-sums"] == 0.75
    assert figures["route/router"] == 0.25
    assert figures["ended/direct"] == 0.25
    assert figures["invalid_rate"] == 0.0
    assert metrics([]) == {}


async def test_a_sampler_that_fails_leaves_no_episode_running(
    outcomes: Outcomes, world: RecordedWorld
) -> None:
    async def replies(requests: Sequence[Request]) -> list[Completion]:
        raise OSError("the server is gone")

    episodes = [episode(world, sample(outcomes, row)) for row in range(3)]
    with pytest.raises(OSError, match="gone"):
        await play(episodes, replies)
    for one in episodes:
        with pytest.raises(RuntimeError, match="not over"):
            _ = one.result


async def test_nothing_can_be_replied_to_before_anything_is_asked(
    outcomes: Outcomes, world: RecordedWorld
) -> None:
    with pytest.raises(RuntimeError, match="nothing was asked"):
        await episode(world, sample(outcomes, SUM)).reply(calls("weak"))


def test_recorded_calls_are_all_there_and_only_those(tmp_path: Path) -> None:
    tables = synthetic_tables(4, 0)
    for column in tables["outcomes"].values():
        del column[0]
    calls_ = RecordedCalls(synthetic_outcomes(tmp_path / "kit", tables))
    assert len(calls_) == 15 == len(list(calls_))
    assert ("small-sums", calls_._outcomes.recording.prompts[0]) not in calls_
    assert calls_["weak", calls_._outcomes.recording.prompts[0]].answer == "w0-weak"


async def test_of_a_prompt_recorded_twice_the_first_row_that_has_the_model_answers(tmp_path: Path) -> None:
    tables = synthetic_tables(4, 0)
    tables["queries"]["prompt"][2] = tables["queries"]["prompt"][0]
    for column in tables["outcomes"].values():
        del column[0]
    outcomes = synthetic_outcomes(tmp_path / "kit", tables)
    prompt = outcomes.recording.prompts[0]
    recorded = RecordedCalls(outcomes)
    assert recorded["small-sums", prompt].answer == "r2"
    assert recorded["weak", prompt].answer == "w0-weak"
    assert len(recorded) == 12 == len(list(recorded))
    for model, quality in (("small-sums", 1.0), ("weak", 0.0)):
        one = episode(RecordedWorld(outcomes), sample(outcomes, SUM, max_turns=1))
        await one.start()
        await one.reply(calls(model))
        assert one.result.outcome.quality == quality


async def test_an_unscored_answer_is_an_error_not_a_zero(tmp_path: Path) -> None:
    tables = synthetic_tables(4, 0)
    tables["outcomes"]["score"][0] = None
    outcomes = synthetic_outcomes(tmp_path / "kit", tables)
    one = episode(RecordedWorld(outcomes), sample(outcomes, SUM, max_turns=1))
    await one.start()
    with pytest.raises(DataError, match=r"small-sums.*has no score"):
        await one.reply(calls("small-sums"))


def test_a_pool_of_unknown_models_is_refused(world: RecordedWorld) -> None:
    with pytest.raises(ModelNotFoundError, match="nobody"):
        world.pool(["large", "nobody"])


@pytest.mark.parametrize(
    ("field", "value"), [("kind", "best"), ("cost_unit", "euro"), ("trivial_call_penalty", 1.5)]
)
def test_reward_settings_name_what_is_wrong(field: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=field):
        EpisodeReward(RewardSettings(**{field: value}))  # type: ignore[arg-type]
