"""Any OpenAI-compatible endpoint: OpenAI, Together, Gemini, DeepSeek, OpenRouter, vLLM, SGLang, Ollama.

What the client sent goes out untouched (unknown fields stay; for `max_tokens` see `openai_body.params_for`); only the
model id, the messages and, for streams, `stream` and `stream_options` are set here.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

import orjson

from ..catalog.model import Model
from ..deadlines import within
from ..errors import (
    ConfigurationError,
    ProviderError,
    ProviderRequestError,
    ProviderResponseError,
)
from ..messages import Chunk, Completion, Request
from ..settings_tables.upstream import TransportName
from ..trace_context import trace_headers
from .base_url import addresses
from .block_reader import BlockReader
from .embedder import EmbeddingRequest, Embeddings
from .event_stream import EventStream
from .openai_body import completion_of, embeddings_of, json_object, params_for
from .streams import BlockStream, chunks_of
from .transport import DEFAULT_CONNECT_TIMEOUT_S, Answer, Faults, Transport
from .upstream_errors import error_of_status

DEFAULT_MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_ERROR_BODY_BYTES = 64 * 1024
MAX_LINE_BYTES = 4 * 1024 * 1024
FRAMING_HEADERS = frozenset(
    [
        "accept-encoding",
        "connection",
        "content-length",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)
"""Never taken from a request: they belong to the connection."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class OpenAIProvider:
    """One endpoint, its key and a pool of connections.

    name: what errors and ledgers call it.
    base_url: up to and without `/chat/completions`, e.g. "https://api.openai.com/v1".
    headers: sent with every request, over the defaults. Their values count as secrets.
    max_body_bytes: the longest answer that is read; for a stream, all of its bytes together.
    stream_usage: ask for usage in streams (`stream_options.include_usage`); off for endpoints that refuse it.
    trust_env: honour HTTP_PROXY, HTTPS_PROXY and NO_PROXY; by aiohttp whatever `transport` says.
    transport: who speaks HTTP, xrouter's own on httptools ("native"), which costs less CPU, or "aiohttp".

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
        transport: TransportName = "native",
    ) -> None:
        self.name = name
        self._endpoint, chat_url, embeddings_url = addresses(name, base_url)
        self._headers = {
            "User-Agent": "xrouter",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
        }
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
        self._fixed = FRAMING_HEADERS | {header.lower() for header in self._headers} | {"accept"}
        self._max_body_bytes = max_body_bytes
        self._stream_usage = stream_usage
        self._faults = Faults(name, self._endpoint)
        connect = partial(_transport, transport, self._faults, connect_timeout_s, trust_env)
        self._transport, self._embedding_transport = connect(chat_url), connect(embeddings_url)

    def __repr__(self) -> str:
        return f"OpenAIProvider({self.name!r}, {self._endpoint!r})"

    async def complete(self, model: Model, request: Request, *, timeout_s: float | None = None) -> Completion:
        """Raises ProviderError; see `upstream_errors` for which status is which."""
        started = time.monotonic()
        payload = self._payload(model, request, stream=False)
        headers = self._headers_for(model, request.headers, "application/json")
        return completion_of(
            await self._object(self._transport, model, payload, headers, timeout_s),
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
        payload = _json(model, {**request.params, "model": model.id, "input": request.input})
        headers = self._headers_for(model, {}, "application/json")
        return embeddings_of(
            await self._object(self._embedding_transport, model, payload, headers, timeout_s),
            request,
            latency_s=time.monotonic() - started,
            provider=self.name,
            model=model.name,
            secrets=self._secrets,
        )

    async def open(self, model: Model, request: Request, *, timeout_s: float | None = None) -> BlockStream:
        """The stream, once its first block has come; the last block carries usage, estimated where the upstream
        reports none.

        `timeout_s` bounds the wait for each block. Raises ProviderError, also in mid-stream: an end without
        finish_reason or [DONE], an event that is no JSON object, an error object, a dropped connection.
        """
        began = asyncio.get_running_loop().time()
        payload = self._payload(model, request, stream=True)
        headers = self._headers_for(model, request.headers, "text/event-stream")
        reader = BlockReader(
            request,
            provider=self.name,
            model=model.name,
            secrets=self._secrets,
            max_line_bytes=min(self._max_body_bytes, MAX_LINE_BYTES),
        )
        try:
            with within(timeout_s):
                answer = await self._answer(self._transport, model, payload, headers, "event-stream")
        except TimeoutError as error:
            raise self._faults.timed_out(timeout_s, model.name) from error
        return await EventStream(
            answer, reader, self._faults, model.name, timeout_s, began, self._max_body_bytes
        ).start()

    def stream(
        self, model: Model, request: Request, *, timeout_s: float | None = None
    ) -> AsyncIterator[Chunk]:
        """As `open`, piece by piece."""
        return chunks_of(partial(self.open, model, request, timeout_s=timeout_s))

    async def aclose(self) -> None:
        """Close every connection. The provider may be used again."""
        await self._transport.aclose()
        await self._embedding_transport.aclose()

    def _payload(self, model: Model, request: Request, *, stream: bool) -> bytes:
        params = params_for(model, request.params)
        body: dict[str, Any] = {**params, "model": model.id, "messages": request.messages}
        if stream:
            body["stream"] = True
            if self._stream_usage:
                body["stream_options"] = {"include_usage": True}
        return _json(model, body)

    def _headers_for(self, model: Model, asked: Mapping[str, str], accept: str) -> Mapping[str, str]:
        headers = {"Accept": accept, **trace_headers(), **self._headers}
        for name, value in asked.items():
            if name.lower() in self._fixed:
                continue
            if not (_HEADER_NAME.fullmatch(name) and value.isascii() and value.isprintable()):
                raise ProviderRequestError(
                    f"header {name[:80]!r} for model {model.name!r} cannot be sent: a name is a token, a value"
                    " printable ASCII",
                    model=model.name,
                )
            headers[name] = value
        return headers

    async def _object(
        self,
        transport: Transport,
        model: Model,
        payload: bytes,
        headers: Mapping[str, str],
        timeout_s: float | None,
    ) -> Mapping[str, Any]:
        """The JSON object that the upstream answers with."""
        try:
            with within(timeout_s):
                body = await self._whole_body(transport, model, payload, headers)
        except TimeoutError as error:
            raise self._faults.timed_out(timeout_s, model.name) from error
        return json_object(body, provider=self.name, model=model.name)

    async def _whole_body(
        self, transport: Transport, model: Model, payload: bytes, headers: Mapping[str, str]
    ) -> bytes:
        answer = await self._answer(transport, model, payload, headers, "json")
        try:
            promised = answer.headers.get("Content-Length", "")
            if promised.isdecimal() and int(promised) > self._max_body_bytes:
                raise self._faults.too_long(self._max_body_bytes, model.name)
            pieces, size = [], 0
            while data := await answer.read():
                pieces.append(data)
                size += len(data)
                if size > self._max_body_bytes:
                    raise self._faults.too_long(self._max_body_bytes, model.name)
            return b"".join(pieces)
        finally:
            answer.hang_up()

    async def _answer(
        self, transport: Transport, model: Model, payload: bytes, headers: Mapping[str, str], wanted: str
    ) -> Answer:
        """The upstream's 200 answer of the wanted type, to be read by the caller."""
        answer = await transport.post(payload, headers, model.name)
        try:
            if answer.status != 200:
                raise await self._refusal(answer, model)
            found = answer.headers.get("Content-Type", wanted).partition(";")[0].strip().lower()
            if not found.endswith(wanted):
                raise self._faults.wrong_type(found, wanted, model.name)
            encoding = answer.headers.get("Content-Encoding", "identity")
            if encoding.lower() != "identity":
                raise self._faults.compressed(encoding, model.name)
        except BaseException:
            answer.hang_up()
            raise
        return answer

    async def _refusal(self, answer: Answer, model: Model) -> ProviderError:
        body = b""
        try:
            while len(body) < MAX_ERROR_BODY_BYTES and (data := await answer.read()):
                body += data
        except ProviderResponseError:
            pass  # the status alone says enough
        return error_of_status(
            answer.status,
            answer.headers,
            body[:MAX_ERROR_BODY_BYTES],
            provider=self.name,
            model=model.name,
            secrets=self._secrets,
        )


def _json(model: Model, body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError as error:
        raise ProviderRequestError(
            f"the request for model {model.name!r} cannot be written as JSON: {error}",
            model=model.name,
        ) from error


def _transport(
    name: TransportName, faults: Faults, connect_timeout_s: float, trust_env: bool, url: str
) -> Transport:
    if name == "native" and not trust_env:
        from .native_transport import NativeTransport

        return NativeTransport(url, faults, connect_timeout_s=connect_timeout_s)
    from .aiohttp_transport import AiohttpTransport

    return AiohttpTransport(url, faults, connect_timeout_s=connect_timeout_s, trust_env=trust_env)
