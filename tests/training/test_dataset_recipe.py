"""The recipe file: every mistake names file, key, value and the way out."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from dataset_kit import recipe_of

from xrouter.errors import ConfigurationError
from xrouter.training.dataset.recipe import Recipe, SourceRecipe
from xrouter.training.dataset.recipe_file import load_recipe


def test_the_defaults_are_the_published_ones() -> None:
    recipe = Recipe()
    assert recipe_of() == recipe
    assert [(band.name, band.low, band.high) for band in recipe.bands] == [
        ("hard", 0.0, 0.15),
        ("medium", 0.15, 0.65),
        ("simple", 0.6, 1.0),
    ]
    assert recipe.pools.tiers == {
        "premium": (1, 5),
        "standard": (1, 5),
        "budget": (1, 5),
        "specialised": (0, 3),
    }
    assert (recipe.max_prompt_tokens, recipe.episodes.max_turns) == (12_288, 3)


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(
        'seed = 3\n[[sources]]\ntasks = "trivial:fact"\nn = 5\n[[sources]]\noutcomes = "o"\ngrader = "numeric"\n'
        "[pools.tiers]\npremium = [2, 2]\n[router]\nmax_calls = 2\n[trivial]\nrepeats = 4\n"
    )
    recipe = load_recipe(file)
    assert recipe.sources[0].for_direct_answers
    assert not recipe.sources[1].for_direct_answers
    assert recipe.pools.tiers["premium"] == (2, 2)
    assert recipe.pools.tiers["budget"] == (1, 5)
    assert (recipe.seed, recipe.router.max_calls, recipe.trivial.repeats, recipe.trivial.cap) == (
        3,
        2,
        4,
        1_000,
    )


def test_trivial_is_what_the_recipe_says_it_is() -> None:
    assert SourceRecipe(tasks="own.jsonl", trivial=True).for_direct_answers
    assert not SourceRecipe(tasks="trivial", trivial=False).for_direct_answers


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("sed = 1", "recipe.toml: unknown key sed = 1; did you mean 'seed'"),
        ("validation_share = 2", "validation_share must be a number from 0 to 1, got 2"),
        ('[[sources]]\ntasks = "a"\noutcomes = "b"', r"sources\[0\] must name either tasks or outcomes"),
        ("[[sources]]\nn = 3", r"sources\[0\] must name either tasks or outcomes"),
        ('[[sources]]\ntasks = "trivial"\nn = 0', r"sources\[0\]\.n must be a whole number from 1, got 0"),
        ('[[sources]]\ntasks = "trivial"\ngraders = {math = "exact"}', "is for a parquet file only"),
        ('[[sources]]\ntasks = "trivial"\ngrader = "exact"', "is for outcomes only"),
        ('[[sources]]\noutcomes = "o"\ngrader = "wishful"', r"sources\[0\]\.grader: grader 'wishful'"),
        ('[[sources]]\ntasks = "a.parquet"\ngraders = {math = "hm"}', r"graders\.math: grader 'hm'"),
        ('[[bands]]\nname = "a"\nlow = 0.5\nhigh = 0.5', r"bands\[0\]\.high must be above low = 0\.5"),
        ('[[bands]]\nname = "a"\nlow = 0.5', r"bands\[0\] lacks high"),
        ('[[bands]]\nname = "trivial"\nlow = 0\nhigh = 1', "the name 'trivial' is taken"),
        ("[bands]", r"bands must be tables, each written \[\[bands\]\]"),
        ("[trivial]\nlow = 0.1", r"unknown key trivial\.low"),
        ("[pools]\nset_share = 0.5", r"pools\.set_share must be 0 where there is no set"),
        ('[pools]\nmodels = "all"', 'pools.models must be "catalog", "outcomes" or a list'),
        ("[pools.tiers]\npremium = [3, 1]", r"pools\.tiers\.premium must be \[least, most\]"),
        ("[pools.tiers]\nprenium = [1, 1]", r"unknown key pools\.tiers\.prenium.*'premium'"),
        (
            "[pools.tiers]\npremium = [0, 0]\nstandard = [0, 0]\nbudget = [0, 0]\nspecialised = [0, 0]",
            r"pools\.tiers must be above \[0, 0\]",
        ),
        ("[episodes]\ncost_weights = [-1]", r"episodes\.cost_weights must be a non-empty list of numbers"),
        ("[reference]\nsamples = 0", r"reference\.samples must be a whole number from 1"),
        ("[router]\nmax_cals = 1", r"unknown key router\.max_cals"),
    ],
)
def test_mistakes_are_named(table: str, said: str) -> None:
    values: dict[str, Any] = tomllib.loads(table)
    with pytest.raises(ConfigurationError, match=said):
        recipe_of(**values)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--recipe .*none\.toml"):
        load_recipe(tmp_path / "none.toml")
