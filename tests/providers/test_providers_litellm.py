"""LiteLLM against the mock upstream. The library's import, seconds long, is most of the time these take."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
from contextlib import aclosing
from typing import Any

import pytest
from conftest import make_model
from upstream import (
    TOOL_CALLS,
    Behaviour,
    MockUpstream,
    broken_sse,
    closed_port_url,
    error,
    half_json,
    hang,
    hang_after,
    ok,
    ok_tools,
    rate_limited,
    server_error,
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
from xrouter.providers.litellm import LiteLLMProvider

KEY = "sk-test-0123456789abcdef"
MODEL = make_model("mock", id="openai/mock-id")
HELLO = Request.from_text("Say hello")

needs_litellm = pytest.mark.skipif(
    importlib.util.find_spec("litellm") is None, reason="litellm is not installed"
)


@pytest.fixture
def provider(mock_upstream: MockUpstream) -> LiteLLMProvider:
    return LiteLLMProvider(api_key=KEY, api_base=mock_upstream.base_url)


async def chunks_of(provider: LiteLLMProvider, request: Request = HELLO, **kwargs: Any) -> list[Chunk]:
    return [chunk async for chunk in provider.stream(MODEL, request, **kwargs)]


def text_of_chunks(chunks: list[Chunk]) -> str:
    return "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.data["choices"]
    )


def test_the_library_is_not_imported_before_the_first_call() -> None:
    code = "import sys, xrouter.providers.litellm as p; assert 'litellm' not in sys.modules, 'imported'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)  # our own interpreter


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'xrouter\[litellm\]'"):
        LiteLLMProvider()


@needs_litellm
class TestWithTheLibrary:
    async def test_a_completion(self, provider: LiteLLMProvider, mock_upstream: MockUpstream) -> None:
        usage = {
            "prompt_tokens": 30,
            "completion_tokens": 40,
            "total_tokens": 70,
            "prompt_tokens_details": {"cached_tokens": 20},
            "completion_tokens_details": {"reasoning_tokens": 25},
        }
        mock_upstream.script(ok("Hi!", usage=usage))
        completion = await provider.complete(MODEL, HELLO.with_params(max_tokens=5, temperature=0.5))
        assert completion.text == "Hi!"
        assert completion.usage == Usage(30, 40, 20, 25)
        assert completion.finish_reason == "stop"
        (received,) = mock_upstream.requests
        assert received.body["model"] == "mock-id"
        assert received.body["max_tokens"] == 5
        assert received.body["temperature"] == 0.5
        assert received.headers["Authorization"] == f"Bearer {KEY}"

    async def test_tool_calls(self, provider: LiteLLMProvider, mock_upstream: MockUpstream) -> None:
        mock_upstream.script(ok_tools())
        tools = [{"type": "function", "function": {"name": "get_weather", "parameters": {}}}]
        completion = await provider.complete(MODEL, HELLO.with_params(tools=tools))
        assert completion.finish_reason == "tool_calls"
        assert completion.tool_calls[0]["function"] == TOOL_CALLS[0]["function"]
        body = mock_upstream.requests[0].body
        assert body == {"model": "mock-id", "messages": list(HELLO.messages), "tools": tools}

    async def test_a_stream(self, provider: LiteLLMProvider, mock_upstream: MockUpstream) -> None:
        mock_upstream.script(ok("One two three"))
        chunks = await chunks_of(provider)
        assert text_of_chunks(chunks) == "One two three"
        assert chunks[-1].usage == Usage(11, 7)
        assert mock_upstream.requests[0].body["stream_options"] == {"include_usage": True}

    async def test_its_own_mock_answers_through_options(self) -> None:
        provider = LiteLLMProvider(api_key=KEY, options={"mock_response": "mocked"})
        assert (await provider.complete(MODEL, HELLO)).text == "mocked"
        assert text_of_chunks(await chunks_of(provider)) == "mocked"

    @pytest.mark.parametrize("streamed", [False, True])
    @pytest.mark.parametrize(
        ("behaviour", "kind"),
        [
            (error(400), ProviderRequestError),
            (error(404), ProviderRequestError),
            (error(422), ProviderRequestError),
            (error(401, f"bad key {KEY}"), ProviderAuthError),
            (error(403), ProviderAuthError),
            (rate_limited("3"), ProviderRateLimitError),
            (server_error(500), ProviderUnavailableError),
            (server_error(503), ProviderUnavailableError),
        ],
    )
    async def test_refusals(
        self,
        provider: LiteLLMProvider,
        mock_upstream: MockUpstream,
        behaviour: Behaviour,
        kind: type[ProviderError],
        streamed: bool,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        mock_upstream.script(behaviour)
        with pytest.raises(ProviderError) as caught:
            await (chunks_of(provider) if streamed else provider.complete(MODEL, HELLO))
        assert type(caught.value) is kind
        assert KEY not in str(caught.value)
        assert len(str(caught.value)) < 600
        assert len(mock_upstream.requests) == 1
        if kind is ProviderRateLimitError:
            assert caught.value.retry_after_s == 3
        assert "LiteLLM" not in capfd.readouterr().out

    async def test_a_refused_connection(self) -> None:
        provider = LiteLLMProvider(api_key=KEY, api_base=closed_port_url())
        with pytest.raises(ProviderUnavailableError):
            await provider.complete(MODEL, HELLO)

    @pytest.mark.parametrize("kind", ["no_end", "cut", "error"])
    async def test_broken_streams(
        self, provider: LiteLLMProvider, mock_upstream: MockUpstream, kind: str
    ) -> None:
        mock_upstream.script(broken_sse(kind))
        with pytest.raises(ProviderError):
            await chunks_of(provider)

    async def test_an_unknown_backend_is_the_callers_error(self, provider: LiteLLMProvider) -> None:
        with pytest.raises(ProviderRequestError):
            await LiteLLMProvider(api_key=KEY).complete(make_model("x", id="no-such-backend/x"), HELLO)

    @pytest.mark.parametrize("name", ["api_base", "api_key", "mock_response", "fallbacks", "metadata"])
    async def test_a_client_cannot_steer_the_library(
        self, provider: LiteLLMProvider, mock_upstream: MockUpstream, name: str
    ) -> None:
        with pytest.raises(ProviderRequestError, match=name):
            await provider.complete(MODEL, HELLO.with_params(**{name: "http://127.0.0.1:1"}))
        with pytest.raises(ProviderRequestError, match=name):
            await chunks_of(provider, HELLO.with_params(**{name: "http://127.0.0.1:1"}))
        assert mock_upstream.requests == []

    async def test_more_params_on_request(self, mock_upstream: MockUpstream) -> None:
        provider = LiteLLMProvider(api_key=KEY, api_base=mock_upstream.base_url, allow_params=["vendor_knob"])
        await provider.complete(MODEL, HELLO.with_params(vendor_knob=3))
        assert mock_upstream.requests[0].body["vendor_knob"] == 3

    async def test_what_the_target_lacks_is_an_error_not_dropped(self) -> None:
        provider = LiteLLMProvider(api_key=KEY, options={"mock_response": "mocked"})
        model = make_model("c", id="anthropic/claude-3-haiku-20240307")
        with pytest.raises(ProviderRequestError, match="logit_bias"):
            await provider.complete(model, HELLO.with_params(logit_bias={"1": 1}))

    @pytest.mark.parametrize("behaviour", [hang(), hang_after()])
    async def test_time_outs(
        self, provider: LiteLLMProvider, mock_upstream: MockUpstream, behaviour: Behaviour
    ) -> None:
        mock_upstream.script(behaviour)
        with pytest.raises(ProviderTimeoutError):
            await chunks_of(provider, timeout_s=0.5)
        assert await mock_upstream.requests[0].wait_disconnected()

    async def test_a_completion_times_out(
        self, provider: LiteLLMProvider, mock_upstream: MockUpstream
    ) -> None:
        mock_upstream.script(hang())
        with pytest.raises(ProviderTimeoutError):
            await provider.complete(MODEL, HELLO, timeout_s=0.5)
        assert await mock_upstream.requests[0].wait_disconnected()

    async def test_cancelling_and_closing_hang_up(
        self, provider: LiteLLMProvider, mock_upstream: MockUpstream
    ) -> None:
        mock_upstream.script(hang(), hang_after())
        task = asyncio.ensure_future(provider.complete(MODEL, HELLO))
        await mock_upstream.wait_requests(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await mock_upstream.requests[0].wait_disconnected()
        async with aclosing(provider.stream(MODEL, HELLO)) as chunks:
            async for _ in chunks:
                break
        assert await mock_upstream.requests[1].wait_disconnected()

    async def test_half_an_answer(self, provider: LiteLLMProvider, mock_upstream: MockUpstream) -> None:
        mock_upstream.script(half_json())
        with pytest.raises((ProviderResponseError, ProviderUnavailableError)):
            await provider.complete(MODEL, HELLO)
