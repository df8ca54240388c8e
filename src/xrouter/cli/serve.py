"""xrouter serve: the gateway in the foreground."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..router import Router


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = None,
    policy: Annotated[
        str | None, typer.Option(help="A policy's name, a checkpoint or a run folder of `xrouter train`.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file; default: xrouter.toml.")] = None,
    ledger: Annotated[Path | None, typer.Option(help="SQLite file of the books.")] = None,
) -> None:
    """Serve the OpenAI-compatible API until Ctrl-C.

    Examples:

        xrouter serve

        xrouter serve --port 0 --policy runs/mine --ledger books.sqlite

        curl http://127.0.0.1:8080/v1/chat/completions -d '{"model": "xrouter", "messages": [{"role": "user", "content": "Hi"}]}'
    """
    from ..gateway.app import Gateway
    from ..gateway.server import bind, make_server, url_of
    from ..router import Router
    from ..settings import load_settings

    settings = load_settings(config)
    if ledger is not None:
        settings = replace(settings, ledger=ledger)
    listener = bind(settings.host if host is None else host, settings.port if port is None else port)
    router = Router(policy, settings=settings)
    typer.echo(banner(router, url_of(listener)))
    try:
        make_server(Gateway(router)).run(sockets=[listener])
    except KeyboardInterrupt:
        # Ctrl-C is how the server is meant to end; it has shut down by now.
        typer.echo("stopped")


def banner(router: Router, url: str) -> str:
    """What is being served. A pool's notice, such as that it is simulated, comes first."""
    return "\n".join(
        [
            *([router.pool.notice] if router.pool.notice else []),
            f"xrouter at {url}/v1  (model: xrouter, or xrouter:{', xrouter:'.join(router.settings.presets)})",
            f"pool    {', '.join(model.name for model in router.pool)}",
            f"policy  {router.policy.name} {router.policy.version}",
        ]
    )
