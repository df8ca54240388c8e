"""`xrouter models probe`: from recorded outcomes, and asking now."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import make_model
from learner_kit import fitted_policy
from synthetic import synthetic_outcomes, tables, write_outcomes, write_tables
from typer.testing import CliRunner

from xrouter.catalog.model import Model
from xrouter.cli import app
from xrouter.errors import (
    CheckpointError,
    ConfigurationError,
    DataError,
    ModelNotFoundError,
    ProviderUnavailableError,
)
from xrouter.messages import Completion, Request, Usage
from xrouter.policies.checkpoint import Provenance, load_network, read_provenance, save_network
from xrouter.providers.pool import Pool
from xrouter.settings import Settings

OUTCOMES = synthetic_outcomes(queries=120, models=5)
ORIGIN = Provenance(({"name": "old", "split": "train", "queries": 9, "models": ["model-0"]},), {"seed": 7})
Run = Callable[..., Any]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """In a folder with outcomes of five models, and a policy that knows three of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XROUTER_CONFIG", raising=False)
    write_outcomes(tmp_path / "outcomes", OUTCOMES)
    known = OUTCOMES.split("train").pool(["model-0", "model-1", "model-4"])
    save_network(fitted_policy(known), tmp_path / "old" / "policy.npz", ORIGIN)
    return lambda *args: CliRunner().invoke(app, ["models", "probe", *args])


RECORDED = ("--outcomes", "outcomes", "--policy", "old", "--out", "new")


def test_the_model_joins_and_the_rest_stays(run: Run) -> None:
    result = run("model-3", *RECORDED, "--probes", "40")
    assert result.exit_code == 0, result.exception
    before, after = load_network("old"), load_network("new")
    assert after.profiles.names == ("model-0", "model-1", "model-4", "model-3")
    np.testing.assert_array_equal(after.profiles.skill_ND[:3], before.profiles.skill_ND)
    for name, value in before.parameters.items():
        np.testing.assert_array_equal(after.parameters[name], value)
    assert after.version == "test+model-3"
    assert "model-3" in result.stdout
    assert "xrouter serve --policy new" in result.stdout
    assert [path.name for path in Path("new").iterdir()] == ["policy.npz"]


def test_provenance_is_kept_and_says_what_was_probed_and_what_it_cost(run: Run) -> None:
    run("model-3", *RECORDED, "--probes", "40", "--seed", "3")
    found = read_provenance("new")
    assert found.config == ORIGIN.config
    old, new = found.trained_on
    assert old == ORIGIN.trained_on[0]
    assert (new["models"], new["queries"], new["split"], new["probed"], new["seed"]) == (
        ["model-3"], 40, "train", True, 3,
    )  # fmt: skip
    assert len(new["cost_usd"]) <= len("0.") + 12
    cost_Q = OUTCOMES.split("train").recording.cost_QM[:, 3]
    assert 40 * cost_Q.min() < float(new["cost_usd"]) < 40 * cost_Q.max()


def test_the_table_says_what_was_expected_and_what_is(run: Run) -> None:
    (row,) = (line.split() for line in run("model-3", *RECORDED).stdout.splitlines() if line[:7] == "model-3")
    assert row[1] == "50"
    assert row[4] == "guessed"
    again = run("model-0", "--outcomes", "outcomes", "--policy", "new", "--out", "more").stdout
    (row,) = (line.split() for line in again.splitlines() if line[:7] == "model-0")
    assert row[4] == "measured"
    assert sorted(load_network("more").profiles.names) == ["model-0", "model-1", "model-3", "model-4"]


def test_several_models_and_equal_seeds(run: Run) -> None:
    assert run("model-3, model-2,model-3", *RECORDED).exit_code == 0
    assert load_network("new").profiles.names[3:] == ("model-3", "model-2")
    run("model-2", *RECORDED[:-1], "one")
    run("model-2", *RECORDED[:-1], "other", "--seed", "1")
    skill = [load_network(run).profiles.skill_ND[-1] for run in ("new", "one", "other")]
    np.testing.assert_array_equal(skill[0], skill[1])
    assert not np.array_equal(skill[1], skill[2])


def test_only_the_train_split_is_read(run: Run) -> None:
    rows = tables(OUTCOMES)
    test = {query["query_id"] for query in rows["queries"] if query["split"] == "test"}
    for row in rows["outcomes"]:
        if row["query_id"] in test:
            row["score"] = 1.0 - row["score"]  # type: ignore[operator]
    write_tables(Path("other"), rows)
    run("model-3", *RECORDED, "--probes", "1000")
    run("model-3", "--outcomes", "other", "--policy", "old", "--out", "same", "--probes", "1000")
    one, other = (load_network(folder).profiles.skill_ND[-1] for folder in ("new", "same"))
    np.testing.assert_array_equal(one, other)
    assert read_provenance("new").trained_on[-1]["queries"] == 96


def break_score(rows: Any) -> None:
    rows["queries"] = [{**row, "split": "test"} for row in rows["queries"]]


def break_price(rows: Any) -> None:
    rows["models"][3]["usd_per_mtok_in"] = None


