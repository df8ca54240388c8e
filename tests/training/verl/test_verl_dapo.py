"""verl's group filtering, advantages and loss on the trajectories of our loop, beside our own functions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

if find_spec("verl") is None or find_spec("transfer_queue") is None:
    pytest.skip("verl is not installed: pip install 'xrouter[verl]'", allow_module_level=True)

from verl_kit import Stage, call, data, offered, select, shown_ids, tiny_model

from xrouter.training.dapo import (
    clipped_token_mean_loss,
    group_relative_advantages,
    informative_groups,
)

pytestmark = pytest.mark.slow

ROLLOUTS = 4
EQUAL, VARIED = 0, 1
"""Rows: in the groups of the first every rollout does the same."""


class Habits:
    """Says something else in every rollout of a group, or the same in all of them."""

    def __init__(self) -> None:
        self.rollout = 0
        self.vary = False

    def __call__(self, prompt: str) -> str:
        ids = shown_ids(prompt)
        if ids:
            return select(ids[-1])
        models = offered(prompt)
        self.rollout += 1
        return call(*models[: 1 + self.rollout % 2]) if self.vary else call(models[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = data(tmp_path_factory.mktemp("verl"))
    tiny_model(folder / "model", weights=True)
    return folder


class Played:
    def __init__(self, stage: Stage, groups: dict[str, list[Any]]) -> None:
        self.stage = stage
        self.groups = groups


@pytest.fixture(scope="module")
def played(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Played:
    habits = Habits()

    async def play() -> Played:
        stage = Stage(folder, tmp_path_factory.mktemp("run"), habits, max_generation_batches=3)
        groups = {}
        for row, vary in ((EQUAL, False), (VARIED, True), (2, True), (3, False)):
            habits.vary = vary
            groups[f"uid{row}"] = await stage.outputs(row, ROLLOUTS)
        return Played(stage, groups)

    return asyncio.run(play())


def padded(played: Played) -> Any:
    """Left-padded prompts and right-padded responses of all groups, as the trainer has them."""
    outputs = [output for group in played.groups.values() for output in group]
    pad = played.stage.tokenizer.pad_token_id
    rows = [output.as_dict() for output in outputs]
    before, after = max(len(r["prompts"]) for r in rows), max(len(r["responses"]) for r in rows)

    def left(row: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(row, (before - len(row), 0), value=pad)

    def right(row: torch.Tensor, value: float = 0) -> torch.Tensor:
        return torch.nn.functional.pad(row, (0, after - len(row)), value=value)

    ids = torch.stack([torch.cat([left(r["prompts"]), right(r["responses"], pad)]) for r in rows])
    seen = torch.stack(
        [
            torch.cat([left(torch.ones_like(r["prompts"])) == 1, right(torch.ones_like(r["responses"])) == 1])
            for r in rows
        ]
    )
    return SimpleNamespace(
        ids=ids,
        seen=seen,
        before=before,
        mask=torch.stack([right(r["response_mask"]) for r in rows]),
        scores=torch.stack([right(r["rm_scores"]) for r in rows]),
        uids=np.repeat(list(played.groups), ROLLOUTS),
        rewards_PG=np.array([o.reward_score for o in outputs]).reshape(-1, ROLLOUTS),
    )


def test_advantages_loss_and_gradient_on_our_trajectories(played: Played) -> None:
    from transformers import Qwen2ForCausalLM
    from verl.trainer.ppo.core_algos import (
        compute_grpo_outcome_advantage,
        compute_policy_loss_vanilla,
    )
    from verl.utils.config import omega_conf_to_dataclass

    batch, config = padded(played), played.stage.config
    by_std = config.algorithm.norm_adv_by_std_in_grpo
    assert by_std is False
    theirs_BT, _ = compute_grpo_outcome_advantage(
        batch.scores, batch.mask, batch.uids, norm_adv_by_std_in_grpo=by_std
    )
    ours_B = torch.tensor(group_relative_advantages(batch.rewards_PG)).reshape(-1).float()
    torch.testing.assert_close(theirs_BT, ours_B[:, None] * batch.mask)
    assert (ours_B != 0).sum() >= ROLLOUTS

    model = Qwen2ForCausalLM.from_pretrained(played.stage.config.actor_rollout_ref.model.path)
    logits = model(batch.ids, attention_mask=batch.seen.long()).logits[:, batch.before - 1 : -1]
    logp_BT = torch.log_softmax(logits.float(), -1).gather(-1, batch.ids[:, batch.before :, None])[..., 0]
    torch.manual_seed(0)
    old_BT = (logp_BT + 0.4 * torch.randn_like(logp_BT)).detach()
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    loss, figures = compute_policy_loss_vanilla(
        old_BT, logp_BT, theirs_BT, batch.mask, config.actor_rollout_ref.actor.loss_agg_mode, actor
    )
    ours, seen = clipped_token_mean_loss(logp_BT, old_BT, ours_B, batch.mask)
    torch.testing.assert_close(loss, ours)
    assert seen.clipped_low + seen.clipped_high == pytest.approx(figures["actor/pg_clipfrac"])
    assert seen.clipped_high > 0
    gradients = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    expected = torch.autograd.grad(ours, list(model.parameters()))
    for theirs, mine in zip(gradients, expected, strict=True):
        torch.testing.assert_close(theirs, mine)
    assert any(gradient.abs().sum() > 0 for gradient in gradients)


class Queue:
    """TransferQueue's tables in memory, for the part of it that the buffer uses."""

    def __init__(self) -> None:
        self.tags: dict[str, dict[str, dict[str, Any]]] = {"train": {}}
        self.rows: dict[str, dict[str, Any]] = {}

    def put(self, uid: str, outputs: list[Any]) -> None:
        self.tags["train"][uid] = {"is_prompt": True, "status": "finished", "global_steps": 1}
        for i, output in enumerate(outputs):
            self.tags["train"][f"{uid}_{i}_0"] = {"status": "success"}
            self.rows[f"{uid}_{i}_0"] = output.as_dict()

    def kv_list(self, partition_id: str | None = None) -> dict[str, dict[str, dict[str, Any]]]:
        return {name: dict(items) for name, items in self.tags.items()}

    def kv_batch_get(
        self, keys: list[str], partition_id: str, select_fields: list[str]
    ) -> dict[str, list[Any]]:
        return {name: [self.rows[key][name] for key in keys] for name in select_fields}

    def kv_clear(self, partition_id: str, keys: list[str]) -> None:
        for key in keys:
            self.tags[partition_id].pop(key, None)


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    import transfer_queue

    queue = Queue()
    for name in ("kv_list", "kv_batch_get", "kv_clear"):
        monkeypatch.setattr(transfer_queue, name, getattr(queue, name))
    return queue


