"""Requests of OpenAI's Responses API as chats, and what is refused of them."""

from __future__ import annotations

from typing import Any

import pytest
from api_kit import body
from hypothesis import given
from hypothesis import strategies as st

from xrouter.errors import RequestError
from xrouter.gateway.responses.request import Asked, parse

TOOL: dict[str, Any] = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": None}
CALL: dict[str, Any] = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
OUTPUT: dict[str, Any] = {"type": "function_call_output", "call_id": "c1", "output": "seen"}
HELLO: dict[str, Any] = {"role": "user", "content": "Hi"}


def asked(**fields: Any) -> Asked:
    return parse(body({"model": "xrouter", "input": "Hi", **fields}))


def messages(*items: dict[str, Any]) -> list[Any]:
    return list(asked(input=list(items)).chat.request.messages)


def test_the_plain_request() -> None:
    request = asked(
        instructions="Be brief.",
        temperature=1.5,
        max_output_tokens=9,
        stream=True,
        store=False,
        metadata={"a": "b"},
        reasoning={"effort": "low", "summary": "auto"},
        text={"verbosity": "low"},
        include=["reasoning.encrypted_content"],
        service_tier="flex",
    )
    chat = request.chat
    assert list(chat.request.messages) == [{"role": "system", "content": "Be brief."}, HELLO]
    assert chat.request.params == {
        "temperature": 1.5,
        "max_tokens": 9,
        "reasoning_effort": "low",
        "verbosity": "low",
        "service_tier": "flex",
    }
    assert chat.stream
    assert chat.include_usage
    assert request.echo["metadata"] == {"a": "b"}
    assert request.echo["store"] is False
    assert request.echo["reasoning"] == {"effort": "low", "summary": "auto"}
    assert not request.logprobs


def test_options_are_those_of_every_api() -> None:
    assert asked(xrouter={"max_cost_usd": "0.01"}).chat.options == {"max_cost_usd": "0.01"}


def test_messages_and_their_parts() -> None:
    assert messages(
        {"role": "developer", "content": "Rules."},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "what?"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
                {"type": "input_image", "image_url": "https://example.invalid/a.png", "detail": "auto"},
            ],
        },
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "A cat.", "annotations": []},
                {"type": "refusal", "refusal": "No more."},
            ],
        },
        {"role": "user", "content": [{"type": "input_text", "text": "Sure?"}]},
    ) == [
        {"role": "system", "content": "Rules."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "what?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://example.invalid/a.png"}},
            ],
        },
        {"role": "assistant", "content": "A cat.\nNo more."},
        {"role": "user", "content": "Sure?"},
    ]


def test_what_an_assistant_says_and_calls_is_one_message() -> None:
    image = {"type": "input_image", "image_url": "https://example.invalid/a.png"}
    turns = messages(
        HELLO,
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"role": "assistant", "content": "Looking."},
        CALL,
        {**CALL, "call_id": "c2"},
        {**OUTPUT, "output": [{"type": "input_text", "text": "a picture"}, image]},
        {**OUTPUT, "call_id": "c2"},
        {**CALL, "call_id": "c3"},
        {**OUTPUT, "call_id": "c3"},
    )
    roles = [turn["role"] for turn in turns]
    assert roles == ["user", "assistant", "tool", "tool", "user", "assistant", "tool"]
    assert turns[1]["content"] == "Looking."
    assert [call["id"] for call in turns[1]["tool_calls"]] == ["c1", "c2"]
    assert turns[2] == {"role": "tool", "tool_call_id": "c1", "content": "a picture"}
    assert turns[4]["content"][1] == {"type": "image_url", "image_url": {"url": image["image_url"]}}
    assert turns[5] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c3", "type": "function", "function": {"name": "look", "arguments": "{}"}},
        ],
    }


@pytest.mark.parametrize(
    ("choice", "wanted", "names"),
    [
        ("required", "required", ["look", "hear"]),
        (
            {"type": "function", "name": "hear"},
            {"type": "function", "function": {"name": "hear"}},
            ["look", "hear"],
        ),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "hear"}]},
            "auto",
            ["hear"],
        ),
    ],
)
def test_tools(choice: Any, wanted: Any, names: list[str]) -> None:
    params = asked(
        tools=[TOOL, {**TOOL, "name": "hear", "strict": True}], tool_choice=choice, parallel_tool_calls=False
    ).chat.request.params
    assert params["tool_choice"] == wanted
    assert params["parallel_tool_calls"] is False
    assert [tool["function"]["name"] for tool in params["tools"]] == names
    assert params["tools"][-1]["function"]["strict"] is True


def test_formats() -> None:
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    params = asked(text={"format": schema}).chat.request.params
    assert params["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
    }
    plain = asked(text={"format": {"type": "json_object"}}).chat.request.params
    assert plain == {"response_format": {"type": "json_object"}}
    assert not asked(text={"format": {"type": "text"}}).chat.request.params


def test_log_probabilities() -> None:
    request = asked(include=["message.output_text.logprobs"], top_logprobs=2)
    assert request.logprobs
    assert request.chat.request.params == {"logprobs": True, "top_logprobs": 2}


FILE = {"type": "input_file", "file_id": "f"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 3}, "model"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": {"role": "user"}}, "input"),
        ({"input": [{"role": "developer", "content": "x"}]}, "input"),
        ({"input": ["x"]}, "input[0]"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [FILE]}]}, "input[0].content[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].image_url",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
            "input[0].content[0].text",
        ),
        ({"input": [OUTPUT]}, "input[0].call_id"),
        ({"input": [HELLO, {**CALL, "arguments": {}}]}, "input[1].arguments"),
        ({"input": [HELLO, {**CALL, "name": ""}]}, "input[1].name"),
        ({"input": [HELLO, CALL, {**OUTPUT, "output": 3}]}, "input[2].output"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"input": [{"id": "x"}]}, "input[0]"),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, "input[0].type"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"store": True}, "store"),
        ({"store": "no"}, "store"),
        ({"truncation": "auto"}, "truncation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"messages": [HELLO]}, "messages"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"include": ["web_search_call.results"]}, "include"),
        ({"include": "x"}, "include"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "custom", "name": "x"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{**TOOL, "parameters": "x"}]}, "tools[0].parameters"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice.name"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "mode": "x"}}, "tool_choice.mode"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "mode": "auto"}}, "tool_choice.tools"),
        (
            {
                "tools": [TOOL],
                "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"name": "x"}]},
            },
            "tool_choice.tools[0].name",
        ),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"text": {"verbosity": 3}}, "text.verbosity"),
        ({"reasoning": {"effort": 3}}, "reasoning.effort"),
        ({"xrouter": "fast"}, "xrouter"),
    ],
)
def test_refusals_name_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        asked(**fields)
    assert caught.value.param == param
    assert param in caught.value.message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "auto", "text", "user", "c1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "text", "content", "role", "name", "call_id", "output", "tools", "mode"]
            ),
            inner
            | st.sampled_from(
                ["message", "function_call", "function_call_output", "function", "json_schema"]
            ),
            max_size=4,
        )
    ),
    max_leaves=12,
)
FIELDS = (
    "input",
    "tools",
    "tool_choice",
    "text",
    "reasoning",
    "include",
    "store",
    "metadata",
    "top_logprobs",
)


@given(st.fixed_dictionaries({"model": st.just("m")}, optional=dict.fromkeys(FIELDS, JSON)))
def test_any_body_is_read_or_refused(data: dict[str, Any]) -> None:
    try:
        parse(body(data))
    except RequestError as error:
        assert error.message  # noqa: PT017
