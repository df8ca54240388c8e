"""The table of what training would take reads the data's prompt lengths and does the sums of `training/router/estimate.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
from outcomes_kit import synthetic_tables, write_tables
from typer.testing import CliRunner

from benchmarks.router_training_cost import main
from xrouter.cli import app
from xrouter.training.dataset.rows import load_samples
from xrouter.training.router.estimate import Episodes, Hardware, Schedule, estimate


def test_the_table_is_the_estimate_of_the_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = write_tables(synthetic_tables(20, 5), tmp_path / "kit")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'bands = []\n[[sources]]\noutcomes = "{outcomes}"\n[pools]\nmodels = "outcomes"\n')
    built = CliRunner().invoke(
        app, ["dataset", "build", "--recipe", str(recipe), "--out", str(tmp_path / "data")]
    )
    assert built.exit_code == 0, built.output

    main([str(tmp_path / "data"), "--parameters", "1e9", "--calls-usd", "0.01", "--kept", "0.5"])
    told = capsys.readouterr().out
    prompts = [sample.prompt_tokens for sample in load_samples(tmp_path / "data" / "train.parquet")]
    episodes = Episodes(sum(prompts) / len(prompts), 80, 400, 0.01)
    wanted = estimate(1e9, episodes, Schedule(kept=0.5), Hardware())
    cells = [cell.strip() for cell in told.splitlines()[-2].split("|")[1:-1]]
    assert cells[0] == "512 x 4"
    assert float(cells[4]) == pytest.approx(wanted.gpu_hours, abs=0.05)
    assert float(cells[6].replace(",", "")) == pytest.approx(0.01 * 100 * 512 * 4 / 0.5)
