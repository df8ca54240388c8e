"""What TRL is handed: groups of episodes, their rewards, and which tokens count."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from char_tokenizer_kit import CharTokenizer
from outcomes_kit import synthetic_outcomes
from router_training_kit import episode, sample

from xrouter.tasks.recorded_world import RecordedWorld
from xrouter.training.trl.chat_template import ChatTemplate
from xrouter.training.trl.groups import GroupGenerator
from xrouter.training.trl.rollouts import Sampled, Waiting
from xrouter.training.trl.settings import TRLSettings

TOKENIZER = CharTokenizer()
STOP = TOKENIZER.eos_token_id


class Alternating:
    """Calls `large` or `weak` by turns for poems, always `weak` for sums, and selects what came."""

    def __init__(self) -> None:
        self.poems = 0

    def speak(self, waiting: list[Waiting]) -> list[Sampled]:
        return [self._say(one) for one in waiting]

    def _say(self, one: Waiting) -> Sampled:
        if len(one.request.messages) > 2:
            text = '{"name": "select_response", "arguments": {"call_id": "c1"}}'
        else:
            self.poems += "verse" in str(one.request.messages)
            model = "large" if "verse" in str(one.request.messages) and self.poems % 2 else "weak"
            text = f'{{"name": "call_{model}", "arguments": {{}}}}'
        ids = TOKENIZER.encode(f"<tool_call>\n{text}\n</tool_call>", add_special_tokens=False)
        return Sampled((*ids, STOP), (-1.0,) * (len(ids) + 1))


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as running:
        yield running


def generator(
    folder: Path, runner: asyncio.Runner, reported: dict[str, float], rows: int = 8, **settings: object
) -> GroupGenerator:
    world = RecordedWorld(synthetic_outcomes(folder))
    return GroupGenerator(
        [sample(world.outcomes, row) for row in range(rows)],
        lambda one: episode(world, one),
        Alternating(),
        ChatTemplate(TOKENIZER, [STOP]),
        TRLSettings(model="m", groups=3, group_size=2, **settings),  # type: ignore[arg-type]
        runner,
        window=100_000,
        report=reported.update,
    )


def test_sums_are_dropped_for_poems(tmp_path: Path, runner: asyncio.Runner) -> None:
    reported: dict[str, float] = {}
    generate = generator(tmp_path, runner, reported)
    trainer = SimpleNamespace(state=SimpleNamespace(global_step=4))
    columns = generate(["0", "0", "1", "1", "2", "2"], trainer)
    assert {len(column) for column in columns.values()} == {6}
    rewards = columns["episode_reward"]
    assert all(a != b for a, b in zip(rewards[::2], rewards[1::2], strict=True))
    assert all(sum(mask) > 0 for mask in columns["env_mask"])
    assert columns["prompt_ids"][0] == columns["prompt_ids"][1] != columns["prompt_ids"][2]
    assert reported["groups_varied"] == 1.0
    assert reported["generation_batches"] >= 2
    assert reported["episodes"] > 6
    assert reported["invalid_rate"] == 0.0
    again = generator(tmp_path, runner, {})(["0", "0", "1", "1", "2", "2"], trainer)
    assert again["prompt_ids"] == columns["prompt_ids"], "the same step draws the same questions"


def test_what_found_no_replacement_does_not_count(tmp_path: Path, runner: asyncio.Runner) -> None:
    reported: dict[str, float] = {}
    generate = generator(tmp_path, runner, reported, max_generation_batches=1)
    columns = generate(["0", "0", "1", "1", "2", "2"], SimpleNamespace(state=SimpleNamespace(global_step=0)))
    counted = [sum(mask) > 0 for mask in columns["env_mask"]]
    assert counted == [True, True, False, False, False, False]
    assert all(len(m) == len(c) for m, c in zip(columns["env_mask"], columns["completion_ids"], strict=True))
    assert reported["groups_varied"] == pytest.approx(1 / 3)


def test_penalties_are_taken_off_what_training_sees_alone(tmp_path: Path, runner: asyncio.Runner) -> None:
    class Rambling:
        def speak(self, waiting: list[Waiting]) -> list[Sampled]:
            return [Sampled((ord("a"),) * one.limit, (-1.0,) * one.limit) for one in waiting]

    reported: dict[str, float] = {}
    generate = generator(tmp_path, runner, reported, problem_penalty=0.1, overlong_penalty=0.5)
    generate._speaker = Rambling()
    (group,) = generate.play([generate._samples[0]])
    assert [rollout.result.problems for rollout in group.rollouts] == [{"cut": 3}] * 2
    earned = group.rollouts[0].result.reward
    assert group.rewards == pytest.approx((earned - 0.5 - 0.3,) * 2)
