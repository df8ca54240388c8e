"""What a data set is made of: every number and name in one place. A TOML file gives any of them; unknown keys are refused.

Bands, tier counts, the token filter and the turns are those of xRouter's published data (arXiv 2510.08439); caps,
repetitions and shares are this project's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from ...catalog.model import TIERS
from ...episodes.episode import DEFAULT_MAX_TURNS
from ...errors import ConfigurationError
from ...settings_tables.router_llm import RouterLLMSettings, read_router_llm
from ...tasks.graders import grader_named
from ...toml_reader import Reader, number, whole


@dataclass(frozen=True, slots=True)
class SourceRecipe:
    """Where questions come from: `tasks` or `outcomes`, not both.

    tasks: a parquet file in Reasoning360's (verl's) columns, a JSONL file of prompts, or a source such as arithmetic,
        reasoning_gym:chain_sum or trivial.
    outcomes: a folder of recorded outcomes; its train split alone is read.
    n: at most so many questions; a source that makes them up needs it.
    trivial: its right behaviour is a direct answer: no pass rate is measured. None = whether `tasks` is trivial.
    grader: for questions of `outcomes` that name none. graders: data_source or domain -> grader, for parquet files.
    pass_rate_column: of a parquet file, with pass rates measured before.
    """

    tasks: str | None = None
    outcomes: str | None = None
    n: int | None = None
    trivial: bool | None = None
    grader: str = "exact"
    graders: Mapping[str, str] = field(default_factory=dict)
    pass_rate_column: str | None = None

    @property
    def name(self) -> str:
        return self.tasks or self.outcomes or ""

    @property
    def for_direct_answers(self) -> bool:
        return self.name.partition(":")[0] == "trivial" if self.trivial is None else self.trivial


@dataclass(frozen=True, slots=True)
class Band:
    """Questions whose pass rate lies in [low, high); a band that ends at 1 includes 1.

    cap: at most so many questions, before repetition; None = all. repeats: samples of each, every one with its own pool.
    """

    name: str
    low: float
    high: float
    cap: int | None = None
    repeats: int = 1

    def holds(self, pass_rate: float) -> bool:
        return self.low <= pass_rate < self.high or pass_rate == self.high == 1


@dataclass(frozen=True, slots=True)
class Reference:
    """Who measures how hard a question is, and how.

    models: pass rates are the mean over them. samples: answers of each to each question. A question is measured anew
    where temperature or max_output_tokens (per answer) differ from those of answers in the journal.
    """

    models: tuple[str, ...] = ()
    samples: int = 8
    temperature: float = 1.0
    max_output_tokens: int = 4096


@dataclass(frozen=True, slots=True)
class Pools:
    """What a sample may choose from.

    models: "catalog" (the settings' pool, or else every current model of the catalog that has an API), "outcomes" (the
        recorded models; of each question those that were asked it), or names of the catalog.
    sets: named fixed pools. set_share: of the samples, how many get one of these.
    tiers: how many models of each tier all others get, from and to.
    """

    models: str | tuple[str, ...] = "catalog"
    sets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    set_share: float = 0.0
    tiers: Mapping[str, tuple[int, int]] = field(
        default_factory=lambda: {
            "premium": (1, 5),
            "standard": (1, 5),
            "budget": (1, 5),
            "specialised": (0, 3),
        }
    )


@dataclass(frozen=True, slots=True)
class Episodes:
    """What a sample's caller wants. cost_weights: lambda is drawn from these. max_turns: decisions of an episode."""

    cost_weights: tuple[float, ...] = (0.01, 0.1, 1.0)
    max_turns: int = DEFAULT_MAX_TURNS


