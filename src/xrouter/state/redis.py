"""State in Redis or Valkey, for gateways on several hosts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, StateError
from ..ledger.ledger import Spent
from ..settings_tables.addresses import shown
from .limits import picodollars
from .redis_commands import Commands
from .redis_scripts import GIVE_BACK, RESERVE, SETTLE, TAKE
from .state import Hold, Take

if TYPE_CHECKING:
    from redis.asyncio import Redis

PREFIX = "xrouter"
TIMEOUT_S = 2.0

_SCRIPTS = (TAKE, GIVE_BACK, RESERVE, SETTLE)
_TAKE, _GIVE_BACK, _RESERVE, _SETTLE = (
    hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest() for script in _SCRIPTS
)


class RedisState:
    """Connects when first used, and again after the server was away; until then every method raises StateError.

    url: redis://, rediss:// or unix://. prefix: of all keys, as a hash tag, so that a cluster keeps them together.
    timeout_s: how long to wait for the server, in seconds.
    Raises ConfigurationError where the client library is missing or the URL cannot be read.
    """

    def __init__(self, url: str, *, prefix: str = PREFIX, timeout_s: float = TIMEOUT_S) -> None:
        self.address = shown(url)
        self._prefix = f"{{{prefix}}}:"
        self._timeout_s = timeout_s
        self._closed = False
        self._commands = Commands(_client(url, timeout_s), _SCRIPTS, 2 * timeout_s)

    async def get(self, key: str) -> bytes | None:
        value: Any = await self._ask("GET", f"{self._prefix}v:{key}")
        return value if value is None else bytes(value)

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        lasts_ms = max(1, round(ttl_s * 1000))
        await self._ask("SET", f"{self._prefix}v:{key}", value, "PX", lasts_ms)

    async def delete(self, key: str) -> None:
        await self._ask("DEL", f"{self._prefix}v:{key}")

    async def take(self, takes: Sequence[Take]) -> tuple[int, float] | None:
        short = await self._run(_TAKE, _arguments(takes)) if takes else None
        return None if short is None else (int(short[0]), float(short[1]))

    async def give_back(self, takes: Sequence[Take]) -> None:
        if takes:
            await self._run(_GIVE_BACK, _arguments(takes))

    async def reserve(self, reservation: str, holds: Sequence[Hold], *, ttl_s: float) -> int | None:
        arguments: list[str | int] = [reservation, max(1, round(ttl_s * 1000))]
        for hold in holds:
            arguments += _noted(hold.spent)
            arguments += [_amount(hold.picodollars), _amount(hold.limit_picodollars)]
        full = await self._run(_RESERVE, arguments)
        return None if full is None else int(full)

    async def settle(self, reservation: str, spent: Sequence[Spent]) -> None:
        await self._run(_SETTLE, [reservation, *(part for total in spent for part in _noted(total))])

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await self._commands.aclose()

    async def _run(self, script: str, arguments: Sequence[str | int]) -> Any:
        return await self._ask("EVALSHA", script, 1, self._prefix, *arguments)

    async def _ask(self, *command: Any) -> Any:
        from redis.exceptions import RedisError

        if self._closed:
            raise StateError(f"the state {self.address} is closed: open another")
        try:
            return await self._commands.ask(*command)
        except (RedisError, OSError, TimeoutError) as error:
            why = str(error) or f"no answer within {self._timeout_s:g} s"
            raise StateError(
                f"state {self.address} cannot be used: {why}; check that the server runs and is reachable"
            ) from error


def _client(url: str, timeout_s: float) -> Redis:
    try:
        from redis.asyncio import ConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import ConnectionError as NoConnection
    except ImportError as error:
        raise ConfigurationError(
            f"state {shown(url)} needs the client library: pip install 'xrouter[redis]'", param="state"
        ) from error
    try:
        pool = ConnectionPool.from_url(
            url.replace("valkey", "redis", 1) if url.startswith("valkey") else url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 1, supported_errors=(NoConnection,)),
        )
    except ValueError:
        raise ConfigurationError(
            f"state = {shown(url)!r} is no address such as redis://host:6379/0", param="state"
        ) from None
    return Redis(connection_pool=pool)


def _arguments(takes: Sequence[Take]) -> list[str | int]:
    return [
        part
        for take in takes
        for part in (take.bucket, *map(_number, (take.amount, take.capacity, take.per_s)))
    ]


def _number(value: float) -> str:
    return repr(float(value))


def _amount(pico: int) -> str:
    """Whole dollars and the picodollars beyond them. A limit below zero leaves room for nothing, as zero does."""
    dollars, rest = divmod(max(0, pico), 10**12)
    return f"{dollars}:{rest}"


def _noted(spent: Spent) -> list[str | int]:
    return [spent.scope, spent.version, _amount(picodollars(spent.cost_usd))]
