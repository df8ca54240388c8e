"""`xrouter train`: learns a policy from recorded outcomes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ConfigurationError


def train(
    outcomes: Annotated[
        list[Path], typer.Option(help="Folder of recorded outcomes; repeat it to train on several.")
    ],
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    pool: Annotated[str, typer.Option(help="core, all, or model names with commas between.")] = "core",
    datasets: Annotated[
        str | None, typer.Option(help="Only these datasets, commas between (gsm8k,math-l5).")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Everything random comes from it; default: 0, or the --config file's.")
    ] = None,
    warm_steps: Annotated[
        int | None, typer.Option(help="Steps of supervised regression on outcomes.")
    ] = None,
    dapo_steps: Annotated[int | None, typer.Option(help="Steps of DAPO.")] = None,
    reward: Annotated[
        str | None,
        typer.Option(help="linear: s - lambda C. cost_aware: s (K - min(lambda C, c_max))."),
    ] = None,
    max_turns: Annotated[int | None, typer.Option(help="Decisions an episode may take.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with any setting of a training run.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 50,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write TensorBoard events.")
    ] = False,
    threads: Annotated[
        int, typer.Option(min=1, help="CPU threads of torch; the network is small, so one is seldom slower.")
    ] = 1,
) -> None:
    """Learn a routing policy from recorded outcomes: a supervised warm start, then DAPO.

    Fits on the train split only. The run folder can be served and judged at any time.

    Examples:

        xrouter train --outcomes outcomes/zeroeval --out runs/zeroeval

        xrouter train --outcomes outcomes/zeroeval --outcomes outcomes/mmlu_pro --out runs/both --seed 1

        xrouter train --outcomes outcomes/zeroeval --out runs/zeroeval --resume
    """
    settings = settings_of(
        config,
        seed=seed,
        warm_steps=warm_steps,
        dapo_steps=dapo_steps,
        reward=reward,
        max_turns=max_turns,
    )
    try:
        import torch

        from ..tasks.outcomes import load_outcomes
        from ..training.config import TrainingConfig
        from ..training.run import Run
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"training needs the package {error.name!r}: pip install 'xrouter[train]'"
        ) from error
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    torch.set_num_threads(threads)
    console = Console(stderr=True)
    training_config = TrainingConfig.from_dict(settings)
    sets = []
    with console.status("reading outcomes"):
        for folder in outcomes:
            loaded = load_outcomes(folder)
            if datasets:
                loaded = loaded.datasets_named(datasets.split(","))
            if pool != "all":
                loaded = loaded.pool(None if pool == "core" else pool.split(","))
            sets.append(loaded.split("train"))
    for loaded in sets:
        console.print(f"{loaded.name}: {len(loaded)} training queries, {len(loaded.models)} models")
    with console.status("fitting text encoder and model profiles"):
        run = Run(out, sets, training_config, resume=resume)
    if run.trainer.step:
        console.print(f"resumed at step {run.trainer.step} of {run.trainer.steps}")
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    ) as progress:
        bar = progress.add_task("training", total=run.trainer.steps, completed=run.trainer.step, note="")

        def on_step(metrics: dict[str, Any]) -> None:
            note = (
                f"reward {metrics['reward']:.3f}  score {metrics['score']:.3f}  calls {metrics['calls']:.1f}"
            )
            progress.update(bar, completed=metrics["step"], description=metrics["phase"], note=note)
            if "validation_reward" in metrics:
                progress.console.print(
                    f"step {metrics['step']}: validation reward {metrics['validation_reward']:.4f}, "
                    f"score {metrics['validation_score']:.4f}"
                )

        checkpoint = run.train(on_step, save_every=save_every, tensorboard=tensorboard)
    typer.echo(f"policy: {checkpoint}")
    wanted = "" if pool == "core" else f" --pool {pool}"
    typer.echo(
        f"judge it:  xrouter evaluate --outcomes {outcomes[0]}{wanted} --split test --policy {out} --out report"
    )
    typer.echo(f"serve it:  xrouter serve --policy {out}")


def settings_of(config: Path | None, **options: Any) -> dict[str, Any]:
    """The TOML file's values, with the options that were given over them."""
    values: dict[str, Any] = {}
    if config is not None:
        import tomllib

        try:
            values = tomllib.loads(config.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"--config {config}: {error}") from error
    return values | {name: value for name, value in options.items() if value is not None}
