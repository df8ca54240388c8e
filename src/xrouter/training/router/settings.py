"""What training a language model to route is made of, whoever trains it: data, world, reward, the router's own terms.

A trainer has a table of its own beside these ([trl], [verl]).
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal

from ...errors import ConfigurationError, DataError
from ...settings_tables.router_llm import RouterLLMSettings, read_router_llm
from ...toml_reader import Reader, number, one_of, whole
from ..dataset.card import NUMBERS
from .reward import DEAREST, USD, RewardSettings

WorldKind = Literal["recorded", "live"]


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """kind: who answers the router's calls. 'recorded': recorded outcomes, for nothing. 'live': the models of `settings`.

    outcomes: folders of recorded outcomes. tokens_per_s: a recorded call takes as long as its output would at this speed;
        None = no time.
    settings: an xrouter.toml with the pool, for 'live'; None = the one that serving would find.
    max_cost_usd: for the whole run, all of its processes and resumptions together; a live world needs it. cache: file of
        live answers and of what was spent, so that an equal call is paid for once; None = `live.sqlite` in the run's
        folder. cache_samples: different answers kept for equal calls, which get them in turn.
    max_output_tokens: of live calls; None = as many as the model may write, as in serving. A call's worst case is set aside
        before it is made, so a small budget goes further with a limit.
    """

    kind: WorldKind = "recorded"
    outcomes: tuple[str, ...] = ()
    tokens_per_s: float | None = None
    settings: str | None = None
    max_cost_usd: Decimal | None = None
    cache: str | None = None
    cache_samples: int = 1
    max_output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class RouterTraining:
    """data: a folder of `xrouter dataset build`. router: as [router_llm]; what the table does not say is as in the data's
    recipe, so that prompts in training are those of the data. trainer: the trainer's own table, read by it."""

    data: Path
    world: WorldSettings = field(default_factory=WorldSettings)
    reward: RewardSettings = field(default_factory=RewardSettings)
    router: RouterLLMSettings = field(default_factory=RouterLLMSettings)
    trainer: Any = None


def load_training(path: Path, name: str, read_trainer: Callable[[Reader, str], Any]) -> RouterTraining:
    """A TOML file with a table `name` for the trainer. Tables of other trainers are let be.

    Raises ConfigurationError naming file, key and value, and DataError where `data` is no data set.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    for other in {"trl", "verl"} - {name}:
        table.pop(other, None)
    return read_training(Reader(str(path), table), name, read_trainer)


def read_training(reader: Reader, name: str, read_trainer: Callable[[Reader, str], Any]) -> RouterTraining:
    """Raises as `load_training` does."""
    if "data" not in reader.table:
        raise ConfigurationError(
            f"{reader.file}: data is missing: the folder that `xrouter dataset build` wrote", param="data"
        )
    data = reader.path("data")
    base = router_of_data(data)
    given = reader.read(
        {
            "data": Reader.path,
            "world": _world,
            "reward": _reward,
            "router": lambda inner, key: replace(base, **_given(inner, key)),
            name: read_trainer,
        }
    )
    trainer = given.pop(name) if name in given else read_trainer(Reader(reader.file, {name: {}}), name)
    return RouterTraining(**{"router": base, **given, "trainer": trainer})


def router_of_data(folder: Path) -> RouterLLMSettings:
    """The terms on which the data's prompts were written. Raises DataError for a folder without a card."""
    path = folder / NUMBERS
    try:
        router = json.loads(path.read_text(encoding="utf-8"))["recipe"]["router"]
        return RouterLLMSettings(**router)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not the card of a data set of `xrouter dataset build`: {error!r}"
        ) from error


def _given(reader: Reader, key: str) -> dict[str, Any]:
    settings = read_router_llm(reader, key)
    return {name: getattr(settings, name) for name in reader.subtable(key).table}


def _world(reader: Reader, key: str) -> WorldSettings:
    inner = reader.subtable(key)
    world = WorldSettings(**inner.read(_WORLD))
    if world.kind == "recorded" and not world.outcomes:
        raise ConfigurationError(
            f"{reader.file}: {inner.dotted('outcomes')} is missing: name the folders of recorded outcomes that answer",
            param=inner.dotted("outcomes"),
        )
    if world.kind == "live" and world.max_cost_usd is None:
        raise ConfigurationError(
            f"{reader.file}: {inner.dotted('max_cost_usd')} is missing: a run that calls live models needs a limit in USD",
            param=inner.dotted("max_cost_usd"),
        )
    return world


def _reward(reader: Reader, key: str) -> RewardSettings:
    return RewardSettings(**reader.subtable(key).read(_REWARD))


def _usd(reader: Reader, key: str) -> Decimal:
    value = reader.table[key]
    try:
        amount = Decimal(str(value)) if not isinstance(value, bool) else Decimal("NaN")
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount <= 0:
        raise reader.wrong(key, 'an amount in USD above 0, such as 5 or "2.50"')
    return amount


_WORLD: Mapping[str, Callable[[Reader, str], Any]] = {
    "kind": one_of("recorded", "live"),
    "outcomes": Reader.texts,
    "tokens_per_s": number(0, above=True),
    "settings": Reader.text,
    "max_cost_usd": _usd,
    "cache": Reader.text,
    "cache_samples": whole(1),
    "max_output_tokens": whole(1),
}
_REWARD: Mapping[str, Callable[[Reader, str], Any]] = {
    "kind": one_of("linear", "cost_aware"),
    "success_bonus": number(0, above=True),
    "penalty_cap": number(0),
    "cost_unit": one_of(DEAREST, USD),
    "trivial_call_penalty": number(0, 1),
}
