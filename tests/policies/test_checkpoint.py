from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learner_kit import fitted_policy, random_states
from synthetic import synthetic_outcomes

from xrouter.errors import CheckpointError
from xrouter.policies.arrays import ServedPolicy
from xrouter.policies.checkpoint import (
    FILE_NAME,
    Provenance,
    load_network,
    load_policy,
    read_provenance,
    save_network,
)
from xrouter.policies.network import NetworkPolicy, Payoff

OUTCOMES = synthetic_outcomes(seed=2)
ORIGIN = Provenance(({"name": "made up", "queries": 3},), {"seed": 7})


@pytest.fixture(scope="module")
def policy() -> NetworkPolicy:
    return fitted_policy(OUTCOMES, payoff=Payoff(1.0, 0.7))


@pytest.fixture
def run(tmp_path: Path, policy: NetworkPolicy) -> Path:
    """A run folder with a good checkpoint in it."""
    save_network(policy, tmp_path / "run" / FILE_NAME, ORIGIN)
    return tmp_path / "run"


def test_what_was_saved_decides_the_same(run: Path, policy: NetworkPolicy) -> None:
    loaded = load_network(run)
    assert (loaded.name, loaded.version, loaded.payoff) == (policy.name, policy.version, policy.payoff)
    states = random_states(np.random.default_rng(0), OUTCOMES.models, 80)
    queries = [OUTCOMES.recording.prompts[i] for i in range(80)]
    ours = policy.decide(policy.encode(queries), states)
    theirs = loaded.decide(loaded.encode(queries), states)
    np.testing.assert_array_equal(ours.call_BM, theirs.call_BM)
    np.testing.assert_array_equal(ours.select_B, theirs.select_B)
    np.testing.assert_allclose(ours.confidence_B, theirs.confidence_B, atol=1e-2)


def test_a_checkpoint_without_spreads_of_length_loads_with_the_usual_one(
    run: Path, policy: NetworkPolicy
) -> None:
    rewritten(run, lambda arrays, header: arrays.pop("tokens_spread"))
    loaded = load_network(run)
    np.testing.assert_allclose(loaded.pool_profile(OUTCOMES.models).cap_margin_M, 2.0, rtol=1e-6)
    states = random_states(np.random.default_rng(0), OUTCOMES.models, 80)
    states = replace(states, money_left_B=np.full(80, np.inf))
    queries = [OUTCOMES.recording.prompts[i] for i in range(80)]
    save_network(policy, run / FILE_NAME, ORIGIN)
    again = load_network(run)
    theirs = again.decide(again.encode(queries), states)
    ours = loaded.decide(loaded.encode(queries), states)
    np.testing.assert_array_equal(ours.call_BM, theirs.call_BM)
    np.testing.assert_array_equal(ours.confidence_B, theirs.confidence_B)


def test_spreads_of_another_shape_are_refused(run: Path) -> None:
    def grow(arrays: dict[str, Any], header: dict[str, Any]) -> None:
        arrays["tokens_spread"] = np.ones(len(arrays["tokens_spread"]) + 1, np.float32)

    assert "tokens_spread" in refusal(rewritten(run, grow))


def test_saving_what_was_loaded_changes_no_bit(run: Path, tmp_path: Path) -> None:
    save_network(load_network(run), tmp_path / "again.npz", ORIGIN)
    with np.load(run / FILE_NAME) as one, np.load(tmp_path / "again.npz") as other:
        assert one.files == other.files
        for name in one.files:
            np.testing.assert_array_equal(one[name], other[name])


def test_provenance_is_kept_and_no_part_file_stays(run: Path) -> None:
    assert read_provenance(run) == ORIGIN
    assert [path.name for path in run.iterdir()] == [FILE_NAME]


def test_a_failed_save_leaves_the_old_checkpoint(run: Path, policy: NetworkPolicy) -> None:
    before = (run / FILE_NAME).read_bytes()
    with pytest.raises(TypeError):
        save_network(policy, run / FILE_NAME, Provenance(config={"odd": object()}))
    assert (run / FILE_NAME).read_bytes() == before


@pytest.mark.parametrize("kind", [str, Path])
def test_a_run_folder_and_a_file_load_alike(run: Path, kind: Callable[[Any], Any]) -> None:
    assert isinstance(load_policy(kind(run), OUTCOMES.models), ServedPolicy)
    assert load_policy(kind(run / FILE_NAME), OUTCOMES.models).version == "test"


def test_baselines_and_models_are_policies_by_name() -> None:
    assert load_policy("cheapest", OUTCOMES.models).name == "cheapest"
    assert load_policy("model-1", OUTCOMES.models).name == "model-1"


