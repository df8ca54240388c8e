"""xrouter report: what the books say."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..ledger.moments import moment

if TYPE_CHECKING:
    from rich.table import Table

    from ..ledger.totals import Totals
    from ..settings import Settings

PIPED_WIDTH = 140
"""Columns where there is no terminal to fit."""


def report(
    since: Annotated[
        str | None, typer.Option(help="A span back from now (90m, 24h, 7d, 2w) or an ISO date, UTC.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Up to then; the same forms.")] = None,
    ledger: Annotated[
        str | None, typer.Option(help="The books: a SQLite file, or a postgresql:// URL.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file; default: xrouter.toml.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print spend, savings against the reference model, and the route mix, from the ledger.

    Examples:

        xrouter report

        xrouter report --since 7d

        xrouter report --since 2026-01-01 --until 2026-02-01 --json
    """
    from ..settings import load_settings
    from ..settings_tables.addresses import ledger_place, shown

    settings = load_settings(config)
    if ledger is not None:
        settings = replace(settings, ledger=ledger_place(ledger, "--ledger"))
    now = time.time()
    start = None if since is None else moment(since, now, "--since")
    end = None if until is None else moment(until, now, "--until")
    totals = _totals(settings, start, end)
    if as_json:
        typer.echo(_json(totals))
    elif not totals.requests:
        typer.echo(
            f"No requests are booked in {shown(settings.ledger)}" + (" for that time." if since else ".")
        )
    else:
        _print(totals)


def _totals(settings: Settings, since: float | None, until: float | None) -> Totals:
    """Reading makes no books: where there is no file, the totals are empty."""
    from ..ledger.open import open_ledger
    from ..ledger.totals import totals_of

    if isinstance(settings.ledger, Path) and not settings.ledger.exists():
        return totals_of([], [])
    ledger = open_ledger(settings)
    try:
        return ledger.totals(since, until)
    finally:
        asyncio.run(ledger.aclose())


def _json(totals: Totals) -> str:
    import orjson

    shown = {**asdict(totals), "savings_usd": totals.savings_usd, "savings_share": totals.savings_share}
    return orjson.dumps(shown, default=_exact, option=orjson.OPT_INDENT_2).decode()


def _exact(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _print(totals: Totals) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    if totals.simulated_share:
        console.print(
            f"{totals.simulated_share:.0%} of these requests went to a simulated pool: its costs are not real money.",
            style="bold",
        )
    for table in (_spend(totals), _models(totals), _routes(totals)):
        console.print(table)


def _usd(amount: Decimal) -> str:
    return f"-${-amount:f}" if amount < 0 else f"${amount:f}"


def _spend(totals: Totals) -> Table:
    table = _table("Spend", "", "")
    share = totals.savings_share
    saved = _usd(totals.savings_usd) + ("" if share is None else f"  ({share:.1%})")
    failed = f"  ({totals.failed_requests} without an answer)" if totals.failed_requests else ""
    table.show_header = False
    table.add_row("requests", f"{totals.requests}{failed}")
    table.add_row("calls", f"{totals.calls}  ({totals.calls / totals.requests:.2f} a request)")
    table.add_row("tokens", f"{totals.usage.prompt_tokens:,} in, {totals.usage.completion_tokens:,} out")
    table.add_row("spent", _usd(totals.spend_usd))
    table.add_row("reference model alone", _usd(totals.reference_usd))
    table.add_row("saved", saved)
    return table


def _models(totals: Totals) -> Table:
    table = _table("Models", "model", "calls", "share", "failed", "tokens in", "tokens out", "cost USD")
    for model in totals.models:
        table.add_row(
            model.model,
            str(model.calls),
            f"{model.share:.1%}",
            str(model.failed_calls),
            f"{model.usage.prompt_tokens:,}",
            f"{model.usage.completion_tokens:,}",
            f"{model.cost_usd:f}",
        )
    return table


def _routes(totals: Totals) -> Table:
    table = _table("Routes", "route", "requests", "share", "cost USD")
    for route in totals.routes:
        share = route.requests / totals.requests
        table.add_row(route.route or "(no call)", str(route.requests), f"{share:.1%}", f"{route.cost_usd:f}")
    return table


def _table(title: str, first: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right")
    return table
