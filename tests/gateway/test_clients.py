"""Clients that people have, unchanged, against the gateway: OpenAI's, Anthropic's, LangChain, LlamaIndex, LiteLLM."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import reduce
from operator import add
from typing import Any

import anthropic
import openai
import pytest
from api_kit import TOOL_CALLS
from pydantic import BaseModel
from serving_kit import ask_then_select, make_pool, serving
from upstream import MockUpstream, broken_sse, ok, ok_tools, rate_limited

from xrouter.ledger.memory import MemoryLedger
from xrouter.router import Router

MODEL = "gpt-4o-mini"
"""LlamaIndex's class takes only names that OpenAI has."""
KEY = "sk-of-the-client"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}


@pytest.fixture
async def gateway_url(mock_upstream: MockUpstream) -> AsyncIterator[str]:
    """Where the gateway is, without a path; what it answers with comes from `mock_upstream`."""
    router = Router(
        ask_then_select(MODEL), pool=make_pool(mock_upstream.base_url, (MODEL,)), ledger=MemoryLedger()
    )
    async with serving(router) as url:
        yield url


@pytest.fixture
async def openai_client(gateway_url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{gateway_url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
async def anthropic_client(gateway_url: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=gateway_url, api_key=KEY, max_retries=0) as client:
        yield client


WEATHER_TOOL = {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": False}


class City(BaseModel):
    city: str


async def drain(stream: AsyncIterator[Any], seen: list[Any]) -> None:
    async for each in stream:
        seen.append(each)


# OpenAI: chat completions


async def test_openai_chat(openai_client: openai.AsyncOpenAI, mock_upstream: MockUpstream) -> None:
    answer = await openai_client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Hi"}]
    )
    assert answer.choices[0].message.content == "Hello."
    assert mock_upstream.requests[-1].body["messages"] == [{"role": "user", "content": "Hi"}]


async def test_openai_chat_stream(openai_client: openai.AsyncOpenAI, mock_upstream: MockUpstream) -> None:
    mock_upstream.default = ok("Hello there, you")
    stream = await openai_client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(pieces) == "Hello there, you"


# OpenAI: responses


async def test_openai_response(openai_client: openai.AsyncOpenAI, mock_upstream: MockUpstream) -> None:
    answer = await openai_client.responses.create(
        model=MODEL, instructions="Be brief.", input="Hi", max_output_tokens=50
    )
    assert answer.output_text == "Hello."
    assert answer.status == "completed"
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (11, 7)
    asked = mock_upstream.requests[-1].body
    assert asked["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]
    assert asked["max_tokens"] == 50


async def test_openai_response_stream(openai_client: openai.AsyncOpenAI, mock_upstream: MockUpstream) -> None:
    mock_upstream.default = ok("Hello there, you")
    async with openai_client.responses.stream(model=MODEL, input="Hi") as stream:
        deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert "".join(deltas) == final.output_text == "Hello there, you"
    assert len(deltas) > 1
    assert final.usage is not None
    assert final.usage.total_tokens == 18


async def test_openai_response_tool_turns(
    openai_client: openai.AsyncOpenAI, mock_upstream: MockUpstream
) -> None:
    mock_upstream.script(ok_tools(TOOL_CALLS), ok("Cold."))
    tools: Any = [WEATHER_TOOL, {**WEATHER_TOOL, "name": "get_time"}]
    history: list[Any] = [{"role": "user", "content": "Weather and time in Oslo?"}]
    async with openai_client.responses.stream(model=MODEL, input=history, tools=tools) as stream:
        async for _ in stream:
            pass
        first = await stream.get_final_response()
    calls = [item for item in first.output if item.type == "function_call"]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("get_weather", {"city": "Oslo"}),
        ("get_time", {}),
    ]
    history += first.output
    history += [{"type": "function_call_output", "call_id": call.call_id, "output": "-3"} for call in calls]
    second = await openai_client.responses.create(model=MODEL, input=history, tools=tools)
    assert second.output_text == "Cold."
    sent = mock_upstream.requests[-1].body["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in sent[1]["tool_calls"]] == ["call_1", "call_2"]


async def test_openai_response_parsed(openai_client: openai.AsyncOpenAI, mock_upstream: MockUpstream) -> None:
    mock_upstream.default = ok('{"city":"Oslo"}')
    answer = await openai_client.responses.parse(model=MODEL, input="Which?", text_format=City)
    assert answer.output_parsed == City(city="Oslo")
    wanted = mock_upstream.requests[-1].body["response_format"]
    assert wanted["type"] == "json_schema"
    assert wanted["json_schema"]["strict"] is True
    assert wanted["json_schema"]["schema"]["required"] == ["city"]


async def test_openai_response_refused(openai_client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await openai_client.responses.create(model=MODEL, input="Hi", previous_response_id="resp_1")
    assert caught.value.param == "previous_response_id"
    with pytest.raises(openai.NotFoundError):
        await openai_client.responses.create(model="nobody", input="Hi")


async def test_openai_response_stream_that_breaks(
    openai_client: openai.AsyncOpenAI, mock_upstream: MockUpstream
) -> None:
    mock_upstream.default = broken_sse("error")
    seen: list[Any] = []
    stream = await openai_client.responses.create(model=MODEL, input="Hi", stream=True)
    with pytest.raises(openai.APIError, match="overloaded"):
        await drain(stream, seen)
    assert seen[-1].type == "response.failed"


# Anthropic


async def test_anthropic_message(
    anthropic_client: anthropic.AsyncAnthropic, mock_upstream: MockUpstream
) -> None:
    answer = await anthropic_client.messages.create(
        model=MODEL, max_tokens=50, system="Be brief.", messages=[{"role": "user", "content": "Hi"}]
    )
    (block,) = answer.content
    assert block.type == "text"
    assert block.text == "Hello."
    assert answer.stop_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (11, 7)
    assert answer._request_id, "the client knows where to look for it"
    asked = mock_upstream.requests[-1].body
    assert asked["messages"][0] == {"role": "system", "content": "Be brief."}
    assert asked["max_tokens"] == 50


async def test_anthropic_stream(
    anthropic_client: anthropic.AsyncAnthropic, mock_upstream: MockUpstream
) -> None:
    mock_upstream.default = ok("Hello there, you")
    async with anthropic_client.messages.stream(
        model=MODEL, max_tokens=50, messages=[{"role": "user", "content": "Hi"}]
    ) as stream:
        pieces = [piece async for piece in stream.text_stream]
        final = await stream.get_final_message()
    assert "".join(pieces) == "Hello there, you"
    assert len(pieces) > 1
    assert final.stop_reason == "end_turn"
    assert (final.usage.input_tokens, final.usage.output_tokens) == (11, 7)


async def test_anthropic_tool_turns(
    anthropic_client: anthropic.AsyncAnthropic, mock_upstream: MockUpstream
) -> None:
    mock_upstream.script(ok_tools(TOOL_CALLS), ok("Cold."))
    tools: Any = [{"name": name, "input_schema": SCHEMA} for name in ("get_weather", "get_time")]
    history: list[Any] = [{"role": "user", "content": "Weather and time in Oslo?"}]
    async with anthropic_client.messages.stream(
        model=MODEL, max_tokens=50, messages=history, tools=tools
    ) as stream:
        first = await stream.get_final_message()
    assert first.stop_reason == "tool_use"
    calls = [block for block in first.content if block.type == "tool_use"]
    assert [(call.name, call.input) for call in calls] == [
        ("get_weather", {"city": "Oslo"}),
        ("get_time", {}),
    ]
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "-3"} for call in calls]
    history += [{"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    second = await anthropic_client.messages.create(
        model=MODEL, max_tokens=50, messages=history, tools=tools, tool_choice={"type": "any"}
    )
    assert second.stop_reason == "end_turn"
    asked = mock_upstream.requests[-1].body
    assert [message["role"] for message in asked["messages"]] == ["user", "assistant", "tool", "tool"]
    assert asked["tool_choice"] == "required"


async def test_anthropic_errors(
    anthropic_client: anthropic.AsyncAnthropic, mock_upstream: MockUpstream
) -> None:
    messages: list[Any] = [{"role": "user", "content": "Hi"}]
    with pytest.raises(anthropic.BadRequestError, match="max_tokens") as refused:
        await anthropic_client.messages.create(model=MODEL, max_tokens=0, messages=messages)
    assert refused.value.body == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "max_tokens must be a positive integer, got 0"},
        "request_id": refused.value.request_id,
    }
    with pytest.raises(anthropic.NotFoundError):
        await anthropic_client.messages.create(model="nobody", max_tokens=9, messages=messages)
    mock_upstream.default = rate_limited("7")
    with pytest.raises(anthropic.RateLimitError) as limited:
        await anthropic_client.messages.create(model=MODEL, max_tokens=9, messages=messages)
    assert limited.value.response.headers["retry-after"] == "7"


async def test_anthropic_stream_that_breaks(
    anthropic_client: anthropic.AsyncAnthropic, mock_upstream: MockUpstream
) -> None:
    mock_upstream.default = broken_sse("error")
    seen: list[str] = []
    async with anthropic_client.messages.stream(
        model=MODEL, max_tokens=9, messages=[{"role": "user", "content": "Hi"}]
    ) as stream:
        with pytest.raises(anthropic.APIStatusError, match="overloaded"):
            await drain(stream.text_stream, seen)
    assert seen == ["Hel"]


async def test_anthropic_counts_tokens(anthropic_client: anthropic.AsyncAnthropic) -> None:
    counted = await anthropic_client.messages.count_tokens(
        model=MODEL, messages=[{"role": "user", "content": "x" * 400}]
    )
    assert 100 <= counted.input_tokens <= 110


async def test_both_kinds_of_client_list_models(
    openai_client: openai.AsyncOpenAI, anthropic_client: anthropic.AsyncAnthropic
) -> None:
    assert MODEL in [model.id async for model in openai_client.models.list()]
    models = [model async for model in anthropic_client.models.list()]
    assert MODEL in [model.id for model in models]
    assert models[0].display_name


# LangChain


def langchain_model(gateway_url: str, **fields: Any) -> Any:
    chat = pytest.importorskip("langchain_openai").ChatOpenAI
    return chat(model=MODEL, base_url=f"{gateway_url}/v1", api_key=KEY, max_retries=0, **fields)


@pytest.mark.parametrize("responses", [False, True], ids=["chat", "responses"])
async def test_langchain(gateway_url: str, mock_upstream: MockUpstream, responses: bool) -> None:
    mock_upstream.default = ok("Hello there, you")
    model = langchain_model(gateway_url, use_responses_api=responses)
    answer = await asyncio.to_thread(model.invoke, "Hi")
    assert answer.text == "Hello there, you"
    assert answer.usage_metadata["input_tokens"] == 11
    pieces = await asyncio.to_thread(lambda: [piece.text for piece in model.stream("Hi")])
    assert "".join(pieces) == "Hello there, you"
    assert len([piece for piece in pieces if piece]) > 1


@pytest.mark.parametrize("responses", [False, True], ids=["chat", "responses"])
async def test_langchain_tools(gateway_url: str, mock_upstream: MockUpstream, responses: bool) -> None:
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool

    @tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        return f"-3 in {city}"

    model = langchain_model(gateway_url, use_responses_api=responses).bind_tools([get_weather])
    for ask in ("whole", "stream"):
        mock_upstream.script(ok_tools(TOOL_CALLS[:1]), ok("Cold."))
        question = HumanMessage("Weather in Oslo?")
        if ask == "whole":
            first = await asyncio.to_thread(model.invoke, [question])
        else:
            first = await asyncio.to_thread(lambda q=question: reduce(add, model.stream([q])))
        (call,) = first.tool_calls
        assert (call["name"], call["args"]) == ("get_weather", {"city": "Oslo"})
        result = ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])
        second = await asyncio.to_thread(model.invoke, [question, first, result])
        assert second.text == "Cold."
        roles = [message["role"] for message in mock_upstream.requests[-1].body["messages"]]
        assert roles == ["user", "assistant", "tool"]


