"""What is told about one request, once it is over. It has no field for a prompt, an answer or a secret."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from decimal import Decimal

from ..messages import Usage


@dataclass(slots=True)
class RequestRecord:
    """The gateway fills it in as it learns; metrics and the log read it at the end.

    at: Unix seconds of its arrival. api: the path, such as "/v1/chat/completions".
    key_id: the virtual key's id, never the key. model: as asked for. code: the error's, None where it went well.
    latency_s: until the last byte; first_byte_s: until the first of the answer; upstream_s: of these spent waiting
        for models (where several are asked at once, the time until all have answered counts once).
    cost_usd: what was booked; saved_usd: what a cached answer cost the first time.
    """

    request_id: str
    api: str
    at: float = field(default_factory=time.time)
    trace_id: str = ""
    key_id: str | None = None
    model: str = ""
    policy: str = ""
    route: str = ""
    stream: bool = False
    status: int = 0
    code: str | None = None
    cache: str = "off"
    usage: Usage = field(default_factory=Usage)
    cost_usd: Decimal = Decimal(0)
    saved_usd: Decimal = Decimal(0)
    confidence: float | None = None
    latency_s: float = 0.0
    first_byte_s: float | None = None
    upstream_s: float = 0.0

    @property
    def overhead_s(self) -> float:
        """The gateway's own time."""
        return max(0.0, self.latency_s - self.upstream_s)
