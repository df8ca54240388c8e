"""xrouter keys: who may use the gateway, how much, and what they spent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import RequestError
from ..ledger.moments import moment, span_s
from .keys_tables import print_json, print_keys, print_one, print_secret, print_table

if TYPE_CHECKING:
    from .admin_client import AdminClient

_MOST_ROWS = 1000

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Config = Annotated[Path | None, typer.Option("--config", help="Settings file; default: xrouter.toml.")]
Url = Annotated[
    str | None,
    typer.Option("--url", help="A running gateway, such as http://127.0.0.1:8080; default: its store."),
]
KeyEnv = Annotated[
    str | None, typer.Option("--admin-key-env", help="Variable with the gateway's admin key, for --url.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Key = Annotated[str, typer.Argument(help="The key's id, or its name.")]
Budgets = Annotated[
    list[str] | None, typer.Option("--budget", help="USD/period, such as 10/month; may be repeated.")
]
Rpm = Annotated[int | None, typer.Option("--rpm", min=0, help="Requests a minute; 0 = no limit.")]
Tpm = Annotated[int | None, typer.Option("--tpm", min=0, help="Tokens a minute; 0 = no limit.")]
Parallel = Annotated[int | None, typer.Option("--parallel", min=0, help="Requests at once; 0 = no limit.")]


@app.callback()
def keys() -> None:
    """Virtual keys, budgets and limits. Works on the store that the settings name, or with --url on a gateway.

    Examples:

        xrouter keys create laptop --user ada --team search --budget 10/month

        xrouter keys list

        xrouter keys spend --by team --since 7d
    """


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What people call the key.")],
    user: Annotated[str | None, typer.Option(help="The user it belongs to.")] = None,
    team: Annotated[str | None, typer.Option(help="The team it belongs to.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model or glob it may use; may be repeated; default: all.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="On all its requests; may be repeated.")] = None,
    expires: Annotated[str | None, typer.Option(help="In so long (90d), or at an ISO date, UTC.")] = None,
    budget: Budgets = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    parallel: Parallel = None,
    url: Url = None,
    admin_key_env: KeyEnv = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make a key and print its secret, which is shown this once.

    Examples:

        xrouter keys create laptop

        xrouter keys create ci --team search --model 'gpt-*' --expires 90d --budget 5/day --budget 50/month --rpm 60
    """
    body: dict[str, Any] = {"name": name, "user": user, "team": team, "models": model or None}
    body |= {"tags": tag or [], "budgets": [_budget(text) for text in budget or ()]}
    body["limits"] = _limits(rpm, tpm, parallel)
    if expires is not None:
        body["expires_at"] = _future(expires)

    async def work(admin: AdminClient) -> dict[str, Any]:
        return await admin.call("POST", "keys", body)

    made = _run(work, config, url, admin_key_env)
    if as_json:
        print_json(made)
    else:
        print_secret(made)


