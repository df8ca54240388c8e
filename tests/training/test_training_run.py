from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learner_kit import noisy_parameters, tiny_config
from synthetic import synthetic_outcomes

from xrouter.errors import ConfigurationError, DataError
from xrouter.policies.baselines import Cheapest, RandomModel
from xrouter.policies.checkpoint import load_network, read_provenance
from xrouter.policies.states import ArrayPolicy
from xrouter.tasks.outcomes import Outcomes
from xrouter.tasks.replay import Replay
from xrouter.training.episodes import Sampling, draw, play
from xrouter.training.run import Run
from xrouter.training.trainer import VALIDATION_WEIGHTS, Trainer, one_cycle, prepare
from xrouter.training.warm_start import answer_loss, as_network, corrections

OUTCOMES = synthetic_outcomes(seed=8, queries=80, models=4)
OTHERS = synthetic_outcomes(seed=9, queries=40, models=4)


class CrashError(Exception):
    pass


def crash_at(step: int) -> Any:
    def on_step(metrics: dict[str, Any]) -> None:
        if metrics["step"] == step:
            raise CrashError

    return on_step


def assert_same_run(one: Path, other: Path) -> None:
    """The same weights, running average, optimiser, generator and metrics, to the bit."""
    assert (one / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()
    a, b = (torch.load(run / "state.pt", weights_only=False) for run in (one, other))
    assert_same(a, b)
    assert load_network(one).version == load_network(other).version
    with np.load(one / "policy.npz") as ours, np.load(other / "policy.npz") as theirs:
        for name in ours.files:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def assert_same(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 12 steps on two sets, never interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    Run(folder, [OUTCOMES, OTHERS], tiny_config()).train(save_every=4)
    return folder


def reopened(folder: Path, **changes: Any) -> Run:
    return Run(folder, [OUTCOMES, OTHERS], tiny_config(**changes), resume=True)


def test_a_run_leaves_a_policy_its_settings_and_a_line_a_step(whole: Path) -> None:
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert [line["phase"] for line in lines] == ["warm_start"] * 6 + ["dapo"] * 6
    assert all(np.isfinite(value) for line in lines for value in line.values() if isinstance(value, float))
    assert [line["step"] for line in lines if "validation_reward" in line] == [4, 8, 12]
    config = json.loads((whole / "config.json").read_text())
    assert config["config"]["warm_batch"] == tiny_config().warm_batch
    assert [entry["name"] for entry in config["trained_on"]] == ["synthetic-8", "synthetic-9"]
    provenance = read_provenance(whole)
    assert provenance.config["groups"] == tiny_config().groups
    assert provenance.trained_on[0]["queries"] == len(OUTCOMES)
    assert not list(whole.glob("*.part"))


def test_training_moves_the_weights(whole: Path) -> None:
    before, after = load_network(whole / "prepared.npz"), load_network(whole)
    assert any((before.parameters[name] != after.parameters[name]).any() for name in after.parameters)
    assert before.version == "untrained"
    assert after.version != "untrained"


def test_what_is_served_are_the_weights_that_validated_best(whole: Path) -> None:
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    best = max(line["validation_reward"] for line in lines if "validation_reward" in line)
    run = reopened(whole)
    assert run.trainer.best is not None
    assert run.trainer.best[0] == best
    assert load_network(whole).version == run.trainer.policy().version


def test_the_same_seed_gives_the_same_run_and_another_seed_another(whole: Path, tmp_path: Path) -> None:
    Run(tmp_path / "again", [OUTCOMES, OTHERS], tiny_config()).train(save_every=100)
    assert_same_run(whole, tmp_path / "again")
    Run(tmp_path / "other", [OUTCOMES, OTHERS], tiny_config(seed=1)).train()
    assert load_network(tmp_path / "other").version != load_network(whole).version


@pytest.mark.parametrize("stop", [1, 5, 6, 8, 11])
def test_stopped_and_resumed_is_never_interrupted(whole: Path, tmp_path: Path, stop: int) -> None:
    Run(tmp_path, [OUTCOMES, OTHERS], tiny_config()).train(save_every=4, until=stop)
    run = reopened(tmp_path)
    assert run.trainer.step == stop
    run.train(save_every=4)
    assert_same_run(whole, tmp_path)


@pytest.mark.parametrize("stop", [2, 7, 12])
def test_dead_between_two_saves_and_resumed_is_never_interrupted(
    whole: Path, tmp_path: Path, stop: int
) -> None:
    with pytest.raises(CrashError):
        Run(tmp_path, [OUTCOMES, OTHERS], tiny_config()).train(crash_at(stop), save_every=4)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == stop
    run = reopened(tmp_path)
    assert run.trainer.step == (stop - 1) // 4 * 4
    run.train(save_every=4)
    assert_same_run(whole, tmp_path)


def test_a_line_that_was_cut_short_is_written_again(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(CrashError):
        Run(tmp_path, [OUTCOMES, OTHERS], tiny_config()).train(crash_at(7), save_every=4)
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(metrics.read_text()[:-30])
    reopened(tmp_path).train(save_every=4)
    assert_same_run(whole, tmp_path)


def test_resuming_what_is_finished_changes_nothing(whole: Path) -> None:
    before = {path.name: path.read_bytes() for path in whole.iterdir()}
    assert reopened(whole).train() == whole / "policy.npz"
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == before


def test_a_run_is_not_written_over(whole: Path) -> None:
    before = (whole / "state.pt").read_bytes()
    with pytest.raises(ConfigurationError, match="--resume"):
        Run(whole, [OUTCOMES, OTHERS], tiny_config())
    assert (whole / "state.pt").read_bytes() == before


def test_resuming_with_other_settings_is_refused(whole: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"groups=8.*now 9"):
        reopened(whole, groups=9)
    with pytest.raises(ConfigurationError, match="sampling"):
        reopened(whole, sampling=replace(tiny_config().sampling, price_jitter=0.11))


def _fewer(outcomes: Outcomes) -> Outcomes:
    return outcomes.rows(range(len(outcomes) - 1))


@pytest.mark.parametrize(
    "sets",
    [
        [OUTCOMES],
        [OTHERS, OUTCOMES],
        [OUTCOMES, _fewer(OTHERS)],
        [OUTCOMES, OTHERS.pool(["model-0", "model-1", "model-2"])],
        [OUTCOMES, replace(OTHERS, name="another")],
    ],
)
def test_resuming_on_other_outcomes_is_refused(whole: Path, sets: list[Outcomes]) -> None:
    with pytest.raises(ConfigurationError, match="other outcomes"):
        Run(whole, sets, tiny_config(), resume=True)


def test_resuming_is_refused_even_before_the_first_save(tmp_path: Path) -> None:
    with pytest.raises(CrashError):
        Run(tmp_path, [OUTCOMES], tiny_config()).train(crash_at(1), save_every=4)
    assert not (tmp_path / "state.pt").exists()
    with pytest.raises(ConfigurationError, match="seed=0"):
        Run(tmp_path, [OUTCOMES], tiny_config(seed=5), resume=True)


def test_settings_that_cannot_be_read_say_start_a_new_run(tmp_path: Path) -> None:
    Run(tmp_path, [OUTCOMES], tiny_config(warm_steps=1, dapo_steps=0)).train()
    (tmp_path / "config.json").write_text("{ no json")
    with pytest.raises(DataError, match="start a new run"):
        Run(tmp_path, [OUTCOMES], tiny_config(warm_steps=1, dapo_steps=0), resume=True)


def test_resuming_where_there_is_no_run_starts_one(tmp_path: Path) -> None:
    run = Run(tmp_path / "new", [OUTCOMES], tiny_config(), resume=True)
    assert run.trainer.step == 0


@pytest.mark.parametrize("phase", ["warm_steps", "dapo_steps"])
def test_either_phase_may_be_left_out(tmp_path: Path, phase: str) -> None:
    Run(tmp_path, [OUTCOMES], tiny_config(**{phase: 0})).train()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 6
    assert len({json.loads(line)["phase"] for line in lines}) == 1


def test_without_validation_the_last_weights_are_served(tmp_path: Path) -> None:
    run = Run(tmp_path, [OUTCOMES], tiny_config(validation_share=0.0))
    run.train()
    assert run.trainer.best is None
    assert "validation_reward" not in (tmp_path / "metrics.jsonl").read_text()
    assert load_network(tmp_path).version == run.trainer.policy(keep="last").version


def test_the_weights_that_are_kept_are_the_configured_ones(tmp_path: Path) -> None:
    run = Run(tmp_path / "best", [OUTCOMES], tiny_config(keep="best"))
    run.train()
    best, last = run.trainer.policy(keep="best"), run.trainer.policy(keep="last")
    assert run.trainer.policy().version == best.version == load_network(tmp_path / "best").version
    other = Run(tmp_path / "last", [OUTCOMES], tiny_config())
    other.train()
    assert load_network(tmp_path / "last").version == last.version == other.trainer.policy().version


@pytest.mark.parametrize("algorithm", ["grpo", "reinforce", "evolution"])
def test_every_algorithm_moves_the_weights_and_says_its_name(tmp_path: Path, algorithm: str) -> None:
    config = tiny_config(algorithm=algorithm, warm_steps=0, dapo_steps=3)
    run = Run(tmp_path, [OUTCOMES], config)
    before = run.trainer.policy(keep="last").version
    run.train()
    assert run.trainer.policy(keep="last").version != before
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {line["phase"] for line in lines} == {algorithm}


def test_a_pool_of_one_teaches_nothing_and_says_so(tmp_path: Path) -> None:
    config = tiny_config(warm_steps=0, dapo_steps=2, max_turns=1)
    with pytest.raises(DataError, match="at least two models"):
        Run(tmp_path, [OUTCOMES.pool(["model-0"])], config).train()


def mean_reward(trainer: Trainer, policy: ArrayPolicy) -> float:
    """Of the held-out queries over the validation lambdas, in the unit of cost that the trained policy uses."""
    (held,) = trainer.prepared.validation
    unit = trainer.policy().pool_profile(held.models).reference_cost
    query = np.tile(np.arange(len(held)), len(VALIDATION_WEIGHTS))
    weight = np.repeat(VALIDATION_WEIGHTS, len(held))
    text = policy.encode(held.recording.prompts)
    played = Replay(held.recording, trainer.config.max_turns).run(policy, text, query, weight)
    score = held.scores_of(query, played.answer_from_B)
    return float(trainer.reward.reward(score, played.cost_B / unit, weight).mean())


@pytest.mark.parametrize("reward", ["linear", "cost_aware"])
def test_a_short_run_beats_chance_and_the_cheapest_model(reward: str) -> None:
    config = tiny_config(
        reward=reward, warm_steps=25, dapo_steps=15, warm_batch=192, groups=24, evaluate_every=10
    )
    trainer = Trainer(prepare([synthetic_outcomes(seed=10, queries=400, models=5)], config), config)
    seen: list[dict[str, Any]] = []
    trainer.run(seen.append)
    learned = mean_reward(trainer, trainer.policy(keep="best"))
    assert learned == pytest.approx(max(m["validation_reward"] for m in seen if "validation_reward" in m))
    assert learned > mean_reward(trainer, Cheapest()) + 0.02
    assert learned > mean_reward(trainer, RandomModel()) + 0.02


@pytest.mark.parametrize("phase", ["warm_steps", "dapo_steps"])
def test_either_phase_unlearns_useless_opinions(phase: str) -> None:
    """From weights moved at random, far below the untrained policy, each phase's own loss finds most of the way back."""
    only = {"warm_steps": 0, "dapo_steps": 0, phase: 25}
    config = tiny_config(
        warm_batch=192, groups=24, learning_rate=3e-3, averaging=0.9, answer_loss_weight=0.0, **only
    )
    trainer = Trainer(prepare([synthetic_outcomes(seed=10, queries=400, models=5)], config), config)
    weights = noisy_parameters(5, 0.15, config.hidden)
    moved = {name: torch.from_numpy(value) for name, value in weights.items()}
    trainer.load_state(trainer.state() | {"parameters": moved, "average": moved})
    before = mean_reward(trainer, trainer.policy(keep="last"))
    seen: list[dict[str, Any]] = []
    trainer.run(seen.append)
    assert mean_reward(trainer, trainer.policy(keep="last")) > before + 0.25
    if phase == "warm_steps":
        # Medians: one episode that cost a hundred times what was expected outweighs its batch.
        first, last = (
            np.median([metrics["value_loss"] for metrics in part]) for part in (seen[:5], seen[-9:])
        )
        assert last < 0.5 * first


def test_descending_the_answer_loss_mends_stated_chances() -> None:
    config = tiny_config()
    trainer = Trainer(prepare([synthetic_outcomes(seed=10, queries=200, models=5)], config), config)
    (data,) = trainer.prepared.training
    rng = np.random.default_rng(0)
    drawn = draw(data, rng.integers(0, len(data), 200), Sampling(imagined_share=0.0), rng)
    parameters = {
        name: torch.tensor(value, requires_grad=True) for name, value in noisy_parameters(5, 0.3).items()
    }
    choices = play(
        drawn,
        data.max_turns,
        as_network(parameters),
        trainer.payoff,
        trainer.reward,
        lambda value, legal: np.where(legal, rng.random(legal.shape), -1.0).argmax(1),
    ).choices
    rows = np.arange(len(choices.picked_N))
    optimizer = torch.optim.Adam(parameters.values(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = answer_loss(corrections(parameters, choices, rows)[0], choices, rows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_it_spends_less_where_cost_counts_more(whole: Path) -> None:
    policy = load_network(whole)
    record = OUTCOMES.recording
    query = np.arange(len(record))
    replay = Replay(record)
    text = policy.encode(record.prompts)
    spent = [replay.run(policy, text, query, np.full(len(query), w)).cost_B.mean() for w in (0.01, 0.3, 10.0)]
    assert spent[0] > spent[1] > spent[2]


def test_the_learning_rate_goes_up_and_down() -> None:
    rates = [one_cycle(step / 100, 1.0) for step in range(101)]
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) == 10
    assert rates[0] == pytest.approx(0.05)
    assert rates[100] == pytest.approx(0.02)
    assert min(rates) > 0
