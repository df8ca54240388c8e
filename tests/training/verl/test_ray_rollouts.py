"""Actors that play episodes: the same as playing them here, on a Ray of this machine alone."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from router_training_kit import call_ids, calls, selects
from verl_kit import data, toml

from xrouter.errors import ConfigurationError
from xrouter.messages import Completion, Request
from xrouter.training.dataset.rows import Sample, load_samples
from xrouter.training.verl.ray_rollouts import PlayedEpisode, Player, play_in_ray
from xrouter.training.verl.terms import write_terms

TESTS = Path(__file__).parents[2]


async def first_then_select(requests: Sequence[Request]) -> list[Completion]:
    """Calls the first model on offer, then selects its response."""
    return [
        selects(shown[0])
        if (shown := call_ids(request))
        else calls(request.params["tools"][0]["function"]["name"].removeprefix("call_"))
        for request in requests
    ]


HERE = "training.verl.test_ray_rollouts:first_then_select"


@pytest.fixture
def terms(tmp_path: Path) -> Path:
    folder = data(tmp_path)
    write_terms(toml(folder, "nobody/model"), folder / "run" / "terms.json")
    return folder / "run" / "terms.json"


@pytest.fixture
def samples(terms: Path) -> list[Sample]:
    return load_samples(terms.parents[1] / "data" / "train.parquet", 6)


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TESTS))


async def test_a_player_notes_the_whole_conversation(
    terms: Path, samples: list[Sample], importable: None
) -> None:
    for played, sample in zip(await Player(str(terms), HERE).play(samples), samples, strict=True):
        assert played.result.index == sample.index
        assert played.result.called == (sample.pool[0],)
        assert played.result.episode is None
        assert [message["role"] for message in played.messages] == [
            "system",
            "user",
            "assistant",
            "tool",
            "assistant",
        ]
        assert list(played.messages[:2]) == [dict(message) for message in sample.messages]


def test_replies_must_be_there(terms: Path) -> None:
    with pytest.raises(ConfigurationError, match="replies"):
        Player(str(terms), "no.such.module:replies")


def timeless(played: PlayedEpisode) -> PlayedEpisode:
    """Without what a clock said: of the episode, and of each call in what the router reads."""
    result, messages = played.result, []
    for message in played.messages:
        if message["role"] == "tool":
            shown = {key: value for key, value in json.loads(message["content"]).items() if key != "seconds"}
            message = {**message, "content": shown}
        messages.append(message)
    outcome = replace(result.outcome, seconds=0.0)
    return replace(played, result=replace(result, outcome=outcome), messages=tuple(messages))


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # or it writes a token into the home folder
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'xrouter[verl]'")
    paths = os.pathsep.join([*os.environ.get("PYTHONPATH", "").split(os.pathsep), str(TESTS)])
    ray.init(
        num_cpus=2, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": paths.strip(os.pathsep)}}
    )
    yield
    ray.shutdown()


@pytest.mark.slow
def test_actors_play_as_we_do_here(ray: None, terms: Path, samples: list[Sample], importable: None) -> None:
    here = asyncio.run(Player(str(terms), HERE).play(samples))
    there = list(play_in_ray(terms, samples, HERE, workers=2, batch=2))
    assert [timeless(one) for one in there] == [timeless(one) for one in here]
