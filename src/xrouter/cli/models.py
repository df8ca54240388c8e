"""`xrouter models`: what the catalog knows, what it costs, and with --check what is within reach."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from ..catalog.catalog import Catalog
from ..catalog.model import Model
from ..providers.build import build_pool, unavailable
from ..settings import Endpoint, load_settings

CHECK_TIMEOUT_S = 5.0
CHECKS_AT_ONCE = 8
WIDTH_OF_A_FILE = 180


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether an endpoint answered, and what it said."""

    ok: bool
    detail: str


def models(
    context: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Ask each endpoint that has its key whether it answers.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    pool: Annotated[bool, typer.Option("--pool", help="Only the models that would serve now.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings file; else $XROUTER_CONFIG or ./xrouter.toml.")
    ] = None,
) -> None:
    """List the models of the catalog: tier, provider, context, prices in USD per million tokens, key.

    Examples:

        xrouter models

        xrouter models --pool

        xrouter models --check --json

        xrouter models probe --help
    """
    if context.invoked_subcommand is not None:
        return
    env = os.environ
    settings = load_settings(config, env)
    catalog = Catalog.load(settings)
    notice = None
    shown = list(catalog)
    if pool:
        built = build_pool(settings, catalog, env)
        shown, notice = list(built), built.notice
    reach = asyncio.run(check_endpoints(shown, catalog, env)) if check else None
    rows = [describe(model, catalog, env, reach) for model in shown]
    if json:
        import orjson

        typer.echo(orjson.dumps({"notice": notice, "models": rows}, option=orjson.OPT_INDENT_2).decode())
        return
    if notice:
        typer.echo(notice)
    _print_table(rows, checked=check)


def describe(
    model: Model, catalog: Catalog, env: Mapping[str, str], reach: Mapping[str, Reach] | None
) -> dict[str, Any]:
    """One model as plain data. Prices are strings of decimals, USD per million tokens."""
    rates, lacks = model.price.rates, unavailable(model.name, catalog, env)
    row: dict[str, Any] = {
        "name": model.name,
        "kind": model.kind,
        "tier": model.tier,
        "provider": model.provider,
        "id": model.id,
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "modalities": list(model.modalities),
        "tools": model.tools,
        "reasoning": model.reasoning,
        "simulated": model.simulated,
        "description": model.description,
        "price": {
            "input": _plain(rates.input),
            "cached_input": None if rates.cached_input is None else _plain(rates.cached_input),
            "output": _plain(rates.output),
            "tiers_above_prompt_tokens": [tier.above_prompt_tokens for tier in model.price.tiers],
            "dated": model.price.dated.isoformat(),
            "source": model.price.source,
        },
        "available": lacks is None,
        "lacks": lacks,
    }
    if reach is not None:
        found = reach.get(model.provider, Reach(False, lacks or "not checked"))
        row["check"] = {"ok": found.ok and lacks is None, "detail": lacks or found.detail}
    return row


async def check_endpoints(shown: list[Model], catalog: Catalog, env: Mapping[str, str]) -> dict[str, Reach]:
    """Asks every endpoint of these models that has what it needs, at most CHECKS_AT_ONCE at a time."""
    names = {m.provider for m in shown if unavailable(m.name, catalog, env) is None}
    at_once = asyncio.Semaphore(CHECKS_AT_ONCE)

    async def check(name: str) -> Reach:
        endpoint = catalog.endpoints[name]
        if endpoint.kind == "local":
            return Reach(True, "library and weights are here")
        if endpoint.kind == "simulated":
            return Reach(True, "simulated: nothing to reach")
        if endpoint.base_url is None:
            return Reach(True, "key is set; LiteLLM knows the address")
        async with at_once:
            return await _ask(endpoint, env)

    ordered = sorted(names)
    return dict(zip(ordered, await asyncio.gather(*map(check, ordered)), strict=True))


async def _ask(endpoint: Endpoint, env: Mapping[str, str]) -> Reach:
    """GET {base_url}/models. Any answer but a refused key or a server error means that it is there."""
    import aiohttp

    headers = dict(endpoint.headers)
    if endpoint.key_env:
        headers["Authorization"] = f"Bearer {env[endpoint.key_env].strip()}"
    url = f"{(endpoint.base_url or '').rstrip('/')}/models"
    try:
        timeout = aiohttp.ClientTimeout(total=CHECK_TIMEOUT_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, headers=headers) as answer,
        ):
            if answer.status in (401, 403):
                return Reach(False, f"the key in {endpoint.key_env} was refused ({answer.status})")
            return Reach(answer.status < 500, f"answers with status {answer.status}")
    except TimeoutError:
        return Reach(False, f"no answer within {CHECK_TIMEOUT_S:g} s")
    except (aiohttp.ClientError, ValueError) as error:
        return Reach(False, f"cannot be reached: {type(error).__name__}")


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


def _print_table(rows: list[dict[str, Any]], *, checked: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("model", "tier", "provider"):
        table.add_column(column, no_wrap=True)
    for column in ("context", "in $/M", "cached", "out $/M"):
        table.add_column(column, justify="right", no_wrap=True, min_width=len(column))
    table.add_column("answers" if checked else "ready", no_wrap=True)
    table.add_column("price dated, source", no_wrap=True, overflow="ellipsis", max_width=48)
    for row in rows:
        price, more = row["price"], "+" if row["price"]["tiers_above_prompt_tokens"] else ""
        ready, detail = row["available"], row["lacks"] or ""
        if checked:
            ready, detail = row["check"]["ok"], row["check"]["detail"]
        table.add_row(
            row["name"],
            row["tier"],
            row["provider"],
            _short(row["context_window"]),
            price["input"] + more,
            price["cached_input"] or "-",
            price["output"] + more,
            f"[green]yes[/green] {detail}" if ready else f"[red]no[/red] {detail}",
            f"{price['dated']} {price['source']}",
        )
    Console(width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE).print(table)
    if any(row["price"]["tiers_above_prompt_tokens"] for row in rows):
        typer.echo("+ dearer for long prompts: see --json")


def _short(tokens: int) -> str:
    return f"{tokens / 1e6:.3g}M" if tokens >= 1_000_000 else f"{tokens // 1000}K"
