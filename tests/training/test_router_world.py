"""The file that sets up training, the world it opens, and whether that world fits the data."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from live_world_kit import TABLE, ask, live_sample, live_world
from outcomes_kit import MODELS, synthetic_outcomes, synthetic_tables, write_tables
from router_training_kit import sample
from upstream import MockUpstream, ok

from xrouter.errors import ConfigurationError, DataError
from xrouter.messages import Request
from xrouter.settings_tables.router_llm import RouterLLMSettings
from xrouter.tasks.live_world import LiveWorld
from xrouter.tasks.recorded_world import RecordedWorld
from xrouter.tasks.world import World
from xrouter.toml_reader import Reader
from xrouter.training.router.open_world import check_world, open_world
from xrouter.training.router.reward import RewardSettings
from xrouter.training.router.settings import RouterTraining, WorldSettings, load_training

RECORDED = '[world]\noutcomes = ["outcomes/mine"]\n'
LIVE = '[world]\nkind = "live"\n'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with the card of a data set."""
    folder = tmp_path / "data"
    folder.mkdir()
    card = {"recipe": {"router": {"temperature": 1.0, "max_calls": 2, "max_tokens": 700}}}
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def trainer(reader: Reader, key: str) -> Mapping[str, Any]:
    return reader.subtable(key).table


def load(data: Path, text: str) -> RouterTraining:
    file = data.parent / "train.toml"
    file.write_text(f'data = "{data}"\n{text}')
    return load_training(file, "trl", trainer)


def test_every_key_is_read(data: Path) -> None:
    found = load(
        data,
        """
        [world]
        kind = "live"
        outcomes = ["a", "b"]
        tokens_per_s = 80
        settings = "my.toml"
        max_cost_usd = "2.50"
        cache = "answers.sqlite"
        cache_samples = 4
        max_output_tokens = 2_048
        [reward]
        kind = "cost_aware"
        success_bonus = 2
        penalty_cap = 1.5
        cost_unit = "usd"
        trivial_call_penalty = 0.5
        [router]
        max_tokens = 512
        price = { input = "0.1", output = "0.2" }
        [trl]
        steps = 3
        [verl]
        of = "another trainer"
        """,
    )
    assert found.data == data
    assert found.world == WorldSettings(
        "live", ("a", "b"), 80.0, "my.toml", Decimal("2.50"), "answers.sqlite", 4, 2048
    )
    assert found.reward == RewardSettings("cost_aware", 2.0, 1.5, "usd", 0.5)
    assert found.router == RouterLLMSettings(
        temperature=1.0, max_calls=2, max_tokens=512, price={"input": "0.1", "output": "0.2"}
    )
    assert found.trainer == {"steps": 3}
    default = WorldSettings()
    assert all(getattr(found.world, key.name) != getattr(default, key.name) for key in fields(WorldSettings))
    assert all(
        getattr(found.reward, f.name) != getattr(RewardSettings(), f.name) for f in fields(RewardSettings)
    )


