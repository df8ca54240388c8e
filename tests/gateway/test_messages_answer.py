"""Answers as Anthropic's messages: whole, and in events that add up to the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from answers_kit import answers, cuts
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.shared import ErrorResponse
from api_kit import TOOL_CALLS, body, chunks_of, completion, events_of, streamed
from conftest import make_model
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from upstream import chunk_body

from xrouter.errors import (
    BodyTooLargeError,
    BudgetExceededError,
    LedgerError,
    NoAnswerError,
    ProviderRateLimitError,
    RequestError,
    ServerStoppingError,
    UnknownUrlError,
    XRouterError,
)
from xrouter.gateway.anthropic.api import MESSAGES, MessageExchange
from xrouter.gateway.anthropic.reply import model_page

EVENTS: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
HELLO = {"role": "user", "content": "Hi"}


def exchange(**fields: Any) -> MessageExchange:
    return MESSAGES.parse(body({"model": "xrouter", "max_tokens": 9, "messages": [HELLO], **fields}))


THINKING = {"thinking": {"type": "adaptive"}}


def told(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that the events add up to; fails where they come in a wrong order."""
    for event in events:
        if event["type"] != "ping":
            EVENTS.validate_python(event)
    start, ping, *blocks, delta, stop = events
    assert (start["type"], ping, stop) == ("message_start", {"type": "ping"}, {"type": "message_stop"})
    message = start["message"]
    content: list[dict[str, Any]] = message["content"]
    open_block = False
    for event in blocks:
        if event["type"] == "content_block_start":
            assert not open_block
            assert event["index"] == len(content)
            open_block, arguments = True, ""
            content.append(dict(event["content_block"]))
            continue
        assert open_block
        assert event["index"] == len(content) - 1
        block = content[-1]
        if event["type"] == "content_block_stop":
            open_block = False
            if block["type"] == "tool_use" and arguments:
                block["input"] = json.loads(arguments)
        elif event["delta"]["type"] == "input_json_delta":
            arguments += event["delta"]["partial_json"]
        else:
            kind = block["type"]
            assert event["delta"]["type"] == f"{kind}_delta"
            block[kind] += event["delta"][kind]
    assert not open_block
    assert delta["type"] == "message_delta"
    usage = {"service_tier": "standard", **delta["usage"]}
    return {**message, **delta["delta"], "usage": usage, "xrouter": delta["xrouter"]}


@given(answers(), st.data(), st.booleans())
def test_any_cut_adds_up_to_the_whole(whole: dict[str, Any], data: st.DataObject, thinking: bool) -> None:
    asked = exchange(**(THINKING if thinking else {}))
    message = asked.whole(whole)
    Message.model_validate(message)
    assert told(streamed(asked, data.draw(cuts(whole)))) == message


def test_the_plain_message() -> None:
    assert exchange().whole(completion(text="Hello.")) == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "mock-model",
        "content": [{"type": "text", "text": "Hello."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "service_tier": "standard",
            "input_tokens": 11,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 7,
            "output_tokens_details": {"thinking_tokens": 0},
        },
        "xrouter": {"cost_usd": "0.1"},
    }


def test_cached_tokens_stand_beside_the_input() -> None:
    usage = {
        "prompt_tokens": 20,
        "completion_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 15},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }
    counted = exchange().whole(completion(usage=usage))["usage"]
    assert (counted["input_tokens"], counted["cache_read_input_tokens"]) == (5, 15)
    assert counted["output_tokens_details"] == {"thinking_tokens": 4}


@pytest.mark.parametrize("thinking", [False, True])
def test_thinking_is_shown_only_where_it_was_asked_for(thinking: bool) -> None:
    answer = completion(text="4", reasoning_content="2+2")
    message = exchange(**(THINKING if thinking else {})).whole(answer)
    kinds = [block["type"] for block in message["content"]]
    assert kinds == (["thinking", "text"] if thinking else ["text"])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"finish_reason": "stop"}, "end_turn"),
        ({"finish_reason": "length"}, "max_tokens"),
        ({"finish_reason": "content_filter"}, "refusal"),
        ({"finish_reason": "stop", "refusal": "No."}, "refusal"),
        ({"finish_reason": "tool_calls", "tool_calls": TOOL_CALLS}, "tool_use"),
        ({"finish_reason": "stop", "tool_calls": TOOL_CALLS}, "tool_use"),
        ({"finish_reason": "length", "tool_calls": TOOL_CALLS}, "max_tokens"),
        ({"finish_reason": "insufficient_system_resource"}, "end_turn"),
    ],
)
def test_stop_reasons(fields: dict[str, Any], reason: str) -> None:
    answer = completion(**fields)
    assert exchange().whole(answer)["stop_reason"] == reason
    assert told(streamed(exchange(), chunks_of(answer)))["stop_reason"] == reason


