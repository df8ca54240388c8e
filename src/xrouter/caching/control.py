"""What a request asks of the cache: the Cache-Control header and the body's `cache` object."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import RequestError

_SECONDS = re.compile(r"[0-9]{1,9}")
_KEYS = ("use", "no_cache", "no_store", "max_age_s")


@dataclass(frozen=True, slots=True)
class CacheControl:
    """use: True = cache even what is sampled, False = neither read nor write, None = as the settings say.

    no_cache: do not read. no_store: do not write. max_age_s: read nothing that is older, in seconds.
    """

    use: bool | None = None
    no_cache: bool = False
    no_store: bool = False
    max_age_s: float | None = None


NOTHING_ASKED = CacheControl()


def cache_control(
    header: str | None, options: Mapping[str, Any] | None, *, param: str = "xrouter.cache"
) -> CacheControl:
    """`header` is read as RFC 9111 has it: what it does not know it ignores. A key of `options` comes before it.

    Raises RequestError naming the field for an option that is unknown or of the wrong kind.
    """
    if not header and not options:
        return NOTHING_ASKED
    asked = _of_header(header or "")
    for key, value in (options or {}).items():
        if key not in _KEYS:
            raise RequestError(
                f"{param}.{key} is not an option; there are {', '.join(_KEYS)}", param=f"{param}.{key}"
            )
        asked[key] = _checked(key, value, f"{param}.{key}")
    return CacheControl(**asked)


def _of_header(header: str) -> dict[str, Any]:
    asked: dict[str, Any] = {}
    for directive in header.lower().split(","):
        name, _, value = directive.strip().partition("=")
        if name == "no-cache":
            asked["no_cache"] = True
        elif name == "no-store":
            asked["no_store"] = True
        elif name == "max-age" and _SECONDS.fullmatch(value.strip('"')):
            asked["max_age_s"] = float(value.strip('"'))
    return asked


def _checked(key: str, value: Any, param: str) -> Any:
    if key == "max_age_s":
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0:
            raise RequestError(f"{param} must be a number of seconds from 0", param=param)
        return float(value)
    if not isinstance(value, bool):
        raise RequestError(f"{param} must be true or false", param=param)
    return value
