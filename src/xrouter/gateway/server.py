"""The gateway on a socket: uvicorn with uvloop and httptools."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from ..errors import ConfigurationError
from .asgi import ASGIApp
from .connection import ConnectionLimits, connection_limits, protocol

GARBAGE_THRESHOLDS = (10_000, 20, 20)
"""Of `gc.set_threshold`: objects made and not freed until the young ones are searched, a few hundred requests' worth at
most; then how often until the older ones are."""
SHUTDOWN_GRACE_S = 10
"""How long requests under way may take to finish once the server is told to stop, in seconds."""


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket; port 0 takes a free one. `shared`: others may listen on the port as well.

    Raises ConfigurationError when the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048, reuse_port=shared)
        # Its connections inherit this. asyncio's own loop leaves them to Nagle's algorithm, which holds the second
        # of two small writes back for 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except (OSError, OverflowError) as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error}; choose another --host or --port (0 = any free port)"
        ) from error


def url_of(listener: socket.socket) -> str:
    """The URL to call: a wildcard address is shown as loopback."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """Says when it serves."""

    def __init__(self, config: uvicorn.Config, on_serving: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._on_serving = on_serving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started and self._on_serving is not None:
            self._on_serving()


def make_server(
    app: ASGIApp,
    *,
    grace_s: int = SHUTDOWN_GRACE_S,
    limits: ConnectionLimits | None = None,
    on_serving: Callable[[], None] | None = None,
) -> uvicorn.Server:
    """limits: of each client's connection; default: as many connections as the process may open."""
    http: Any = protocol(limits or connection_limits())
    return _Server(
        uvicorn.Config(
            app,
            loop=_loop(),
            http=http,
            ws="none",
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=grace_s,
        ),
        on_serving,
    )


def collect_garbage_rarely() -> None:
    """For a process that serves and does nothing else, once all is loaded: what is there now stays, and a request leaves
    no cycles behind, so that looking for them after every few requests is time lost."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


@asynccontextmanager
async def running(
    app: ASGIApp,
    listener: socket.socket,
    *,
    grace_s: int = SHUTDOWN_GRACE_S,
    limits: ConnectionLimits | None = None,
) -> AsyncIterator[asyncio.Task[None]]:
    """The app served on the running loop until the block is left; the task ends when the server is told to stop."""
    server = make_server(app, grace_s=grace_s, limits=limits)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not (server.started or task.done()):  # noqa: ASYNC110 - uvicorn has no event to wait for
            await asyncio.sleep(0.005)
        yield task
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)


def _loop() -> Any:
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return "asyncio"
    return "uvloop"


def loop_factory() -> Callable[[], Any] | None:
    """For asyncio.Runner: uvloop's loop where there is one."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