def test_a_stop_sequence_is_named_where_the_upstream_names_it() -> None:
    answer = completion()
    answer["choices"][0]["stop_reason"] = "END"
    asked = exchange(stop_sequences=["END"])
    assert (asked.whole(answer)["stop_reason"], asked.whole(answer)["stop_sequence"]) == (
        "stop_sequence",
        "END",
    )
    assert exchange().whole(answer)["stop_reason"] == "end_turn"


@pytest.mark.parametrize("arguments", ['{"a": ', "[1]", "nonsense"])
def test_arguments_that_are_no_object_are_wrapped(arguments: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    (block,) = exchange().whole(completion(text=None, tool_calls=[call]))["content"]
    assert block["input"] == {"INVALID_JSON": arguments}
    Message.model_validate(exchange().whole(completion(text=None, tool_calls=[call])))


def tool_chunk(**piece: Any) -> dict[str, Any]:
    return chunk_body({"tool_calls": [piece]})


def test_parallel_calls_that_all_have_index_zero() -> None:
    chunks = [
        tool_chunk(index=0, id=f"c{i}", function={"name": "f", "arguments": "{}"}, type="function")
        for i in range(3)
    ]
    events = streamed(exchange(), [*chunks, chunk_body({}, finish_reason="stop")])
    started = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    assert [block["id"] for block in started] == ["c0", "c1", "c2"]


def test_a_call_starts_when_its_name_is_known() -> None:
    translator = exchange().stream()
    first = events_of(translator.feed(tool_chunk(index=0, id="c", function={"arguments": '{"a"'})))
    assert [event["type"] for event in first] == ["message_start", "ping"]
    second = events_of(translator.feed(tool_chunk(index=0, function={"name": "f", "arguments": ":1}"})))
    assert [event["type"] for event in second] == ["content_block_start", "content_block_delta"]
    assert second[1]["delta"]["partial_json"] == '{"a":1}'


def test_text_is_told_as_it_comes() -> None:
    translator = exchange().stream()
    for piece in ("Hel", "lo"):
        last = events_of(translator.feed(chunk_body({"content": piece})))[-1]
        assert last["delta"] == {"type": "text_delta", "text": piece}


def test_a_stream_without_a_chunk_is_an_empty_message() -> None:
    events = events_of(exchange().stream().finish())
    assert [event["type"] for event in events] == ["message_start", "ping", "message_delta", "message_stop"]
    assert events[0]["message"]["model"] == "xrouter"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RequestError("x"), "invalid_request_error"),
        (BudgetExceededError("x"), "billing_error"),
        (UnknownUrlError("x"), "not_found_error"),
        (ProviderRateLimitError("x"), "rate_limit_error"),
        (LedgerError("x"), "api_error"),
        (NoAnswerError("x"), "api_error"),
        (ServerStoppingError("x"), "overloaded_error"),
    ],
)
def test_errors(error: XRouterError, kind: str) -> None:
    said = MESSAGES.error(error, "req_1")
    ErrorResponse.model_validate(said)
    assert said == {"type": "error", "error": {"type": kind, "message": "x"}, "request_id": "req_1"}
    assert events_of(exchange().stream().error(error, "req_1")) == [said]


def test_a_body_too_large() -> None:
    assert MESSAGES.error(BodyTooLargeError("x"), "r")["error"]["type"] == "request_too_large"


def test_models_on_one_page() -> None:
    page = model_page([make_model("small")], ["thrifty"], 0)
    assert [model["id"] for model in page["data"]] == ["xrouter", "xrouter:thrifty", "small"]
    assert page["data"][2]["max_input_tokens"] == 8192
    assert page["data"][0]["created_at"] == "1970-01-01T00:00:00Z"
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("xrouter", "small", False)