@dataclass(frozen=True, slots=True)
class Recipe:
    """seed: everything random comes from it. validation_share: of the questions, with all of their repetitions.

    max_prompt_tokens: longer prompts (tool schemas included) are left out. tokenizer: a tokenizer.json, or a folder
        with one, to count them with; None = the estimate that the gateway uses.
    trivial: the band of questions for direct answers; its limits are not read. bands: () = take every question, measure
        nothing. router: as the settings' table [router_llm]: how the router that is to be trained is asked.
    """

    seed: int = 0
    validation_share: float = 0.05
    max_prompt_tokens: int = 12_288
    tokenizer: str | None = None
    sources: tuple[SourceRecipe, ...] = ()
    bands: tuple[Band, ...] = (
        Band("hard", 0.0, 0.15, 10_000, 2),
        Band("medium", 0.15, 0.65, 10_000, 2),
        Band("simple", 0.6, 1.0, 5_000, 1),
    )
    trivial: Band = Band("trivial", 0.0, 1.0, 1_000, 1)
    reference: Reference = field(default_factory=Reference)
    pools: Pools = field(default_factory=Pools)
    episodes: Episodes = field(default_factory=Episodes)
    router: RouterLLMSettings = field(default_factory=RouterLLMSettings)

    def as_dict(self) -> dict[str, Any]:
        """For a card: plain values, of the router's settings without those that say where it is."""
        values = asdict(self)
        for key in ("url", "key_env", "price", "params"):
            values["router"].pop(key)
        return {"seed": values.pop("seed"), **values}


@dataclass(frozen=True, slots=True)
class LiveLimits:
    """The leave to ask reference models. max_cost_usd: for all of it, earlier runs included. timeout_s: of one call."""

    max_cost_usd: Decimal
    concurrency: int = 8
    timeout_s: float = 120.0