# LlamaIndex


async def test_llama_index(gateway_url: str, mock_upstream: MockUpstream) -> None:
    llms = pytest.importorskip("llama_index.llms.openai")
    from llama_index.core.llms import ChatMessage

    mock_upstream.default = ok("Hello there, you")
    model = llms.OpenAI(model=MODEL, api_base=f"{gateway_url}/v1", api_key=KEY, max_retries=0)
    assert (await asyncio.to_thread(model.complete, "Hi")).text == "Hello there, you"
    history = [ChatMessage(role="user", content="Hi")]
    assert (await asyncio.to_thread(model.chat, history)).message.content == "Hello there, you"
    deltas = await asyncio.to_thread(lambda: [piece.delta for piece in model.stream_chat(history)])
    assert "".join(filter(None, deltas)) == "Hello there, you"


async def test_llama_index_responses(gateway_url: str, mock_upstream: MockUpstream) -> None:
    llms = pytest.importorskip("llama_index.llms.openai")
    from llama_index.core.llms import ChatMessage

    mock_upstream.default = ok("Hello there, you")
    model = llms.OpenAIResponses(model=MODEL, api_base=f"{gateway_url}/v1", api_key=KEY, max_retries=0)
    history = [ChatMessage(role="user", content="Hi")]
    assert (await asyncio.to_thread(model.chat, history)).message.content == "Hello there, you"
    deltas = await asyncio.to_thread(lambda: [piece.delta for piece in model.stream_chat(history)])
    assert "".join(filter(None, deltas)) == "Hello there, you"


