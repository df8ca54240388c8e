"""A run prepared: verl's own tree composes and checks it, reads it back the same, and merges its checkpoint."""

from __future__ import annotations

import json
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("verl") is None or find_spec("transfer_queue") is None:
    pytest.skip("verl is not installed: pip install 'xrouter[verl]'", allow_module_level=True)

from verl_kit import data, tiny_model, toml

from xrouter.errors import CheckpointError, ConfigurationError
from xrouter.training.verl.export import export_latest, latest_step
from xrouter.training.verl.launch import CONFIG, LOOPS, TERMS, prepare

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return data(tmp_path)


def test_what_verl_reads_from_the_run_is_what_was_validated(folder: Path) -> None:
    from omegaconf import OmegaConf

    run = folder / "run"
    command = prepare(toml(folder, "Qwen/Qwen2.5-7B-Instruct", engine="vllm", seed=7), run)
    done = subprocess.run([*command, "--cfg", "job"], capture_output=True, text=True, check=True)
    ours = OmegaConf.load(run / CONFIG)
    assert OmegaConf.create(done.stdout) == ours
    assert ours.algorithm.adv_estimator == "grpo"
    assert ours.algorithm.norm_adv_by_std_in_grpo is False
    assert ours.actor_rollout_ref.rollout.name == "vllm"
    assert ours.actor_rollout_ref.rollout.agent.agent_loop_config_path == str(run / LOOPS)
    assert ours.trainer.v1.sampler.sampler_kwargs.train_batch_size == 4
    assert str(run / "metrics-1.jsonl") == ours.ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH
    (loop,) = json.loads((run / LOOPS).read_text())
    assert loop["terms"] == str(run / TERMS)


def test_overrides_of_the_user_come_last(folder: Path) -> None:
    from omegaconf import OmegaConf

    prepare(toml(folder, "m", overrides=["actor_rollout_ref.actor.optim.lr=3e-6"]), folder / "run")
    assert OmegaConf.load(folder / "run" / CONFIG).actor_rollout_ref.actor.optim.lr == 3e-6


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("actor_rollout_ref.actor.clip_ratio_hihg=0.3", "verl refuses.*clip_ratio_hihg"),
        ("actor_rollout_ref.actor.loss_agg_mode=mean", "verl refuses.*loss_agg_mode"),
    ],
)
def test_what_verl_refuses_is_said_before_anything_starts(folder: Path, override: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        prepare(toml(folder, "m", overrides=[override]), folder / "run")


def test_a_run_that_is_there_is_not_started_over(folder: Path) -> None:
    (folder / "run" / "checkpoints").mkdir(parents=True)
    (folder / "run" / "metrics-1.jsonl").touch()
    config = toml(folder, "m")
    with pytest.raises(ConfigurationError, match="--resume"):
        prepare(config, folder / "run")
    prepare(config, folder / "run", resume=True)
    assert "metrics-2.jsonl" in (folder / "run" / CONFIG).read_text()


def test_a_checkpoint_becomes_hugging_face_weights(folder: Path) -> None:
    """A checkpoint of one process, as verl's FSDP engine lays it out."""
    import torch
    from transformers import AutoTokenizer, Qwen2ForCausalLM

    run = folder / "run"
    with pytest.raises(CheckpointError, match="no finished checkpoint"):
        latest_step(run)
    model = Qwen2ForCausalLM.from_pretrained(tiny_model(folder / "model", weights=True))
    actor = run / "checkpoints" / "global_step_3" / "actor"
    tiny_model(actor / "huggingface")
    torch.save(model.state_dict(), actor / "model_world_size_1_rank_0.pt")
    (actor / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": 1}))
    (run / "checkpoints" / "latest_checkpointed_iteration.txt").write_text("3")
    target = export_latest(run)
    merged = Qwen2ForCausalLM.from_pretrained(target, dtype=torch.float32)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(merged.state_dict()[name], weight.to(torch.bfloat16).float())
    assert AutoTokenizer.from_pretrained(target).chat_template


def test_a_dry_run_prints_where_the_configuration_is_and_the_command(folder: Path) -> None:
    from typer.testing import CliRunner

    from xrouter.cli import app

    config = toml(folder, "Qwen/Qwen2.5-7B-Instruct")
    words = ["router-train", str(config), "--backend", "verl", "--out", str(folder / "run"), "--dry-run"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert f"checked it: {folder / 'run' / CONFIG}" in done.output
    assert "-m verl.trainer.main_ppo" in done.output
    assert (folder / "run" / CONFIG).is_file()