def load_recipe(path: Path) -> Recipe:
    """Raises ConfigurationError naming file, key and value."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--recipe {path}: {error}") from error
    return read_recipe(Reader(str(path), table))


def read_recipe(reader: Reader) -> Recipe:
    """Raises as `load_recipe` does."""
    values = reader.read(_READERS)
    bands = values.get("bands", Recipe().bands)
    names = [band.name for band in (*bands, Recipe().trivial)]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigurationError(
            f"{reader.file}: bands: the name {twice[0]!r} is taken; give each band its own", param="bands"
        )
    return Recipe(**values)


def _tables(reader: Reader, key: str) -> list[Reader]:
    value = reader.table[key]
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise reader.wrong(key, f"tables, each written [[{reader.dotted(key)}]]")
    return [Reader(reader.file, item, f"{reader.dotted(key)}[{i}]") for i, item in enumerate(value)]


def _sources(reader: Reader, key: str) -> tuple[SourceRecipe, ...]:
    found = []
    for inner in _tables(reader, key):
        source = SourceRecipe(**inner.read(_SOURCE))
        if (source.tasks is None) == (source.outcomes is None):
            raise ConfigurationError(
                f"{reader.file}: {inner.prefix} must name either tasks or outcomes", param=inner.prefix
            )
        parquet = source.tasks is not None and source.tasks.endswith(".parquet")
        for name, belongs in (
            ("grader", source.outcomes is not None),
            ("graders", parquet),
            ("pass_rate_column", parquet),
        ):
            if name in inner.table and not belongs:
                where = "outcomes" if name == "grader" else "a parquet file"
                raise ConfigurationError(
                    f"{reader.file}: {inner.dotted(name)} = {inner.table[name]!r} is for {where} only; take it out",
                    param=inner.dotted(name),
                )
        found.append(source)
    return tuple(found)


def _grader(reader: Reader, key: str) -> str:
    name = reader.text(key)
    try:
        grader_named(name)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{reader.file}: {reader.dotted(key)}: {error}", param=reader.dotted(key)
        ) from error
    return name


def _graders(reader: Reader, key: str) -> dict[str, str]:
    inner = reader.subtable(key)
    return {name: _grader(inner, name) for name in inner.table}


def _bands(reader: Reader, key: str) -> tuple[Band, ...]:
    return tuple(_band(inner) for inner in _tables(reader, key))


def _band(reader: Reader) -> Band:
    values = reader.read(_BAND)
    for name in ("name", "low", "high"):
        if name not in values:
            raise ConfigurationError(
                f"{reader.file}: {reader.prefix} lacks {name}: a band has a name, low and high",
                param=reader.dotted(name),
            )
    if values["low"] >= values["high"]:
        raise reader.wrong("high", f"above low = {values['low']}")
    return Band(**values)


def _trivial(reader: Reader, key: str) -> Band:
    values = reader.subtable(key).read({name: _BAND[name] for name in ("cap", "repeats")})
    return Band(**{"name": "trivial", "low": 0.0, "high": 1.0, "cap": 1_000, **values})


def _models(reader: Reader, key: str) -> str | tuple[str, ...]:
    value = reader.table[key]
    if value in ("catalog", "outcomes"):
        return str(value)
    if isinstance(value, str):
        raise reader.wrong(key, '"catalog", "outcomes" or a list of names')
    return reader.texts(key)


def _sets(reader: Reader, key: str) -> dict[str, tuple[str, ...]]:
    inner = reader.subtable(key)
    return {name: inner.texts(name) for name in inner.table}


def _tiers(reader: Reader, key: str) -> dict[str, tuple[int, int]]:
    inner = reader.subtable(key)
    return {**Pools().tiers, **inner.read(dict.fromkeys(TIERS, _count))}


def _count(reader: Reader, key: str) -> tuple[int, int]:
    value = reader.table[key]
    whole_numbers = isinstance(value, list) and all(type(item) is int for item in value)
    if not whole_numbers or len(value) != 2 or not 0 <= value[0] <= value[1]:
        raise reader.wrong(key, "[least, most], such as [1, 5]")
    return value[0], value[1]


def _pools(reader: Reader, key: str) -> Pools:
    inner = reader.subtable(key)
    pools = Pools(**inner.read(_POOLS))
    if pools.set_share > 0 and not pools.sets:
        raise inner.wrong("set_share", "0 where there is no set: add [pools.sets]")
    if pools.set_share < 1 and not any(most for _, most in pools.tiers.values()):
        raise inner.wrong("tiers", "above [0, 0] for at least one tier")
    return pools


def _weights(reader: Reader, key: str) -> tuple[float, ...]:
    value = reader.table[key]
    good = (
        isinstance(value, list) and value and all(type(item) in (int, float) and item >= 0 for item in value)
    )
    if not good:
        raise reader.wrong(key, "a non-empty list of numbers from 0, such as [0.01, 0.1, 1.0]")
    return tuple(map(float, value))


def _table_of(cls: Callable[..., Any], readers: Mapping[str, Any]) -> Callable[[Reader, str], Any]:
    return lambda reader, key: cls(**reader.subtable(key).read(readers))


_SOURCE: Mapping[str, Callable[[Reader, str], Any]] = {
    "tasks": Reader.text,
    "outcomes": Reader.text,
    "n": whole(1),
    "trivial": Reader.flag,
    "grader": _grader,
    "graders": _graders,
    "pass_rate_column": Reader.text,
}
_BAND: Mapping[str, Callable[[Reader, str], Any]] = {
    "name": Reader.text,
    "low": number(0, 1),
    "high": number(0, 1),
    "cap": whole(0),
    "repeats": whole(1),
}
_POOLS: Mapping[str, Callable[[Reader, str], Any]] = {
    "models": _models,
    "sets": _sets,
    "set_share": number(0, 1),
    "tiers": _tiers,
}
_READERS: Mapping[str, Callable[[Reader, str], Any]] = {
    "seed": whole(0),
    "validation_share": number(0, 1),
    "max_prompt_tokens": whole(1),
    "tokenizer": Reader.text,
    "sources": _sources,
    "bands": _bands,
    "trivial": _trivial,
    "reference": _table_of(
        Reference,
        {
            "models": Reader.texts,
            "samples": whole(1),
            "temperature": number(0, 2),
            "max_output_tokens": whole(1),
        },
    ),
    "pools": _pools,
    "episodes": _table_of(Episodes, {"cost_weights": _weights, "max_turns": whole(1)}),
    "router": read_router_llm,
}
