"""A recipe out of a TOML file, checked key by key; unknown keys are refused."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...catalog.model import TIERS
from ...errors import ConfigurationError
from ...settings_tables.router_llm import read_router_llm
from ...tasks.graders import grader_named
from ...toml_reader import Reader, number, whole
from .recipe import Band, Episodes, Pools, Recipe, Reference, SourceRecipe


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
