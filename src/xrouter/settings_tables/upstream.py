"""The [upstream] table: how endpoints are talked to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..toml_reader import Reader, number, one_of, whole

TransportName = Literal["aiohttp", "native"]


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """Each field is a key of [upstream] with the same name.

    transport: who speaks HTTP to OpenAI-compatible endpoints: xrouter's own ("native"), which costs less CPU, or aiohttp.
    proxies_from_env: honour HTTP_PROXY, HTTPS_PROXY and NO_PROXY; by aiohttp, whatever `transport` says.
    breaker_failures, breaker_reset_s: after so many failures in a row a model is left alone for so many seconds.
    cooldown_s, max_cooldown_s: how long a model is left alone after a 429: as its Retry-After says, at most
        `max_cooldown_s` seconds; without one `cooldown_s` seconds, doubled with each further 429 in a row.
    """

    transport: TransportName = "native"
    proxies_from_env: bool = False
    breaker_failures: int = 5
    breaker_reset_s: float = 30.0
    cooldown_s: float = 1.0
    max_cooldown_s: float = 60.0


def read_upstream(reader: Reader, key: str) -> UpstreamSettings:
    """Raises ConfigurationError naming the key and the value."""
    return UpstreamSettings(**reader.subtable(key).read(_READERS))


_READERS: Mapping[str, Callable[[Reader, str], Any]] = {
    "transport": one_of(*get_args(TransportName)),
    "proxies_from_env": Reader.flag,
    "breaker_failures": whole(1),
    "breaker_reset_s": number(0, above=True),
    "cooldown_s": number(0),
    "max_cooldown_s": number(0, above=True),
}
