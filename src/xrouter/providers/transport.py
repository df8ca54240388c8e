"""What a provider needs of HTTP: one POST, an answer read piece by piece. Two transports offer it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from ..errors import ProviderResponseError, ProviderTimeoutError, ProviderUnavailableError

DEFAULT_CONNECT_TIMEOUT_S = 10.0
KEEPALIVE_S = 30.0
END_OF_BODY_GRACE_S = 0.1
"""Seconds that the few bytes after an answer may take before its connection is given up."""


class Answer(Protocol):
    """Status and headers have come; the body is read. Not decompressed: `identity` is what is asked for."""

    status: int

    @property
    def headers(self) -> Mapping[str, str]:
        """Looked up without regard to case."""
        ...

    async def read(self) -> bytes:
        """What has come of the body, waited for if need be; b"" at its end. Raises ProviderResponseError where
        the connection breaks off."""
        ...

    async def push(self, take: Callable[[bytes], bool]) -> None:
        """Give what comes to `take` as it comes, without a task's turn, until it returns False, the body ends or the
        connection breaks off: `read` tells which. A transport that cannot returns at once. Raises what `take` raises."""
        ...

    async def finish(self) -> None:
        """Nobody reads on. The connection goes back to the pool if the body ends within END_OF_BODY_GRACE_S
        seconds, and is closed otherwise."""
        ...

    def hang_up(self) -> None:
        """Close the connection now, unless the body was read to its end; a pending `read` raises. Harmless when repeated."""
        ...


class Transport(Protocol):
    """Connections to one URL, kept alive. A loop that has ended is replaced by the next one."""

    async def post(self, body: bytes, headers: Mapping[str, str], model: str) -> Answer:
        """Send `body` and wait for status and headers; no redirect is followed.

        Raises ProviderTimeoutError, ProviderUnavailableError or ProviderResponseError naming `model`.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection. The transport may be used again."""
        ...


class Faults:
    """The errors of one endpoint in words. `shown` is its address without path and query."""

    def __init__(self, provider: str, shown: str) -> None:
        self.provider = provider
        self.shown = shown

    def no_connection_within(self, seconds: float, model: str) -> ProviderTimeoutError:
        return ProviderTimeoutError(
            f"provider {self.provider!r} at {self.shown} accepted no connection within {seconds:g} s",
            model=model,
        )

    def no_address(self, model: str) -> ProviderUnavailableError:
        return ProviderUnavailableError(
            f"provider {self.provider!r}: the host of {self.shown} has no address; check base_url",
            model=model,
        )

    def unreachable(self, why: BaseException, model: str) -> ProviderUnavailableError:
        return ProviderUnavailableError(
            f"provider {self.provider!r} at {self.shown} cannot be reached ({type(why).__name__});"
            " check base_url and that the server runs",
            model=model,
        )

    def broke_off(self, model: str) -> ProviderResponseError:
        return ProviderResponseError(
            f"provider {self.provider!r} dropped the connection in the middle of its answer for model {model!r}",
            model=model,
        )

    def no_http(self, why: str, model: str) -> ProviderResponseError:
        return ProviderResponseError(
            f"provider {self.provider!r} at {self.shown} sent what is no valid HTTP for model {model!r}: {why}",
            model=model,
        )

    def timed_out(self, limit_s: float | None, model: str) -> ProviderTimeoutError:
        limit = "in time" if limit_s is None else f"within {limit_s:g} s"
        return ProviderTimeoutError(
            f"provider {self.provider!r} did not answer {limit} for model {model!r}", model=model
        )

    def too_long(self, limit: int, model: str) -> ProviderResponseError:
        return ProviderResponseError(
            f"provider {self.provider!r} sent more than {limit} bytes for model {model!r};"
            " lower the request's max_tokens or raise the provider's max_body_bytes",
            model=model,
        )

    def wrong_type(self, found: str, wanted: str, model: str) -> ProviderResponseError:
        return ProviderResponseError(
            f"provider {self.provider!r} answered with content type {found[:80]!r} instead of {wanted}"
            f" for model {model!r}; check that base_url is the API's and not a web page's",
            model=model,
        )

    def compressed(self, encoding: str, model: str) -> ProviderResponseError:
        return ProviderResponseError(
            f"provider {self.provider!r} compressed its answer for model {model!r} ({encoding[:40]!r}) though it"
            " was asked not to; look for a proxy in between that does",
            model=model,
        )
