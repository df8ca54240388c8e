"""HTTP by aiohttp: every platform, proxies from the environment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from .transport import DEFAULT_CONNECT_TIMEOUT_S, END_OF_BODY_GRACE_S, KEEPALIVE_S, Faults

_FAULTS = (aiohttp.ClientError, OSError)


class AiohttpTransport:
    """trust_env: honour HTTP_PROXY, HTTPS_PROXY and NO_PROXY."""

    def __init__(
        self,
        url: str,
        faults: Faults,
        *,
        connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S,
        trust_env: bool = False,
    ) -> None:
        self._url = URL(url)
        self._faults = faults
        self._connect_timeout_s = connect_timeout_s
        self._trust_env = trust_env
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def post(self, body: bytes, headers: Mapping[str, str], model: str) -> AiohttpAnswer:
        session = self._session
        if session is None or self._loop is not asyncio.get_running_loop() or session.closed:
            session = await self._new_session()
        try:
            answer = await session.post(
                self._url, data=body, headers=CIMultiDict(headers), allow_redirects=False
            )
        except aiohttp.ServerTimeoutError as error:
            raise self._faults.no_connection_within(self._connect_timeout_s, model) from error
        except aiohttp.ClientConnectorDNSError as error:
            raise self._faults.no_address(model) from error
        except aiohttp.ClientResponseError as error:
            raise self._faults.no_http(type(error).__name__, model) from error
        except _FAULTS as error:
            raise self._faults.unreachable(error, model) from error
        return AiohttpAnswer(answer, self._faults, model)

    async def aclose(self) -> None:
        session, self._session, self._loop = self._session, None, None
        if session is not None:
            await session.close()

    async def _new_session(self) -> aiohttp.ClientSession:
        await self.aclose()
        self._loop = asyncio.get_running_loop()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, keepalive_timeout=KEEPALIVE_S),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding", "User-Agent"),
            trust_env=self._trust_env,
        )
        return self._session


class AiohttpAnswer:
    def __init__(self, answer: aiohttp.ClientResponse, faults: Faults, model: str) -> None:
        self._answer = answer
        self._faults = faults
        self._model = model
        self.status = answer.status
        self.headers: Mapping[str, str] = answer.headers

    async def read(self) -> bytes:
        try:
            return await self._answer.content.readany()
        except _FAULTS as error:
            raise self._faults.broke_off(self._model) from error

    async def push(self, take: Callable[[bytes], bool]) -> None:
        """aiohttp has readers only."""

    async def finish(self) -> None:
        if not self._answer.content.at_eof():
            with suppress(TimeoutError, *_FAULTS):
                async with asyncio.timeout(END_OF_BODY_GRACE_S):
                    await self._answer.content.readany()
        self._answer.release()

    def hang_up(self) -> None:
        self._answer.close()
