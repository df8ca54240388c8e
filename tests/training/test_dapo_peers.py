"""Our functions against those of TRL and verl, wherever these are installed."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from xrouter.training.dapo import clipped_token_mean_loss, group_relative_advantages, overlong_penalty

P, G, T = 6, 4, 9


@pytest.fixture
def verl() -> Any:
    return pytest.importorskip(
        "verl.trainer.ppo.core_algos", reason="verl is not installed", exc_type=ImportError
    )


@pytest.fixture
def batch() -> SimpleNamespace:
    torch.manual_seed(3)
    old_BT = -torch.rand(P * G, T, dtype=torch.float64) * 3
    lengths_B = torch.randint(1, T + 1, (P * G,))
    return SimpleNamespace(
        old_BT=old_BT,
        logp_BT=old_BT + torch.randn(P * G, T, dtype=torch.float64) * 0.4,
        advantages_B=torch.randn(P * G, dtype=torch.float64),
        mask_BT=torch.arange(T) < lengths_B[:, None],
    )


def test_overlong_penalty_is_trls() -> None:
    rewards = pytest.importorskip("trl.rewards", reason="TRL is not installed", exc_type=ImportError)
    theirs = rewards.get_soft_overlong_punishment(max_completion_len=100, soft_punish_cache=20)
    lengths = np.arange(0, 140)
    np.testing.assert_allclose(
        overlong_penalty(lengths, 100, 20), theirs([[0] * n for n in lengths]), atol=1e-12
    )


def test_loss_and_gradient_are_trls(batch: SimpleNamespace) -> None:
    """TRL's loss is a method of its trainer: called on a stand-in that supplies log-probabilities."""
    trainer = pytest.importorskip("trl", reason="TRL is not installed", exc_type=ImportError).GRPOTrainer
    theirs_BT = batch.logp_BT.clone().requires_grad_()
    metrics = defaultdict(list)
    stand_in = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (theirs_BT, torch.zeros_like(theirs_BT), None),
        accelerator=SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x),
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        aux_loss_enabled=False,
        _entropy_bonus_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        beta=0.0,
        loss_type="dapo",
        epsilon_low=0.2,
        epsilon_high=0.28,
        use_vllm=False,
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        _metrics={"train": metrics},
    )
    ids_BT = torch.zeros(P * G, T, dtype=torch.long)
    theirs = trainer._compute_loss(
        stand_in,
        None,
        {
            "prompt_ids": ids_BT,
            "prompt_mask": ids_BT,
            "completion_ids": ids_BT,
            "completion_mask": batch.mask_BT.long(),
            "advantages": batch.advantages_B,
            "old_per_token_logps": batch.old_BT,
            "num_items_in_batch": batch.mask_BT.sum(),
        },
    )
    ours_BT = batch.logp_BT.clone().requires_grad_()
    ours, seen = clipped_token_mean_loss(ours_BT, batch.old_BT, batch.advantages_B, batch.mask_BT)
    torch.testing.assert_close(ours, theirs)
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(ours_BT.grad, theirs_BT.grad)
    assert metrics["clip_ratio/low_mean"] == pytest.approx([seen.clipped_low])
    assert metrics["clip_ratio/high_mean"] == pytest.approx([seen.clipped_high])
    assert seen.clipped_low > 0
    assert seen.clipped_high > 0


def test_loss_and_gradient_are_verls(verl: Any, batch: SimpleNamespace) -> None:
    actor = pytest.importorskip("verl.workers.config", reason="verl is not installed", exc_type=ImportError)
    config = actor.ActorConfig(
        strategy="fsdp",
        rollout_n=G,
        ppo_micro_batch_size_per_gpu=1,
        clip_ratio_low=0.2,
        clip_ratio_high=0.28,
        clip_ratio_c=1e9,  # switches its second bound off
    )
    theirs_BT = batch.logp_BT.clone().requires_grad_()
    advantages_BT = batch.advantages_B[:, None].expand(-1, T)
    theirs, metrics = verl.compute_policy_loss_vanilla(
        batch.old_BT, theirs_BT, advantages_BT, batch.mask_BT, "token-mean", config
    )
    ours_BT = batch.logp_BT.clone().requires_grad_()
    ours, seen = clipped_token_mean_loss(ours_BT, batch.old_BT, batch.advantages_B, batch.mask_BT)
    torch.testing.assert_close(ours, theirs)
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(ours_BT.grad, theirs_BT.grad)
    assert seen.clipped_low + seen.clipped_high == pytest.approx(metrics["actor/pg_clipfrac"])


@pytest.mark.parametrize("scale", ["none", "group"])
def test_advantages_are_verls(verl: Any, scale: str) -> None:
    rewards_PG = np.random.default_rng(5).random((P, G))
    theirs, _ = verl.compute_grpo_outcome_advantage(
        torch.tensor(rewards_PG).reshape(-1, 1),
        torch.ones(P * G, 1, dtype=torch.float64),
        np.repeat(np.arange(P), G),
        norm_adv_by_std_in_grpo=scale == "group",
    )
    ours = group_relative_advantages(rewards_PG, scale)  # type: ignore[arg-type]
    np.testing.assert_allclose(ours.reshape(-1), theirs[:, 0].numpy(), rtol=1e-6)
