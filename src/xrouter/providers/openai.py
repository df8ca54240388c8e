"""Any OpenAI-compatible endpoint: OpenAI, Together, Gemini, DeepSeek, OpenRouter, vLLM, SGLang, Ollama.

What the client sent goes out untouched (unknown fields stay; for `max_tokens` see `openai_body.params_for`); only the
model id, the messages and, for streams, `stream` and `stream_options` are set here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

import aiohttp
import orjson

from ..catalog.model import Model
from ..errors import (
    ConfigurationError,
    ProviderError,
    ProviderRequestError,
    ProviderResponseError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from ..messages import Chunk, Completion, Request
from ..trace_context import trace_headers
from .base_url import CHAT, EMBEDDINGS, addresses
from .embedder import EmbeddingRequest, Embeddings
from .openai_body import StreamReader, completion_of, embeddings_of, json_object, params_for
from .sse import SSEParser
from .upstream_errors import error_of_status

DEFAULT_MAX_BODY_BYTES = 32 * 1024 * 1024
DEFAULT_CONNECT_TIMEOUT_S = 10.0
MAX_ERROR_BODY_BYTES = 64 * 1024
KEEPALIVE_S = 30.0
END_OF_STREAM_GRACE_S = 0.1


class OpenAIProvider:
    """One endpoint, its key and a pool of connections.

    name: what errors and ledgers call it.
    base_url: up to and without `/chat/completions`, e.g. "https://api.openai.com/v1".
    headers: sent with every request, over the defaults. Their values count as secrets.
    max_body_bytes: the longest answer that is read; for a stream, all of its bytes together.
    stream_usage: ask for usage in streams (`stream_options.include_usage`); off for endpoints that refuse it.
    trust_env: honour HTTP_PROXY, HTTPS_PROXY and NO_PROXY.

    Connections are opened on the loop of the first call; a loop that has ended is replaced by the next one.
    Raises ConfigurationError for a base URL or a key that cannot be sent.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        api_key: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
        connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S,
        stream_usage: bool = True,
        trust_env: bool = False,
    ) -> None:
        self.name = name
        self._endpoint, self._urls = addresses(name, base_url)
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._headers.update(headers or {})
        self._secrets = tuple(filter(None, (api_key, *(headers or {}).values())))
        for header, value in self._headers.items():
            if not (value.isprintable() and value.isascii() and header.isprintable() and header.isascii()):
                raise ConfigurationError(
                    f"provider {name!r}: the API key or header {header!r} holds characters that cannot be sent;"
                    " look for a line break or a quote that was copied with it",
                    param="api_key",
                )
        self._max_body_bytes = max_body_bytes
        self._connect_timeout_s = connect_timeout_s
        self._stream_usage = stream_usage
        self._trust_env = trust_env
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"OpenAIProvider({self.name!r}, {self._endpoint!r})"

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        """Raises ProviderError; see `upstream_errors` for which status is which."""
        started = time.monotonic()
        payload = self._payload(model, request, stream=False)
        return completion_of(
            await self._ask(model, CHAT, payload, timeout_s),
            request,
            latency_s=time.monotonic() - started,
            provider=self.name,
            model=model.name,
            secrets=self._secrets,
        )

    async def embed(
        self, model: Model, request: EmbeddingRequest, *, timeout_s: float | None = None
    ) -> Embeddings:
        """Raises ProviderError; see `upstream_errors` for which status is which."""
        started = time.monotonic()
        payload = self._json(model, {**request.params, "model": model.id, "input": request.input})
        return embeddings_of(
            await self._ask(model, EMBEDDINGS, payload, timeout_s),
            request,
            latency_s=time.monotonic() - started,
            provider=self.name,
            model=model.name,
            secrets=self._secrets,
        )

    async def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        """Chunks as they come; the last one carries usage, estimated where the upstream reports none.

        `timeout_s` bounds the wait for each chunk. Raises ProviderError, also in mid-stream: an end without
        finish_reason or [DONE], a line that is no JSON, an error object, a dropped connection.
        """
        payload = self._payload(model, request, stream=True)
        reader = StreamReader(request, provider=self.name, model=model.name, secrets=self._secrets)
        parser = SSEParser(min(self._max_body_bytes, 4 * 1024 * 1024))
        loop = asyncio.get_running_loop()

        def deadline() -> float | None:
            return None if timeout_s is None else loop.time() + timeout_s

        read, wait_until = 0, deadline()
        try:
            async with asyncio.timeout_at(wait_until):
                answer = await self._post(model, CHAT, payload, "text/event-stream")
        except TimeoutError as error:
            raise self._timed_out(model, timeout_s) from error
        try:
            self._expect_type(answer, model, "event-stream")
            while not reader.done:
                try:
                    async with asyncio.timeout_at(wait_until):
                        data = await answer.content.readany()
                except TimeoutError as error:
                    raise self._timed_out(model, timeout_s) from error
                except (aiohttp.ClientError, OSError) as error:
                    raise self._broke_off(model) from error
                read += len(data)
                self._check_size(read, model)
                for event in parser.feed(data) if data else parser.finish():
                    chunk = reader.take(event)
                    if chunk is not None:
                        yield chunk
                        wait_until = deadline()
                if not data:
                    break
            last = reader.finish()
            if last is not None:
                yield last
            await _read_end(answer)
        finally:
            answer.release()  # closes the connection unless the answer was read to its end

    async def aclose(self) -> None:
        """Close every connection. The provider may be used again."""
        session, self._session, self._loop = self._session, None, None
        if session is not None:
            await session.close()

    def _payload(self, model: Model, request: Request, *, stream: bool) -> bytes:
        body: dict[str, Any] = {
            **params_for(model, request.params),
            "model": model.id,
            "messages": list(request.messages),
        }
        if stream:
            body["stream"] = True
            if self._stream_usage:
                body["stream_options"] = {"include_usage": True}
        return self._json(model, body)

    def _json(self, model: Model, body: Mapping[str, Any]) -> bytes:
        try:
            return orjson.dumps(body)
        except TypeError as error:
            raise ProviderRequestError(
                f"the request for model {model.name!r} cannot be written as JSON: {error}",
                model=model.name,
            ) from error

    async def _client(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is not None and (self._loop is not loop or self._session.closed):
            await self.aclose()
        if self._session is None:
            self._loop = loop
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, keepalive_timeout=KEEPALIVE_S),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=self._trust_env,
            )
        return self._session

    async def _ask(
        self, model: Model, path: str, payload: bytes, timeout_s: float | None
    ) -> Mapping[str, Any]:
        """The JSON object that the endpoint answers with."""
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._post(model, path, payload, "application/json")
                try:
                    self._expect_type(answer, model, "json")
                    body = await self._read(answer, model)
                finally:
                    answer.release()
        except TimeoutError as error:
            raise self._timed_out(model, timeout_s) from error
        return json_object(body, provider=self.name, model=model.name)

    async def _post(self, model: Model, path: str, payload: bytes, accept: str) -> aiohttp.ClientResponse:
        """The upstream's 200 answer, to be read and released by the caller.

        No redirect is followed: it would carry the key elsewhere.
        """
        client = await self._client()
        try:
            answer = await client.post(
                self._urls[path],
                data=payload,
                headers={"Accept": accept, **trace_headers(), **self._headers},
                allow_redirects=False,
            )
        except aiohttp.ServerTimeoutError as error:
            raise ProviderTimeoutError(
                f"provider {self.name!r} at {self._endpoint} accepted no connection within"
                f" {self._connect_timeout_s:g} s",
                model=model.name,
            ) from error
        except aiohttp.ClientConnectorDNSError as error:
            raise ProviderUnavailableError(
                f"provider {self.name!r}: the host of {self._endpoint} has no address; check base_url",
                model=model.name,
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise ProviderUnavailableError(
                f"provider {self.name!r} at {self._endpoint} cannot be reached ({type(error).__name__});"
                " check base_url and that the server runs",
                model=model.name,
            ) from error
        if answer.status != 200:
            try:
                raise await self._refusal(answer, model)
            finally:
                answer.release()
        return answer

    async def _refusal(self, answer: aiohttp.ClientResponse, model: Model) -> ProviderError:
        body = b""
        with suppress(aiohttp.ClientError, OSError):  # the status alone says enough
            while len(body) < MAX_ERROR_BODY_BYTES and (data := await answer.content.readany()):
                body += data
        return error_of_status(
            answer.status,
            answer.headers,
            body[:MAX_ERROR_BODY_BYTES],
            provider=self.name,
            model=model.name,
            secrets=self._secrets,
        )

    async def _read(self, answer: aiohttp.ClientResponse, model: Model) -> bytes:
        self._check_size(answer.content_length or 0, model)
        body = bytearray()
        try:
            while data := await answer.content.readany():
                body += data
                self._check_size(len(body), model)
        except (aiohttp.ClientError, OSError) as error:
            raise self._broke_off(model) from error
        return bytes(body)

    def _check_size(self, size: int, model: Model) -> None:
        if size > self._max_body_bytes:
            raise ProviderResponseError(
                f"provider {self.name!r} sent more than {self._max_body_bytes} bytes for model {model.name!r};"
                " lower the request's max_tokens or raise the provider's max_body_bytes",
                model=model.name,
            )

    def _expect_type(self, answer: aiohttp.ClientResponse, model: Model, wanted: str) -> None:
        content_type = answer.headers.get("Content-Type", wanted).partition(";")[0].strip().lower()
        if not content_type.endswith(wanted):
            raise ProviderResponseError(
                f"provider {self.name!r} answered with content type {content_type[:80]!r} instead of {wanted}"
                f" for model {model.name!r}; check that base_url is the API's and not a web page's",
                model=model.name,
            )

    def _timed_out(self, model: Model, timeout_s: float | None) -> ProviderTimeoutError:
        limit = "in time" if timeout_s is None else f"within {timeout_s:g} s"
        return ProviderTimeoutError(
            f"provider {self.name!r} did not answer {limit} for model {model.name!r}", model=model.name
        )

    def _broke_off(self, model: Model) -> ProviderResponseError:
        return ProviderResponseError(
            f"provider {self.name!r} dropped the connection in the middle of its answer for model"
            f" {model.name!r}",
            model=model.name,
        )


async def _read_end(answer: aiohttp.ClientResponse) -> None:
    """Read the few bytes that end the HTTP body, so that the connection goes back to the pool."""
    with suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(END_OF_STREAM_GRACE_S):
            await answer.content.readany()