@pytest.mark.parametrize(("breaks", "said"), [(break_score, "'train'"), (break_price, "has no price")])
def test_outcomes_that_do_not_serve(run: Run, breaks: Callable[[Any], None], said: str) -> None:
    rows = tables(OUTCOMES)
    breaks(rows)
    write_tables(Path("outcomes"), rows)
    result = run("model-3", *RECORDED)
    assert isinstance(result.exception, DataError)
    assert said in str(result.exception)
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("args", "error", "said"),
    [
        (("model-9", *RECORDED), DataError, "no outcomes of model-9"),
        ((" , ", *RECORDED), ConfigurationError, "no model is named"),
        (("model-3", *RECORDED[2:]), ConfigurationError, "either --outcomes"),
        (("model-3", *RECORDED, "--tasks", "arithmetic"), ConfigurationError, "either --outcomes"),
        (("model-3", *RECORDED, "--resume"), ConfigurationError, "--resume goes with --tasks"),
        (("model-3", *RECORDED[:-1], "old"), ConfigurationError, "old is there already"),
        (("model-3", *RECORDED[:-1], "outcomes"), ConfigurationError, "outcomes is not empty"),
        (("model-3", *RECORDED, "--policy", "cheapest"), ConfigurationError, "keeps no profiles"),
        (("model-3", *RECORDED, "--policy", "mine.policy:Mine"), ConfigurationError, "keeps no profiles"),
        (("model-3", *RECORDED, "--policy", "nowhere"), CheckpointError, "nowhere"),
        (("model-3", *RECORDED, "--outcomes", "nowhere"), DataError, "nowhere"),
        (("model-0,model-1,model-4", *RECORDED), DataError, "no other model"),
    ],
)
def test_what_cannot_be_done_is_named_and_leaves_nothing(
    run: Run, args: tuple[str, ...], error: type[Exception], said: str
) -> None:
    result = run(*args)
    assert isinstance(result.exception, error), result.output
    assert said in str(result.exception)
    assert not Path("new").exists()


class Answers:
    """Model `a` says 42 and `b` says 41, in 7 tokens; `down` makes every call fail."""

    down = False
    asked = 0

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        self.asked += 1
        if self.down:
            raise ProviderUnavailableError("503", model=model.name)
        return Completion({"role": "assistant", "content": "42" if model.name == "a" else "41"}, Usage(20, 7))

    async def aclose(self) -> None: ...


@pytest.fixture
def live(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Answers:
    provider = Answers()
    build = ModuleType("xrouter.providers.build")
    models = tuple(make_model(name) for name in ("a", "b"))

    def build_pool(settings: Settings, catalog: object, env: object) -> Pool:
        return Pool(models, {"mock": provider}).restricted_to(settings.pool or ())

    build.build_pool = build_pool  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "xrouter.providers.build", build)
    lines = [
        {"prompt": f"Question {i}: triangle prime {i} + {42 - i}?", "reference": 42, "grader": "numeric"}
        for i in range(30)
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return provider


ASK = ("--tasks", "p.jsonl", "--policy", "old", "--out", "new", "--probes", "12")


def test_models_are_asked_and_join(run: Run, live: Answers) -> None:
    result = run("a,b", *ASK)
    assert result.exit_code == 0, result.exception
    assert live.asked == 24
    profiles = load_network("new").profiles
    assert profiles.names[-2:] == ("a", "b")
    scores = profiles.skill_ND @ profiles.typical_D
    assert scores[-2] > scores[-1] + 0.2
    tokens = profiles.tokens_scale_N * np.exp(profiles.tokens_ND @ profiles.typical_D)
    assert (tokens[-2:] < 20).all()
    entries = read_provenance("new").trained_on[-2:]
    price = make_model("a").price.cost(Usage(20, 7))
    assert [(entry["models"], entry["queries"]) for entry in entries] == [(["a"], 12), (["b"], 12)]
    assert [Decimal(entry["cost_usd"]) for entry in entries] == [12 * price] * 2


def test_failed_probes_are_resumed_and_what_was_answered_is_not_asked_again(run: Run, live: Answers) -> None:
    live.down = True
    result = run("a", *ASK)
    assert isinstance(result.exception, DataError)
    assert not Path("new/policy.npz").exists()
    live.down = False
    assert isinstance(run("a", *ASK).exception, ConfigurationError), "without --resume"
    assert run("a", *ASK, "--resume").exit_code == 0
    assert live.asked == 24
    assert load_network("new").profiles.names[-1] == "a"


def test_a_budget_limits_the_probes(run: Run, live: Answers) -> None:
    result = run("a", *ASK, "--max-cost-usd", "0.0005", "--max-output-tokens", "50", "--concurrency", "1")
    assert result.exit_code == 0, result.exception
    assert 0 < live.asked < 12
    entry = read_provenance("new").trained_on[-1]
    assert entry["queries"] == live.asked
    assert Decimal(entry["cost_usd"]) <= Decimal("0.0005")


def test_nothing_is_asked_where_it_could_not_be_used(run: Run, live: Answers) -> None:
    assert isinstance(run("zzz", *ASK).exception, ModelNotFoundError)
    assert isinstance(run("a", *ASK, "--policy", "nowhere").exception, CheckpointError)
    assert isinstance(run("a", *ASK, "--max-cost-usd", "lots").exception, ConfigurationError)
    assert isinstance(run("a", *ASK, "--tasks", "none.jsonl").exception, ConfigurationError)
    assert live.asked == 0
    assert not Path("new").exists()


def test_help_has_examples_and_models_still_lists() -> None:
    runner = CliRunner()
    assert "xrouter models probe" in runner.invoke(app, ["models", "probe", "--help"]).stdout
    assert json.loads(runner.invoke(app, ["models", "--json"]).stdout)["models"]