def buffer(played: Played, refill: Any) -> Any:
    """Made as verl's trainer makes it."""
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer

    trainer = SimpleNamespace(
        config=played.stage.config, trainer_mode="sync", _add_prompts_to_generate=refill
    )
    made = PPOTrainer._build_replay_buffer(trainer)
    made.poll_interval = 0.0
    return made


def test_groups_of_equal_rewards_are_drawn_again(played: Played, queue: Queue) -> None:
    from xrouter.training.verl.replay_buffer import RouterReplayBuffer

    asked: list[int] = []

    def refill(count: int) -> None:
        asked.append(count)
        queue.put("uid2", played.groups["uid2"])

    made = buffer(played, refill)
    assert isinstance(made, RouterReplayBuffer)
    rewards_PG = padded(played).rewards_PG
    assert informative_groups(rewards_PG).tolist() == [False, True, True, False]
    queue.put("uid0", played.groups["uid0"])
    queue.put("uid1", played.groups["uid1"])
    batch, figures = made.sample(global_steps=1, partition_id="train", batch_size=2)
    assert {key.split("_")[0] for key in batch.keys} == {"uid1", "uid2"}
    assert asked == [2], "verl draws two for each group that it drops"
    assert figures["training/filter_groups/evicted_samples"] == 1

    kept = [output for uid in ("uid1", "uid2") for output in played.groups[uid]]
    numbers = [output.extra_fields["episode_numbers"] for output in kept]
    assert figures["xrouter/acc"] == pytest.approx(np.mean([one["acc"] for one in numbers]))
    assert figures["xrouter/cost_usd"] == pytest.approx(np.mean([one["cost_usd"] for one in numbers]))
    assert figures["xrouter/calls"] == pytest.approx(np.mean([one["calls"] for one in numbers]))
    assert figures["xrouter/invalid_rate"] == 0
    shares = {name: value for name, value in figures.items() if name.startswith("xrouter/route/")}
    assert sum(shares.values()) == pytest.approx(1)


def test_the_limit_of_generation_batches_ends_the_drawing(played: Played, queue: Queue) -> None:
    """Three batches of four prompts: eight more may be drawn, two for each group dropped, so four are dropped."""
    served = 0

    def refill(count: int) -> None:
        nonlocal served
        served += count
        for _ in range(count):
            queue.put(f"again{len(queue.tags['train'])}x{served}", played.groups["uid3"])

    made = buffer(played, refill)
    for i in range(4):
        queue.put(f"first{i}", played.groups["uid0"])
    batch, figures = made.sample(global_steps=1, partition_id="train", batch_size=4)
    assert len(batch.keys) == 4 * ROLLOUTS
    assert figures["training/filter_groups/evicted_samples"] == 4
