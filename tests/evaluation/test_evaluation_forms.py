"""A target quality and a cost cap, judged beside the sweep of lambda."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learner_kit import fitted_policy
from outcomes_kit import synthetic_outcomes
from synthetic import synthetic_outcomes as many_outcomes
from typer.testing import CliRunner

from xrouter.cli.evaluate import numbers
from xrouter.errors import ConfigurationError, RequestError
from xrouter.evaluation.bootstrap import resamples
from xrouter.evaluation.forms import cap_points, target_points
from xrouter.policies.baselines import SingleModel
from xrouter.policies.checkpoint import Provenance, save_network
from xrouter.tasks.outcomes import load_outcomes

OUTCOMES = many_outcomes(seed=6, queries=200, models=6)
POLICY = fitted_policy(OUTCOMES, noise=0.0)
DRAWS = resamples(len(OUTCOMES), 50, seed=0)


def test_a_higher_target_costs_more_and_is_missed_more_often() -> None:
    points = target_points(POLICY, OUTCOMES, (0.4, 0.8, 0.95), 3, DRAWS)
    assert [point.target_quality for point in points] == [0.4, 0.8, 0.95]
    for figure in ("confidence", "missed", "calls_per_query"):
        values = [getattr(point, figure) for point in points]
        assert values == sorted(values), figure
    assert points[0].cost_usd.value < points[1].cost_usd.value <= points[2].cost_usd.value
    assert (points[0].missed, points[0].score_where_reached) == (0.0, points[0].score.value)
    assert 0 < points[1].missed < points[2].missed < 1
    assert points[1].score_where_reached > points[1].score.value
    for point in points:
        assert point.score.low <= point.score.value <= point.score.high


def test_a_target_that_no_answer_reaches() -> None:
    (point,) = target_points(POLICY, OUTCOMES, (0.999999,), 3, DRAWS)
    assert point.missed == 1.0
    assert np.isnan(point.score_where_reached)


def test_a_larger_cap_buys_a_better_answer_and_none_is_exceeded() -> None:
    caps = (1e-7, 0.0003, 0.002, 1.0)
    points = cap_points(POLICY, OUTCOMES, caps, 3, DRAWS)
    assert (points[0].score.value, points[0].unanswered, points[0].largest_cost_usd) == (0.0, 1.0, 0.0)
    assert all(point.largest_cost_usd <= point.max_cost_usd for point in points)
    assert all(point.cost_usd.value <= point.largest_cost_usd for point in points)
    scores = [point.score.value for point in points]
    assert scores == sorted(scores)
    assert points[-1].unanswered == 0.0


def test_a_target_needs_confidence_and_a_cap_does_not() -> None:
    single = SingleModel("model-2")
    with pytest.raises(RequestError, match="states none"):
        target_points(single, OUTCOMES, (0.9,), 3, DRAWS)
    (point,) = cap_points(single, OUTCOMES, (1.0,), 3, DRAWS)
    assert point.calls_per_query == 1.0


def test_nothing_asked_nothing_played() -> None:
    assert target_points(SingleModel("model-2"), OUTCOMES, (), 3, DRAWS) == ()
    assert cap_points(POLICY, OUTCOMES, (), 3, DRAWS) == ()


@pytest.mark.parametrize("text", ["", ",", "0", "1", "1.2", "0.8,high", "nan", "-0.5", "0.8 0.9"])
def test_targets_that_are_none_are_named(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--target-quality must be probabilities"):
        numbers("--target-quality", text, "probabilities", below=1.0)


@pytest.mark.parametrize("text", ["0", "free", "inf", "-1"])
def test_caps_that_are_none_are_named(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--max-cost-usd must be amounts"):
        numbers("--max-cost-usd", text, "amounts")


def test_numbers_rise_and_are_there_once() -> None:
    assert numbers("--target-quality", "0.9, 0.8,0.9", "probabilities", below=1.0) == (0.8, 0.9)
    assert numbers("--target-quality", None, "probabilities") == ()


def run(folder: Path, out: Path, *options: str) -> Any:
    import typer

    from xrouter.cli.evaluate import evaluate

    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(evaluate)
    sizes = ("--points", "2", "--bootstrap", "10", "--no-baselines")
    return CliRunner().invoke(app, ["--outcomes", str(folder), "--out", str(out), *sizes, *options])


def test_the_command_reports_and_draws_both(tmp_path: Path) -> None:
    folder = tmp_path / "kit"
    synthetic_outcomes(folder)
    policy = fitted_policy(load_outcomes(folder).split("train"))
    save_network(policy, tmp_path / "run" / "policy.npz", Provenance())
    options = (
        "--policy",
        str(tmp_path / "run"),
        "--target-quality",
        "0.9,0.5",
        "--max-cost-usd",
        "1e-5,0.01",
    )
    done = run(folder, tmp_path / "out", *options)
    assert done.exit_code == 0, done.output
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    result = next(r for r in data["results"] if r["kind"] == "policy")
    assert [point["target_quality"] for point in result["target_quality"]] == [0.5, 0.9]
    assert [point["max_cost_usd"] for point in result["max_cost_usd"]] == [1e-5, 0.01]
    assert all(point["largest_cost_usd"] <= point["max_cost_usd"] for point in result["max_cost_usd"])
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| asked | score | mean confidence |" in text
    assert "| cap, $ | score | mean cost, $ | largest cost, $ |" in text
    assert " nan" not in text
    for name in ("target-quality", "cost-cap"):
        assert f"({name}.png)" in text
        assert {(tmp_path / "out" / f"{name}.{kind}").stat().st_size > 0 for kind in ("png", "svg")} == {True}


def test_a_judged_policy_without_confidence_ends_the_command(tmp_path: Path) -> None:
    folder = tmp_path / "kit"
    synthetic_outcomes(folder)
    done = run(folder, tmp_path / "out", "--policy", "static", "--target-quality", "0.9")
    assert isinstance(done.exception, RequestError)
    assert not (tmp_path / "out").exists()
