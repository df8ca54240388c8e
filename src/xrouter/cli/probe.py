"""`xrouter models probe`: a new model joins a trained policy by a few dozen graded questions, without retraining."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigurationError
from .collect import dollars, named_pool, require_pyarrow, run_collection

if TYPE_CHECKING:
    from ..policies.network import NetworkPolicy
    from ..policies.profiles import Profiles
    from ..tasks.collection import Limits
    from ..tasks.probes import Probed

COLLECTED = "probes"
"""The folder within --out that holds what live probes brought."""
WIDTH_OF_A_FILE = 140


def probe(
    new: Annotated[str, typer.Argument(help="The new model, or several with commas between.")],
    out: Annotated[Path, typer.Option(help="Folder for the new checkpoint; must not be there yet.")],
    outcomes: Annotated[
        Path | None, typer.Option(help="Folder of recorded outcomes that has answers of the model.")
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(help="Ask the model now: PROMPTS.jsonl or a task source, as `xrouter collect` takes."),
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="Run folder or checkpoint to extend; default: the packaged policy.")
    ] = None,
    probes: Annotated[int, typer.Option(help="Questions for each model, at most.", min=1)] = 50,
    seed: Annotated[int, typer.Option(help="Which questions are drawn.")] = 0,
    max_cost_usd: Annotated[
        str, typer.Option(help="With --tasks: spend at most this many US dollars, resumed runs included.")
    ] = "1.00",
    concurrency: Annotated[int, typer.Option(help="With --tasks: calls under way at once.", min=1)] = 8,
    max_output_tokens: Annotated[
        int, typer.Option(help="With --tasks: longest answer, in tokens.", min=1)
    ] = 2048,
    timeout: Annotated[float, typer.Option(help="With --tasks: seconds for one call.")] = 120.0,
    resume: Annotated[
        bool, typer.Option("--resume", help="With --tasks: go on with the probing in --out.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="Settings file; default: xrouter.toml.")] = None,
) -> None:
    """Let a new model join a trained policy: read its skill and answer length off a few dozen graded answers.

    The answers come from recorded outcomes (train split only) or are asked for now. A model that the policy knows
    already is measured anew. The network and the other models' profiles stay as they are.

    Examples:

        xrouter models probe gpt-5-mini --outcomes outcomes/mine --policy runs/mine --out runs/mine+mini

        xrouter models probe gpt-5-mini,deepseek-v4-flash --tasks prompts.jsonl --max-cost-usd 0.5 --out runs/more

        xrouter models probe gpt-5-mini --tasks prompts.jsonl --max-cost-usd 1 --out runs/more --resume
    """
    names = list(dict.fromkeys(name.strip() for name in new.split(",") if name.strip()))
    if not names:
        raise ConfigurationError(f"no model is named in {new!r}: give a name, or several with commas between")
    if (outcomes is None) == (tasks is None):
        raise ConfigurationError("give either --outcomes (answers recorded before) or --tasks (ask now)")
    if resume and tasks is None:
        raise ConfigurationError("--resume goes with --tasks: recorded outcomes are read at once")
    _refuse_to_overwrite(out, resume)
    require_pyarrow("xrouter models probe")
    from ..policies.checkpoint import FILE_NAME, Provenance, read_provenance, save_network
    from ..tasks.outcomes import load_outcomes
    from ..tasks.probes import draw_probes, provenance_of, with_models

    before = _network(policy)
    paid: Mapping[str, Decimal] = {}
    if tasks is not None:
        from ..tasks.collection import Limits

        limits = Limits(dollars(max_cost_usd), concurrency, max_output_tokens, timeout)
        outcomes = out / COLLECTED
        paid = _ask(names, tasks, probes, seed, outcomes, limits, resume=resume, config=config)
    assert outcomes is not None
    recorded = load_outcomes(outcomes)
    drawn = draw_probes(recorded, names, before.encoder, probes, seed)
    after = with_models(before, drawn)
    origin = read_provenance(policy)
    entries = (provenance_of(one, recorded.name, seed, paid.get(one.model.name)) for one in drawn)
    save_network(after, out / FILE_NAME, Provenance((*origin.trained_on, *entries), origin.config))
    _print_table(drawn, before.profiles, after.profiles, paid)
    typer.echo(f"policy: {out / FILE_NAME}")
    typer.echo(f"serve it:  xrouter serve --policy {out}")


def _refuse_to_overwrite(out: Path, resume: bool) -> None:
    from ..policies.checkpoint import FILE_NAME

    if (out / FILE_NAME).exists() or out.is_file():
        raise ConfigurationError(f"--out {out} is there already: choose another folder")
    if out.is_dir() and any(out.iterdir()) and not resume:
        raise ConfigurationError(
            f"--out {out} is not empty: choose another folder, or give --resume to go on with probes under way"
        )


def _network(source: str | None) -> NetworkPolicy:
    """Raises ConfigurationError for a policy without profiles, CheckpointError for a file that is none."""
    from ..policies.baselines import baseline_names
    from ..policies.checkpoint import DOTTED_PATH, load_network

    no_file = source is not None and not Path(source).exists()
    if source is not None and no_file and (source in baseline_names() or DOTTED_PATH.fullmatch(source)):
        raise ConfigurationError(
            f"--policy {source} keeps no profiles of models: give a run folder or checkpoint of `xrouter train`"
        )
    return load_network(source)


def _ask(
    names: list[str],
    spec: str,
    count: int,
    seed: int,
    folder: Path,
    limits: Limits,
    *,
    resume: bool,
    config: Path | None,
) -> dict[str, Decimal]:
    """Asks the models up to `count` of the tasks and records the outcomes; what each model was charged, in USD."""
    import numpy as np

    from ..tasks.journal import Journal
    from ..tasks.sources import load_tasks

    wanted = load_tasks(spec, None if spec.endswith(".jsonl") else count, seed)
    order = np.random.default_rng(seed).permutation(len(wanted))[:count]
    pool = named_pool(names, config)
    run_collection([wanted[i] for i in order], pool, folder, limits, test_share=0.0, resume=resume)
    with Journal(folder / "journal.jsonl", resume=True) as journal:
        return {
            name: sum((row.cost_usd for row in journal.rows if row.model == name), Decimal(0))
            for name in names
        }


def _print_table(drawn: list[Probed], before: Profiles, after: Profiles, paid: Mapping[str, Decimal]) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..tasks.probes import expectation

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("model", no_wrap=True)
    for column in ("probes", "score", "expected before", "after", "output tokens", "cost"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in drawn:
        guess, now = expectation(before, one.model), expectation(after, one.model)
        table.add_row(
            one.model.name,
            str(len(one.probes)),
            f"{one.score:.3f}",
            f"{guess.score:.3f} {'measured' if guess.measured else 'guessed'}",
            f"{now.score:.3f}",
            f"{now.output_tokens:.0f}",
            f"${paid.get(one.model.name, one.cost_usd).normalize():f}",
        )
    Console(width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE).print(table)
    typer.echo("expected: on a typical query of the policy's training")
