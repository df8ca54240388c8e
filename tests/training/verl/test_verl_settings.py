"""The [verl] table, what is written for a run, and verl's names for it."""

from __future__ import annotations

import json
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from verl_kit import data, toml

from xrouter.errors import ConfigurationError, DataError
from xrouter.toml_reader import Reader
from xrouter.training.verl.data_check import check_data
from xrouter.training.verl.overrides import hydra_value, overrides
from xrouter.training.verl.settings import VerlSettings, read_verl
from xrouter.training.verl.terms import read_terms, write_terms

ROOT = Path(__file__).parents[3]
XROUTER_7B = ROOT / "examples" / "router_training" / "xrouter_7b.toml"


def read(**table: Any) -> VerlSettings:
    return read_verl(Reader("router.toml", {"verl": table}), "verl")


def test_every_field_is_a_key() -> None:
    from xrouter.training.verl.settings import _READERS

    assert set(_READERS) == {field.name for field in fields(VerlSettings)}
    assert read() == VerlSettings()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"prompts": 100, "mini_batch": 64}, r"verl\.mini_batch = 64: prompts = 100"),
        ({"context_tokens": 20_000}, r"verl\.context_tokens = 20000: .*24576"),
        ({"tokens_per_gpu": 8_192}, r"verl\.tokens_per_gpu"),
        ({"overlong_buffer": 9_000}, r"verl\.overlong_buffer = 9000"),
        ({"rollouts": 1}, r"verl\.rollouts must be a whole number from 2"),
        ({"engine": "hf"}, r"verl\.engine must be one of sglang, vllm"),
        ({"promts": 1}, r"unknown key verl\.promts.*did you mean 'prompts'"),
    ],
)
def test_mistakes_name_the_key(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read(**table)


def test_gpus_that_share_a_sequence_share_its_tokens() -> None:
    assert read(tokens_per_gpu=12_288, sequence_parallel=2).sequence_parallel == 2


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "null"),
        (True, "true"),
        (1e-6, "1e-06"),
        ("a b/c=d,{e}", "'a b/c=d,{e}'"),
        ("it's", r"'it\'s'"),
        (["x", 1], "['x',1]"),
        ({"K": "v"}, "{K:'v'}"),
    ],
)
def test_values_in_hydras_grammar(value: object, written: str) -> None:
    assert hydra_value(value) == written


def test_terms_are_read_back_with_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data(tmp_path / "x")
    monkeypatch.chdir(tmp_path)
    written = write_terms(toml(Path("x"), "Qwen/some"), tmp_path / "run" / "terms.json")
    assert not written.data.is_absolute()
    monkeypatch.chdir(tmp_path / "run")
    terms = read_terms(tmp_path / "run" / "terms.json")
    assert terms.data == tmp_path / "x" / "data"
    assert terms.world.outcomes == (str(tmp_path / "x" / "outcomes"),)
    assert terms.trainer == written.trainer
    assert terms.router == written.router


def test_tables_of_other_trainers_are_let_be(tmp_path: Path) -> None:
    data(tmp_path)
    config = toml(tmp_path, "m")
    config.write_text(config.read_text() + "[trl]\nanything = 1\n")
    assert write_terms(config, tmp_path / "terms.json").trainer.model == "m"


def test_data_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    data(tmp_path, train=40)
    folder = tmp_path / "data"
    check_data(folder, VerlSettings(prompts=4, mini_batch=4))
    with pytest.raises(DataError, match="fewer than a step takes"):
        check_data(folder, VerlSettings())
    with pytest.raises(DataError, match=r"more than verl\.max_prompt_tokens = 100"):
        check_data(folder, VerlSettings(prompts=4, max_prompt_tokens=100))
    (folder / "validation.parquet").unlink()
    with pytest.raises(DataError, match="validation_share"):
        check_data(folder, VerlSettings(prompts=4))


def test_xrouters_published_run_is_the_default(tmp_path: Path) -> None:
    """Its numbers, as the paper and its training script state them; the file says them once more, key by key."""
    table = tomllib.loads(XROUTER_7B.read_text())
    stated = read(**table["verl"])
    assert stated == VerlSettings(nodes=stated.nodes, steps=stated.steps)
    data(tmp_path)
    table |= {"data": str(tmp_path / "data"), "world": {"outcomes": [str(tmp_path / "outcomes")]}}
    path = tmp_path / "terms.json"
    path.write_text(json.dumps(table))
    training = read_terms(path)
    lines = overrides(training, tmp_path / "run", tmp_path / "loops.yaml")
    for line in (
        "actor_rollout_ref.actor.optim.lr=1e-06",
        "actor_rollout_ref.actor.optim.lr_warmup_steps=10",
        "actor_rollout_ref.actor.optim.weight_decay=0.1",
        "actor_rollout_ref.actor.grad_clip=1.0",
        "data.train_batch_size=512",
        "actor_rollout_ref.rollout.n=4",
        "actor_rollout_ref.actor.ppo_mini_batch_size=128",
        "actor_rollout_ref.rollout.temperature=1.0",
        "data.max_prompt_length=16384",
        "data.max_response_length=8192",
        "actor_rollout_ref.rollout.max_model_len=32768",
        "actor_rollout_ref.actor.clip_ratio_low=0.2",
        "actor_rollout_ref.actor.clip_ratio_high=0.28",
        "actor_rollout_ref.actor.loss_agg_mode='token-mean'",
        "actor_rollout_ref.actor.use_kl_loss=false",
        "actor_rollout_ref.actor.entropy_coeff=0",
        "actor_rollout_ref.model.path='Qwen/Qwen2.5-7B-Instruct'",
        "actor_rollout_ref.rollout.name='sglang'",
        "algorithm.filter_groups.enable=true",
    ):
        assert line in lines
    assert training.reward.kind == "cost_aware"
    assert (training.reward.success_bonus, training.reward.cost_unit) == (1.0, "usd")
