"""xrouter evaluate: judges policies on recorded outcomes, beside every baseline."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigurationError
from .router_contestant import (
    Concurrency,
    Graders,
    RouterBudget,
    RouterCheckpoint,
    RouterCostWeights,
    RouterOptions,
    contender,
    drawn,
    gradable,
)
from .router_options import RouterKeyEnv, RouterModel, RouterPrice, RouterUrl

if TYPE_CHECKING:
    from ..evaluation.bootstrap import Interval
    from ..evaluation.evaluate import Played, Progress
    from ..evaluation.result import Evaluation
    from ..policies.states import ArrayPolicy
    from ..tasks.outcomes import Outcomes, Split


def evaluate(
    outcomes: Annotated[
        Path, typer.Option(help="Folder with queries, outcomes and models.parquet.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder for the report.", show_default=False)],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="A run folder or checkpoint, a baseline's name, a model's, or tool-calling; repeatable. Default: the packaged policy."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="train or test.")] = "test",
    pool: Annotated[str, typer.Option(help="core, all, or models with commas between.")] = "core",
    datasets: Annotated[
        str | None, typer.Option(help="Datasets with commas between, such as gsm8k,math-l5; default: all.")
    ] = None,
    max_turns: Annotated[int, typer.Option(help="Decisions an episode at most.", min=1)] = 3,
    points: Annotated[
        int, typer.Option(help="Cost weights above 0 in the sweep, from 1e-3 to the largest.", min=2)
    ] = 96,
    max_cost_weight: Annotated[float, typer.Option(help="Largest cost weight of the sweep.", min=0.01)] = 1e4,
    target_quality: Annotated[
        str | None,
        typer.Option(help="Target qualities to ask for as well, with commas between, such as 0.8,0.9,0.95."),
    ] = None,
    max_cost_usd: Annotated[
        str | None,
        typer.Option(
            help="Caps on a query's cost to play under as well, in US dollars, such as 0.0005,0.002."
        ),
    ] = None,
    bootstrap: Annotated[int, typer.Option(help="Resamples for the 95% intervals.", min=0)] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the resamples and of random choices.")] = 0,
    baselines: Annotated[bool, typer.Option(help="Judge the baselines too.")] = True,
    limit_queries: Annotated[
        int | None,
        typer.Option(help="Judge everyone on so many queries of the split, drawn with --seed.", min=1),
    ] = None,
    router_url: RouterUrl = None,
    router_model: RouterModel = None,
    router_key_env: RouterKeyEnv = None,
    router_price: RouterPrice = None,
    router_checkpoint: RouterCheckpoint = None,
    router_cost_weights: RouterCostWeights = "0.1",
    router_budget_usd: RouterBudget = None,
    concurrency: Concurrency = 8,
    grader: Graders = None,
    config: Annotated[
        Path | None, typer.Option(help="Settings file with [router_llm]; default: xrouter.toml.")
    ] = None,
) -> None:
    """Judge policies on recorded outcomes: score and cost over a sweep of lambda, with every baseline beside them.

    Writes report.md, report.json, the pictures, and decisions.jsonl: every call and every answer, from which anyone
    can recompute each figure with outcomes.parquet alone. That is done here too, and the command fails on a difference.

    The policy tool-calling plays every query through the code that serves, against the recorded answers; its own tokens
    are part of its cost, and an answer in its own words is graded afterwards. Its replies are kept in
    router-replies.jsonl, so that a run that breaks off goes on without paying twice.

    Examples:

        xrouter evaluate --outcomes outcomes/mine --policy runs/first --out reports/first

        xrouter evaluate --outcomes outcomes/mine --policy runs/first --policy knn --datasets gsm8k,math-l5 --out reports/math

        xrouter evaluate --outcomes outcomes/mine --policy runs/first --target-quality 0.8,0.9 --max-cost-usd 0.001 --out reports/forms

        xrouter evaluate --outcomes outcomes/mine --pool gpt-4o,gpt-4o-mini --no-baselines --out reports/two

        xrouter evaluate --outcomes outcomes/mine --pool gpt-4o,gpt-4o-mini --policy tool-calling --policy runs/first --router-model gpt-5-mini --router-budget-usd 2 --limit-queries 200 --out reports/router
    """
    try:
        import matplotlib as mpl
        import pyarrow  # noqa: F401
        import rich  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"xrouter evaluate needs {error.name}: pip install 'xrouter[evaluate]'"
        ) from error
    from ..evaluation.evaluate import evaluate as judge
    from ..evaluation.evaluate import sweep
    from ..evaluation.report import write
    from ..policies.checkpoint import TOOL_CALLING
    from ..tasks.outcomes import load_outcomes

    if split not in ("train", "test"):
        raise ConfigurationError(f"--split must be train or test, got {split!r}")
    targets = numbers("--target-quality", target_quality, "probabilities above 0 and below 1", below=1.0)
    caps = numbers("--max-cost-usd", max_cost_usd, "amounts of US dollars above 0")
    mpl.use("Agg")
    from ..evaluation.forms_plots import draw_forms
    from ..evaluation.plots import draw

    chosen = choose(load_outcomes(outcomes), pool, datasets)
    options = RouterOptions(
        url=router_url,
        model=router_model,
        key_env=router_key_env,
        price=router_price,
        checkpoint=router_checkpoint,
        cost_weights=router_cost_weights,
        budget_usd=router_budget_usd,
        concurrency=concurrency,
        graders=grader,
        config=config,
    )
    names, router = contender(policy, options, chosen, outcomes, max_turns)
    train = chosen.split("train")
    which: Split = "train" if split == "train" else "test"
    judged_on, without_reference = chosen.split(which), 0
    if router is not None:
        judged_on, without_reference = gradable(judged_on, router.key)
    drawn_from = len(judged_on)
    judged_on = drawn(judged_on, limit_queries, seed)
    policies = load_policies(names, train, chosen.name, split, seed) if names else {}
    played: dict[str, Played] = {}
    with progress_bar() as progress:
        if router is not None:
            episodes = router.play(judged_on, out, lambda done, total: progress(TOOL_CALLING, done, total))
            played[TOOL_CALLING] = router.judged(episodes, judged_on)
        found = judge(
            judged_on,
            policies=policies,
            train=train,
            split=which,
            cost_weights=sweep(points, max_cost_weight),
            max_turns=max_turns,
            seed=seed,
            bootstrap=bootstrap,
            with_baselines=baselines,
            target_qualities=targets,
            caps_usd=caps,
            played=played,
            drawn_from=drawn_from if len(judged_on) < drawn_from else 0,
            without_reference=without_reference,
            progress=progress,
        )
    checked = write_decisions(found, out, outcomes)
    pictures = draw(found, out) | draw_forms(found, out)
    write(found, out, shlex.join(["xrouter", *sys.argv[1:]]), pictures)
    _print(found)
    for line in checked:
        typer.echo(line)
    typer.echo(f"Report: {out / 'report.md'}")


def choose(outcomes: Outcomes, pool: str, datasets: str | None) -> Outcomes:
    """The queries and the models asked for. Raises DataError naming what is not there."""
    if datasets is not None:
        outcomes = outcomes.datasets_named(_names(datasets))
    if pool == "core":
        return outcomes.pool()
    return outcomes.pool(outcomes.model_names if pool == "all" else _names(pool))


def numbers(option: str, text: str | None, expected: str, below: float = float("inf")) -> tuple[float, ...]:
    """Numbers with commas between, above 0, rising. Raises ConfigurationError naming the option."""
    try:
        values = {float(part) for part in _names(text or "")}
    except ValueError:
        values = {float("nan")}
    if not all(0 < value < below for value in values) or (text is not None and not values):
        raise ConfigurationError(f"{option} must be {expected}, with commas between, got {text!r}")
    return tuple(sorted(values))


def stem(source: str | None) -> str:
    """A short name of where a policy was read: the run folder's or file's."""
    return "packaged" if source is None else Path(source).resolve().stem


def load_policies(
    sources: Sequence[str | None], train: Outcomes, name: str, split: str, seed: int
) -> dict[str, ArrayPolicy]:
    """Policies by the name the report gives them: with their run's name where there are several, numbered where two
    still share one. Warns of a policy that has seen the split it is judged on.

    Raises CheckpointError for a file that is no policy, ConfigurationError for a name that is no baseline.
    """
    from ..evaluation.contestants import BASELINES, baseline_policy
    from ..evaluation.result import JUDGED
    from ..policies.checkpoint import load_network, read_provenance

    policies: dict[str, ArrayPolicy] = {}
    for i, source in enumerate(sources):
        if source in sources[:i]:
            raise ConfigurationError(f"--policy {source} is given twice")
        policy: ArrayPolicy
        if (
            source is not None
            and not Path(source).exists()
            and (source in BASELINES or source in train.model_names)
        ):
            policy, title = baseline_policy(source, train, seed), f"{source}{JUDGED}"
        else:
            policy = load_network(source)
            title = policy.name if len(sources) == 1 else f"{policy.name} {stem(source)}"
            for entry in read_provenance(source).trained_on:
                if entry.get("name") == name and entry.get("split") == split:
                    typer.echo(
                        f"warning: {source or 'the packaged policy'} was trained on split {split!r} of {name}; "
                        "its figures there say nothing about new queries",
                        err=True,
                    )
        if title in policies:
            title = f"{title} {i + 1}"
        policies[title] = policy
    return policies


def write_decisions(found: Evaluation, out: Path, outcomes: Path) -> list[str]:
    """decisions.jsonl of each policy, recomputed from outcomes.parquet. Raises DataError on a difference.

    Returns what was found, a line a policy.
    """
    from ..evaluation.decisions import check, recompute

    lines = []
    for i, result in enumerate(found.judged):
        assert result.decisions is not None
        path = out / ("decisions.jsonl" if i == 0 else f"decisions-{i + 1}.jsonl")
        result.decisions.write(path)
        again = recompute(path, outcomes)
        check(result.figures(), again)
        score, cost = max(again.values())
        lines.append(
            f"{path}: {len(again)} points of {result.name} recomputed from outcomes.parquet, all equal to the report; "
            f"the highest scores {score:.4f} at ${cost * 1000:.4f} per 1000"
        )
    return lines


def _print(found: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table

    s = found.setting
    table = Table(title=f"{s.outcomes}, split {s.split}, {s.queries} queries", title_justify="left")
    table.add_column("policy", overflow="fold")
    for column in ("max score", "gain", "save@100", "save@98", "save@95", "area"):
        table.add_column(column, justify="right")
    for result in found.results:
        if result.kind == "single" and result.name != s.best:
            continue
        summary = result.summary
        savings = (_short(summary.saving[percent], ".0%") for percent in (100, 98, 95))
        table.add_row(
            f"{result.name} (best)" if result.kind == "single" else result.name,
            _short(summary.max_score, ".3f"),
            _short(summary.gain, "+.3f"),
            *savings,
            _short(summary.area, ".3f"),
            style="bold" if result.kind == "policy" else None,
        )
    Console(width=max(100, Console().width)).print(table)


def _short(value: Interval, form: str) -> str:
    return "–" if value.value != value.value else f"{round(value.value, 4) + 0.0:{form}}"


@contextmanager
def progress_bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:24.24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("fitting", total=None)

        def on_point(name: str, done: int, total: int) -> None:
            bars.update(bar, description=name, completed=done, total=total)

        yield on_point


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
