"""DAPO with TRL's GRPOTrainer over groups of our episodes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import split_tensor_dict

from ...errors import ConfigurationError
from .groups import GroupGenerator, episode_reward
from .policy_model import PolicyModel
from .settings import TRLSettings
from .shared_prompts import completion_logprobs

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
        trainer = _GroupTrainer(
            settings.share_prompts,
            model=policy.model,
            reward_funcs=[episode_reward],
            args=_arguments(settings, folder, policy, max_reply_tokens),
            train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(count)]}),
            processing_class=policy.tokenizer,
            rollout_func=generator,
            callbacks=[_OnUpdate(settings.updates, on_update)],
        )
    trainer.remove_callback(PrinterCallback)
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


class _GroupTrainer(GRPOTrainer):  # type: ignore[misc]  # an untyped base class
    """Keeps groups together in memory, and computes what they share once."""

    def __init__(self, share_prompts: bool, **options: Any) -> None:
        super().__init__(**options)
        self._share_prompts = share_prompts

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """As the base class has it, but for the shuffling, which would spread a group over several micro-batches."""
        if not self.model.training:
            return super()._prepare_inputs(generation_batch)
        pieces = self.args.steps_per_generation
        if self._step % (pieces * self.num_iterations) == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)
            self._buffered_inputs: Any = split_tensor_dict(batch, pieces)
        return self._buffered_inputs[self._step % pieces]

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **other: Any,
    ) -> Any:
        if not self._share_prompts:
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, **other
            )
        logps, entropies = [], []
        for start in range(0, len(input_ids), batch_size or len(input_ids)):
            rows = slice(start, start + (batch_size or len(input_ids)))
            prompts, completions = _unpadded(input_ids[rows], attention_mask[rows], logits_to_keep)
            with self.accelerator.autocast():
                some, entropy = completion_logprobs(
                    model, prompts, completions, temperature=self.temperature, width=logits_to_keep
                )
            logps.append(some)
            entropies.append(entropy)
        return torch.cat(logps), torch.cat(entropies) if compute_entropy else None, None


def _unpadded(
    ids: torch.Tensor, mask: torch.Tensor, completion_width: int
) -> tuple[list[list[int]], list[list[int]]]:
    """(prompts, completions)"""
    cut = ids.shape[1] - completion_width
    kept = [
        (row[:cut][m[:cut]].tolist(), row[cut:][m[cut:]].tolist())
        for row, m in zip(ids, mask.bool(), strict=True)
    ]
    return [prompt for prompt, _ in kept], [completion for _, completion in kept]


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
