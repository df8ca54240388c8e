"""The command line. One file a command; each command is named like its file."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ..errors import ConfigurationError, RequestError, XRouterError
from . import (
    ask,
    bench,
    collect,
    dataset,
    demo,
    distill,
    evaluate,
    keys,
    models,
    probe,
    report,
    router_check,
    router_train,
    serve,
    train,
)

app = typer.Typer(
    name="xrouter",
    help="One OpenAI-compatible endpoint in front of many LLMs, driven by a learned policy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"xrouter {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None: ...


for _command in (
    serve.serve,
    ask.ask,
    demo.demo,
    report.report,
    collect.collect,
    train.train,
    evaluate.evaluate,
    bench.bench,
    distill.distill,
    router_check.router_check,
    router_train.router_train,
):
    app.command()(_command)

_models = typer.Typer(invoke_without_command=True, rich_markup_mode="markdown")
_models.callback()(models.models)
_models.command()(probe.probe)
app.add_typer(_models, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(dataset.app, name="dataset")


def main() -> None:
    """Run the command line. An XRouterError is one line on stderr: exit code 2 when the settings or the request
    are at fault, 1 for all else."""
    try:
        app()
    except XRouterError as error:
        typer.echo(f"xrouter: {error}", err=True)
        sys.exit(2 if isinstance(error, (ConfigurationError, RequestError)) else 1)
