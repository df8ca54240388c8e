"""xrouter dataset: the data that a tool-calling router is trained on."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigurationError
from .collect import require_pyarrow
from .dataset_options import limits_of, recipe_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..settings import Settings
    from ..training.dataset.build import Built
    from ..training.dataset.question import Question
    from ..training.dataset.recipe import LiveLimits, Recipe

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")


@app.callback()
def dataset() -> None:
    """Data to train a language model on that routes by tool calls: questions, pools, prompts, tools.

    Examples:

        xrouter dataset build --outcomes outcomes/mine --reference-model gpt-5-nano --out data/mine

        xrouter dataset show data/mine
    """


@app.command()
def build(
    out: Annotated[Path, typer.Option(help="Folder for the parquet files, the card and the journal.")],
    recipe: Annotated[
        Path | None, typer.Option(help="TOML file: sources, bands, pools and all else; see docs/dataset.md.")
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="A further source: FILE.parquet, FILE.jsonl, or NAME=N such as arithmetic=500 or trivial=100."
        ),
    ] = None,
    outcomes: Annotated[
        list[Path] | None, typer.Option(help="A further source: a folder of recorded outcomes.")
    ] = None,
    reference_model: Annotated[
        str | None, typer.Option(help="Whose pass rates sort into bands; several with commas between.")
    ] = None,
    pool: Annotated[
        str | None, typer.Option(help="catalog, outcomes, or models of the catalog with commas between.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Everything random comes from it.", min=0)] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Ask the reference models what no record knows. Costs money.")
    ] = False,
    max_cost_usd: Annotated[
        str | None, typer.Option(help="With --live: spend at most this, resumed runs included.")
    ] = None,
    concurrency: Annotated[int, typer.Option(help="Calls under way at once.", min=1)] = 8,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what was measured in --out; files are made anew.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="Settings file; default: xrouter.toml.")] = None,
) -> None:
    """Write train.parquet and validation.parquet, which verl and TRL read, and a data card beside them.

    Pass rates come from recorded outcomes, a column of the source, or the reference model itself. Only --live calls
    models. The same seed and inputs give the same files.

    Examples:

        xrouter dataset build --outcomes outcomes/mine --reference-model gpt-5-nano --pool outcomes --out data/mine

        xrouter dataset build --source arithmetic=500 --source trivial=100 --reference-model gpt-5-nano --live --max-cost-usd 2 --out data/sums

        xrouter dataset build --recipe recipe.toml --out data/full --live --max-cost-usd 20 --resume
    """
    require_pyarrow("xrouter dataset build")
    from ..settings import load_settings
    from ..training.dataset.build import FILES

    cooked = recipe_of(recipe, source or [], outcomes or [], reference_model, pool, seed)
    limits = limits_of(live, max_cost_usd, concurrency)
    there = [name for name in FILES.values() if (out / name).exists()]
    if there and not resume:
        raise ConfigurationError(
            f"{out / there[0]} exists: pass --resume to make the files anew from what was measured, or choose another "
            "folder with --out"
        )
    built = _build(cooked, load_settings(config), out, limits, resume=resume)
    _report(built, out)


@app.command()
def show(
    data: Annotated[Path, typer.Argument(help="A parquet file of `dataset build`, or its folder.")],
    samples: Annotated[int, typer.Option(help="How many samples to print.", min=0)] = 2,
) -> None:
    """Print the data card and the first samples: what the router reads, its tools, and the right answer.

    Examples:

        xrouter dataset show data/mine

        xrouter dataset show data/mine/validation.parquet --samples 5
    """
    require_pyarrow("xrouter dataset show")
    from ..training.dataset.build import FILES
    from ..training.dataset.card import CARD
    from ..training.dataset.rows import load_samples

    folder = data if data.is_dir() else data.parent
    file = next((data / name for name in FILES.values() if (data / name).exists()), None)
    file = file if data.is_dir() else data
    if file is None or not file.is_file():
        raise ConfigurationError(f"{data} holds no data: make some with `xrouter dataset build --out {data}`")
    found = load_samples(file, samples)
    card = folder / CARD
    if card.is_file():
        _, _, text = card.read_text(encoding="utf-8").partition("\n---\n")
        typer.echo(text.strip() + "\n")
    for sample in found:
        _print_sample(sample)


def _build(
    recipe: Recipe, settings: Settings, out: Path, limits: LiveLimits | None, *, resume: bool
) -> Built:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ..catalog.catalog import Catalog
    from ..training.dataset.build import build as build_files
    from ..training.dataset.card import write_card
    from ..training.dataset.gather import gather
    from ..training.dataset.pass_rates import known_rates, refuse_unmeasurable
    from ..training.dataset.pools import candidates, short_tiers
    from ..training.dataset.tokens import counter

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with console.status("reading the sources"):
        gathered = gather(recipe)
        models = candidates(recipe.pools, gathered, settings, Catalog.load(settings))
        rates, missing = known_rates(gathered, recipe)
        counter(recipe.tokenizer)  # one that cannot be read is noticed before money is spent
    console.print(f"{len(gathered.questions)} questions, {len(missing)} without a pass rate")
    left_out = dict(gathered.left_out)
    with Progress(*columns, console=console) as progress:
        refuse_unmeasurable(missing, recipe, gathered, live=limits is not None)
        if missing and limits is not None:
            rates |= _measure(missing, recipe, settings, out, limits, progress, resume=resume)
        bar = progress.add_task("samples", total=None)
        built = build_files(
            gathered.questions,
            rates,
            models,
            recipe,
            out,
            lambda done, total: progress.update(bar, completed=done, total=total),
        )
    built = replace(
        built,
        left_out={**left_out, **built.left_out},
        notices=tuple(short_tiers(recipe.pools, models)),
    )
    write_card(built, recipe, out, _pictures(built, recipe, out))
    return built


def _measure(
    questions: Sequence[Question],
    recipe: Recipe,
    settings: Settings,
    out: Path,
    limits: LiveLimits,
    progress: Any,
    *,
    resume: bool,
) -> dict[str, float]:
    from ..catalog.catalog import Catalog
    from ..providers.build import build_pool
    from ..tasks.journal import Journal, Row
    from ..training.dataset.pass_rates import calls_left, journal_path, measure

    settings = replace(settings, pool=recipe.reference.models, fallbacks={})
    pool = build_pool(settings, Catalog.load(settings), os.environ)
    if pool.notice:
        typer.echo(pool.notice, err=True)
    with Journal(journal_path(out, recipe.reference), resume=resume) as journal:
        calls = calls_left(questions, recipe.reference, journal)
        spent = journal.spent_usd
        bar = progress.add_task(f"pass rates ${spent:.4f}", total=calls)

        def on_row(row: Row) -> None:
            nonlocal spent
            spent += row.cost_usd
            progress.update(bar, advance=1, description=f"pass rates ${spent:.4f}")

        async def ask() -> dict[str, float]:
            try:
                return await measure(questions, recipe, pool, journal, limits, on_row)
            finally:
                await pool.aclose()

        try:
            return asyncio.run(ask())
        except KeyboardInterrupt:
            typer.echo(
                f"interrupted; {len(journal.rows)} answers are kept, --resume goes on from there", err=True
            )
            raise typer.Exit(130) from None


def _pictures(built: Built, recipe: Recipe, out: Path) -> dict[str, str]:
    try:
        from ..training.dataset.plots import draw
    except ModuleNotFoundError as error:
        typer.echo(f"no pictures: {error.name} is missing (pip install 'xrouter[evaluate]')", err=True)
        return {}
    return draw(built, recipe, out)


def _report(built: Built, out: Path) -> None:
    from ..training.dataset.build import FILES
    from ..training.dataset.card import CARD, summary_lines

    for notice in built.notices:
        typer.echo(f"note: {notice}", err=True)
    for line in summary_lines(built):
        typer.echo(line)
    files = ", ".join(name for name in (*FILES.values(), CARD) if (out / name).exists())
    typer.echo(f"in {out}: {files}")
    typer.echo(f"look at it:  xrouter dataset show {out}")


def _print_sample(sample: Any) -> None:
    rate = "not measured" if sample.pass_rate is None else f"{sample.pass_rate:.2f}"
    typer.echo(
        f"== sample {sample.index} ({sample.split}): {sample.task.id}, band {sample.band}, pass rate {rate}, "
        f"lambda {sample.preference.cost_weight:g}, {sample.prompt_tokens} tokens"
    )
    for message in sample.messages:
        typer.echo(f"[{message['role']}] {_short(message['content'])}")
    typer.echo(
        f"[tools, pool {sample.pool_name}] {', '.join(tool['function']['name'] for tool in sample.tools)}"
    )
    typer.echo(f"[right answer, {sample.task.grader}] {_short(sample.task.reference)}\n")


def _short(text: str, limit: int = 600) -> str:
    return text if len(text) <= limit else f"{text[:limit]} [... {len(text) - limit} characters more]"
