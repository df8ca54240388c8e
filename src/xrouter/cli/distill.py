"""xrouter distill: a network policy that decides as a slower, dearer policy does."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigurationError
from .router_contestant import Concurrency, Graders, RouterBudget, RouterCheckpoint, RouterOptions
from .router_options import RouterKeyEnv, RouterModel, RouterPrice, RouterUrl

if TYPE_CHECKING:
    from ..evaluation.distill_report import DistillReport


def distill(
    outcomes: Annotated[
        Path, typer.Option(help="Folder with queries, outcomes and models.parquet.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option(help="Run folder to write: the policy and its report.", show_default=False)
    ],
    teacher: Annotated[
        str | None,
        typer.Option(
            help="tool-calling, or a run folder, a checkpoint, a baseline's name, a model's. Named by --router-... it is tool-calling."
        ),
    ] = None,
    decisions: Annotated[
        Path | None,
        typer.Option(help="The teacher's decisions on the train split, of `xrouter evaluate --split train`."),
    ] = None,
    test_decisions: Annotated[
        Path | None, typer.Option(help="The teacher's decisions on the test split, of `xrouter evaluate`.")
    ] = None,
    beside: Annotated[
        str | None,
        typer.Option(help="A network policy to show beside the student, such as a run of `xrouter train`."),
    ] = None,
    pool: Annotated[str, typer.Option(help="core, all, or models with commas between.")] = "core",
    datasets: Annotated[str | None, typer.Option(help="Only these datasets, commas between.")] = None,
    cost_weights: Annotated[
        str, typer.Option(help="Cost weights that the teacher decides at, with commas.")
    ] = "0,0.03,0.1,0.3,1,3",
    limit_queries: Annotated[
        int | None, typer.Option(help="Train queries the teacher decides on, drawn with --seed.", min=2)
    ] = None,
    limit_test_queries: Annotated[
        int | None, typer.Option(help="Test queries to judge on, drawn with --seed.", min=1)
    ] = None,
    max_turns: Annotated[int, typer.Option(help="Decisions an episode at most.", min=1)] = 3,
    epochs: Annotated[int, typer.Option(help="Passes over the teacher's choices at most.", min=1)] = 60,
    network_config: Annotated[
        Path | None,
        typer.Option(help="TOML file with settings of the network, as `xrouter train --config` has."),
    ] = None,
    bootstrap: Annotated[int, typer.Option(help="Resamples for the 95% intervals.", min=0)] = 1000,
    seed: Annotated[int, typer.Option(help="Everything random comes from it.")] = 0,
    router_url: RouterUrl = None,
    router_model: RouterModel = None,
    router_key_env: RouterKeyEnv = None,
    router_price: RouterPrice = None,
    router_checkpoint: RouterCheckpoint = None,
    router_budget_usd: RouterBudget = None,
    concurrency: Concurrency = 8,
    grader: Graders = None,
    config: Annotated[
        Path | None, typer.Option(help="Settings file with [router_llm]; default: xrouter.toml.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch.")] = 1,
) -> None:
    """Distil a teacher into a network policy: a millisecond a decision in place of a second, and no tokens.

    The teacher decides on the train split; the network learns to choose as it did, in the situations it was in. Both
    are judged on the test split, with the loss of quality, in distill.md. What the teacher answered in its own words cannot
    be learnt: those episodes are left out and counted. --router-budget-usd holds for each split on its own.

    Examples:

        xrouter distill --outcomes outcomes/mine --teacher tool-calling --router-url http://127.0.0.1:8000/v1 --router-model my-router --router-price 0/0 --limit-queries 500 --out runs/distilled

        xrouter distill --outcomes outcomes/mine --decisions reports/train/decisions.jsonl --test-decisions reports/test/decisions.jsonl --out runs/distilled

        xrouter distill --outcomes outcomes/mine --teacher runs/large --out runs/small
    """
    try:
        import matplotlib as mpl
        import torch

        from ..training.distill.imitation import ImitationConfig, distil
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"xrouter distill needs {error.name}: pip install 'xrouter[train]'"
        ) from error
    from ..evaluation.distill_report import write
    from ..policies.checkpoint import FILE_NAME, Provenance, load_network, save_network
    from ..tasks.outcomes import load_outcomes
    from ..training.config import TrainingConfig
    from ..training.distill.teaching import teaching
    from ..training.run import trained_on
    from .distill_teacher import TeacherOptions, open_teacher, report_of
    from .evaluate import choose, progress_bar
    from .train import settings_of

    mpl.use("Agg")
    torch.set_num_threads(threads)
    if (out / FILE_NAME).exists():
        raise ConfigurationError(f"{out} holds a policy already: choose another --out", param="--out")
    imitation = ImitationConfig(
        TrainingConfig.from_dict(settings_of(network_config, seed=seed)), epochs=epochs, max_turns=max_turns
    )
    network = None if beside is None else load_network(beside)
    chosen = choose(load_outcomes(outcomes), pool, datasets)
    asked = open_teacher(
        TeacherOptions(
            teacher=teacher,
            decisions=decisions,
            test_decisions=test_decisions,
            cost_weights=cost_weights,
            limit_queries=limit_queries,
            limit_test_queries=limit_test_queries,
            max_turns=max_turns,
            seed=seed,
            router=RouterOptions(
                url=router_url,
                model=router_model,
                key_env=router_key_env,
                price=router_price,
                checkpoint=router_checkpoint,
                cost_weights=cost_weights,
                budget_usd=router_budget_usd,
                concurrency=concurrency,
                graders=grader,
                config=config,
            ),
        ),
        chosen,
        outcomes,
    )
    with progress_bar() as progress:
        of_train, of_test = asked.on("train", out, progress), asked.on("test", out, progress)
        made = of_train.played.decisions
        taught = teaching(
            of_train.part,
            made.cost_weights,
            made.turn_WQM,
            made.answer_from_WQ,
            None if made.own is None else made.own.stood_in_WQ,
        )
        progress("fitting profiles", 0, 1)
        found = distil(
            chosen.split("train"),
            taught,
            imitation,
            lambda metrics: progress("imitation", int(metrics["epoch"]), epochs),
        )
        learnt = {
            "queries": len(of_train.part),
            "cost_weights": len(made.cost_weights),
            "episodes": len(taught),
            "left_out": dict(taught.left_out),
            "choices": found.choices,
            "unreachable": found.unreachable,
            "epochs": found.epochs,
            "validation_agreement": found.agreement,
        }
        config_of = {"distilled_from": asked.title, **imitation.as_dict()}
        save_network(
            found.policy, out / FILE_NAME, Provenance(tuple(trained_on([chosen.split("train")])), config_of)
        )
        report = report_of(
            asked,
            of_test,
            student=load_network(out),
            profiles=found.plain,
            beside=network,
            train=chosen.split("train"),
            learnt=learnt,
            bootstrap=bootstrap,
            progress=progress,
        )
    write(report, out, shlex.join(["xrouter", *sys.argv[1:]]))
    _print(report)
    typer.echo(f"policy: {out / FILE_NAME}")
    typer.echo(f"report: {out / 'distill.md'}")


def _print(report: DistillReport) -> None:
    from ..evaluation.distill_report import STUDENT
    from ..evaluation.tables import with_interval

    same = report.agreement[STUDENT]
    typer.echo(f"same decisions as the teacher: {with_interval(same.all)} of the test queries")
    for one in report.difference[STUDENT]:
        typer.echo(
            f"lambda {one.cost_weight:g}: score {with_interval(one.score, sign=True)}, cost "
            f"{one.cost_usd.value * 1000:+.3g} USD per 1000 queries, against the teacher"
        )