# LiteLLM


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else the import asks the network
    return pytest.importorskip("litellm")


async def test_litellm(litellm: Any, gateway_url: str, mock_upstream: MockUpstream) -> None:
    mock_upstream.default = ok("Hello there, you")
    asked: dict[str, Any] = {
        "model": f"openai/{MODEL}",
        "messages": [{"role": "user", "content": "Hi"}],
        "api_base": f"{gateway_url}/v1",
        "api_key": KEY,
    }
    answer = await litellm.acompletion(**asked)
    assert answer.choices[0].message.content == "Hello there, you"
    pieces = [
        piece.choices[0].delta.content or ""
        async for piece in await litellm.acompletion(**asked, stream=True)
    ]
    assert "".join(pieces) == "Hello there, you"


async def test_litellm_speaking_anthropic(
    litellm: Any, gateway_url: str, mock_upstream: MockUpstream
) -> None:
    mock_upstream.default = ok("Hello there, you")
    asked: dict[str, Any] = {
        "model": f"anthropic/{MODEL}",
        "messages": [{"role": "user", "content": "Hi"}],
        "api_base": gateway_url,
        "api_key": KEY,
    }
    answer = await litellm.acompletion(**asked)
    assert answer.choices[0].message.content == "Hello there, you"
    assert answer.usage.prompt_tokens == 11
    pieces = [
        piece.choices[0].delta.content or ""
        async for piece in await litellm.acompletion(**asked, stream=True)
    ]
    assert "".join(pieces) == "Hello there, you"
