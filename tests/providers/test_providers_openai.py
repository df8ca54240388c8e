from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from email.utils import formatdate
from functools import partial
from typing import Any

import pytest
from conftest import make_model
from upstream import (
    TOOL_CALLS,
    Behaviour,
    MockUpstream,
    broken_sse,
    chunk_body,
    closed_port_url,
    cut_body,
    error,
    half_json,
    hang,
    hang_after,
    huge,
    ok,
    ok_tools,
    rate_limited,
    raw,
    send_sse,
    server_error,
    sse,
    sse_events,
    wrong_content_type,
)

from xrouter.errors import (
    ConfigurationError,
    ProviderAuthError,
    ProviderError,
    ProviderRateLimitError,
    ProviderRequestError,
    ProviderResponseError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from xrouter.messages import Chunk, Request, Usage
from xrouter.providers.openai import OpenAIProvider

KEY = "sk-test-0123456789abcdef"
MODEL = make_model("mock")
HELLO = Request.from_text("Say hello")


Make = Callable[..., OpenAIProvider]


@pytest.fixture(params=["aiohttp", "native"])
def make(request: pytest.FixtureRequest) -> Make:
    """An OpenAIProvider over each of the transports."""
    return partial(OpenAIProvider, transport=request.param)


@pytest.fixture
async def provider(mock_upstream: MockUpstream, make: Make) -> AsyncIterator[OpenAIProvider]:
    provider = make("mock", mock_upstream.base_url, KEY)
    yield provider
    await provider.aclose()


async def chunks_of(provider: OpenAIProvider, request: Request = HELLO, **kwargs: Any) -> list[Chunk]:
    return [chunk async for chunk in provider.stream(MODEL, request, **kwargs)]


def text_of_chunks(chunks: list[Chunk]) -> str:
    return "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.data["choices"]
    )


# What goes out


async def test_the_request_goes_out_untouched(provider: OpenAIProvider, mock_upstream: MockUpstream) -> None:
    messages = [
        {"role": "system", "content": "Be brief.", "name": "s"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
        {"role": "assistant", "content": None, "tool_calls": list(TOOL_CALLS)},
        {"role": "tool", "tool_call_id": "call_1", "content": "4 degrees", "vendor_field": 1},
    ]
    params = {
        "max_tokens": 5,
        "max_completion_tokens": 6,
        "temperature": 0,
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "response_format": {"type": "json_object"},
        "vendor_extra": {"deep": [1, None, "é"]},
    }
    await provider.complete(MODEL, Request.from_messages(messages, **params))
    (received,) = mock_upstream.requests
    assert received.body == {**params, "model": "mock-id", "messages": messages}
    assert received.headers["Authorization"] == f"Bearer {KEY}"


async def test_a_stream_asks_for_usage(provider: OpenAIProvider, mock_upstream: MockUpstream) -> None:
    await chunks_of(provider, HELLO.with_params(max_tokens=3))
    body = mock_upstream.requests[0].body
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert body["max_tokens"] == 3


async def test_no_key_no_header_and_own_headers(mock_upstream: MockUpstream, make: Make) -> None:
    provider = make("mock", mock_upstream.base_url + "/", headers={"X-Title": "xrouter"}, stream_usage=False)
    await provider.complete(MODEL, HELLO)
    await chunks_of(provider)
    await provider.aclose()
    first, second = mock_upstream.requests
    assert "Authorization" not in first.headers
    assert first.headers["X-Title"] == "xrouter"
    assert "stream_options" not in second.body


async def test_a_query_in_the_base_url_stays(mock_upstream: MockUpstream, make: Make) -> None:
    provider = make("mock", mock_upstream.base_url + "?api-version=1")
    assert (await provider.complete(MODEL, HELLO)).text == "Hello."
    await provider.aclose()


async def test_what_is_no_json_is_the_callers_error(provider: OpenAIProvider) -> None:
    with pytest.raises(ProviderRequestError, match="cannot be written as JSON"):
        await provider.complete(MODEL, HELLO.with_params(stop=object()))


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000/v1", "ftp://x/v1", "http://", "http://u:p@host/v1", "http://[::1", "http://h:x/"],
)
def test_a_bad_base_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        OpenAIProvider("mock", url, KEY)


