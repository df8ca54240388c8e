"""xrouter router-check: can this model, on this server, with this template, be a router?"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .router_options import RouterKeyEnv, RouterModel, RouterPrice, RouterUrl, with_router

if TYPE_CHECKING:
    from ..evaluation.router_check.scoring import Case, CaseResult
    from ..policies.tool_calling import ToolCallingPolicy
    from ..settings import Settings


def router_check(
    router_url: RouterUrl = None,
    router_model: RouterModel = None,
    router_key_env: RouterKeyEnv = None,
    router_price: RouterPrice = None,
    tool_mode: Annotated[
        str | None, typer.Option(help="native, or text for endpoints without tools; default: the settings'.")
    ] = None,
    system_messages: Annotated[
        str | None, typer.Option(help="separate, or merged for templates that take one system message.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="How often each case is asked.", min=1)] = 1,
    concurrency: Annotated[int, typer.Option(help="Requests under way at once.", min=1)] = 4,
    only: Annotated[str | None, typer.Option(help="Only these cases, by name, with commas.")] = None,
    threshold: Annotated[
        float, typer.Option(help="The score from which it passes, 0 to 1.", min=0, max=1)
    ] = 0.8,
    config: Annotated[Path | None, typer.Option(help="Settings file; default: xrouter.toml.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Send an endpoint a battery of tool-call cases and say whether its model can be a router.

    Each case is one decision: calls, parallel calls, a selection, a direct answer, a long pool, tools of the
    application, refused and failed calls in the history, orders hidden in texts. Those marked * are essential. The exit code is
    0 where the score reaches the threshold and no essential case fails, else 3. No model of a pool is asked.

    Examples:

        xrouter router-check --router-url http://127.0.0.1:8000/v1 --router-model Qwen/Qwen2.5-7B-Instruct

        xrouter router-check --router-model gpt-5-mini --repeats 3 --json

        xrouter router-check --router-url http://127.0.0.1:11434/v1 --router-model qwen3:4b --tool-mode text
    """
    import asyncio

    import orjson

    from ..evaluation.router_check.report import as_json as json_of
    from ..evaluation.router_check.report import lines
    from ..evaluation.router_check.run import chosen_cases
    from ..evaluation.router_check.scoring import score
    from ..settings import load_settings
    from ..settings_tables.router_llm import router_llm_from_options

    _, settings = with_router(
        "tool-calling", load_settings(config), router_url, router_model, router_key_env, router_price
    )
    modes = {"tool_mode": tool_mode, "system_messages": system_messages}
    given = {name: value for name, value in modes.items() if value is not None}
    settings = replace(settings, router_llm=router_llm_from_options(settings.router_llm, given))
    names = [name.strip() for name in only.split(",")] if only else ()
    chosen = chosen_cases(names, settings.router_llm.call_arguments)
    policy = _policy(settings)
    results = asyncio.run(_run(policy, chosen, repeats, concurrency, quiet=as_json))
    total = score(results, threshold)
    if as_json:
        typer.echo(orjson.dumps(json_of(results, total, policy.model), option=orjson.OPT_INDENT_2).decode())
    else:
        typer.echo("\n".join(lines(results, total, policy.model)))
    if not total.fit:
        raise typer.Exit(3)


def _policy(settings: Settings) -> ToolCallingPolicy:
    """A price is not needed here: nothing is booked."""
    from ..catalog.catalog import Catalog
    from ..policies.router_model import tool_calling_policy

    options = settings.router_llm
    if (
        options.price is None
        and options.url is not None
        and options.model not in Catalog.load(settings).entries
    ):
        options = replace(options, price={"input": "0", "output": "0"})
    options = replace(options, fallback_model=None)
    return tool_calling_policy(replace(settings, router_llm=options), (), os.environ)


async def _run(
    policy: ToolCallingPolicy, chosen: tuple[Case, ...], repeats: int, concurrency: int, *, quiet: bool
) -> list[CaseResult]:
    from ..evaluation.router_check.run import check

    def tell(found: CaseResult) -> None:
        if not quiet:
            typer.echo(f"  {found.case.name}: {'pass' if found.passed else 'FAIL'}", err=True)

    try:
        return await check(policy, chosen, repeats=repeats, concurrency=concurrency, on_result=tell)
    finally:
        await policy.aclose()
