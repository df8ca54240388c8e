from __future__ import annotations

import asyncio
import time

from xrouter.errors import LedgerError, StateError
from xrouter.observability.health import Drain, Readiness, readiness


async def well() -> str:
    return "anything"


async def hangs() -> None:
    await asyncio.sleep(60)


async def no_ledger() -> None:
    raise LedgerError("disk full at /home/ada/books.sqlite")


async def no_state() -> None:
    raise StateError("redis://:password@host is gone")


async def broken() -> None:
    raise OSError("secret path")


async def test_ready() -> None:
    found = await readiness({"ledger": well, "state": well}, Drain())
    assert (found.ready, found.status) == (True, 200)
    assert found.body() == {"status": "ready", "reasons": {}}


async def test_every_reason_is_told_and_none_of_its_details() -> None:
    drain = Drain()
    drain.start()
    checks = {"ledger": no_ledger, "state": no_state, "slow": hangs, "other": broken, "fine": well}
    started = time.perf_counter()
    found = await readiness(checks, drain, timeout_s=0.05)
    assert time.perf_counter() - started < 1, "at the same time"
    assert found.status == 503
    assert found.body() == {
        "status": "not ready",
        "reasons": {
            "drain": "the gateway is draining",
            "ledger": "ledger_error",
            "state": "state_unavailable",
            "slow": "no answer within 0.05 s",
            "other": "OSError",
        },
    }


def test_draining_begins_once() -> None:
    drain = Drain()
    assert (drain.draining, drain.for_s) == (False, 0.0)
    drain.start()
    time.sleep(0.01)
    drain.start()
    assert drain.draining
    assert drain.for_s >= 0.01
    assert Readiness({"a": "b"}).status == 503
