"""The admin API from the command line: of a running gateway, or the same application in this process over the store
that the settings name."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import orjson

from ..accounts.account import ACCOUNT_KINDS
from ..accounts.memory import MemoryAccounts
from ..accounts.open import accounts_place, open_accounts
from ..errors import AccountNotFoundError, ConfigurationError, RequestError, XRouterError
from ..ledger.memory import MemoryLedger
from ..ledger.open import open_ledger
from ..settings import Settings, load_settings

if TYPE_CHECKING:
    from ..gateway.asgi import ASGIApp

TIMEOUT_S = 30.0
_PAGE = 1000
_OWN_KEY = "of this process alone"

Exchange = Callable[[str, str, str, bytes], Awaitable[tuple[int, bytes]]]
"""(method, path, query, body) -> (status, body)."""


class AdminClient:
    """Requests of the admin API, and its refusals as our errors."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, /, **query: str | int | None
    ) -> dict[str, Any]:
        """`path` is below /admin. Raises RequestError for what was refused, XRouterError for what failed."""
        asked = urlencode({name: value for name, value in query.items() if value is not None})
        raw = b"" if body is None else orjson.dumps(body)
        status, answer = await self._exchange(method, f"/admin/{path}", asked, raw)
        try:
            data = orjson.loads(answer)
        except orjson.JSONDecodeError:
            data = None
        if not isinstance(data, dict):
            raise ConfigurationError(
                f"this is no answer of xrouter's admin API (HTTP {status}): check --url", param="--url"
            )
        if status < 400:
            return data
        error = data.get("error") or {}
        message = str(error.get("message") or f"HTTP {status}")
        if status == 404:
            raise AccountNotFoundError(message, param=error.get("param"))
        if status < 500:
            raise RequestError(message, param=error.get("param"))
        raise XRouterError(message)

    async def pages(self, path: str, **query: str | None) -> AsyncIterator[dict[str, Any]]:
        """All of a list."""
        after: str | None = None
        while True:
            page = await self.call("GET", path, after=after, limit=_PAGE, **query)
            for item in page["data"]:
                yield item
            if not page["has_more"]:
                return
            after = page["last_id"]

    async def find_key(self, key: str) -> dict[str, Any]:
        """The key that alone has this name, of several the one that is active; else the one of this id."""
        named = [found async for found in self.pages("keys", name=key)]
        live = [found for found in named if found["state"] == "active"] or named
        if len(live) > 1:
            ids = ", ".join(found["id"] for found in live)
            raise RequestError(f"{len(live)} keys are named {key!r}: name one by its id ({ids})", param="key")
        if live:
            return live[0]
        if not key.isalnum():
            raise AccountNotFoundError(f"there is no key {key!r}: list the keys there are", param="key")
        return await self.call("GET", f"keys/{key}")

    async def owner(self, owner: str, *, create: bool) -> tuple[str, dict[str, Any]]:
        """The path and the object of whoever has budgets; a user, team or tag is made if need be."""
        kind, colon, account_id = owner.partition(":")
        if not colon or kind not in ACCOUNT_KINDS:
            found = await self.find_key(account_id if kind == "key" else owner)
            return f"keys/{found['id']}", found
        path = f"{kind}s/{account_id}"
        try:
            return path, await self.call("GET", path)
        except AccountNotFoundError:
            if not create:
                raise
        return path, await self.call("POST", f"{kind}s", {"id": account_id})


@asynccontextmanager
async def connect(
    config: Path | None, url: str | None, admin_key_env: str | None, *, reading: bool
) -> AsyncIterator[AdminClient]:
    """reading: where there is no store yet, none is made."""
    settings = load_settings(config)
    if url is not None:
        async with _remote(url, admin_key_env or settings.access.admin_key_env) as exchange:
            yield AdminClient(exchange)
        return
    from ..gateway.admin import admin_app

    books = settings.ledger
    ledger = MemoryLedger() if isinstance(books, Path) and not books.exists() else open_ledger(settings)
    try:
        store = MemoryAccounts() if reading and _is_missing(settings) else open_accounts(settings)
        try:
            app = admin_app(store, ledger, settings.access, admin_key=_OWN_KEY)
            yield AdminClient(lambda *asked: _in_process(app, *asked))
        finally:
            await store.aclose()
    finally:
        await ledger.aclose()


def _is_missing(settings: Settings) -> bool:
    place = accounts_place(settings)
    return isinstance(place, Path) and not place.exists()


@asynccontextmanager
async def _remote(url: str, admin_key_env: str) -> AsyncIterator[Exchange]:
    import aiohttp
    from yarl import URL

    key = os.environ.get(admin_key_env, "").strip()
    if not key:
        raise ConfigurationError(
            f"--url needs the gateway's admin key: set {admin_key_env}, or name another variable with --admin-key-env",
            param="--admin-key-env",
        )
    base = url.rstrip("/").removesuffix("/v1")
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout, headers={"authorization": f"Bearer {key}"}) as session:

        async def exchange(method: str, path: str, query: str, body: bytes) -> tuple[int, bytes]:
            asked = f"{base}{quote(path)}" + (f"?{query}" if query else "")
            try:
                async with session.request(
                    method, URL(asked, encoded=True), data=body or None, allow_redirects=False
                ) as answer:
                    return answer.status, await answer.read()
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                raise ConfigurationError(
                    f"no gateway answers at {url} ({error or type(error).__name__}): start it with `xrouter serve`, or"
                    " check --url",
                    param="--url",
                ) from error

        yield exchange


async def _in_process(app: ASGIApp, method: str, path: str, query: str, body: bytes) -> tuple[int, bytes]:
    status, parts = 0, []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(event: Any) -> None:
        nonlocal status
        status = event.get("status", status)
        parts.append(event.get("body", b""))

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(b"authorization", f"Bearer {_OWN_KEY}".encode())],
        "client": None,
    }
    await app(scope, receive, send)
    return status, b"".join(parts)