@pytest.mark.parametrize("key", ["sk-abc\n", "sk-“abc”"])
def test_a_key_that_cannot_be_sent_is_a_configuration_error(key: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be sent") as caught:
        OpenAIProvider("mock", "http://127.0.0.1/v1", key)
    assert "abc" not in str(caught.value)


def test_repr_has_no_key() -> None:
    provider = OpenAIProvider("mock", "http://127.0.0.1:1/v1?key=hush", KEY, headers={"X-Key": "hush"})
    assert repr(provider) == "OpenAIProvider('mock', 'http://127.0.0.1:1')"


# What comes back


async def test_a_completion(provider: OpenAIProvider, mock_upstream: MockUpstream) -> None:
    mock_upstream.script(ok("Hi!", finish_reason="length", reasoning_content="hm"))
    completion = await provider.complete(MODEL, HELLO)
    assert completion.text == "Hi!"
    assert completion.finish_reason == "length"
    assert completion.served_model == "mock-id"
    assert completion.usage == Usage(11, 7)
    assert completion.message["reasoning_content"] == "hm"
    assert completion.raw["id"] == "chatcmpl-mock"
    assert 0 < completion.latency_s < 5


async def test_tool_calls(provider: OpenAIProvider, mock_upstream: MockUpstream) -> None:
    mock_upstream.script(ok_tools(), ok_tools())
    completion = await provider.complete(MODEL, HELLO)
    assert list(completion.tool_calls) == list(TOOL_CALLS)
    assert completion.text == ""
    chunks = await chunks_of(provider)
    deltas = [choice["delta"] for chunk in chunks for choice in chunk.data["choices"]]
    assert [d["tool_calls"][0]["id"] for d in deltas if "tool_calls" in d] == ["call_1"]


async def test_missing_usage_is_estimated_and_says_so(
    provider: OpenAIProvider, mock_upstream: MockUpstream
) -> None:
    mock_upstream.script(ok("x" * 40, usage=None), ok("x" * 40, usage=None))
    completion = await provider.complete(MODEL, HELLO)
    assert completion.usage.estimated
    assert completion.usage.completion_tokens == 10
    assert completion.usage.prompt_tokens > 0
    last = (await chunks_of(provider))[-1]
    assert last.usage == completion.usage
    assert last.data["choices"] == []


async def test_streamed_text_and_usage(provider: OpenAIProvider, mock_upstream: MockUpstream) -> None:
    mock_upstream.script(ok("One two  three\n"))
    chunks = await chunks_of(provider)
    assert text_of_chunks(chunks) == "One two  three\n"
    assert chunks[-1].usage == Usage(11, 7)
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


async def test_a_stream_is_fine_with_either_end_mark_and_with_comments(
    provider: OpenAIProvider, mock_upstream: MockUpstream
) -> None:
    text, stop = sse(chunk_body({"content": "Hi"})), sse(chunk_body({}, finish_reason="stop"))
    mock_upstream.script(
        sse_events(b": OPENROUTER PROCESSING\n\n", text, stop),
        sse_events(text.replace(b"\n", b"\r\n"), b"data: [DONE]"),
        sse_events(text[:20], text[20:], sse("[DONE]"), b"data: after the end\n\n"),
    )
    for _ in range(3):
        assert text_of_chunks(await chunks_of(provider)) == "Hi"


async def test_connections_are_reused(provider: OpenAIProvider, mock_upstream: MockUpstream) -> None:
    ports = set()

    async def note_port(received: Any, request: Any) -> Any:
        ports.add(request.transport.get_extra_info("peername")[1])
        return await ok()(received, request)

    mock_upstream.default = note_port
    for _ in range(3):
        await provider.complete(MODEL, HELLO)
        await chunks_of(provider)
        await asyncio.sleep(0.02)  # what ends the body may come after the last event
    assert len(ports) == 1


def test_one_provider_serves_one_loop_after_another(mock_upstream: MockUpstream, make: Make) -> None:
    provider = make("mock", mock_upstream.base_url)
    for _ in range(2):
        assert asyncio.run(provider.complete(MODEL, HELLO)).text == "Hello."
    asyncio.run(provider.aclose())


# What goes wrong

FAILURES: list[tuple[Behaviour, type[ProviderError]]] = [
    (error(400), ProviderRequestError),
    (error(404), ProviderRequestError),
    (error(422), ProviderRequestError),
    (error(401), ProviderAuthError),
    (error(402), ProviderAuthError),
    (error(403), ProviderAuthError),
    (error(408), ProviderTimeoutError),
    (rate_limited(None), ProviderRateLimitError),
    (error(429, code="insufficient_quota"), ProviderAuthError),
    (server_error(500), ProviderUnavailableError),
    (server_error(503), ProviderUnavailableError),
    (error(302, headers={"Location": "https://elsewhere.invalid/"}), ProviderResponseError),
    (error(204), ProviderResponseError),
    (raw(b"<html>Bad gateway</html>", content_type="text/html", status=502), ProviderUnavailableError),
    (wrong_content_type(), ProviderResponseError),
]


@pytest.mark.parametrize(("behaviour", "kind"), FAILURES)
@pytest.mark.parametrize("streamed", [False, True])
async def test_refusals(
    provider: OpenAIProvider,
    mock_upstream: MockUpstream,
    behaviour: Behaviour,
    kind: type[ProviderError],
    streamed: bool,
) -> None:
    mock_upstream.script(behaviour)
    with pytest.raises(ProviderError) as caught:
        await (chunks_of(provider) if streamed else provider.complete(MODEL, HELLO))
    assert type(caught.value) is kind
    assert caught.value.model == "mock"
    assert "'mock'" in str(caught.value)
    assert (await provider.complete(MODEL, HELLO)).text == "Hello."


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (half_json(), ProviderResponseError),
        (cut_body(), ProviderResponseError),
        (raw(b""), ProviderResponseError),
        (raw(b"[]"), ProviderResponseError),
        (raw(b"{}"), ProviderResponseError),
        (raw(b'{"choices":[]}'), ProviderResponseError),
        (raw(b'{"choices":[{"message":null}]}'), ProviderResponseError),
        (raw(b'{"choices":{"0":1}}'), ProviderResponseError),
        (raw(b'{"error":{"message":"no","code":429}}'), ProviderRateLimitError),
        (raw(b'{"error":{"message":"no","type":"server_error"}}'), ProviderUnavailableError),
        (raw(b'{"error":"odd"}'), ProviderResponseError),
        (raw(b"\xff\xfe{}"), ProviderResponseError),
    ],
)
async def test_unreadable_answers(
    provider: OpenAIProvider,
    mock_upstream: MockUpstream,
    behaviour: Behaviour,
    kind: type[ProviderError],
) -> None:
    mock_upstream.script(behaviour)
    with pytest.raises(ProviderError) as caught:
        await provider.complete(MODEL, HELLO)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("behaviour", "kind", "text"),
    [
        (broken_sse("no_end"), ProviderResponseError, "Hel"),
        (broken_sse("cut"), ProviderResponseError, "Hel"),
        (broken_sse("bad_json"), ProviderResponseError, "Hel"),
        (broken_sse("not_object"), ProviderResponseError, "Hel"),
        (broken_sse("error"), ProviderUnavailableError, "Hel"),
        (sse_events(), ProviderResponseError, ""),
        (sse_events(b": nothing\n\n"), ProviderResponseError, ""),
        (sse_events(sse("[DONE]")), ProviderResponseError, ""),
        (sse_events(sse({"error": {"message": "slow", "code": 429}})), ProviderRateLimitError, ""),
    ],
)
async def test_broken_streams_deliver_what_came_and_then_fail(
    provider: OpenAIProvider,
    mock_upstream: MockUpstream,
    behaviour: Behaviour,
    kind: type[ProviderError],
    text: str,
) -> None:
    mock_upstream.script(behaviour)
    got: list[Chunk] = []

    async def consume() -> None:
        async for chunk in provider.stream(MODEL, HELLO):
            got.append(chunk)

    with pytest.raises(ProviderError) as caught:
        await consume()
    assert type(caught.value) is kind
    assert text_of_chunks(got) == text


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_oversized_answer(mock_upstream: MockUpstream, make: Make, streamed: bool) -> None:
    provider = make("mock", mock_upstream.base_url, max_body_bytes=10_000)
    mock_upstream.default = sse_events(b": " + b"x" * 20_000) if streamed else huge(20_000)
    with pytest.raises(ProviderResponseError, match="10000 bytes"):
        await (chunks_of(provider) if streamed else provider.complete(MODEL, HELLO))
    mock_upstream.default = ok("x" * 1000)
    assert len((await provider.complete(MODEL, HELLO)).text) == 1000
    await provider.aclose()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("url", [None, "http://nowhere.invalid/v1"])
