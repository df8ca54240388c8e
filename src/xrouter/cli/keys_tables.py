"""What `xrouter keys` prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import typer

PIPED_WIDTH = 160
"""Columns where there is no terminal to fit."""


def print_secret(made: dict[str, Any]) -> None:
    typer.echo(made["secret"])
    typer.echo(f"key {made['id']} ({made['name']}): keep the secret now, it is stored nowhere", err=True)


def print_keys(found: Sequence[dict[str, Any]]) -> None:
    rows = [
        (
            key["id"],
            key["name"],
            key["shown"],
            key["state"],
            key["user"] or "",
            key["team"] or "",
            "all" if key["models"] is None else ", ".join(key["models"]),
            "; ".join(_said(budget) for budget in key["budgets"]),
        )
        for key in found
    ]
    print_table(["id", "name", "secret", "state", "user", "team", "models", "budgets: left of USD"], rows)


def print_one(found: dict[str, Any]) -> None:
    times = {"created", "expires_at", "revoked", "old_secret_until"}
    rows = [
        (name, _when(value) if name in times else ", ".join(value) if isinstance(value, list) else str(value))
        for name, value in found.items()
        if name not in ("object", "budgets", "limits") and value not in (None, [])
    ]
    if found.get("models", "") is None:
        rows.append(("models", "all"))
    for budget in found["budgets"]:
        renewal = "" if budget["renews_at"] is None else f", renews {_when(budget['renews_at'])}"
        rows.append(("budget", f"{_said(budget)}{renewal}"))
    rows += [(name, f"{value:,}") for name, value in found["limits"].items() if value is not None]
    print_table([found["object"], ""], rows)


def _said(budget: dict[str, Any]) -> str:
    return f"{budget['left_usd']} of {budget['amount_usd']} a {budget['period']}".replace(
        "a total", "in total"
    )


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(sep=" ", timespec="seconds").replace("+00:00", " UTC")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: int = 0) -> None:
    """`right`: how many of the last columns are numbers."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for i, column in enumerate(columns):
        table.add_column(column, overflow="fold", justify="right" if i >= len(columns) - right else "left")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(table)


def print_json(data: object) -> None:
    import orjson

    typer.echo(orjson.dumps(data, option=orjson.OPT_INDENT_2).decode())
