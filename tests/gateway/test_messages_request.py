"""Requests of Anthropic's Messages API as chats, and what is refused of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from api_kit import body
from hypothesis import given
from hypothesis import strategies as st

from xrouter.errors import RequestError
from xrouter.gateway.anthropic.request import Asked, count_tokens, parse

HELLO: dict[str, Any] = {"role": "user", "content": "Hi"}
TOOL: dict[str, Any] = {"name": "look", "description": "Look.", "input_schema": {"type": "object"}}
USE: dict[str, Any] = {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "é"}}


def asked(**fields: Any) -> Asked:
    return parse(body({"model": "xrouter", "max_tokens": 9, "messages": [HELLO], **fields}))


def messages(*turns: dict[str, Any], **fields: Any) -> list[Any]:
    return list(asked(messages=list(turns), **fields).chat.request.messages)


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def test_the_plain_request() -> None:
    chat = asked(system="Be brief.", temperature=0.5, top_k=3, stop_sequences=["X"], stream=True).chat
    assert chat.model == "xrouter"
    assert list(chat.request.messages) == [{"role": "system", "content": "Be brief."}, HELLO]
    assert chat.request.params == {"max_tokens": 9, "temperature": 0.5, "top_k": 3, "stop": ["X"]}
    assert chat.stream
    assert chat.include_usage


def test_options_are_those_of_every_api() -> None:
    assert asked(xrouter={"max_cost_usd": "0.01"}).chat.options == {"max_cost_usd": "0.01"}


def test_system_blocks_and_a_system_turn() -> None:
    cached = {**said("one"), "cache_control": {"type": "ephemeral"}}
    turns = messages(HELLO, {"role": "system", "content": "now French"}, HELLO, system=[cached, said("two")])
    assert turns[0] == {"role": "system", "content": [said("one"), said("two")]}
    assert turns[2] == {"role": "system", "content": "now French"}
    assert messages(HELLO, system=[cached])[0]["content"] == "one"


def test_images() -> None:
    base64 = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    url = {"type": "image", "source": {"type": "url", "url": "https://example.invalid/a.png"}}
    (turn,) = messages(user(said("what?"), base64, url))
    assert turn["content"] == [
        said("what?"),
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://example.invalid/a.png"}},
    ]


def test_tool_calls_and_results() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    turns = messages(
        HELLO,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                said("Looking."),
                USE,
                {**USE, "id": "t2", "input": {}},
                {**USE, "id": "t3", "input": {}},
            ],
        },
        user(
            {"type": "tool_result", "tool_use_id": "t1", "content": [said("a"), said("b"), image]},
            {"type": "tool_result", "tool_use_id": "t2", "content": "gone", "is_error": True},
            {"type": "tool_result", "tool_use_id": "t3"},
            said("And now?"),
        ),
        tools=[TOOL],
    )
    assert turns[1]["content"] == "Looking."
    assert [call["id"] for call in turns[1]["tool_calls"]] == ["t1", "t2", "t3"]
    assert json.loads(turns[1]["tool_calls"][0]["function"]["arguments"]) == {"at": "é"}
    assert turns[2:5] == [
        {"role": "tool", "tool_call_id": "t1", "content": "a\nb"},
        {"role": "tool", "tool_call_id": "t2", "content": "Error: gone"},
        {"role": "tool", "tool_call_id": "t3", "content": ""},
    ]
    assert turns[5]["role"] == "user"
    assert [part["type"] for part in turns[5]["content"]] == ["text", "image_url", "text"]


def test_a_turn_that_only_thought_leaves_nothing() -> None:
    thought = {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]}
    assert messages(HELLO, thought, HELLO) == [HELLO, HELLO]


@pytest.mark.parametrize(
    ("choice", "fields"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        (
            {"type": "tool", "name": "look"},
            {"tool_choice": {"type": "function", "function": {"name": "look"}}},
        ),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            {"tool_choice": "auto", "parallel_tool_calls": False},
        ),
    ],
)
def test_tool_choice(choice: dict[str, Any], fields: dict[str, Any]) -> None:
    params = asked(
        tools=[{**TOOL, "strict": True, "cache_control": None}], tool_choice=choice
    ).chat.request.params
    function = {"name": "look", "description": "Look.", "parameters": {"type": "object"}, "strict": True}
    assert params == {"max_tokens": 9, "tools": [{"type": "function", "function": function}], **fields}


def test_examples_of_a_tool_go_into_its_schema() -> None:
    (tool,) = asked(tools=[{**TOOL, "input_examples": [{"at": "x"}]}]).chat.request.params["tools"]
    assert tool["function"]["parameters"] == {"type": "object", "examples": [{"at": "x"}]}


@pytest.mark.parametrize(
    ("fields", "effort", "shown"),
    [
        ({}, None, False),
        ({"thinking": {"type": "disabled"}}, None, False),
        ({"thinking": {"type": "adaptive"}}, None, True),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, None, False),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low", True),
        ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, "medium", True),
        ({"thinking": {"type": "enabled", "budget_tokens": 32000}}, "high", True),
        ({"output_config": {"effort": "max"}}, "max", False),
    ],
)
def test_thinking(fields: dict[str, Any], effort: str | None, shown: bool) -> None:
    request = asked(**fields)
    assert request.chat.request.params.get("reasoning_effort") == effort
    assert request.thinking is shown


def test_a_schema_and_a_user() -> None:
    schema = {"type": "object"}
    params = asked(
        output_config={"format": {"type": "json_schema", "schema": schema}}, metadata={"user_id": "u1"}
    ).chat.request.params
    assert params["response_format"]["json_schema"] == {"name": "answer", "schema": schema, "strict": True}
    assert params["user"] == "u1"


DOCUMENT = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"stream": "yes"}, "stream"),
        ({"n": 2}, "n"),
        ({"container": "c"}, "container"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [user()]}, "messages[0].content"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [user({"type": "text"})]}, "messages[0].content[0].text"),
        ({"messages": [user(DOCUMENT)]}, "messages[0].content[0].type"),
        (
            {"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]},
            "messages[0].content[0].source",
        ),
        (
            {
                "messages": [
                    user(
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/bmp", "data": "A"},
                        }
                    )
                ]
            },
            "messages[0].content[0].source.media_type",
        ),
        (
            {"messages": [user({"type": "tool_result", "tool_use_id": "t9"})]},
            "messages[0].content[0].tool_use_id",
        ),
        (
            {"messages": [HELLO, {"role": "assistant", "content": [{**USE, "input": "x"}]}, HELLO]},
            "messages[1].content[0].input",
        ),
        ({"messages": [HELLO, {"role": "assistant", "content": "{"}]}, "messages"),
        ({"system": 3}, "system"),
        ({"system": [DOCUMENT]}, "system[0].type"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"metadata": {"user_id": 3}}, "metadata.user_id"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
        ({"tools": [{**TOOL, "defer_loading": True}]}, "tools[0]"),
        ({"tool_choice": {"type": "auto"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "other"}}, "tool_choice.name"),
        ({"tools": [TOOL], "tool_choice": {"type": "all"}}, "tool_choice.type"),
        ({"tools": [TOOL], "tool_choice": {}}, "tool_choice.type"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "loud"}}, "thinking.type"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format"),
        ({"output_config": {"effort": 3}}, "output_config.effort"),
    ],
)
def test_refusals_name_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        asked(**fields)
    assert caught.value.param == param
    assert param in caught.value.message


def test_counting_needs_no_limit_and_counts_images() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://example.invalid/a.png"}}
    plain = count_tokens(body({"model": "m", "messages": [user(said("x" * 400))]}))["input_tokens"]
    assert 100 <= plain <= 110
    pictured = count_tokens(body({"model": "m", "messages": [user(said("x" * 400), image)]}))["input_tokens"]
    assert pictured == plain + 1600


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "text", "tool_use", "user", "t1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "text", "content", "role", "source", "id", "name", "input", "tool_use_id"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.fixed_dictionaries(
        {"model": st.just("m"), "max_tokens": st.just(9)},
        optional=dict.fromkeys(
            (
                "messages",
                "system",
                "tools",
                "tool_choice",
                "thinking",
                "output_config",
                "metadata",
                "stop_sequences",
                "stream",
            ),
            JSON,
        ),
    )
)
def test_any_body_is_read_or_refused(data: dict[str, Any]) -> None:
    try:
        parse(body(data))
    except RequestError as error:
        assert error.message  # noqa: PT017