def test_what_is_not_said_is_as_in_the_data_and_its_defaults(data: Path) -> None:
    found = load(data, RECORDED)
    assert found.world == WorldSettings(outcomes=("outcomes/mine",))
    assert found.reward == RewardSettings()
    assert found.router == RouterLLMSettings(temperature=1.0, max_calls=2, max_tokens=700)
    assert found.trainer == {}
    assert load(data, LIVE + "max_cost_usd = 5").world.max_cost_usd == Decimal(5)
    assert load(data, LIVE + "max_cost_usd = 0.1").world.max_cost_usd == Decimal("0.1"), (
        "not a float's digits"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[wrold]\nkind = "live"', r"unknown key wrold .*did you mean 'world'"),
        ("[world]\noutcome = []", r"unknown key world.outcome .*did you mean 'outcomes'"),
        ("[reward]\nbonus = 1", r"unknown key reward.bonus"),
        ("[router]\nurl_ = 1", r"unknown key router.url_"),
        ('[world]\nkind = "dead"', r"world.kind must be one of recorded, live, got 'dead'"),
        ("[world]\noutcomes = []", r"world.outcomes must be a non-empty list"),
        ('[world]\noutcomes = "mine"', r"world.outcomes must be a non-empty list"),
        ("[world]\n", r"world.outcomes is missing"),
        (RECORDED + "tokens_per_s = 0", r"world.tokens_per_s must be a number above 0"),
        (RECORDED + "tokens_per_s = inf", r"world.tokens_per_s must be a number above 0"),
        (LIVE, r"world.max_cost_usd is missing: .*limit in USD"),
        (LIVE + "max_cost_usd = 0", r"world.max_cost_usd must be an amount in USD above 0"),
        (LIVE + "max_cost_usd = -1", r"world.max_cost_usd must be an amount"),
        (LIVE + "max_cost_usd = true", r"world.max_cost_usd must be an amount"),
        (LIVE + "max_cost_usd = nan", r"world.max_cost_usd must be an amount"),
        (LIVE + 'max_cost_usd = "inf"', r"world.max_cost_usd must be an amount"),
        (LIVE + 'max_cost_usd = "much"', r"world.max_cost_usd must be an amount"),
        (LIVE + "max_cost_usd = 1\ncache_samples = 0", r"world.cache_samples must be a whole number from 1"),
        (
            LIVE + "max_cost_usd = 1\nmax_output_tokens = 0.5",
            r"world.max_output_tokens must be a whole number",
        ),
        (LIVE + 'max_cost_usd = 1\ncache = ""', r"world.cache must be a non-empty string"),
        (LIVE + "max_cost_usd = 1\nsettings = 3", r"world.settings must be a non-empty string"),
        (RECORDED + '[reward]\nkind = "best"', r"reward.kind must be one of linear, cost_aware"),
        (RECORDED + "[reward]\nsuccess_bonus = 0", r"reward.success_bonus must be a number above 0"),
        (RECORDED + "[reward]\npenalty_cap = -1", r"reward.penalty_cap must be a number from 0"),
        (RECORDED + '[reward]\ncost_unit = "euro"', r"reward.cost_unit must be one of dearest, usd"),
        (
            RECORDED + "[reward]\ntrivial_call_penalty = 2",
            r"reward.trivial_call_penalty must be a number from 0 to 1",
        ),
        (RECORDED + "[router]\nmax_calls = 0", r"router.max_calls must be a whole number"),
        ("world = 3", r"world must be a table"),
        ("[world", r"train.toml"),
    ],
)
def test_what_is_wrong_is_named(data: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        load(data, text)


def test_data_is_asked_for_and_must_have_its_card(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "train.toml"
    with pytest.raises(ConfigurationError, match=r"nothing\.toml"):
        load_training(tmp_path / "nothing.toml", "trl", trainer)
    file.write_text(RECORDED)
    with pytest.raises(ConfigurationError, match="data is missing"):
        load_training(file, "trl", trainer)
    (data / "card.json").unlink()
    with pytest.raises(DataError, match=r"data/card.json is not the card of a data set"):
        load(data, RECORDED)
    (data / "card.json").write_text('{"recipe": {}}')
    with pytest.raises(DataError, match=r"card.json.*KeyError"):
        load(data, RECORDED)
    (data / "card.json").write_text('{"recipe": {"router": {"no_such": 1}}}')
    with pytest.raises(DataError, match=r"card.json.*no_such"):
        load(data, RECORDED)


async def test_recorded_outcomes_are_opened_with_their_texts_and_their_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tables = synthetic_tables(4, 0)
    tables["outcomes"]["response"] = ["at length"] * len(tables["outcomes"]["model"])
    one = write_tables(tables, tmp_path / "one")
    tables = synthetic_tables(6, 0)
    for column in tables["queries"], tables["outcomes"]:
        column["query_id"] = [f"other-{name}" for name in column["query_id"]]
    tables["queries"]["prompt"] = [f"other {prompt}" for prompt in tables["queries"]["prompt"]]
    two = write_tables(tables, tmp_path / "two")
    world = open_world(WorldSettings(outcomes=(str(one), str(two)), tokens_per_s=10_000))
    assert isinstance(world, World)
    assert [model.name for model in world.models] == list(MODELS)
    pool = world.pool(["weak"])
    for prompt, text in (("add the numbers 0", "at length"), ("other add the numbers 0", "w0-weak")):
        whole = prompt + " and 0 then give their total"
        said = await pool.provider_of(pool["weak"]).complete(pool["weak"], Request.from_text(whole))
        assert (said.text, said.latency_s) == (text, 0.01)
    assert world.figures() == {}
    await world.aclose()


def settings_file(folder: Path, base_url: str, key_env: str = "") -> Path:
    file = folder / "xrouter.toml"
    lines = ['pool = ["small", "big"]', "[endpoints.mock]", f'base_url = "{base_url}"']
    lines += [f'key_env = "{key_env}"'] if key_env else []
    for name in ("small", "big"):
        lines += [
            f"[models.{name}]",
            'price = { input = "1", output = "2", dated = 2026-01-01, source = "tests" }',
        ]
        lines += [f"{key} = {json.dumps(value)}" for key, value in TABLE.items() if key != "price"]
        lines += [f'id = "{name}"']
    file.write_text("\n".join(lines))
    return file


async def test_a_live_world_asks_the_pool_of_the_settings_with_their_keys(
    tmp_path: Path, mock_upstream: MockUpstream
) -> None:
    mock_upstream.script(ok("a"), ok("b"))
    file = settings_file(tmp_path, mock_upstream.base_url, "THE_KEY")
    settings = WorldSettings(
        "live", settings=str(file), max_cost_usd=Decimal(1), cache_samples=2, max_output_tokens=9
    )
    with pytest.raises(ConfigurationError, match="THE_KEY is not set"):
        open_world(settings, tmp_path / "run", {})
    world = open_world(settings, tmp_path / "run", {"THE_KEY": "sk-of-the-test"})
    assert isinstance(world, LiveWorld)
    assert [model.name for model in world.models] == ["small", "big"]
    assert [(await ask(world, "How many?")).text for _ in range(3)] == ["a", "b", "a"]
    assert mock_upstream.requests[0].headers["Authorization"] == "Bearer sk-of-the-test"
    assert mock_upstream.requests[0].body["max_tokens"] == 9
    assert (tmp_path / "run" / "live.sqlite").exists()
    await world.aclose()

    elsewhere = replace(settings, cache=str(tmp_path / "shared" / "answers.sqlite"))
    world = open_world(elsewhere, None, {"THE_KEY": "sk-of-the-test"})
    assert (tmp_path / "shared" / "answers.sqlite").exists()
    await world.aclose()


def test_a_live_world_without_a_limit_or_a_place_is_refused(tmp_path: Path) -> None:
    file = str(settings_file(tmp_path, "http://127.0.0.1:1/v1"))
    with pytest.raises(ConfigurationError, match="max_cost_usd is missing"):
        open_world(WorldSettings("live", settings=file), tmp_path)
    with pytest.raises(ConfigurationError, match=r"world\.cache is missing"):
        open_world(WorldSettings("live", settings=file, max_cost_usd=Decimal(1)))
    with pytest.raises(ConfigurationError, match="no settings file"):
        open_world(WorldSettings("live", settings="nowhere.toml", max_cost_usd=Decimal(1)), tmp_path)


async def test_a_pool_that_only_pretends_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "xrouter.toml"
    file.write_text('pool = ["sim-small"]')
    from xrouter.catalog.catalog import Catalog
    from xrouter.settings import Settings

    simulated = next(
        name
        for name in Catalog.load(Settings()).entries
        if Catalog.load(Settings()).endpoint_of(name).kind == "simulated"
    )
    file.write_text(f'pool = ["{simulated}"]')
    settings = WorldSettings("live", settings=str(file), max_cost_usd=Decimal(1))
    world = open_world(settings, tmp_path, {})
    assert "SIMULATED" in caplog.text
    await world.aclose()


def test_pools_of_models_that_the_world_lacks_are_refused_by_name(tmp_path: Path) -> None:
    outcomes = synthetic_outcomes(tmp_path / "kit")
    world = RecordedWorld(outcomes)
    good = [sample(outcomes, row) for row in range(3)]
    check_world(world, good)
    check_world(world, [])
    bad = [replace(good[0], pool=("large", "gone")), replace(good[1], pool=("away", "weak"))]
    with pytest.raises(ConfigurationError, match="the world lacks: away, gone; it has large, small-poems"):
        check_world(world, [*good, *bad])


def test_questions_that_the_world_does_not_know(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outcomes = synthetic_outcomes(tmp_path / "kit")
    world = RecordedWorld(outcomes)
    known = sample(outcomes, 0)
    strange = replace(live_sample(1, "Who goes there?"), pool=tuple(MODELS))
    with pytest.raises(DataError, match="none of the data's 2 questions is known"):
        check_world(world, [strange, strange, replace(known, trivial=True)])
    caplog.set_level(logging.WARNING)
    check_world(world, [known, replace(strange, trivial=True)])
    assert caplog.text == ""
    check_world(world, [known, strange])
    assert "1 of 2 samples" in caplog.text


async def test_live_models_know_every_question(tmp_path: Path) -> None:
    world = live_world("http://127.0.0.1:1/v1", tmp_path / "live.sqlite")
    check_world(world, [live_sample(0, "Who goes there?")])
    with pytest.raises(ConfigurationError, match="large"):
        check_world(world, [replace(live_sample(0, "Who?"), pool=("large",))])
    await world.aclose()
