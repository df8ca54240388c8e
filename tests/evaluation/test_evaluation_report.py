from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from outcomes_kit import synthetic_outcomes, synthetic_tables
from typer.testing import CliRunner

from xrouter.errors import ConfigurationError, DataError
from xrouter.evaluation.decisions import recompute


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outcomes") / "kit"
    synthetic_outcomes(folder)
    return folder


class Sure:
    """Asks the dearest model and states a confidence."""

    name = "sure"
    version = "1"

    def encode(self, queries):
        return np.zeros((len(queries), 0))

    def decide(self, text, states):
        from xrouter.policies.baselines import SingleModel

        choices = SingleModel("large").decide(text, states)
        return replace(choices, confidence_B=np.full(len(states), 0.8))


def run(folder, out, *options):
    import typer

    from xrouter.cli.evaluate import evaluate

    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(evaluate)
    arguments = ["--outcomes", str(folder), "--out", str(out), "--points", "4", "--bootstrap", "20", *options]
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_the_command_writes_report_pictures_and_decisions(folder, tmp_path):
    result = run(folder, tmp_path, "--policy", "cascade", "--policy", "large")
    written = {path.name for path in tmp_path.iterdir()}
    assert written >= {
        "report.md",
        "report.json",
        "decisions.jsonl",
        "decisions-2.jsonl",
        "frontier.png",
        "frontier.svg",
        "routes.png",
    }
    assert "all equal to the report" in result.output
    assert "cascade (judged)" in result.output
    data = json.loads((tmp_path / "report.json").read_text())
    points = next(r for r in data["results"] if r["name"] == "cascade (judged)")["points"]
    again = recompute(tmp_path / "decisions.jsonl", folder)
    assert len(points) == len(again) == 5
    for point in points:
        assert (point["score"]["value"], point["cost_usd"]["value"]) == pytest.approx(
            again[point["cost_weight"]]
        )
    text = (tmp_path / "report.md").read_text()
    assert "![" in text
    assert "kit/poems" in text
    assert "nan" not in text


def test_the_same_command_writes_the_same_bytes(folder, tmp_path):
    for name in ("one", "two"):
        run(folder, tmp_path / name, "--policy", "knn", "--no-baselines")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_a_subset_of_datasets_and_models(folder, tmp_path):
    run(folder, tmp_path, "--policy", "static", "--datasets", "sums", "--pool", "large,small-sums")
    setting = json.loads((tmp_path / "report.json").read_text())["setting"]
    assert setting["datasets"] == ["kit/sums"]
    assert setting["pool"] == ["large", "small-sums"]
    assert setting["queries"] == 15


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (("--split", "dev"), ConfigurationError, "--split"),
        (("--policy", "knn", "--datasets", "history"), DataError, "history"),
        (("--policy", "knn", "--pool", "gpt-9"), DataError, "gpt-9"),
        (("--policy", "knn", "--policy", "knn"), ConfigurationError, "twice"),
    ],
)
def test_what_is_not_there_is_named(options, error, message, folder, tmp_path):
    with pytest.raises(error, match=message):
        run(folder, tmp_path, *options)


def test_an_outcomes_folder_without_a_column_is_named(tmp_path):
    tables = synthetic_tables(4, 4)
    del tables["outcomes"]["cost_usd"]
    from outcomes_kit import write_tables

    with pytest.raises(DataError, match="cost_usd"):
        run(write_tables(tables, tmp_path / "kit"), tmp_path / "out", "--policy", "knn")


def test_stated_confidence_is_held_against_the_score(folder, tmp_path):
    from xrouter.evaluation.evaluate import evaluate
    from xrouter.evaluation.plots import draw
    from xrouter.evaluation.report import markdown
    from xrouter.tasks.outcomes import load_outcomes

    outcomes = load_outcomes(folder)
    found = evaluate(
        outcomes,
        policies={"sure": Sure()},
        train=outcomes.split("train"),
        cost_weights=(0.0, 0.1, 1.0),
        bootstrap=10,
    )
    captions = draw(found, tmp_path)
    assert set(captions) == {"frontier.png", "routes.png", "reliability.png"}
    text = markdown(found, "command", captions)
    assert "calibration error over all points together: 0.100" in text  # says 0.8, is right in 0.9
    assert found.judged[0].points[0].calibration_error == pytest.approx(0.1)


class Wary(Sure):
    """Finds every query strange whose prompt has an even length."""

    def encode(self, queries):
        return np.array([[float(len(query) % 2)] for query in queries])

    def decide(self, text, states):
        return replace(super().decide(text, states), familiar_B=text[:, 0] > 0)


def test_the_share_of_queries_outside_training_is_reported(folder):
    from xrouter.evaluation.evaluate import evaluate
    from xrouter.evaluation.report import as_json, markdown
    from xrouter.tasks.outcomes import load_outcomes

    outcomes = load_outcomes(folder)
    found = evaluate(
        outcomes,
        policies={"sure": Sure(), "wary": Wary()},
        train=outcomes.split("train"),
        cost_weights=(0.0, 1.0),
        bootstrap=10,
    )
    share = np.mean([len(prompt) % 2 == 0 for prompt in outcomes.split("test").recording.prompts])
    assert 0 < share < 1
    shown = {result["name"]: result["outside_training"] for result in as_json(found, "command")["results"]}
    assert shown["sure"] == 0.0
    assert shown["wary"] == pytest.approx(share)
    assert f"It called {share:.1%} of the queries unlike" in markdown(found, "command")


def test_a_checkpoint_is_judged_and_a_warning_says_if_it_was_trained_on_the_split(folder, tmp_path):
    from xrouter.policies.checkpoint import Provenance, save_network
    from xrouter.policies.network import NetworkPolicy, Payoff, initial_parameters
    from xrouter.tasks.outcomes import load_outcomes
    from xrouter.training.encoder import fit_encoder
    from xrouter.training.profiles import fit_profiles

    train = load_outcomes(folder).split("train")
    record = train.recording
    encoder = fit_encoder(record.prompts, dimensions=8, landmarks=2)
    profiles = fit_profiles(train, encoder.encode(record.prompts))
    policy = NetworkPolicy(encoder, profiles, initial_parameters(0), Payoff())
    trained_on = ({"name": "kit", "split": "train", "queries": len(train), "models": 4},)
    save_network(policy, tmp_path / "run" / "policy.npz", Provenance(trained_on))
    options = ("--policy", str(tmp_path / "run"), "--no-baselines")
    on_train = run(folder, tmp_path / "a", *options, "--split", "train")
    on_test = run(folder, tmp_path / "b", *options)
    assert "trained on split 'train' of kit" in on_train.stderr
    assert "warning" not in on_test.stderr
    assert (tmp_path / "b" / "reliability.png").exists()


def test_a_file_that_is_no_checkpoint_is_named(folder, tmp_path):
    from xrouter.errors import CheckpointError

    (tmp_path / "policy.npz").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="policy"):
        run(folder, tmp_path / "out", "--policy", str(tmp_path / "policy.npz"))
    with pytest.raises(CheckpointError, match="nowhere"):
        run(folder, tmp_path / "out", "--policy", str(tmp_path / "nowhere"))
