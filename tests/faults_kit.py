"""What the tests of faults share: one question in the words of each API, raw sockets, books that must balance."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import aiohttp
from serving_kit import make_router

from xrouter.accounts.key import VirtualKey, hash_of, new_secret, shown
from xrouter.accounts.memory import MemoryAccounts
from xrouter.gateway.app import Gateway
from xrouter.gateway.connection import ConnectionLimits
from xrouter.gateway.server import bind, running, url_of
from xrouter.gateway.services import Services, open_services
from xrouter.policies.policy import Policy
from xrouter.router import Router
from xrouter.settings import Settings

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
PATHS = (CHAT, RESPONSES, MESSAGES)
SECRET = new_secret()


def body_for(path: str, text: str = "Say hello.", **fields: Any) -> dict[str, Any]:
    """The same question in the words of the API at `path`."""
    if path == RESPONSES:
        return {"model": "xrouter", "input": text, **fields}
    body: dict[str, Any] = {"model": "xrouter", "messages": [{"role": "user", "content": text}], **fields}
    return {"max_tokens": 100, **body} if path == MESSAGES else body


def key_of(**fields: Any) -> VirtualKey:
    """The key whose secret is SECRET."""
    return VirtualKey("k1", "test", hash_of(SECRET), shown(SECRET), 0.0, **fields)


@dataclass
class Wired:
    """A gateway with everything on."""

    url: str
    services: Services

    @property
    def router(self) -> Router:
        return self.services.router

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)


@asynccontextmanager
async def wired(
    base_url: str,
    *keys: VirtualKey,
    policy: Policy | None = None,
    settings: Settings | None = None,
    router: Router | None = None,
    limits: ConnectionLimits | None = None,
) -> AsyncIterator[Wired]:
    accounts = MemoryAccounts()
    for key in keys:
        await accounts.add_key(key)
    router = router or make_router(base_url, policy, settings=settings)
    services = open_services(router, accounts=accounts)
    listener = bind("127.0.0.1", 0)
    async with running(Gateway(router, services), listener, grace_s=1, limits=limits):
        yield Wired(url_of(listener), services)


@dataclass(frozen=True)
class Got:
    """What a client has of an answer. `broke`: the connection ended before the answer did."""

    status: int
    body: bytes
    broke: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The JSON of each server-sent event."""
        lines = (
            line.removeprefix(b"data: ") for line in self.body.splitlines() if line.startswith(b"data: ")
        )
        return [json.loads(line) for line in lines if line != b"[DONE]"]

    @property
    def error(self) -> dict[str, Any] | None:
        """The error, of a whole answer or the last event of a stream; None where all went well."""
        if self.status != 200:
            return dict(self.json["error"])
        if not self.body.startswith((b"data:", b"event:")):
            return None
        return next((dict(event["error"]) for event in self.events if event.get("error")), None)


async def ask(
    url: str,
    path: str,
    data: bytes | dict[str, Any],
    *,
    secret: str | None = None,
    session: aiohttp.ClientSession | None = None,
    **headers: str,
) -> Got:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if secret is not None:
        sent["authorization"] = f"Bearer {secret}"
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    own = session or aiohttp.ClientSession()
    try:
        async with own.post(url + path, data=raw, headers=sent) as answer:
            parts, broke = [], False
            try:
                async for part in answer.content.iter_any():
                    parts.append(part)
            except aiohttp.ClientError:
                broke = True
            return Got(answer.status, b"".join(parts), broke)
    finally:
        if session is None:
            await own.close()


def assert_books_balance(router: Router) -> None:
    """Every call belongs to a booked episode, each episode's cost is the sum of its calls', budgets' of episodes'."""
    ledger: Any = router.ledger
    costs: dict[str, Decimal] = {}
    for call in ledger.calls:
        costs[call.episode_id] = costs.get(call.episode_id, Decimal(0)) + call.cost_usd
    episodes = {entry.episode_id: entry for entry in ledger.episodes}
    assert set(costs) <= set(episodes)
    for episode_id, entry in episodes.items():
        assert entry.cost_usd == costs.get(episode_id, Decimal(0))
        assert entry.cost_usd >= 0


async def raw_exchange(address: tuple[str, int], data: bytes, *, wait_s: float = 2.0) -> tuple[bytes, bool]:
    """(what came back, whether the server hung up) within `wait_s` of sending these bytes."""
    reader, writer = await asyncio.open_connection(*address)
    received = b""
    try:
        writer.write(data)
        try:
            async with asyncio.timeout(wait_s):
                while piece := await reader.read(65536):
                    received += piece
            return received, True
        except TimeoutError:
            return received, False
        except ConnectionError:
            return received, True
    finally:
        writer.close()


JUNK: Sequence[Any] = (
    None,
    True,
    0,
    -1,
    1.5,
    1e308,
    2**63,
    -(2**63),
    "",
    "x",
    "\x00\ud7ff\U0001f600",
    "9" * 400,
    [],
    {},
    [1],
    [None],
    [[]],
    [{}],
    {"a": 1},
    {"content": {"text": []}},
)


def mutant(value: Any, chance: random.Random, changes: int) -> Any:
    """A copy of a JSON value with so many places replaced by junk, left out or doubled."""
    copy = json.loads(json.dumps(value))
    for _ in range(changes):
        places = [*_places(copy)]
        if not places:
            break
        holder, key = chance.choice(places)
        kind = chance.random()
        if kind < 0.15:
            del holder[key]
        elif kind < 0.25 and isinstance(holder, list):
            holder.append(json.loads(json.dumps(holder[key])))
        else:
            holder[key] = json.loads(json.dumps(chance.choice(JUNK)))
    return copy


def _places(value: Any) -> Any:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield value, key
            yield from _places(inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield value, index
            yield from _places(inner)
