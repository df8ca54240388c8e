"""The policy `tool-calling` among those that are judged, or taught from, on recorded outcomes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from importlib import import_module
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from ..errors import ConfigurationError, DataError
from .router_options import with_router

if TYPE_CHECKING:
    from ..evaluation.evaluate import Played
    from ..evaluation.tool_calling.play import PlayedEpisode, RouterRun
    from ..policies.tool_calling import ToolCallingPolicy
    from ..settings import Settings
    from ..tasks.answer_key import AnswerKey
    from ..tasks.outcomes import Outcomes

RouterCheckpoint = Annotated[
    Path | None,
    typer.Option(
        "--router-checkpoint",
        help="A folder with Hugging Face weights that decide within this process, instead of an endpoint.",
    ),
]
RouterCostWeights = Annotated[
    str,
    typer.Option(
        "--router-cost-weights", help="Cost weights that the model that decides is played at, with commas."
    ),
]
RouterBudget = Annotated[
    str | None,
    typer.Option(
        "--router-budget-usd",
        help="US dollars that the model that decides may cost in all; needed where its endpoint is not this machine.",
    ),
]
Concurrency = Annotated[
    int, typer.Option("--concurrency", help="Queries that the model that decides works on at once.", min=1)
]
Graders = Annotated[
    list[str] | None,
    typer.Option(
        "--grader",
        help="What grades an answer in the router's own words: NAME, or DATASET=NAME; repeatable. Default: what the query names, else exact.",
    ),
]


@dataclass(frozen=True, slots=True)
class RouterOptions:
    """As given on the command line."""

    url: str | None
    model: str | None
    key_env: str | None
    price: str | None
    checkpoint: Path | None
    cost_weights: str
    budget_usd: str | None
    concurrency: int
    graders: Sequence[str] | None
    config: Path | None

    @property
    def given(self) -> bool:
        """Whether it is said what decides."""
        told = (self.url, self.model, self.key_env, self.price, self.checkpoint)
        return any(value is not None for value in told)


@dataclass(frozen=True, eq=False)
class Contender:
    """The language model that routes, ready to be played. key: what its own words are graded against."""

    policy: ToolCallingPolicy
    run: RouterRun
    key: AnswerKey

    def play(
        self, outcomes: Outcomes, folder: Path, on_episode: Callable[[int, int], None]
    ) -> tuple[PlayedEpisode, ...]:
        from ..evaluation.tool_calling.play import JOURNAL, play_router

        if (folder / JOURNAL).exists():
            typer.echo(f"{folder / JOURNAL}: replies that are there are not asked for again", err=True)
        return play_router(self.policy, outcomes, self.run, folder, on_episode)

    def judged(self, episodes: Sequence[PlayedEpisode], outcomes: Outcomes) -> Played:
        """Grades its own words."""
        from ..evaluation.evaluate import Played
        from ..evaluation.tool_calling.joined import joined

        decisions, figures = joined(episodes, outcomes, self.key)
        return Played(self.policy.version, decisions, figures)


def contender(
    wanted: Sequence[str] | None, options: RouterOptions, outcomes: Outcomes, folder: Path, max_turns: int
) -> tuple[list[str | None], Contender | None]:
    """(the other policies that are wanted, the language model where it is wanted or named). folder: of the outcomes.

    Raises ConfigurationError for options that cannot be, or that go with no policy that is wanted.
    """
    from ..policies.checkpoint import TOOL_CALLING
    from ..settings import load_settings
    from ..tasks.answer_key import load_answer_key

    others: list[str | None] = [name for name in wanted or () if name != TOOL_CALLING]
    if not options.given and TOOL_CALLING not in (wanted or ()):
        return others or [None], None
    if wanted and TOOL_CALLING not in wanted:
        raise ConfigurationError(
            f"--router-... options are for the policy {TOOL_CALLING}: add --policy {TOOL_CALLING}",
            param="--policy",
        )
    if wanted and len(wanted) - len(others) > 1:
        raise ConfigurationError(f"--policy {TOOL_CALLING} is given twice", param="--policy")
    _, settings = with_router(
        TOOL_CALLING,
        load_settings(options.config),
        options.url,
        options.model,
        options.key_env,
        options.price,
    )
    policy = open_router(settings, options.checkpoint, outcomes)
    run = router_run(policy, settings.router_llm.url, options, max_turns)
    return others, Contender(policy, run, load_answer_key(folder, graders_of(options.graders)))


def open_router(settings: Settings, checkpoint: Path | None, outcomes: Outcomes) -> ToolCallingPolicy:
    """Raises ConfigurationError where it is not said what decides, or weights cannot be read."""
    from ..policies.router_model import tool_calling_policy

    if checkpoint is None:
        return tool_calling_policy(settings, outcomes.models, os.environ)
    if settings.router_llm.url is not None:
        raise ConfigurationError(
            "--router-checkpoint and --router-url both say what decides: give one of them",
            param="--router-checkpoint",
        )
    if not (checkpoint / "config.json").is_file():
        raise ConfigurationError(
            f"--router-checkpoint {checkpoint} is no folder of Hugging Face weights: it has no config.json",
            param="--router-checkpoint",
        )
    try:
        module = import_module("xrouter.training.trl.checkpoint_provider")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"--router-checkpoint needs {error.name}: pip install 'xrouter[trl]', or serve the weights and give "
            "--router-url",
            param="--router-checkpoint",
        ) from error
    from ..policies.tool_calling import ToolCallingPolicy
    from ..training.trained_model import trained_model

    options = settings.router_llm
    options = options if options.model is not None else replace(options, model=checkpoint.resolve().name)
    return ToolCallingPolicy(module.checkpoint_provider(checkpoint), trained_model(options), options)


def router_run(
    policy: ToolCallingPolicy, url: str | None, options: RouterOptions, max_turns: int
) -> RouterRun:
    """Raises ConfigurationError for an option that cannot be, and where money would be spent without a limit."""
    from ..evaluation.tool_calling.play import RouterRun, needs_budget

    budget = _dollars(options.budget_usd)
    local = options.checkpoint is not None or on_this_machine(url)
    if needs_budget(policy) and budget is None and not local:
        raise ConfigurationError(
            f"{policy.model.name} costs money for each decision: say how much it may cost in all with "
            "--router-budget-usd, such as --router-budget-usd 2",
            param="--router-budget-usd",
        )
    return RouterRun(
        cost_weights=weights_of(options.cost_weights),
        max_turns=max_turns,
        concurrency=options.concurrency,
        budget_usd=budget,
    )


def weights_of(text: str) -> tuple[float, ...]:
    """Numbers with commas between, zero or more, rising, each once. Raises ConfigurationError."""
    try:
        values = {float(part) for part in text.split(",")}
    except ValueError:
        values = {float("nan")}
    if not all(0 <= value < float("inf") for value in values):
        raise ConfigurationError(
            f"--router-cost-weights must be numbers of zero or more with commas between, got {text!r}",
            param="--router-cost-weights",
        )
    return tuple(sorted(values))


def graders_of(given: Sequence[str] | None) -> dict[str, str]:
    """Data set -> grader; "" is for all others. Raises ConfigurationError for one named twice."""
    graders: dict[str, str] = {}
    for text in given or ():
        dataset, _, name = text.rpartition("=")
        if dataset in graders:
            raise ConfigurationError(
                f"--grader names two graders for {dataset or 'all data sets'}: {graders[dataset]} and {name}",
                param="--grader",
            )
        graders[dataset] = name
    return graders


def gradable(outcomes: Outcomes, key: AnswerKey) -> tuple[Outcomes, int]:
    """The queries where own words can be graded, and how many others there are. Raises DataError where there is none."""
    kept = [i for i, query in enumerate(outcomes.query_ids) if query in key]
    if not kept:
        raise DataError(
            f"{outcomes.name}: no query has a reference, so answers in a router's own words cannot be graded"
        )
    return outcomes.rows(kept), len(outcomes) - len(kept)


def drawn(outcomes: Outcomes, count: int | None, seed: int) -> Outcomes:
    """So many queries at random, in their own order; all of them where there are no more."""
    if count is None or count >= len(outcomes):
        return outcomes
    import numpy as np

    return outcomes.rows(np.sort(np.random.default_rng(seed).choice(len(outcomes), count, replace=False)))


def on_this_machine(url: str | None) -> bool:
    host = urlsplit(url).hostname if url else None
    if host is None:
        return False
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _dollars(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal(-1)
    if not value > 0 or not value.is_finite():
        raise ConfigurationError(
            f"--router-budget-usd must be an amount of US dollars above 0, got {text!r}",
            param="--router-budget-usd",
        )
    return value
