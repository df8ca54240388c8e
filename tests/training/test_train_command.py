"""xrouter train, from a folder of parquet files to a policy that decides."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from learner_kit import tiny_config
from synthetic import synthetic_outcomes, write_outcomes
from typer.testing import CliRunner, Result

from xrouter.cli import app
from xrouter.episodes.episode import CallModels, Observation, Preference
from xrouter.errors import XRouterError
from xrouter.messages import Request
from xrouter.policies.checkpoint import load_policy, read_provenance
from xrouter.tasks.outcomes import load_outcomes

TINY = {
    k: v
    for k, v in asdict(tiny_config()).items()
    if k not in ("sampling", "seed", "warm_steps", "dapo_steps")
}


@pytest.fixture
def outcomes(tmp_path: Path) -> Path:
    return write_outcomes(tmp_path / "made-up", synthetic_outcomes(seed=11, queries=80, models=4))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in TINY.items()))
    return path


def train(outcomes: Path, out: Path, *options: object) -> Result:
    threads = torch.get_num_threads()
    arguments = ["train", "--outcomes", outcomes, "--out", out, "--warm-steps", 5, "--dapo-steps", 5]
    return CliRunner().invoke(app, [str(word) for word in (*arguments, "--threads", threads, *options)])


def refused(outcomes: Path, out: Path, *options: object) -> str:
    result = train(outcomes, out, *options)
    assert isinstance(result.exception, XRouterError), result.output
    return str(result.exception)


def steps_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_from_parquet_files_to_a_policy_that_decides(outcomes: Path, config: Path, tmp_path: Path) -> None:
    result = train(outcomes, tmp_path / "run", "--config", config, "--seed", 3)
    assert result.exit_code == 0, result.output
    assert f"xrouter serve --policy {tmp_path / 'run'}" in result.output
    assert len(steps_of(tmp_path / "run")) == 10
    models = load_outcomes(outcomes).models
    policy = load_policy(str(tmp_path / "run"), models)
    seen = Observation(Request.from_text("a treaty of the emperor"), models, Preference(), (), turns_left=3)
    decision = policy.decide(seen)  # type: ignore[attr-defined]
    assert isinstance(decision.action, CallModels)
    assert decision.action.calls
    assert 0 <= decision.confidence <= 1


def test_the_core_pool_and_the_train_split_are_what_it_learns_from(
    outcomes: Path, config: Path, tmp_path: Path
) -> None:
    assert train(outcomes, tmp_path / "run", "--config", config).exit_code == 0
    (trained_on,) = read_provenance(tmp_path / "run").trained_on
    whole = load_outcomes(outcomes)
    assert trained_on["models"] == list(whole.pool().model_names)
    assert trained_on["models"] != list(whole.model_names)
    assert trained_on["split"] == "train"
    assert trained_on["queries"] == len(whole.split("train"))


def test_pool_and_datasets_can_be_chosen(outcomes: Path, config: Path, tmp_path: Path) -> None:
    options = ("--config", config, "--pool", "model-3,model-0", "--datasets", "history,biology")
    assert train(outcomes, tmp_path / "run", *options).exit_code == 0
    (trained_on,) = read_provenance(tmp_path / "run").trained_on
    assert trained_on["models"] == ["model-3", "model-0"]
    assert trained_on["datasets"] == ["made/up/biology", "made/up/history"]


def test_options_go_before_the_file_and_the_file_before_the_defaults(
    outcomes: Path, config: Path, tmp_path: Path
) -> None:
    config.write_text(config.read_text() + "seed = 41\nwarm_steps = 2\n[sampling]\nprice_jitter = 0.1\n")
    assert train(outcomes, tmp_path / "one", "--config", config).exit_code == 0
    settings = json.loads((tmp_path / "one" / "config.json").read_text())["config"]
    assert (settings["seed"], settings["warm_steps"], settings["hidden"]) == (41, 5, TINY["hidden"])
    assert settings["sampling"]["price_jitter"] == 0.1
    assert train(outcomes, tmp_path / "two", "--config", config, "--seed", 0).exit_code == 0
    assert json.loads((tmp_path / "two" / "config.json").read_text())["config"]["seed"] == 0


def test_a_run_is_resumed_and_never_overwritten(outcomes: Path, config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(outcomes, run, "--config", config).exit_code == 0
    before = (run / "policy.npz").read_bytes()
    assert "--resume" in refused(outcomes, run, "--config", config)
    assert train(outcomes, run, "--config", config, "--resume").exit_code == 0
    assert (run / "policy.npz").read_bytes() == before
    assert "seed" in refused(outcomes, run, "--config", config, "--resume", "--seed", 9)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("warm_stepz = 3\n", "'warm_stepz'"),
        ("[sampling]\nweights = 3\n", "'weights'"),
        ("hidden = ", "--config"),
        ("reward = 'shaped'\n", "'shaped'"),
        ('hidden = "wide"\n', "hidden"),
    ],
)
def test_a_config_file_that_is_wrong_is_refused_by_name(
    outcomes: Path, tmp_path: Path, text: str, named: str
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    assert named in refused(outcomes, tmp_path / "run", "--config", path)
    assert not (tmp_path / "run").exists()


def test_input_that_is_wrong_is_refused_by_name(outcomes: Path, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert "nowhere.toml" in refused(outcomes, out, "--config", tmp_path / "nowhere.toml")
    assert "queries.parquet is missing" in refused(tmp_path, out, "--config", config)
    assert "model-9" in refused(outcomes, out, "--config", config, "--pool", "model-0,model-9")
    assert "alchemy" in refused(outcomes, out, "--config", config, "--datasets", "alchemy")
    assert "'shaped'" in refused(outcomes, out, "--config", config, "--reward", "shaped")
    assert not out.exists()


def test_an_error_is_one_line_and_an_exit_code(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "xrouter",
            "train",
            "--outcomes",
            str(tmp_path),
            "--out",
            str(tmp_path / "run"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("xrouter: ")