@app.command("list")
def list_keys(
    user: Annotated[str | None, typer.Option(help="Only this user's.")] = None,
    team: Annotated[str | None, typer.Option(help="Only this team's.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Revoked and expired ones too.")] = False,
    url: Url = None,
    admin_key_env: KeyEnv = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List the keys, with what their budgets have left.

    Examples:

        xrouter keys list

        xrouter keys list --team search --all --json
    """

    async def work(admin: AdminClient) -> list[dict[str, Any]]:
        found = [key async for key in admin.pages("keys", user=user, team=team)]
        return [key for key in found if everything or key["state"] == "active"]

    found = _run(work, config, url, admin_key_env, reading=True)
    if as_json:
        print_json({"keys": found})
    elif not found:
        typer.echo("There are no such keys: xrouter keys create NAME makes one.")
    else:
        print_keys(found)


@app.command()
def show(
    key: Key, url: Url = None, admin_key_env: KeyEnv = None, config: Config = None, as_json: Json = False
) -> None:
    """Show one key: its scope, budgets and limits.

    Examples:

        xrouter keys show laptop

        xrouter keys show 3f2a90c1d4e5 --json
    """

    async def work(admin: AdminClient) -> dict[str, Any]:
        return await admin.find_key(key)

    found = _run(work, config, url, admin_key_env, reading=True)
    if as_json:
        print_json(found)
    else:
        print_one(found)


@app.command()
def rotate(
    key: Key,
    grace: Annotated[str, typer.Option(help="How long the old secret is still taken, such as 1h.")] = "0s",
    url: Url = None,
    admin_key_env: KeyEnv = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Give a key a new secret, which is shown this once. Budgets and spending go on.

    Examples:

        xrouter keys rotate laptop

        xrouter keys rotate laptop --grace 24h
    """
    grace_s = span_s(grace, "--grace")

    async def work(admin: AdminClient) -> dict[str, Any]:
        found = await admin.find_key(key)
        return await admin.call("POST", f"keys/{found['id']}/rotate", {"grace_s": grace_s})

    made = _run(work, config, url, admin_key_env)
    if as_json:
        print_json(made)
    else:
        print_secret(made)


@app.command()
def revoke(
    key: Key, url: Url = None, admin_key_env: KeyEnv = None, config: Config = None, as_json: Json = False
) -> None:
    """End a key for good. Gateways stop taking it within `key_cache_s` seconds of the settings.

    Examples:

        xrouter keys revoke laptop
    """

    async def work(admin: AdminClient) -> dict[str, Any]:
        return await admin.call("DELETE", f"keys/{(await admin.find_key(key))['id']}")

    ended = _run(work, config, url, admin_key_env)
    if as_json:
        print_json(ended)
    else:
        typer.echo(f"revoked {ended['id']} ({ended['name']})")


@app.command()
def budget(
    owner: Annotated[str, typer.Argument(help="A key's id or name, user:ID, team:ID or tag:ID.")],
    amounts: Annotated[list[str] | None, typer.Argument(help="USD/period, such as 10/month.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="A period whose budget ends.")] = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    parallel: Parallel = None,
    url: Url = None,
    admin_key_env: KeyEnv = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Set budgets and limits of a key, user, team or tag; what is not named stays. Without any, show them.

    Examples:

        xrouter keys budget laptop 10/month 1/day --rpm 60

        xrouter keys budget team:search 200/month --remove day

        xrouter keys budget tag:nightly 0/total
    """
    new = [_budget(text) for text in amounts or ()]
    limits = {name: value for name, value in _limits(rpm, tpm, parallel, zero=0).items() if value is not None}
    gone = {*(remove or ()), *(item["period"] for item in new)}

    async def work(admin: AdminClient) -> dict[str, Any]:
        path, found = await admin.owner(owner, create=bool(new or limits))
        if not (new or limits or remove):
            return found
        kept = [item for item in found["budgets"] if item["period"] not in gone]
        return await admin.call(
            "PATCH",
            path,
            {
                "budgets": [
                    {"amount_usd": item["amount_usd"], "period": item["period"]} for item in [*kept, *new]
                ],
                "limits": {name: limits.get(name, old) or None for name, old in found["limits"].items()},
            },
        )

    reading = not (new or limits or remove)
    found = _run(work, config, url, admin_key_env, reading=reading)
    if as_json:
        print_json(found)
    else:
        print_one(found)


@app.command()
def spend(
    by: Annotated[str, typer.Option(help="key, user, team, tag or model.")] = "key",
    since: Annotated[
        str | None, typer.Option(help="A span back from now (24h, 7d) or an ISO date, UTC.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Up to then; the same forms.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=_MOST_ROWS, help="Rows, the dearest first.")] = 100,
    url: Url = None,
    admin_key_env: KeyEnv = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say who spent what, from the ledger.

    Examples:

        xrouter keys spend

        xrouter keys spend --by team --since 7d

        xrouter keys spend --by model --since 2026-11-01 --until 2026-12-01 --json
    """

    async def work(admin: AdminClient) -> dict[str, Any]:
        return await admin.call("GET", "spend", by=by, since=since, until=until, limit=limit)

    found = _run(work, config, url, admin_key_env, reading=True)
    if as_json:
        print_json(found)
    elif not found["data"]:
        typer.echo("No requests are booked" + (" for that time." if since or until else "."))
    else:
        calls = "calls" if by == "model" else "requests"
        rows = [(row[by] or f"(no {by})", str(row["requests"]), row["cost_usd"]) for row in found["data"]]
        print_table([by, calls, "cost USD"], rows, right=2)
        if found["has_more"]:
            typer.echo(f"and more: --limit {_MOST_ROWS} shows them")


def _run(
    work: Callable[[AdminClient], Awaitable[Any]],
    config: Path | None,
    url: str | None,
    admin_key_env: str | None,
    *,
    reading: bool = False,
) -> Any:
    from .admin_client import connect

    async def whole() -> Any:
        async with connect(config, url, admin_key_env, reading=reading) as admin:
            return await work(admin)

    return asyncio.run(whole())


def _budget(text: str) -> dict[str, str]:
    amount, slash, period = text.partition("/")
    if not slash or not amount:
        raise RequestError(
            f"a budget is written USD/period, such as 10/month, got {text!r}", param="--budget"
        )
    return {"amount_usd": amount.removeprefix("$"), "period": period}


def _limits(
    rpm: int | None, tpm: int | None, parallel: int | None, zero: int | None = None
) -> dict[str, int | None]:
    given = {"requests_per_minute": rpm, "tokens_per_minute": tpm, "parallel_requests": parallel}
    return {name: zero if value == 0 else value for name, value in given.items()}


def _future(text: str) -> float:
    now = time.time()
    try:
        return now + span_s(text, "--expires")
    except RequestError:
        return moment(text, now, "--expires")
