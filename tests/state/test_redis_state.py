"""What only state in Redis can show: what it leaves there, and how it speaks of the server."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import pytest
from redis.asyncio import Redis as Client
from servers_kit import Redis

from xrouter.errors import ConfigurationError, StateError
from xrouter.ledger.ledger import Spent
from xrouter.state.redis import RedisState
from xrouter.state.state import Hold, Take


async def test_everything_it_leaves_behind_lapses(redis_server: Redis, tmp_path: Path) -> None:
    async with aclosing(RedisState(redis_server.url, prefix=tmp_path.name)) as state:
        await state.put("v", b"1", ttl_s=60)
        await state.take([Take("b", 1, 10, 0.001), Take("still", 1, 10, 0)])
        await state.reserve("r1", [Hold(Spent("key:a"), 1, 10)], ttl_s=60)
        await state.reserve("r2", [Hold(Spent("key:a"), 1, 10)], ttl_s=60)
        await state.settle("r1", [Spent("key:b", version=1)])
    async with Client.from_url(redis_server.url) as client:
        keys = [key async for key in client.scan_iter(f"{{{tmp_path.name}}}:*")]
        lasting = [key.decode().partition(":")[2] for key in keys if await client.ttl(key) < 0]
        assert len(keys) == 7
        assert sorted(lasting) == ["lapses", "r:r2"], "these end with the reservation"
    async with aclosing(RedisState(redis_server.url, prefix=tmp_path.name)) as state:
        await state.settle("r2", [])
    async with Client.from_url(redis_server.url) as client:
        keys = [key.decode() async for key in client.scan_iter(f"{{{tmp_path.name}}}:*")]
        assert sorted(key.partition(":")[2] for key in keys) == [
            "b:b",
            "b:still",
            "s:key:a",
            "s:key:b",
            "v:v",
        ]


async def test_prefixes_keep_gateways_apart_and_a_new_script_is_loaded_when_it_is_lost(
    redis_server: Redis, tmp_path: Path
) -> None:
    one = RedisState(redis_server.url, prefix=f"{tmp_path.name}-1")
    two = RedisState(redis_server.url, prefix=f"{tmp_path.name}-2")
    async with aclosing(one), aclosing(two):
        assert await one.reserve("r", [Hold(Spent("key:a"), 10, 10)], ttl_s=60) is None
        assert await two.reserve("r", [Hold(Spent("key:a"), 10, 10)], ttl_s=60) is None
        async with Client.from_url(redis_server.url) as client:
            await client.script_flush()
        assert await one.reserve("s", [Hold(Spent("key:a"), 1, 10)], ttl_s=60) == 0


async def test_no_message_shows_a_password(redis_server: Redis) -> None:
    for url in (
        f"redis://ann:geheim@127.0.0.1:{redis_server.port}/0",
        "redis://:geheim@127.0.0.1:1/0",
        "redis://ann:ge/heim@127.0.0.1:1/0",
        "redis://ann@127.0.0.1:1/0?password=geheim",
        "redis://:geheim@127.0.0.1:1/0?socket_timeout=soon",
    ):
        with pytest.raises((StateError, ConfigurationError)) as caught:
            async with aclosing(RedisState(url)) as state:
                await state.get("a")
        assert "heim" not in str(caught.value)