def rewritten(run: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Path:
    """The checkpoint with its arrays and header changed."""
    path = run / FILE_NAME
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(arrays.pop("header").tobytes())
    change(arrays, header)
    np.savez_compressed(path, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays)
    return run


def refusal(source: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        load_network(source)
    assert str(source) in str(error.value)
    return str(error.value)


def test_another_format_is_refused(run: Path) -> None:
    message = refusal(rewritten(run, lambda arrays, header: header.update(format=99)))
    assert "99" in message
    assert "train it again" in message


def test_other_features_are_refused(run: Path) -> None:
    message = refusal(rewritten(run, lambda arrays, header: header["features"].pop()))
    assert "features" in message


@pytest.mark.parametrize("name", ["format", "features", "kind"])
def test_a_header_without_its_marks_is_refused(run: Path, name: str) -> None:
    refusal(rewritten(run, lambda arrays, header: header.pop(name)))


@pytest.mark.parametrize("name", ["payoff", "sharpness", "model_names", "version", "typical_prompt_tokens"])
def test_a_missing_header_field_is_named(run: Path, name: str) -> None:
    assert name in refusal(rewritten(run, lambda arrays, header: header.pop(name)))


def every_array() -> list[str]:
    network = [f"network.{name}" for name in fitted_policy(OUTCOMES).parameters]
    fitted = [
        "buckets",
        "idf",
        "projection",
        "landmarks",
        "skill",
        "tokens",
        "tokens_scale",
        "prompt",
        "typical",
    ]
    return [*fitted, "descriptor_weights", *network]


@pytest.mark.parametrize("name", every_array())
def test_a_missing_array_is_named(run: Path, name: str) -> None:
    assert name in refusal(rewritten(run, lambda arrays, header: arrays.pop(name)))


@pytest.mark.parametrize("name", every_array())
def test_an_array_of_another_shape_is_refused(run: Path, name: str) -> None:
    def grow(arrays: dict[str, Any], header: dict[str, Any]) -> None:
        arrays[name] = np.concatenate([arrays[name], arrays[name]])

    refusal(rewritten(run, grow))


@pytest.mark.parametrize("payoff", [{"bonus": 1.0, "bribe": 2.0}, {}, None, 3])
def test_a_payoff_of_other_terms_is_refused(run: Path, payoff: object) -> None:
    refusal(rewritten(run, lambda arrays, header: header.update(payoff=payoff)))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(run: Path, share: float) -> None:
    path = run / FILE_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refusal(path)


def test_a_damaged_file_is_refused_or_reads_the_same(run: Path) -> None:
    path = run / FILE_NAME
    whole = path.read_bytes()
    refused = 0
    for at in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            load_network(run)
        except CheckpointError:
            refused += 1
    assert refused > 30


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("bomb-went-off",))


def test_a_pickle_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain, hidden = tmp_path / "plain.npz", tmp_path / "hidden.npz"
    plain.write_bytes(pickle.dumps(_Bomb()))
    np.savez(hidden, header=np.array([_Bomb()], dtype=object))
    refusal(plain)
    refusal(hidden)
    assert not (tmp_path / "bomb-went-off").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"PK\x03\x04 nor this"])
def test_what_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "policy.npz"
    path.write_bytes(content)
    assert "not a policy checkpoint" in refusal(path)


def test_other_numpy_files_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(tmp_path / "no_header.npz", skill=np.zeros(3))
    np.savez(tmp_path / "odd_header.npz", header=np.frombuffer(b"[1, 2]", np.uint8))
    np.savez(tmp_path / "no_json.npz", header=np.frombuffer(b"\xff\xfe{", np.uint8))
    for name in ("one.npy", "no_header.npz", "odd_header.npz", "no_json.npz"):
        refusal(tmp_path / name)


def test_a_folder_without_a_policy_says_what_may_be_given(tmp_path: Path) -> None:
    message = refusal(tmp_path)
    for hint in (FILE_NAME, "xrouter train", "cheapest"):
        assert hint in message
    refusal(tmp_path / "nowhere")


def test_loading_and_deciding_needs_none_of_the_training_libraries(run: Path) -> None:
    code = """
import sys, json
from importlib.abc import MetaPathFinder

class Blocked(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "sklearn", "scipy", "pyarrow", "matplotlib", "pandas"}:
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Blocked())
from datetime import date
from decimal import Decimal
from xrouter.catalog.model import Model
from xrouter.catalog.price import Price, Rates
from xrouter.episodes.episode import CallModels, Observation, Preference
from xrouter.messages import Request
from xrouter.policies.checkpoint import load_policy

models = tuple(
    Model(f"model-{i}", "replay", f"model-{i}", "standard",
          Price(Rates(Decimal(i), Decimal(4 * i)), date(2026, 1, 1), "tests"), 8192, 1024)
    for i in (1, 2)
)
observation = Observation(Request.from_text("a treaty"), models, Preference(), (), turns_left=3)
decision = load_policy(sys.argv[1], models).decide(observation)
assert isinstance(decision.action, CallModels) and decision.action.calls, decision
print(json.dumps([call.model for call in decision.action.calls]))
"""
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) <= {"model-1", "model-2"}