async def test_unreachable_endpoints(make: Make, url: str | None, streamed: bool) -> None:
    provider = make("mock", url or closed_port_url(), KEY)
    with pytest.raises(ProviderUnavailableError, match="base_url"):
        await (chunks_of(provider) if streamed else provider.complete(MODEL, HELLO))
    await provider.aclose()


async def test_a_redirect_is_not_followed(provider: OpenAIProvider, mock_upstream: MockUpstream) -> None:
    location = {"Location": mock_upstream.base_url + "/chat/completions"}
    mock_upstream.script(error(307, headers=location))
    with pytest.raises(ProviderResponseError, match="HTTP 307"):
        await provider.complete(MODEL, HELLO)
    assert len(mock_upstream.requests) == 1


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [("7", 7, 7), ("0.5", 0.5, 0.5), ("-3", 0, 0), ("a date", 80, 91)],
)
async def test_retry_after(
    provider: OpenAIProvider, mock_upstream: MockUpstream, header: str, low: float, high: float
) -> None:
    in_90_s = formatdate(time.time() + 90, usegmt=True)
    mock_upstream.script(rate_limited(in_90_s if header == "a date" else header))
    with pytest.raises(ProviderRateLimitError) as caught:
        await provider.complete(MODEL, HELLO)
    assert caught.value.retry_after_s is not None
    assert low <= caught.value.retry_after_s <= high


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "said", [f"Incorrect API key provided: {KEY}.", "Incorrect API key: sk-t***********cdef"]
)
async def test_the_key_is_never_in_an_error(
    provider: OpenAIProvider, mock_upstream: MockUpstream, streamed: bool, said: str
) -> None:
    mock_upstream.script(error(401, said + " " + "blah " * 1000))
    with pytest.raises(ProviderAuthError, match="Incorrect API key") as caught:
        await (chunks_of(provider) if streamed else provider.complete(MODEL, HELLO))
    message = str(caught.value)
    assert KEY not in message
    assert "cdef" not in message
    assert len(message) < 600


