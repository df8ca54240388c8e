"""A mock OpenAI-compatible upstream on loopback, scripted by the test that uses it.

    def test_something(mock_upstream):                 # fixture in conftest.py
        mock_upstream.script(server_error(), ok("hi"))  # the next two requests
        mock_upstream.default = ok("hello")             # every request after the script
        ...  # talk to mock_upstream.base_url, e.g. "http://127.0.0.1:41234/v1"
        mock_upstream.requests[0].body["model"]

It runs on a thread of its own, so that blocking clients and tests with a loop of their own can use it.
A behaviour is an async function of (received, aiohttp request) that returns the response.
`ok` streams when the request says `stream`; `by_model` picks a behaviour by the model id asked for.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType
from typing import Any

from aiohttp import web

DEFAULT_USAGE: Mapping[str, Any] = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}

TOOL_CALLS: Sequence[Mapping[str, Any]] = (
    {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'},
    },
)


@dataclass
class Received:
    """One request as the upstream got it. `disconnected` is set when the client hangs up before the answer ends."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    disconnected: threading.Event = field(default_factory=threading.Event)

    async def wait_disconnected(self, timeout_s: float = 15.0) -> bool:
        return await asyncio.to_thread(self.disconnected.wait, timeout_s)


Behaviour = Callable[[Received, web.Request], Awaitable[web.StreamResponse]]


class MockUpstream:
    """Serves POST /v1/chat/completions, POST /v1/embeddings (script `embedded` for it) and GET /v1/models until closed."""

    def __init__(self, default: Behaviour | None = None) -> None:
        self.requests: list[Received] = []
        self.default: Behaviour = default or ok()
        self.port = 0
        self._script: deque[Behaviour] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def script(self, *behaviours: Behaviour) -> None:
        """Answer the coming requests with these, in order; `default` answers whatever follows."""
        self._script.extend(behaviours)

    async def wait_requests(self, count: int, timeout_s: float = 15.0) -> None:
        """Wait until `count` requests have arrived; raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while len(self.requests) < count:  # noqa: ASYNC110  # the server runs on another thread
                await asyncio.sleep(0.005)

    def __enter__(self) -> MockUpstream:
        self._thread.start()
        if not self._started.wait(10):
            raise RuntimeError("the mock upstream did not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._chat)
        app.router.add_get("/v1/models", self._models)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        received = Received(
            request.method, request.path, dict(request.headers), json.loads(raw) if raw else None
        )
        self.requests.append(received)
        behaviour = self._script.popleft() if self._script else self.default
        try:
            return await behaviour(received, request)
        except (asyncio.CancelledError, ConnectionError):
            received.disconnected.set()
            raise

    async def _models(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"object": "list", "data": [{"id": "mock-model", "object": "model"}]})


def closed_port_url() -> str:
    """A base URL on loopback where nothing listens: connections are refused."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


def completion_body(
    text: str | None = "Hello.",
    *,
    model: str = "mock-model",
    usage: Mapping[str, Any] | None = DEFAULT_USAGE,
    finish_reason: str = "stop",
    tool_calls: Sequence[Mapping[str, Any]] | None = None,
    **message: Any,
) -> dict[str, Any]:
    """A chat.completion object; `usage=None` leaves usage out."""
    content: dict[str, Any] = {"role": "assistant", "content": text, **message}
    if tool_calls is not None:
        content["tool_calls"] = [dict(call) for call in tool_calls]
    body: dict[str, Any] = {
        "id": "chatcmpl-mock",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": model,
        "choices": [{"index": 0, "message": content, "finish_reason": finish_reason}],
    }
    if usage is not None:
        body["usage"] = dict(usage)
    return body


def chunk_body(
    delta: Mapping[str, Any], *, model: str = "mock-model", finish_reason: str | None = None
) -> dict[str, Any]:
    return {
        "id": "chatcmpl-mock",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": model,
        "choices": [{"index": 0, "delta": dict(delta), "finish_reason": finish_reason}],
    }


def chunk_bodies(body: Mapping[str, Any], *, include_usage: bool = True) -> list[dict[str, Any]]:
    """The chunks that stream a chat.completion object: role, words, tool calls, finish, usage."""
    choice = body["choices"][0]
    message, model = choice["message"], body["model"]
    chunks = [chunk_body({"role": "assistant", "content": ""}, model=model)]
    words = (message.get("content") or "").split(" ")
    for i, word in enumerate(words):
        if word or i:
            chunks.append(chunk_body({"content": word if i == 0 else f" {word}"}, model=model))
    for i, call in enumerate(message.get("tool_calls") or ()):
        chunks.append(chunk_body({"tool_calls": [{"index": i, **call}]}, model=model))
    chunks.append(chunk_body({}, model=model, finish_reason=choice["finish_reason"]))
    if include_usage and "usage" in body:
        chunks.append({**chunk_body({}, model=model), "choices": [], "usage": body["usage"]})
    return chunks


def sse(data: Mapping[str, Any] | str) -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    return f"data: {text}\n\n".encode()


