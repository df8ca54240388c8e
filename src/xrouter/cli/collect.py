"""xrouter collect: recorded outcomes of one's own pool, to train and judge policies on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..providers.pool import Pool
    from ..tasks.collection import Collected, Limits
    from ..tasks.journal import Journal, Row
    from ..tasks.recorded import Summary
    from ..tasks.task import Task


def collect(
    out: Annotated[Path, typer.Option(help="Folder for the outcomes and the journal of the calls.")],
    tasks: Annotated[
        str,
        typer.Option(help="arithmetic, reasoning_gym[:generator,...], a module, or a file PROMPTS.jsonl."),
    ] = "arithmetic",
    n: Annotated[
        int | None, typer.Option(help="How many tasks; default: 200, or the whole file.", min=1)
    ] = None,
    models: Annotated[
        str | None, typer.Option(help="Models of the catalog, with commas between; default: the pool.")
    ] = None,
    max_cost_usd: Annotated[
        str, typer.Option(help="Spend at most this many US dollars, resumed runs included.")
    ] = "1.00",
    seed: Annotated[int, typer.Option(help="Seed of tasks that are made up.")] = 0,
    concurrency: Annotated[int, typer.Option(help="Calls under way at once.", min=1)] = 8,
    max_output_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.", min=1)] = 2048,
    timeout: Annotated[float, typer.Option(help="Seconds for one call.")] = 120.0,
    test_share: Annotated[
        float, typer.Option(help="Share of queries for the test split.", min=0, max=1)
    ] = 0.1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the collection in --out.")] = False,
    config: Annotated[Path | None, typer.Option(help="Settings file; default: xrouter.toml.")] = None,
) -> None:
    """Ask every model every task, grade the answers, write queries, outcomes and models.parquet.

    A line of PROMPTS.jsonl: {"prompt": "...", "reference": "...", "grader": "numeric"}. Graders: exact, numeric,
    choice, math, json_field, tool_call.

    Examples:

        xrouter collect --out outcomes/mine --n 200

        xrouter collect --tasks prompts.jsonl --models gpt-5-mini,deepseek-v4-flash --max-cost-usd 5 --out outcomes/mine

        xrouter collect --tasks prompts.jsonl --out outcomes/mine --max-cost-usd 10 --resume
    """
    require_pyarrow("xrouter collect")
    from ..tasks.collection import Limits
    from ..tasks.sources import load_tasks

    limits = Limits(dollars(max_cost_usd), concurrency, max_output_tokens, timeout)
    wanted = load_tasks(tasks, 200 if n is None and not tasks.endswith(".jsonl") else n, seed)
    names = None if models is None else [name.strip() for name in models.split(",") if name.strip()]
    run_collection(wanted, named_pool(names, config), out, limits, test_share=test_share, resume=resume)


def require_pyarrow(command: str) -> None:
    """Raises ConfigurationError before a cent is spent on outcomes that cannot be written."""
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{command} reads and writes parquet files: pip install 'xrouter[evaluate]'"
        ) from error


def named_pool(names: Sequence[str] | None, config: Path | None) -> Pool:
    """These models of the catalog, None for the settings' pool. Raises as `build_pool` does."""
    from ..catalog.catalog import Catalog
    from ..providers.build import build_pool
    from ..settings import load_settings

    settings = load_settings(config)
    if names is not None:
        settings = replace(settings, pool=tuple(names))
    return build_pool(settings, Catalog.load(settings), os.environ)


def run_collection(
    tasks: list[Task], pool: Pool, out: Path, limits: Limits, *, test_share: float = 0.1, resume: bool = False
) -> Summary:
    """Collects with a progress bar, writes the files, prints what there is. Closes the pool."""
    from ..tasks.graders import notice
    from ..tasks.journal import Journal
    from ..tasks.recorded import write_outcomes

    notices = [pool.notice, *(notice(grader) for grader in dict.fromkeys(task.grader for task in tasks))]
    for line in filter(None, notices):
        typer.echo(line, err=True)
    with Journal(out / "journal.jsonl", resume=resume) as journal:
        try:
            ended = asyncio.run(_collect(tasks, pool, journal, limits))
        except KeyboardInterrupt:
            typer.echo(
                f"interrupted; {len(journal.rows)} calls are kept, --resume goes on from there", err=True
            )
            raise typer.Exit(130) from None
        if ended.failed:
            error = next(row.error for row in reversed(journal.rows) if row.error)
            typer.echo(f"{ended.failed} calls failed and are left out; --resume asks them again", err=True)
            typer.echo(f"the last of them: {error}", err=True)
        summary = write_outcomes(out, tasks, pool.models, journal.answered.values(), test_share)
        _report(ended, summary, journal, limits, out)
    return summary


async def _collect(tasks: list[Task], pool: Pool, journal: Journal, limits: Limits) -> Collected:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ..tasks.collection import collect as ask_all

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            done = journal.answered
            total = len(tasks) * len(pool)
            already = sum((task.id, model.name) in done for task in tasks for model in pool)
            spent = journal.spent_usd
            bar = progress.add_task(f"${spent:.4f}", total=total, completed=already)

            def on_row(row: Row) -> None:
                nonlocal spent
                spent += row.cost_usd
                progress.update(bar, advance=1, description=f"${spent:.4f}")

            return await ask_all(tasks, pool, journal, limits, on_row)
    finally:
        await pool.aclose()


def _report(ended: Collected, summary: Summary, journal: Journal, limits: Limits, out: Path) -> None:
    for name, score in summary.mean_score.items():
        typer.echo(f"{name:32} score {score:.3f}   ${summary.mean_cost_usd[name]:.6f} a query")
    typer.echo(
        f"{summary.rows} answers to {summary.train} train and {summary.test} test queries in {out}; "
        f"${journal.spent_usd:f} spent, {ended.asked} calls in this run"
    )
    if ended.refused:
        typer.echo(f"keys were refused for {', '.join(ended.refused)}", err=True)
    if summary.strays:
        typer.echo(
            f"{summary.strays} answers in the journal belong to other tasks or models and are left out",
            err=True,
        )
    if ended.stopped == "budget":
        typer.echo(
            f"stopped: another call might exceed --max-cost-usd {limits.max_cost_usd:f}; "
            "raise it and pass --resume to go on",
            err=True,
        )


def dollars(text: str) -> Decimal:
    """The value of --max-cost-usd. Raises ConfigurationError where it is no finite number."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise ConfigurationError(f"--max-cost-usd must be a number of US dollars, got {text!r}")
    return value