# Time-outs and cancellation


async def test_a_time_out_hangs_up(provider: OpenAIProvider, mock_upstream: MockUpstream) -> None:
    mock_upstream.script(hang())
    with pytest.raises(ProviderTimeoutError, match=r"within 0\.1 s"):
        await provider.complete(MODEL, HELLO, timeout_s=0.1)
    assert await mock_upstream.requests[0].wait_disconnected()


@pytest.mark.parametrize("behaviour", [hang(), hang_after()])
async def test_a_stalled_stream_times_out_and_hangs_up(
    provider: OpenAIProvider, mock_upstream: MockUpstream, behaviour: Behaviour
) -> None:
    mock_upstream.script(behaviour)
    with pytest.raises(ProviderTimeoutError):
        await chunks_of(provider, timeout_s=0.1)
    assert await mock_upstream.requests[0].wait_disconnected()


async def test_the_time_out_of_a_stream_is_for_each_chunk(
    provider: OpenAIProvider, mock_upstream: MockUpstream
) -> None:
    mock_upstream.script(ok("a b c d e f", delay_s=0.4))
    started = time.monotonic()
    chunks = await chunks_of(provider, timeout_s=1.5)
    assert text_of_chunks(chunks) == "a b c d e f"
    assert time.monotonic() - started > 1.5


