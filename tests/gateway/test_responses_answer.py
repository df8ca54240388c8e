"""Answers as OpenAI's responses: whole, and in events that add up to the same."""

from __future__ import annotations

from typing import Any

import pytest
from answers_kit import answers, cuts
from api_kit import TOOL_CALLS, body, chunks_of, completion, events_of, streamed
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from upstream import chunk_body

from xrouter.errors import NoAnswerError, ProviderRateLimitError, RequestError, XRouterError
from xrouter.gateway.responses.api import RESPONSES, ResponseExchange

EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def exchange(**fields: Any) -> ResponseExchange:
    return RESPONSES.parse(body({"model": "xrouter", "input": "Hi", **fields}))


def told(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The response at the end, once every event before it has been held against it."""
    for number, event in enumerate(events):
        EVENTS.validate_python(event)
        assert event["sequence_number"] == number
    created, in_progress, *between, last = events
    assert created["type"] == "response.created"
    assert in_progress["type"] == "response.in_progress"
    assert created["response"]["status"] == "in_progress"
    final: dict[str, Any] = last["response"]
    assert last["type"] == f"response.{final['status']}"
    added: list[dict[str, Any]] = []
    done: dict[int, dict[str, Any]] = {}
    pieces: dict[tuple[int, int], str] = {}
    for event in between:
        index, kind = event["output_index"], event["type"].removeprefix("response.")
        if kind == "output_item.added":
            assert index == len(added)
            added.append(event["item"])
            continue
        assert index not in done
        if kind == "output_item.done":
            done[index] = event["item"]
            continue
        assert event["item_id"] == added[index]["id"] == final["output"][index]["id"]
        place = (index, event.get("content_index", 0))
        if kind.endswith(".delta"):
            pieces[place] = pieces.get(place, "") + event["delta"]
        elif kind == "content_part.added":
            assert place not in pieces
            pieces[place] = ""
        elif kind == "content_part.done":
            assert event["part"] == final["output"][index]["content"][place[1]]
        else:
            whole = event.get("arguments", event.get("refusal", event.get("text")))
            assert whole == pieces.get(place, "")
    assert [done[index] for index in range(len(added))] == final["output"]
    return final


@given(answers(), st.data())
def test_any_cut_adds_up_to_the_whole(whole: dict[str, Any], data: st.DataObject) -> None:
    asked = exchange()
    response = asked.whole(whole)
    Response.model_validate(response)
    assert told(streamed(asked, data.draw(cuts(whole)))) == response


def test_the_plain_response() -> None:
    response = exchange(metadata={"a": "b"}, temperature=0.5).whole(completion(text="Hello."))
    assert response["id"] == "resp_1"
    assert response["created_at"] == 1_700_000_000
    assert response["status"] == "completed"
    assert response["output"] == [
        {
            "type": "message",
            "id": "msg_1_0",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hello.", "annotations": [], "logprobs": []}],
        }
    ]
    assert response["usage"] == {
        "input_tokens": 11,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 18,
    }
    assert response["metadata"] == {"a": "b"}
    assert response["temperature"] == 0.5
    assert response["store"] is False
    assert response["tool_choice"] == "auto"
    assert response["xrouter"] == {"cost_usd": "0.1"}


def test_the_request_is_repeated() -> None:
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
    asked = exchange(tools=[tool], parallel_tool_calls=False, text={"format": schema}, instructions="Rules.")
    response = asked.whole(completion())
    Response.model_validate(response)
    assert response["tools"] == [tool]
    assert response["parallel_tool_calls"] is False
    assert response["text"] == {"format": schema}
    assert response["instructions"] == "Rules."


@pytest.mark.parametrize(
    ("finish", "status", "details"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_statuses(finish: str, status: str, details: dict[str, str] | None) -> None:
    answer = completion(text="x", finish_reason=finish)
    response = exchange().whole(answer)
    assert (response["status"], response["incomplete_details"]) == (status, details)
    assert response["output"][0]["status"] == status
    assert told(streamed(exchange(), chunks_of(answer))) == response


def test_reasoning_and_calls_are_items() -> None:
    answer = completion(text="So:", reasoning_content="hm", tool_calls=TOOL_CALLS)
    output = exchange().whole(answer)["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call", "function_call"]
    assert output[0]["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert [item["call_id"] for item in output[2:]] == ["call_1", "call_2"]


def test_log_probabilities_only_where_they_were_asked_for() -> None:
    answer = completion(text="a")
    entry = {"token": "a", "logprob": -0.1, "bytes": None, "top_logprobs": []}
    answer["choices"][0]["logprobs"] = {"content": [{**entry, "top_logprobs": [entry]}]}
    (item,) = exchange(include=["message.output_text.logprobs"]).whole(answer)["output"]
    plain = {"token": "a", "logprob": -0.1, "bytes": []}
    assert item["content"][0]["logprobs"] == [{**plain, "top_logprobs": [plain]}]
    assert exchange().whole(answer)["output"][0]["content"][0]["logprobs"] == []
    asked = exchange(include=["message.output_text.logprobs"])
    delta = {**chunk_body({"content": "a"})}
    delta["choices"][0]["logprobs"] = answer["choices"][0]["logprobs"]
    final = told(streamed(asked, [{**delta, "id": "chatcmpl-1"}, *chunks_of(completion(text=""))[1:]]))
    assert final["output"] == [item]


def test_a_call_is_announced_when_its_name_is_known_and_at_the_latest_at_the_end() -> None:
    def piece(**fields: Any) -> dict[str, Any]:
        return chunk_body({"tool_calls": [fields]})

    chunks = [
        piece(index=0, id="c0", function={"arguments": "{"}),
        piece(index=1, id="c1", function={"name": "g", "arguments": "{}"}),
        piece(index=0, function={"name": "f", "arguments": "}"}),
        piece(index=2, function={"name": "h", "arguments": "{}"}),
    ]
    final = told(streamed(exchange(), [*chunks, chunk_body({}, finish_reason="tool_calls")]))
    calls = [(item["call_id"], item["name"], item["arguments"]) for item in final["output"]]
    assert calls[:2] == [("c1", "g", "{}"), ("c0", "f", "{}")]
    assert calls[2][0]
    assert calls[2][1:] == ("h", "{}")


def test_text_after_a_call_is_a_message_of_its_own() -> None:
    call = {"index": 0, **TOOL_CALLS[0]}
    chunks = [
        chunk_body({"content": "a"}),
        chunk_body({"tool_calls": [call]}),
        chunk_body({"content": "b"}),
        chunk_body({}, finish_reason="stop"),
    ]
    final = told(streamed(exchange(), chunks))
    assert Response.model_validate(final).output_text == "ab"


def test_text_is_told_as_it_comes() -> None:
    translator = exchange().stream()
    for piece in ("Hel", "lo"):
        last = events_of(translator.feed(chunk_body({"content": piece})))[-1]
        assert (last["type"], last["delta"]) == ("response.output_text.delta", piece)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ProviderRateLimitError("x"), "rate_limit_exceeded"),
        (RequestError("x"), "invalid_prompt"),
        (NoAnswerError("x"), "server_error"),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
def test_errors_in_mid_stream(error: XRouterError, code: str, begun: bool) -> None:
    translator = exchange().stream()
    sent = translator.feed(chunk_body({"content": "Hel"})) if begun else b""
    events = events_of(sent + translator.error(error, "req_1"))
    for number, event in enumerate(events):
        EVENTS.validate_python(event)
        assert event["sequence_number"] == number
    failed, last = events[-2:]
    assert failed["type"] == "response.failed"
    assert failed["response"]["error"] == {"code": code, "message": "x"}
    assert last["type"] == "error"
    assert (last["message"], last["error"]["type"]) == ("x", error.type)
    assert RESPONSES.error(error, "req_1")["error"]["message"] == "x"
