"""What a data set is made of: every number and name in one place. `recipe_file` reads them from TOML.

Bands, tier counts, the token filter and the turns are those of xRouter's published data (arXiv 2510.08439); caps,
repetitions and shares are this project's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from ...episodes.episode import DEFAULT_MAX_TURNS
from ...settings_tables.router_llm import RouterLLMSettings


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