async def test_keep_alive_comments_do_not_put_off_the_time_out(
    provider: OpenAIProvider, mock_upstream: MockUpstream
) -> None:
    async def comments(received: Any, request: Any) -> Any:
        return await send_sse(request, [b": wait\n\n"] * 100, delay_s=0.03)

    mock_upstream.script(comments)
    with pytest.raises(ProviderTimeoutError):
        await chunks_of(provider, timeout_s=0.2)


async def test_cancelling_hangs_up(provider: OpenAIProvider, mock_upstream: MockUpstream) -> None:
    mock_upstream.default = hang()
    for call in (provider.complete(MODEL, HELLO), chunks_of(provider)):
        task = asyncio.ensure_future(call)
        await mock_upstream.wait_requests(len(mock_upstream.requests) + 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await mock_upstream.requests[-1].wait_disconnected()


async def test_closing_a_stream_hangs_up(provider: OpenAIProvider, mock_upstream: MockUpstream) -> None:
    mock_upstream.script(hang_after("Hel"))
    async with aclosing(provider.stream(MODEL, HELLO)) as chunks:
        async for _ in chunks:
            break
    assert await mock_upstream.requests[0].wait_disconnected()


async def test_many_at_once_do_not_mix(provider: OpenAIProvider, mock_upstream: MockUpstream) -> None:
    async def echo(received: Any, request: Any) -> Any:
        return await ok(received.body["messages"][0]["content"])(received, request)

    mock_upstream.default = echo
    words = [f"word-{i}" for i in range(40)]
    answers = await asyncio.gather(*(provider.complete(MODEL, Request.from_text(word)) for word in words))
    assert [answer.text for answer in answers] == words


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "max_tokens"),
        ({"reasoning": True}, "max_tokens"),
        ({"provider": "openai"}, "max_tokens"),
        ({"provider": "openai", "reasoning": True}, "max_completion_tokens"),
    ],
)
async def test_the_output_limit_has_the_name_that_the_model_takes(
    provider: OpenAIProvider, mock_upstream: MockUpstream, fields: dict[str, Any], name: str
) -> None:
    model = make_model(**fields)
    await provider.complete(model, HELLO.with_params(max_tokens=9, seed=1))
    sent = mock_upstream.requests[-1].body
    assert {key: sent[key] for key in sent if key.startswith("max_")} == {name: 9}
    assert sent["seed"] == 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_whoever_leaves_hangs_up_within_a_tenth_of_a_second(
    provider: OpenAIProvider, mock_upstream: MockUpstream, streamed: bool
) -> None:
    mock_upstream.script(hang_after("Hel") if streamed else hang())
    call = asyncio.ensure_future(chunks_of(provider) if streamed else provider.complete(MODEL, HELLO))
    await mock_upstream.wait_requests(1)
    await asyncio.sleep(0.05)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await mock_upstream.requests[0].wait_disconnected(0.1)


async def test_closing_an_opened_stream_hangs_up_at_once(
    provider: OpenAIProvider, mock_upstream: MockUpstream
) -> None:
    mock_upstream.script(hang_after("Hel"))
    opened = await provider.open(MODEL, HELLO)
    assert opened.usage.estimated
    await opened.aclose()
    await opened.aclose()
    assert await mock_upstream.requests[0].wait_disconnected(0.1)
    with pytest.raises(StopAsyncIteration):
        await anext(opened)


# Blocks


