"""Our settings as overrides of verl's own configuration (Hydra, `ppo_trainer`): the one place that knows verl's names.

Written for verl 0.9.1. What is not named here is verl's default.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..router.settings import RouterTraining
from .settings import VerlSettings

LOOP_NAME = "xrouter"
LOOP_CLASS = "xrouter.training.verl.agent_loop.RouterAgentLoop"
REWARD = "pkg://xrouter.training.verl.reward"
BUFFER = "pkg://xrouter.training.verl.replay_buffer"
CHECKPOINTS = "checkpoints"


def overrides(training: RouterTraining, run: Path, loops: Path) -> list[str]:
    """Overrides for a run in the folder `run` whose agent loops are declared in the file `loops`; the user's own come last."""
    verl: VerlSettings = training.trainer
    groups = (
        _data(training, verl),
        _model(verl),
        _actor(verl),
        _rollout(verl, loops),
        _algorithm(verl),
        _trainer(verl, run),
    )
    values = {name: value for group in groups for name, value in group.items()}
    return [f"{name}={hydra_value(value)}" for name, value in values.items()] + list(verl.overrides)


def hydra_value(value: Any) -> str:
    """The value in Hydra's grammar for overrides; text is always quoted."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(hydra_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{name}:{hydra_value(item)}' for name, item in value.items())}}}"
    if isinstance(value, (int, float)):
        return repr(value)
    text = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


def _data(training: RouterTraining, verl: VerlSettings) -> dict[str, Any]:
    data = training.data.expanduser().resolve()
    return {
        "data.train_files": [str(data / "train.parquet")],
        "data.val_files": [str(data / "validation.parquet")],
        "data.train_batch_size": verl.prompts,
        "data.max_prompt_length": verl.max_prompt_tokens,
        "data.max_response_length": verl.max_response_tokens,
        # Long prompts were left out when the data was built, with tools counted; verl would count without them.
        "data.filter_overlong_prompts": False,
        "data.return_raw_chat": True,
        "data.seed": verl.seed,
    }


def _model(verl: VerlSettings) -> dict[str, Any]:
    return {
        "actor_rollout_ref.model.path": verl.model,
        "actor_rollout_ref.model.lora_rank": verl.lora_rank,
        "actor_rollout_ref.model.lora_alpha": verl.lora_alpha,
        "actor_rollout_ref.model.enable_gradient_checkpointing": True,
        "actor_rollout_ref.model.use_remove_padding": True,
    }


def _actor(verl: VerlSettings) -> dict[str, Any]:
    actor = "actor_rollout_ref.actor"
    return {
        f"{actor}.optim.lr": verl.learning_rate,
        f"{actor}.optim.lr_warmup_steps": verl.warmup_steps,
        f"{actor}.optim.weight_decay": verl.weight_decay,
        f"{actor}.grad_clip": verl.gradient_clip,
        f"{actor}.optim.clip_grad": verl.gradient_clip,
        f"{actor}.ppo_mini_batch_size": verl.mini_batch,
        f"{actor}.use_dynamic_bsz": True,
        f"{actor}.ppo_max_token_len_per_gpu": verl.tokens_per_gpu,
        f"{actor}.ulysses_sequence_parallel_size": verl.sequence_parallel,
        f"{actor}.clip_ratio_low": verl.clip_low,
        f"{actor}.clip_ratio_high": verl.clip_high,
        # verl's second bound, for negative advantages, which DAPO lacks: out of the way, as in verl's own DAPO recipe.
        f"{actor}.clip_ratio_c": 10.0,
        f"{actor}.loss_agg_mode": "token-mean",
        f"{actor}.use_kl_loss": False,
        f"{actor}.entropy_coeff": 0,
        f"{actor}.data_loader_seed": verl.seed,
        f"{actor}.fsdp_config.param_offload": verl.offload,
        f"{actor}.fsdp_config.optimizer_offload": verl.offload,
    }


def _rollout(verl: VerlSettings, loops: Path) -> dict[str, Any]:
    rollout = "actor_rollout_ref.rollout"
    return {
        f"{rollout}.name": verl.engine,
        f"{rollout}.mode": "async",
        f"{rollout}.n": verl.rollouts,
        f"{rollout}.temperature": verl.temperature,
        f"{rollout}.top_p": verl.top_p,
        f"{rollout}.seed": verl.seed,
        f"{rollout}.prompt_length": verl.max_prompt_tokens,
        f"{rollout}.response_length": verl.max_response_tokens,
        f"{rollout}.max_model_len": verl.context_tokens,
        f"{rollout}.max_num_batched_tokens": max(8192, verl.context_tokens),
        f"{rollout}.tensor_model_parallel_size": verl.tensor_parallel,
        f"{rollout}.gpu_memory_utilization": verl.gpu_memory,
        f"{rollout}.val_kwargs.n": 1,
        f"{rollout}.val_kwargs.temperature": 0,
        f"{rollout}.multi_turn.enable": True,
        f"{rollout}.agent.num_workers": verl.loop_workers,
        f"{rollout}.agent.default_agent_loop": LOOP_NAME,
        f"{rollout}.agent.agent_loop_config_path": str(loops),
    }


def _algorithm(verl: VerlSettings) -> dict[str, Any]:
    sampler = "trainer.v1.sampler"
    return {
        "algorithm.adv_estimator": "grpo",
        "algorithm.norm_adv_by_std_in_grpo": verl.scale_by_std,
        "algorithm.use_kl_in_reward": False,
        "algorithm.filter_groups.enable": verl.filter_groups,
        "algorithm.filter_groups.metric": "reward",
        "algorithm.filter_groups.max_inflight_gen_batches": verl.inflight_batches,
        "trainer.use_v1": True,
        "trainer.v1.trainer_mode": "sync",
        f"{sampler}.custom_sampler.path": BUFFER,
        f"{sampler}.custom_sampler.name": "RouterReplayBuffer",
        # Not in verl's tree, hence the plus signs.
        f"+{sampler}.sampler_kwargs.filter_groups": verl.filter_groups,
        f"+{sampler}.sampler_kwargs.train_batch_size": verl.prompts,
        f"+{sampler}.sampler_kwargs.max_inflight_gen_batches": verl.inflight_batches,
        f"+{sampler}.sampler_kwargs.max_generation_batches": verl.max_generation_batches,
        "reward.reward_manager.name": "naive",
        "reward.custom_reward_function.path": REWARD,
        "reward.custom_reward_function.name": "compute_score",
        "reward.num_workers": 1,
    }


def _trainer(verl: VerlSettings, run: Path) -> dict[str, Any]:
    return {
        "trainer.nnodes": verl.nodes,
        "trainer.n_gpus_per_node": verl.gpus_per_node,
        "trainer.total_epochs": verl.epochs,
        "trainer.total_training_steps": verl.steps,
        "trainer.project_name": "xrouter",
        "trainer.experiment_name": run.name,
        "trainer.logger": list(verl.loggers),
        "trainer.default_local_dir": str(run / CHECKPOINTS),
        "trainer.resume_mode": "auto",
        "trainer.save_freq": verl.save_every,
        "trainer.test_freq": verl.test_every,
        "trainer.max_actor_ckpt_to_keep": verl.keep,
        "trainer.rollout_data_dir": str(run / "episodes"),
        "trainer.validation_data_dir": str(run / "validation"),
        # Of Ray's workers, wherever they run; read by the logger `file`.
        "+ray_kwargs.ray_init.runtime_env.env_vars": {"VERL_FILE_LOGGER_PATH": str(unused(run))},
    }


def unused(run: Path) -> Path:
    """The metrics file of the next start."""
    return run / f"metrics-{1 + len(list(run.glob('metrics-*.jsonl')))}.jsonl"
