"""`xrouter router-train`: trains a language model to route by tool calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from ..errors import ConfigurationError


class Backend(Protocol):
    """Trains as the TOML file says and returns the folder of the trained model.

    report: is called with what is under way: "phase", "done" of "total", and figures.
    """

    def __call__(
        self, config: Path, out: Path, *, resume: bool, report: Callable[[dict[str, Any]], None]
    ) -> Path: ...


def _trl() -> Backend:
    from ..training.trl.run import train

    return train


def _verl() -> Backend:
    from ..training.verl.launch import train

    return train


BACKENDS: Mapping[str, Callable[[], Backend]] = {"trl": _trl, "verl": _verl}
"""Name -> imports the backend. Each is an extra of the same name."""


def router_train(
    config: Annotated[
        Path, typer.Argument(help="TOML file: data, [world], [reward], [router], [trl] or [verl].")
    ],
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    backend: Annotated[
        str,
        typer.Option(
            help=f"What trains: {', '.join(BACKENDS)}. trl: one GPU or a CPU. verl: a node of GPUs, or several."
        ),
    ] = "trl",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="verl: write and check its configuration, print the command, start nothing."
        ),
    ] = False,
) -> None:
    """Train a language model to route by tool calls: a supervised warm start, then DAPO.

    The data is what `xrouter dataset build` wrote; docs/router-training.md shows a whole TOML file. The run folder has figures in
    metrics.jsonl, learning_curve.png, and in model/ what SGLang or vLLM serve.

    Examples:

        xrouter router-train train-router.toml --out runs/router

        xrouter router-train train-router.toml --out runs/router --resume

        xrouter router-train verl.toml --backend verl --out runs/router-7b --dry-run
    """
    if dry_run:
        _dry_run(backend, config, out, resume=resume)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    train = _backend(backend)
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    ) as progress:
        bars: dict[str, Any] = {}

        def report(event: dict[str, Any]) -> None:
            phase = event["phase"]
            if phase not in bars:
                bars[phase] = progress.add_task(phase, total=event.get("total"), note="")
            progress.update(
                bars[phase], total=event.get("total"), completed=event.get("done", 0), note=_note(event)
            )
            if "validation/reward" in event:
                progress.console.print(
                    f"step {event['step']}: validation reward {event['validation/reward']:.4f}, quality "
                    f"{event['validation/quality']:.4f}, cost ${event['validation/cost_usd']:.6f}"
                )

        folder = train(config, out, resume=resume, report=report)
    typer.echo(f"model: {folder}")
    curve = out / "learning_curve.png"
    if curve.exists():
        typer.echo(f"curve: {curve}")


def _dry_run(backend: str, config: Path, out: Path, *, resume: bool) -> None:
    """Raises ConfigurationError for a backend that has no configuration of its own to check."""
    _backend(backend)
    if backend != "verl":
        raise ConfigurationError("--dry-run is for --backend verl")
    from shlex import join

    from ..training.verl.launch import CONFIG, prepare

    command = prepare(config, out, resume=resume)
    typer.echo(f"configuration, as verl read and checked it: {out / CONFIG}")
    typer.echo(f"command: {join(command)}")


def _backend(name: str) -> Backend:
    """Raises ConfigurationError for an unknown one, and for one whose extra is not installed."""
    if name not in BACKENDS:
        raise ConfigurationError(f"--backend {name} is unknown (known: {', '.join(BACKENDS)})")
    try:
        return BACKENDS[name]()
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"training with {name} needs the package {error.name!r}: pip install 'xrouter[{name}]'"
        ) from error


def _note(event: Mapping[str, Any]) -> str:
    if "warm_loss" in event:
        return f"loss {event['warm_loss']:.3f}"
    if "reward" in event:
        return f"reward {event['reward']:.3f}  quality {event['quality']:.3f}  invalid {event['invalid_rate']:.2f}"
    return ""
