"""Shared fixtures, and the guard that keeps tests off the network and away from keys.

XROUTER_LIVE_TESTS=1 lifts the guard, for tests marked `live`.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from servers_kit import postgres_server, redis_server  # noqa: F401 - fixtures
from upstream import MockUpstream

from xrouter.catalog.model import Model
from xrouter.catalog.price import Price, Rates

LIVE = os.environ.get("XROUTER_LIVE_TESTS") == "1"


class NetworkForbiddenError(RuntimeError):
    """A test tried to leave the machine. No OSError, so that no product code mistakes it for a network fault."""


def _is_loopback(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    if host is None or host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(host).partition("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session", autouse=True)
def _no_network_no_keys() -> Iterator[None]:
    """Only loopback connections, no provider keys. Names under `.invalid` fail to resolve, as they must."""
    if LIVE:
        yield
        return
    connect, connect_ex, getaddrinfo = (
        socket.socket.connect,
        socket.socket.connect_ex,
        socket.getaddrinfo,
    )

    def check(sock: socket.socket, address: Any) -> None:
        if sock.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            raise NetworkForbiddenError(f"a test tried to connect to {address!r}")

    def guarded_connect(sock: socket.socket, address: Any) -> None:
        check(sock, address)
        connect(sock, address)

    def guarded_connect_ex(sock: socket.socket, address: Any) -> int:
        check(sock, address)
        return connect_ex(sock, address)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if str(host).endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if not _is_loopback(host):
            raise NetworkForbiddenError(f"a test tried to resolve {host!r}")
        return getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        patch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)
        for name in [name for name in os.environ if name.upper().endswith("_API_KEY")]:
            patch.delenv(name)
        yield


@pytest.fixture(autouse=True)
def _skip_live(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("live") and not LIVE:
        pytest.skip("calls real endpoints; set XROUTER_LIVE_TESTS=1 to run it")


@pytest.fixture
def mock_upstream() -> Iterator[MockUpstream]:
    """A scriptable OpenAI-compatible endpoint on loopback; see upstream.py for its behaviours."""
    with MockUpstream() as upstream:
        yield upstream


def make_model(name: str = "mock", **fields: Any) -> Model:
    """A model at 1 USD per million input tokens and 2 USD per million output tokens, served by `mock`."""
    price = Price(Rates(Decimal(1), Decimal(2)), date(2026, 1, 1), "tests")
    defaults: dict[str, Any] = {
        "provider": "mock",
        "id": f"{name}-id",
        "tier": "standard",
        "price": price,
        "context_window": 8192,
        "max_output_tokens": 1024,
    }
    return Model(name=name, **{**defaults, **fields})


@pytest.fixture
def mock_model() -> Model:
    return make_model()
