"""Recorded texts, read from disk when they are asked for; and a recorded world that says them, in its time."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from outcomes_kit import MODELS, Tables, synthetic_tables, write_tables
from router_training_kit import call_ids, calls, episode, sample, selects

from xrouter.errors import DataError
from xrouter.messages import Request
from xrouter.tasks.outcomes import Outcomes, load_outcomes, union
from xrouter.tasks.recorded_world import UNRECORDED, RecordedWorld
from xrouter.tasks.responses import Responses, cache_folder

NAMES = tuple(MODELS)


def with_texts(tables: Tables, prefix: str = "") -> Tables:
    """Every response but the first model's to the first query, which is null."""
    outcomes = tables["outcomes"]
    texts = [f"{prefix}{q} by {m}" for q, m in zip(outcomes["query_id"], outcomes["model"], strict=True)]
    outcomes["response"] = pa.array([None, *texts[1:]], pa.string())
    return tables


def opened(cache: Path, *folders: Path) -> tuple[Outcomes, Responses]:
    parts = [load_outcomes(folder) for folder in folders]
    outcomes = union(parts)
    return outcomes, Responses(folders, parts, outcomes.model_names, cache)


def test_every_text_of_every_folder_is_found(tmp_path: Path) -> None:
    first = write_tables(with_texts(synthetic_tables(4, 2)), tmp_path / "first")
    tables = synthetic_tables(3, 0)
    for column in tables["queries"], tables["outcomes"]:
        column["query_id"] = [f"other-{name}" for name in column["query_id"]]
    tables["queries"]["prompt"] = [f"other {prompt}" for prompt in tables["queries"]["prompt"]]
    silent = write_tables(tables, tmp_path / "silent")
    tables = synthetic_tables(3, 0)
    del tables["models"]["model"][3:], tables["models"]["provider"][3:], tables["models"]["core"][3:]
    del tables["models"]["usd_per_mtok_in"][3:], tables["models"]["usd_per_mtok_out"][3:]
    kept = [i for i, name in enumerate(tables["outcomes"]["model"]) if name != "large"][::-1]
    tables["outcomes"] = {name: [column[i] for i in kept] for name, column in tables["outcomes"].items()}
    fewer = write_tables(with_texts(tables, "fewer "), tmp_path / "fewer")

    outcomes, responses = opened(tmp_path / "cache", first, silent, fewer)
    assert responses.text(0, 0) is None
    assert [responses.text(0, m) for m in (1, 2, 3)] == [f"q0 by {name}" for name in NAMES[1:]]
    assert responses.text(5, 3) == "q5 by large"
    assert {responses.text(q, m) for q in (6, 7, 8) for m in range(4)} == {None}
    assert responses.text(9, 0) == "fewer q0 by small-sums"
    assert responses.text(11, 2) is None, "the first row of the file was null"
    assert responses.text(11, 3) is None, "never asked"
    assert len(outcomes) == 12


def test_the_file_is_written_once_and_anew_when_the_outcomes_change(tmp_path: Path) -> None:
    folder = write_tables(with_texts(synthetic_tables(4, 0)), tmp_path / "kit")
    cache = tmp_path / "cache"
    opened(cache, folder)
    (file,) = cache.iterdir()
    before = file.stat().st_mtime_ns
    opened(cache, folder)
    assert [path.stat().st_mtime_ns for path in cache.iterdir()] == [before]
    write_tables(with_texts(synthetic_tables(4, 0), "new "), folder)
    os.utime(folder / "outcomes.parquet", ns=(1, 1))
    _, responses = opened(cache, folder)
    assert responses.text(1, 0) == "new q1 by small-sums"
    assert len(list(cache.iterdir())) == 2


def test_texts_stay_on_disk(tmp_path: Path) -> None:
    tables = with_texts(synthetic_tables(40, 0))
    long = "x" * 100_000
    tables["outcomes"]["response"] = [long] * len(tables["outcomes"]["model"])
    folder = write_tables(tables, tmp_path / "kit")
    opened(tmp_path / "cache", folder)
    before = pa.total_allocated_bytes()
    _, responses = opened(tmp_path / "cache", folder)
    assert responses.text(7, 2) == long
    assert pa.total_allocated_bytes() - before < 1_000_000 < 160 * len(long)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    folder = write_tables(with_texts(synthetic_tables(4, 0)), tmp_path / "kit")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"kit/outcomes.parquet.*XDG_CACHE_HOME"):
        opened(tmp_path / "file", folder)


def test_the_cache_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "xrouter" / "responses"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "xrouter" / "responses"


async def test_the_router_reads_what_the_models_wrote(tmp_path: Path) -> None:
    folder = write_tables(with_texts(synthetic_tables(4, 0)), tmp_path / "kit")
    outcomes, responses = opened(tmp_path / "cache", folder)
    world = RecordedWorld(outcomes, responses=responses)
    one = episode(world, sample(outcomes, 0))
    await one.start()
    second = await one.reply(calls("small-sums", "large"))
    assert second is not None
    null, text = (message["content"] for message in second.messages[-2:])
    assert "r0" in null, "where no text is recorded, the answer stands for it"
    assert "q0 by large" in text
    assert await one.reply(selects(call_ids(second)[1])) is None
    assert one.result.outcome.quality == 1.0, "the score is the recorded one"
    await world.aclose()


async def complete(world: RecordedWorld, model: str, q: int, **params: Any) -> Any:
    pool = world.pool([model])
    request = Request.from_text(world.outcomes.recording.prompts[q], **params)
    return await pool.provider_of(pool[model]).complete(pool[model], request)


async def test_a_cut_call_keeps_its_share_of_the_text_and_of_the_time(tmp_path: Path) -> None:
    tables = with_texts(synthetic_tables(4, 0))
    tables["outcomes"]["response"] = ["abcdefghij"] * len(tables["outcomes"]["model"])
    folder = write_tables(tables, tmp_path / "kit")
    outcomes, responses = opened(tmp_path / "cache", folder)
    world = RecordedWorld(outcomes, responses=responses, tokens_per_s=1000)
    started = time.monotonic()
    whole, cut = await asyncio.gather(complete(world, "large", 0), complete(world, "large", 0, max_tokens=30))
    assert time.monotonic() - started >= 0.1
    assert (whole.text, whole.latency_s, whole.answer) == ("abcdefghij", pytest.approx(0.1), "r0")
    assert (cut.text, cut.latency_s, cut.answer) == ("abc", pytest.approx(0.03), None)
    assert cut.finish_reason == "length"


async def test_without_a_speed_a_call_takes_no_time(tmp_path: Path) -> None:
    tables = synthetic_tables(4, 0)
    tables["outcomes"]["answer"][0] = None
    world = RecordedWorld(load_outcomes(write_tables(tables, tmp_path / "kit")))
    said = await complete(world, "small-sums", 0)
    assert (said.text, said.latency_s) == (UNRECORDED, 0.0)
