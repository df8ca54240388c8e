"""DAPO with TRL's GRPOTrainer over groups of our episodes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from ...errors import ConfigurationError
from .groups import GroupGenerator, episode_reward
from .policy_model import PolicyModel
from .settings import TRLSettings

CHECKPOINTS = "checkpoints"
_OURS = (
    "loss",
    "grad_norm",
    "learning_rate",
    "entropy",
    "clip_ratio/low_mean",
    "clip_ratio/high_mean",
    "step_time",
)
"""Of TRL's figures, those that are kept beside ours. Its rewards are of kept groups only."""


def dapo_trainer(
    policy: PolicyModel,
    generator: GroupGenerator,
    count: int,
    settings: TRLSettings,
    folder: Path,
    *,
    max_reply_tokens: int,
    on_update: Callable[[int, dict[str, float]], None],
) -> GRPOTrainer:
    """count: samples. on_update: gets the step (of generation) and TRL's figures after each update of the weights.

    Raises ConfigurationError where the run is spread over processes, for which dynamic sampling is not built.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*rollout_func.*experimental", category=UserWarning)
        trainer = GRPOTrainer(
            model=policy.model,
            reward_funcs=[episode_reward],
            args=_arguments(settings, folder, policy, max_reply_tokens),
            train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(count)]}),
            processing_class=policy.tokenizer,
            rollout_func=generator,
            callbacks=[_OnUpdate(settings.updates, on_update)],
        )
    if trainer.accelerator.num_processes > 1:
        raise ConfigurationError(
            f"TRL was launched in {trainer.accelerator.num_processes} processes: start one, on one GPU or the CPU; "
            "for several GPUs use the backend verl"
        )
    return trainer


def last_checkpoint(folder: Path) -> Path | None:
    from transformers.trainer_utils import get_last_checkpoint

    inner = folder / CHECKPOINTS
    found = get_last_checkpoint(str(inner)) if inner.is_dir() else None
    return None if found is None else Path(found)


def _arguments(settings: TRLSettings, folder: Path, policy: PolicyModel, max_reply_tokens: int) -> GRPOConfig:
    device = next(policy.model.parameters()).device
    return GRPOConfig(
        output_dir=str(folder / CHECKPOINTS),
        max_steps=settings.steps * settings.updates,
        per_device_train_batch_size=settings.memory_size,
        gradient_accumulation_steps=settings.update_size // settings.memory_size,
        generation_batch_size=settings.episodes,
        num_generations=settings.group_size,
        max_completion_length=max_reply_tokens,
        temperature=settings.temperature,
        loss_type="dapo",
        epsilon=settings.clip_low,
        epsilon_high=settings.clip_high,
        beta=0.0,
        scale_rewards=settings.scale_rewards,
        mask_truncated_completions=False,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=settings.warmup_steps * settings.updates,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=policy.half,
        gradient_checkpointing=settings.gradient_checkpointing,
        use_cpu=device.type == "cpu",
        logging_steps=1,
        save_strategy="steps",
        save_steps=settings.save_every * settings.updates,
        save_total_limit=2,
        report_to=["tensorboard"] if settings.tensorboard else [],
        seed=settings.seed,
        data_seed=settings.seed,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=device.type != "cpu",
    )


class _OnUpdate(TrainerCallback):  # type: ignore[misc]  # an untyped base class
    """Hands on what TRL logs."""

    def __init__(self, updates: int, on_update: Callable[[int, dict[str, float]], None]) -> None:
        self._updates = updates
        self._on_update = on_update

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if not logs or "loss" not in logs:
            return
        step = (state.global_step - 1) // self._updates + 1
        self._on_update(step, {name: logs[name] for name in _OURS if logs.get(name) is not None})
