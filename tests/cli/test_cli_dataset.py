"""`xrouter dataset build` and `show`, from the command line to the files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

from dataset_kit import guru_row, user, write_rows
from outcomes_kit import synthetic_tables, write_tables
from typer.testing import CliRunner

from xrouter.cli import app
from xrouter.errors import ConfigurationError, DataError
from xrouter.training.dataset.rows import load_samples

Run = Callable[..., Any]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    Path("xrouter.toml").write_text('pool = ["sim-small", "sim-maths", "sim-medium", "sim-large"]\n')
    write_tables(synthetic_tables(40, 10), tmp_path / "kit")
    return lambda *args: CliRunner().invoke(app, ["dataset", *args], catch_exceptions=True)


FROM_OUTCOMES = ("--outcomes", "kit", "--reference-model", "large,small-sums", "--pool", "outcomes")


def test_recorded_outcomes_become_data_with_a_card(run: Run) -> None:
    result = run("build", *FROM_OUTCOMES, "--source", "trivial=12", "--out", "data", "--seed", "3")
    assert result.exit_code == 0, result.output
    names = {file.name for file in Path("data").iterdir()}
    assert names >= {
        "train.parquet",
        "README.md",
        "card.json",
        "bands.png",
        "models.png",
        "pools.png",
        "tokens.png",
    }
    numbers = json.loads(Path("data/card.json").read_text())
    samples = [s for file in Path("data").glob("*.parquet") for s in load_samples(file)]
    assert sum(numbers["samples"].values()) == len(samples)
    assert numbers["bands"]["trivial"] == 12
    assert (numbers["recipe"]["seed"], numbers["recipe"]["sources"][0]["tasks"]) == (3, "trivial")
    card = Path("data/README.md").read_text()
    assert "path: train.parquet" in card
    assert "| trivial | not measured |" in card
    assert "pools.tiers.premium asks for at least 1" not in result.output
    shown = run("show", "data", "--samples", "1")
    assert shown.exit_code == 0, shown.output
    assert "# Data for a router" in shown.output
    assert "select_response" in shown.output
    assert "license:" not in shown.output


def test_the_reference_model_is_asked_with_live_alone(run: Run) -> None:
    build = (
        "build",
        "--source",
        "arithmetic:expression=5",
        "--reference-model",
        "sim-small",
        "--out",
        "data",
    )
    refused = run(*build)
    assert isinstance(refused.exception, ConfigurationError)
    assert "--live" in str(refused.exception)
    assert not Path("data").exists()
    result = run(*build, "--live", "--max-cost-usd", "1")
    assert result.exit_code == 0, result.output
    [journal] = Path("data").glob("pass_rates-*.jsonl")
    lines = journal.read_text().splitlines()
    assert len(lines) == 5 * 8
    first = {file.name: file.read_bytes() for file in Path("data").iterdir()}
    assert isinstance(run(*build, "--live", "--max-cost-usd", "1").exception, ConfigurationError)
    again = run(*build, "--live", "--max-cost-usd", "1", "--resume")
    assert again.exit_code == 0, again.output
    assert {file.name: file.read_bytes() for file in Path("data").iterdir()} == first


def test_reasoning360_files_with_pass_rates_need_no_model(run: Run) -> None:
    rows = [
        guru_row(
            "math__gsm",
            [{"role": "system", "content": "Be brief."}, *user(f"{i} + 1?")],
            str(i + 1),
            rate=i / 10,
        )
        for i in range(11)
    ]
    write_rows(Path("guru.parquet"), rows)
    Path("recipe.toml").write_text('[[sources]]\ntasks = "guru.parquet"\npass_rate_column = "rate"\n')
    result = run("build", "--recipe", "recipe.toml", "--out", "data")
    assert result.exit_code == 0, result.output
    samples = [s for file in Path("data").glob("*.parquet") for s in load_samples(file)]
    assert {s.task.id: s.band for s in samples} == {s.task.id: band_of(s.pass_rate) for s in samples}
    assert len({s.task.id for s in samples}) == 11
    assert all([m["role"] for m in s.messages] == ["system", "system", "user"] for s in samples)
    assert json.loads(Path("data/card.json").read_text())["bands"] == {"hard": 4, "medium": 10, "simple": 4}


def band_of(pass_rate: float | None) -> str:
    assert pass_rate is not None
    return "hard" if pass_rate < 0.15 else "medium" if pass_rate < 0.65 else "simple"


def test_a_tokenizer_that_is_not_there_costs_nothing(run: Run) -> None:
    pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    Path("recipe.toml").write_text('tokenizer = "none.json"\n[[sources]]\ntasks = "arithmetic"\nn = 2\n')
    live = ("--reference-model", "sim-small", "--live", "--max-cost-usd", "1")
    result = run("build", "--recipe", "recipe.toml", *live, "--out", "data")
    assert isinstance(result.exception, ConfigurationError)
    assert "none.json" in str(result.exception)
    assert not Path("data").exists()


def test_a_recipe_and_options_over_it(run: Run) -> None:
    Path("recipe.toml").write_text(
        'seed = 9\nbands = []\n[[sources]]\ntasks = "arithmetic"\nn = 6\n'
        '[pools]\nset_share = 1.0\nsets = { both = ["sim-small", "sim-large"] }\n'
    )
    result = run(
        "build", "--recipe", "recipe.toml", "--source", "trivial:sum=3", "--seed", "4", "--out", "data"
    )
    assert result.exit_code == 0, result.output
    samples = [s for file in Path("data").glob("*.parquet") for s in load_samples(file)]
    assert {s.pool_name for s in samples} == {"both"}
    assert sorted({s.band for s in samples}) == ["all", "trivial"]
    assert json.loads(Path("data/card.json").read_text())["recipe"]["seed"] == 4


@pytest.mark.parametrize(
    ("args", "error", "said"),
    [
        ((), ConfigurationError, "no source"),
        (("--source", "trivial=many"), ConfigurationError, "'trivial=many'"),
        (("--source", "arithmetic=3"), ConfigurationError, "--reference-model"),
        (("--source", "trivial=3", "--live"), ConfigurationError, "--max-cost-usd"),
        (("--source", "trivial=3", "--max-cost-usd", "1"), ConfigurationError, "--live"),
        (("--source", "trivial=3", "--live", "--max-cost-usd", "lots"), ConfigurationError, "lots"),
        (("--source", "trivial=3", "--reference-model", " , "), ConfigurationError, "names of models"),
        (("--outcomes", "kit", "--reference-model", "gpt"), DataError, "there are large, small-poems"),
        (("--recipe", "none.toml"), ConfigurationError, "none.toml"),
    ],
)
def test_bad_arguments_are_named_and_write_nothing(
    run: Run, args: tuple[str, ...], error: type[Exception], said: str
) -> None:
    result = run("build", *args, "--out", "data")
    assert isinstance(result.exception, error), result.output
    assert said in str(result.exception)
    assert not list(Path().glob("data/*.parquet"))


def test_existing_data_is_not_written_over(run: Run) -> None:
    assert run("build", *FROM_OUTCOMES, "--out", "data").exit_code == 0
    before = Path("data/train.parquet").read_bytes()
    refused = run("build", *FROM_OUTCOMES, "--seed", "1", "--out", "data")
    assert isinstance(refused.exception, ConfigurationError)
    assert "--resume" in str(refused.exception)
    assert Path("data/train.parquet").read_bytes() == before


def test_show_needs_data(run: Run) -> None:
    assert isinstance(run("show", "nowhere").exception, ConfigurationError)
    assert isinstance(run("show", "kit/queries.parquet").exception, DataError)
