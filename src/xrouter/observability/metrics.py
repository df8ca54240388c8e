"""The events that are counted, one method each. This class counts nothing: it is what a gateway without metrics calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ..messages import Usage
from .record import RequestRecord

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Circuit = Literal["closed", "half_open", "open"]
CIRCUIT_LEVEL: Mapping[Circuit, int] = {"closed": 0, "half_open": 1, "open": 2}


class Metrics:
    """Counts nothing. `prometheus.PrometheusMetrics` counts."""

    def request_started(self) -> None:
        """A request came in."""

    def request_ended(self, record: RequestRecord) -> None:
        """It is over, however it ended: every `request_started` has one."""

    def stream_opened(self) -> None: ...

    def stream_closed(self) -> None: ...

    def upstream_call(self, model: str, outcome: str, seconds: float, usage: Usage | None = None) -> None:
        """One attempt. outcome: "ok", "cancelled", or the code of the error."""

    def upstream_first_byte(self, model: str, seconds: float) -> None:
        """From the call to the first piece of a streamed answer."""

    def retried(self, model: str) -> None: ...

    def circuit(self, model: str, state: Circuit) -> None: ...

    def decided(self, policy: str, seconds: float) -> None:
        """The policy took one decision."""

    def ledger_committed(self, seconds: float) -> None:
        """From handing rows over until they are durable."""

    def budget_refused(self, kind: str) -> None:
        """kind: whose budget, "key", "team", "user" or "tag"; never the name."""

    def rate_limited(self, kind: str) -> None:
        """kind: what ran out, "requests" or "tokens"."""

    async def render(self) -> bytes:
        """The text of GET /metrics."""
        return b""