async def send_sse(
    request: web.Request, events: Sequence[bytes], *, delay_s: float = 0.0
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for event in events:
        if delay_s:
            await asyncio.sleep(delay_s)
        await response.write(event)
    return response


# Behaviours


def ok(
    text: str | None = "Hello.",
    *,
    usage: Mapping[str, Any] | None = DEFAULT_USAGE,
    finish_reason: str = "stop",
    tool_calls: Sequence[Mapping[str, Any]] | None = None,
    delay_s: float = 0.0,
    **message: Any,
) -> Behaviour:
    """A well-formed answer that echoes the model id asked for. Streams if asked to; `delay_s` is the wait
    before the answer, or before each chunk."""

    async def behave(received: Received, request: web.Request) -> web.StreamResponse:
        body = completion_body(
            text,
            model=received.body["model"],
            usage=usage,
            finish_reason=finish_reason,
            tool_calls=tool_calls,
            **message,
        )
        if received.body.get("stream"):
            wants_usage = bool((received.body.get("stream_options") or {}).get("include_usage"))
            events = [sse(chunk) for chunk in chunk_bodies(body, include_usage=wants_usage)]
            return await send_sse(request, [*events, sse("[DONE]")], delay_s=delay_s)
        if delay_s:
            await asyncio.sleep(delay_s)
        return web.json_response(body)

    return behave


def ok_tools(tool_calls: Sequence[Mapping[str, Any]] = TOOL_CALLS) -> Behaviour:
    """An answer that calls tools."""
    return ok(None, finish_reason="tool_calls", tool_calls=tool_calls)


def embedded(
    *, usage: Mapping[str, Any] | None = MappingProxyType({"prompt_tokens": 5, "total_tokens": 5})
) -> Behaviour:
    """A vector for each input text."""

    async def behave(received: Received, request: web.Request) -> web.StreamResponse:
        given = received.body["input"]
        count = 1 if isinstance(given, str) else len(given)
        data = [{"object": "embedding", "index": i, "embedding": [0.5, float(i)]} for i in range(count)]
        body = {"object": "list", "model": received.body["model"], "data": data}
        return web.json_response(body | ({} if usage is None else {"usage": dict(usage)}))

    return behave


def by_model(behaviours: Mapping[str, Behaviour], otherwise: Behaviour | None = None) -> Behaviour:
    """One behaviour a model id; `otherwise` (default: `ok()`) for ids that are not named."""

    async def behave(received: Received, request: web.Request) -> web.StreamResponse:
        chosen = behaviours.get(received.body["model"], otherwise or ok())
        return await chosen(received, request)

    return behave


def error(
    status: int,
    message: str = "mock failure",
    *,
    code: str | int | None = None,
    kind: str = "mock_error",
    headers: Mapping[str, str] | None = None,
) -> Behaviour:
    """An error in OpenAI's shape."""

    async def behave(received: Received, request: web.Request) -> web.StreamResponse:
        body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
        return web.json_response(body, status=status, headers=headers)

    return behave


def rate_limited(retry_after: str | None = "1") -> Behaviour:
    """429 with Retry-After: seconds or an HTTP date."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return error(429, "slow down", code="rate_limit_exceeded", headers=headers)


def server_error(status: int = 500) -> Behaviour:
    return error(status, "the server had an error")


def hang(seconds: float = 60.0) -> Behaviour:
    """Say nothing until the client hangs up."""

    async def behave(received: Received, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return web.json_response(completion_body())

    return behave


def hang_after(text: str = "Hel", seconds: float = 60.0) -> Behaviour:
    """Stream one piece of text, then nothing until the client hangs up."""

    async def behave(received: Received, request: web.Request) -> web.StreamResponse:
        response = await send_sse(request, [sse(chunk_body({"role": "assistant", "content": text}))])
        await asyncio.sleep(seconds)
        return response

    return behave


def raw(
    body: bytes, *, content_type: str = "application/json", status: int = 200, **headers: str
) -> Behaviour:
    """Any bytes under any content type."""

    async def behave(received: Received, request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers={"Content-Type": content_type, **headers})

    return behave


def half_json() -> Behaviour:
    body = json.dumps(completion_body()).encode()
    return raw(body[: len(body) // 2])


def wrong_content_type() -> Behaviour:
    """A proxy's HTML page with status 200."""
    return raw(b"<html><body>Welcome to the proxy</body></html>", content_type="text/html")


def huge(size: int) -> Behaviour:
    """A well-formed answer of at least `size` bytes."""
    return raw(json.dumps(completion_body("x" * size)).encode())


def cut_body() -> Behaviour:
    """Promise a whole body, send half of it and drop the connection."""

    async def behave(received: Received, request: web.Request) -> web.StreamResponse:
        body = json.dumps(completion_body()).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.close()
        return response

    return behave


def sse_events(*events: bytes, cut: bool = False) -> Behaviour:
    """These bytes as an event stream; `cut` drops the connection instead of ending the stream."""

    async def behave(received: Received, request: web.Request) -> web.StreamResponse:
        response = await send_sse(request, events)
        if cut and request.transport is not None:
            await asyncio.sleep(0.01)
            request.transport.abort()
        return response

    return behave


def broken_sse(kind: str = "no_end") -> Behaviour:
    """A stream that starts well and then breaks.

    no_end: ends without finish_reason or [DONE]; cut: the connection drops; bad_json: a line that is no JSON;
    error: an error object in the stream; not_object: JSON that is no object.
    """
    first = sse(chunk_body({"role": "assistant", "content": "Hel"}))
    rest = {
        "no_end": b"",
        "cut": b"",
        "bad_json": b'data: {"choices": [{"delta"\n\n',
        "error": sse({"error": {"message": "overloaded", "type": "server_error", "code": None}}),
        "not_object": sse("[1, 2]"),
    }[kind]
    return sse_events(first, rest, cut=kind == "cut")
