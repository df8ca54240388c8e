"""xrouter serve: the gateway in the foreground."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .router_options import RouterKeyEnv, RouterModel, RouterPrice, RouterUrl, with_router

if TYPE_CHECKING:
    from ..router import Router
    from ..settings import Settings


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="A policy's name, a checkpoint, a run folder of `xrouter train`, or tool-calling for a language model."
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file; default: xrouter.toml.")] = None,
    ledger: Annotated[
        str | None, typer.Option(help="The books: a SQLite file, or a postgresql:// URL.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that serve the port.", min=1)] = 1,
    router_url: RouterUrl = None,
    router_model: RouterModel = None,
    router_key_env: RouterKeyEnv = None,
    router_price: RouterPrice = None,
) -> None:
    """Serve the OpenAI-compatible API until Ctrl-C.

    Examples:

        xrouter serve

        xrouter serve --port 0 --policy runs/mine --ledger books.sqlite

        xrouter serve --workers 4

        xrouter serve --policy tool-calling --router-url http://127.0.0.1:8000/v1 --router-model Qwen/Qwen2.5-7B-Instruct --router-price 0.05/0.10

        curl http://127.0.0.1:8080/v1/chat/completions -d '{"model": "xrouter", "messages": [{"role": "user", "content": "Hi"}]}'
    """
    from ..gateway.auth import admin_key, check_binding
    from ..gateway.server import bind
    from ..settings import load_settings
    from ..settings_tables.addresses import ledger_place

    settings = load_settings(config)
    policy, settings = with_router(policy, settings, router_url, router_model, router_key_env, router_price)
    if ledger is not None:
        settings = replace(settings, ledger=ledger_place(ledger, "--ledger"))
    host = settings.host if host is None else host
    port = settings.port if port is None else port
    notice = check_binding(host, settings.access, admin_key(settings.access, os.environ))
    if workers > 1:
        from ..gateway.workers import Supervisor, listeners
        from ..observability.workers import shared_metrics

        with shared_metrics():
            supervisor = Supervisor(
                lambda listener, ready: _serve(listener, host, settings, policy, notice, ready, workers),
                listeners(host, port, workers),
                typer.echo,
            )
            sys.exit(supervisor.run())
    try:
        _serve(bind(host, port), host, settings, policy, notice, typer.echo)
    except KeyboardInterrupt:
        # Ctrl-C is how the server is meant to end; it has shut down by now.
        typer.echo("stopped")


def _serve(
    listener: socket.socket,
    host: str,
    settings: Settings,
    policy: str | None,
    notice: str | None,
    announce: Callable[[str], None],
    workers: int = 1,
) -> None:
    """Serve on the socket until told to stop; `announce` gets the banner once requests are answered."""
    from ..accounts.open import open_accounts
    from ..gateway.app import Gateway
    from ..gateway.server import collect_garbage_rarely, make_server, url_of
    from ..gateway.services import open_services
    from ..router import Router
    from ..state.open import open_state

    router = Router(policy, settings=settings)
    services = open_services(
        router, accounts=open_accounts(settings), state=open_state(settings, workers), host=host
    )
    words = "\n".join([banner(router, url_of(listener)), *([notice] if notice else [])])
    server = make_server(Gateway(router, services), on_serving=lambda: announce(words))
    collect_garbage_rarely()
    server.run(sockets=[listener])


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
