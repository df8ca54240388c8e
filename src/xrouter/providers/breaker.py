"""A circuit breaker: a pure state machine with an injected clock.

closed --`failures` in a row--> open --after `reset_s`--> half-open (one probe) --success--> closed
                                 ^---------------------------- failure ------------|
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave for one call. Its result counts only while the circuit is in the period that granted it."""

    period: int


class CircuitBreaker:
    """`clock` returns seconds. Ask `enter` before a call, then report once: `succeed`, `fail` or `release`."""

    def __init__(self, failures: int, reset_s: float, clock: Callable[[], float]) -> None:
        self._limit = failures
        self._reset_s = reset_s
        self._clock = clock
        self._state: State = "closed"
        self._failures = 0
        self._opened_at = 0.0
        self._probing = False
        self._period = 0

    @property
    def state(self) -> State:
        if self._state == "open" and self.reopens_in_s == 0.0:
            return "half_open"
        return self._state

    @property
    def closed(self) -> bool:
        return self._state == "closed"

    @property
    def reopens_in_s(self) -> float:
        """Seconds until an open circuit lets a probe through; 0 unless open."""
        if self._state != "open":
            return 0.0
        return max(0.0, self._opened_at + self._reset_s - self._clock())

    def enter(self) -> Permit | None:
        """A permit, or None while the circuit is open or its one probe is under way."""
        if self.state == "half_open":
            if self._state == "open":
                self._change("half_open")
            if self._probing:
                return None
            self._probing = True
        elif self._state == "open":
            return None
        return Permit(self._period)

    def succeed(self, permit: Permit) -> None:
        """The call came back well."""
        if permit.period != self._period:
            return
        self._failures = 0
        if self._state == "half_open":
            self._change("closed")

    def fail(self, permit: Permit) -> None:
        """The call failed in a way that speaks against the endpoint."""
        if permit.period != self._period:
            return
        self._failures += 1
        if self._state == "half_open" or self._failures >= self._limit:
            self._opened_at = self._clock()
            self._change("open")

    def release(self, permit: Permit) -> None:
        """The call ended without saying anything about the endpoint (it was cancelled)."""
        if permit.period == self._period:
            self._probing = False

    def _change(self, state: State) -> None:
        self._state = state
        self._failures = 0
        self._probing = False
        self._period += 1
