"""Alive, ready, draining: what /healthz, /readyz and /drain answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import XRouterError

Check = Callable[[], Awaitable[object]]


class Drain:
    """Set once and for good: a gateway that drains finishes what it has and is sent nothing new."""

    def __init__(self) -> None:
        self._since: float | None = None

    @property
    def draining(self) -> bool:
        return self._since is not None

    @property
    def for_s(self) -> float:
        """Seconds since it began, 0 before."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def start(self) -> None:
        if self._since is None:
            self._since = time.monotonic()


@dataclass(frozen=True, slots=True)
class Readiness:
    """`reasons`: what is wrong, by the check's name; none where all is well."""

    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        return not self.reasons

    @property
    def status(self) -> int:
        return 200 if self.ready else 503

    def body(self) -> dict[str, Any]:
        return {"status": "ready" if self.ready else "not ready", "reasons": dict(self.reasons)}


async def readiness(checks: Mapping[str, Check], drain: Drain, *, timeout_s: float = 2.0) -> Readiness:
    """Runs the checks ("ledger", "state", ...) at the same time; one that raises or takes too long says not ready.

    A reason is an error's class and code, not its text: whoever reaches the port may read it.
    """
    reasons = {"drain": "the gateway is draining"} if drain.draining else {}
    found = await asyncio.gather(*(_reason(check, timeout_s) for check in checks.values()))
    reasons |= {name: reason for name, reason in zip(checks, found, strict=True) if reason}
    return Readiness(reasons)


async def _reason(check: Check, timeout_s: float) -> str | None:
    try:
        async with asyncio.timeout(timeout_s):
            await check()
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    except XRouterError as error:
        return error.code or type(error).__name__
    # The boundary to whatever is checked: a check that breaks in a new way says not ready, like any other.
    except Exception as error:  # noqa: BLE001
        return type(error).__name__
    return None
