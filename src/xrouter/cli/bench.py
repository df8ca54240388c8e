"""xrouter bench: our policies beside other people's routers, in one run on one split and pool."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from ..errors import ConfigurationError


def bench(
    outcomes: Annotated[
        Path, typer.Option(help="Folder with queries, outcomes and models.parquet.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder for the report and the embeddings.", show_default=False)],
    policy: Annotated[
        list[str] | None,
        typer.Option(help="A run folder or checkpoint; repeatable. Default: the packaged policy."),
    ] = None,
    peers: Annotated[
        str, typer.Option(help="all, none, or some of knn,svm,mlp,mf,graph,routellm,avengers.")
    ] = "all",
    models: Annotated[str, typer.Option(help="The pool: core, all, or models with commas between.")] = "core",
    datasets: Annotated[
        str | None, typer.Option(help="Datasets with commas between, such as gsm8k,math-l5; default: all.")
    ] = None,
    fits: Annotated[
        Path | None,
        typer.Option(help="Folder to keep the peers' fits in and to take them from; default: fitted anew."),
    ] = None,
    bootstrap: Annotated[int, typer.Option(help="Resamples for the 95% intervals.", min=0)] = 1000,
    timed: Annotated[int, typer.Option(help="Queries to time decisions on.", min=1)] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the fits and the resamples.")] = 0,
) -> None:
    """Compare policies with other people's routers: quality, cost, fit time and decision time.

    Peers are fitted on the train split with their own code and published settings, and judged on the test split with
    every baseline. They need packages that xrouter does not: pip install -r benchmarks/requirements.txt.

    Writes bench.md, bench.json and frontier.png, and keeps the embeddings for the next run.

    Examples:

        xrouter bench --outcomes outcomes/mine --out benchmarks/reports/mine

        xrouter bench --outcomes outcomes/mine --policy runs/first --peers knn,mlp,avengers --out benchmarks/reports/first

        xrouter bench --outcomes outcomes/mine --peers none --models gpt-4o,gpt-4o-mini --out benchmarks/reports/two
    """
    try:
        import matplotlib as mpl
        import pyarrow  # noqa: F401
        import sklearn  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"xrouter bench needs {error.name}: pip install 'xrouter[train]'") from error
    from ..evaluation.bench import bench as run
    from ..evaluation.bench_report import quality_table, time_table, write
    from ..evaluation.peers.catalog import PEERS, check_peers
    from ..evaluation.peers.embedding import Memory, MiniLm
    from ..tasks.outcomes import load_outcomes
    from .evaluate import choose, load_policies, progress_bar

    mpl.use("Agg")
    wanted = [name.strip() for name in peers.split(",") if name.strip()]
    wanted = {"all": list(PEERS), "none": []}.get(peers, wanted)
    check_peers(wanted)
    chosen = choose(load_outcomes(outcomes), models, datasets)
    ours = load_policies(policy or [None], chosen.split("train"), chosen.name, "test", seed)
    memory = Memory(MiniLm() if wanted else None, out / "embeddings.npz")
    with TemporaryDirectory(prefix="xrouter-bench-") as scratch, progress_bar() as progress:
        found = run(
            chosen,
            policies=ours,
            peers=wanted,
            memory=memory,
            folder=fits or Path(scratch),
            seed=seed,
            bootstrap=bootstrap,
            timed=timed,
            progress=progress,
        )
    write(found, out, shlex.join(["xrouter", *sys.argv[1:]]))
    typer.echo(quality_table(found))
    typer.echo(time_table(found))
    typer.echo(f"Report: {out / 'bench.md'}")
