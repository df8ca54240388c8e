"""The files in examples/router_training say what their readers take."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from xrouter.toml_reader import Reader
from xrouter.training.dataset.recipe_file import load_recipe
from xrouter.training.router.settings import read_training
from xrouter.training.trl.settings import TRLSettings, read_trl

EXAMPLES = Path(__file__).parents[2] / "examples" / "router_training"


def test_the_recipe_is_read() -> None:
    recipe = load_recipe(EXAMPLES / "smollm2_recipe.toml")
    assert recipe.bands == ()
    assert len(recipe.pools.sets["five"]) == 5
    assert recipe.router.prompt == "brief"


@pytest.mark.parametrize("name", ["smollm2_format.toml", "smollm2.toml"])
def test_a_run_is_read_on_the_terms_of_its_data(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(EXAMPLES / "smollm2_recipe.toml")
    (tmp_path / "card.json").write_text(json.dumps({"recipe": recipe.as_dict()}))
    table = tomllib.loads((EXAMPLES / name).read_text()) | {"data": str(tmp_path)}
    run = read_training(Reader(name, table), "trl", read_trl)
    assert run.router.prompt == "brief"
    assert run.router.price == {"input": "0.02", "output": "0.04"}
    assert isinstance(run.trainer, TRLSettings)
    assert run.trainer.lora is not None
    assert len(run.trainer.lora.targets) == 70
