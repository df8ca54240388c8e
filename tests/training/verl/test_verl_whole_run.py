"""verl's whole trainer on a CPU, started by our command: rollouts in its workers, filtering, log-probabilities, advantages,
updates, validation, checkpoints, resumption, merged weights. Only the engine is not real: a script says its tokens.
"""

from __future__ import annotations

import json
import os
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if find_spec("verl") is None or find_spec("transfer_queue") is None:
    pytest.skip("verl is not installed: pip install 'xrouter[verl]'", allow_module_level=True)

from verl_kit import data, tiny_model, toml

from xrouter.training.verl.export import export_latest, latest_step
from xrouter.training.verl.launch import prepare

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[2]
ON_A_CPU = [
    "actor_rollout_ref.rollout.name=cpu",
    "trainer.device=cpu",
    "ray_kwargs.ray_init.num_cpus=64",
    "+ray_kwargs.ray_init.num_gpus=1",
    "+ray_kwargs.ray_init.include_dashboard=false",
    "+actor_rollout_ref.model.override_config.attn_implementation=sdpa",
    "actor_rollout_ref.model.use_remove_padding=false",
    "actor_rollout_ref.actor.strategy=fsdp2",
    "actor_rollout_ref.actor.use_torch_compile=false",
    "actor_rollout_ref.actor.fsdp_config.use_torch_compile=false",
    "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
    "data.dataloader_num_workers=0",
    "trainer.val_before_train=false",
]


def run(folder: Path, steps: int, *, resume: bool = False) -> list[dict[str, Any]]:
    """Trains up to a step; the metrics of each step that this start made."""
    config = toml(
        folder,
        folder / "model",
        prompts=2,
        rollouts=2,
        mini_batch=1,
        steps=steps,
        save_every=1,
        test_every=2,
        learning_rate=1e-3,
        warmup_steps=0,
        overrides=ON_A_CPU,
    )
    command = prepare(config, folder / "run", resume=resume)
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(TESTS)]),
        "VERL_USE_EXTERNAL_MODULES": "verl_cpu",
        "VERL_PLATFORM": "cpu",
        "VERL_ENGINE_DEVICE": "cuda",
        "RAY_AUTH_MODE": "disabled",
        "RAY_worker_niceness": "0",
    }
    done = subprocess.run(
        command, env=env, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5_000:]
    files = sorted((folder / "run").glob("metrics-*.jsonl"))
    return [json.loads(line) for line in files[-1].read_text().splitlines()]


def test_trains_validates_resumes_and_exports(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = data(tmp_path)
    tiny_model(folder / "model", weights=True)
    first, second = run(folder, 2)
    assert (first["step"], second["step"]) == (1, 2)
    for metrics in (first["data"], second["data"]):
        assert 0 <= metrics["xrouter/acc"] <= 1
        assert metrics["xrouter/cost_usd"] > metrics["xrouter/router_cost_usd"] > 0
        assert metrics["xrouter/score"] == pytest.approx(metrics["critic/score/mean"], abs=1e-5)
        assert 0 < metrics["xrouter/calls"] <= 6
        shares = [value for name, value in metrics.items() if name.startswith("xrouter/route/")]
        assert sum(shares) == pytest.approx(1)
        assert metrics["xrouter/invalid_rate"] >= 0
        assert metrics["actor/entropy"] > 0
        assert metrics["actor/grad_norm"] > 0
    validated = {name.split("/", 2)[2] for name in second["data"] if name.startswith("val-")}
    assert {"acc/mean@1", "cost_usd/mean@1", "calls/mean@1", "invalid/mean@1"} <= validated
    assert latest_step(folder / "run") == 2

    (third,) = run(folder, 3, resume=True)
    assert third["step"] == 3
    trained = AutoModelForCausalLM.from_pretrained(export_latest(folder / "run"))
    start = AutoModelForCausalLM.from_pretrained(folder / "model")
    moved = [
        bool((before != after.to(before.dtype)).any())
        for before, after in zip(start.parameters(), trained.parameters(), strict=True)
    ]
    assert any(moved)