async def test_blocks_hold_the_bytes_as_they_came(
    provider: OpenAIProvider, mock_upstream: MockUpstream
) -> None:
    events = [sse(chunk_body({"content": word})) for word in ("a", "b")]
    last = sse(chunk_body({}, finish_reason="stop"))
    mock_upstream.script(sse_events(b"".join(events), last, sse("[DONE]")))
    ended: list[Any] = []
    opened = await provider.open(MODEL, HELLO)
    opened.when_over(ended.append)
    blocks = [block async for block in opened]
    assert b"".join(block.raw for block in blocks).startswith(b"".join([*events, last]))
    assert blocks[-1].usage == opened.usage
    assert blocks[-1].usage.estimated
    assert ended == [None]


async def test_a_stream_that_fails_before_its_first_block_is_not_opened(
    provider: OpenAIProvider, mock_upstream: MockUpstream
) -> None:
    mock_upstream.script(sse_events(b": wait\n\n", sse({"error": {"message": "slow", "code": 429}})))
    with pytest.raises(ProviderRateLimitError):
        await provider.open(MODEL, HELLO)


async def test_a_slow_reader_is_not_taken_for_a_slow_upstream(
    provider: OpenAIProvider, mock_upstream: MockUpstream
) -> None:
    mock_upstream.script(ok("a b c"))
    opened = await provider.open(MODEL, HELLO, timeout_s=0.2)
    words = []
    async for block in opened:
        words.append(block)
        await asyncio.sleep(0.3)
    assert words[-1].usage is not None


# Headers of one request


async def test_a_request_brings_headers_along(provider: OpenAIProvider, mock_upstream: MockUpstream) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    request = Request(HELLO.messages, headers={"traceparent": trace, "X-Team": "search"})
    await provider.complete(MODEL, request)
    await chunks_of(provider, request)
    for received in mock_upstream.requests:
        assert received.headers["traceparent"] == trace
        assert received.headers["X-Team"] == "search"
        assert "traceparent" not in received.body


async def test_a_request_cannot_replace_the_providers_headers(
    mock_upstream: MockUpstream, make: Make
) -> None:
    provider = make("mock", mock_upstream.base_url, KEY, headers={"X-Org": "ours"})
    taken = {
        "authorization": "Bearer theirs",
        "X-ORG": "theirs",
        "Host": "elsewhere",
        "Content-Length": "1",
        "Transfer-Encoding": "chunked",
        "Connection": "close",
        "Content-Type": "text/plain",
        "accept": "text/html",
        "Accept-Encoding": "gzip",
    }
    completion = await provider.complete(MODEL, Request(HELLO.messages, headers=taken))
    await provider.aclose()
    assert completion.text == "Hello."
    headers = mock_upstream.requests[0].headers
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["X-Org"] == "ours"
    assert headers["Host"].startswith("127.0.0.1")
    assert headers["Content-Type"] == "application/json"
    assert "theirs" not in str(headers)


@pytest.mark.parametrize(
    "header", [("X-A\r\nX-B", "1"), ("X A", "1"), ("X-A", "1\r\nX-B: 2"), ("X-A", "é"), ("", "1")]
)
async def test_headers_that_would_smuggle_are_refused(
    provider: OpenAIProvider, mock_upstream: MockUpstream, header: tuple[str, str]
) -> None:
    with pytest.raises(ProviderRequestError, match="cannot be sent"):
        await provider.complete(MODEL, Request(HELLO.messages, headers=dict([header])))
    assert mock_upstream.requests == []


async def test_a_compressed_answer_is_an_error_that_says_so(
    provider: OpenAIProvider, mock_upstream: MockUpstream
) -> None:
    mock_upstream.script(raw(b"\x1f\x8b", **{"Content-Encoding": "gzip"}))
    with pytest.raises(ProviderResponseError, match="compressed"):
        await provider.complete(MODEL, HELLO)
    assert mock_upstream.requests[0].headers["Accept-Encoding"] == "identity"
