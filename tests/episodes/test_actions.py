"""Actions as tool calls, there and back."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from conftest import make_model
from episode_kit import ask, completion, environment, scripted

from xrouter.episodes.actions import parse_action, render_response, tool_names, tool_schemas
from xrouter.episodes.episode import Call, CallModels, DirectAnswer, Select, Synthesis
from xrouter.errors import InvalidActionError, ProviderUnavailableError
from xrouter.settings_tables.router_llm import CALL_ARGUMENTS, CallArgument

POOL = (make_model("gpt-5 mini"), make_model("meta/llama.3"), make_model("meta_llama_3"))


def message(*calls: tuple[str, Any], content: str | None = None) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": content,
        "tool_calls": [
            {"id": f"t{i}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for i, (name, arguments) in enumerate(calls)
        ],
    }


def test_names_are_safe_unique_and_lead_back() -> None:
    names = tool_names((*POOL, make_model("x" * 100), make_model("x" * 101)))
    assert list(names.values())[:3] == ["gpt-5 mini", "meta/llama.3", "meta_llama_3"]
    assert list(names)[:3] == ["call_gpt-5_mini", "call_meta_llama_3", "call_meta_llama_3_2"]
    assert len(names) == 5
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in names)


def test_every_schema_parses_back_to_its_model() -> None:
    schemas = tool_schemas(POOL)
    assert json.loads(json.dumps(schemas)) == schemas
    names = [schema["function"]["name"] for schema in schemas]
    assert names[-1] == "select_response"
    for name, model in zip(names[:-1], POOL, strict=True):
        assert parse_action(message((name, "{}")), POOL) == CallModels((Call(model.name),))


def test_several_calls_in_one_message_are_one_act() -> None:
    arguments = json.dumps({"optimized_system_prompt": "Think.", "temperature": 1})
    action = parse_action(
        message(("call_gpt-5_mini", arguments), ("call_meta_llama_3", {})), POOL, arguments=CALL_ARGUMENTS
    )
    assert action == CallModels((Call("gpt-5 mini", "Think.", 1.0), Call("meta/llama.3")))


def test_selection_and_words() -> None:
    assert parse_action(message(("select_response", '{"call_id": "c2"}')), POOL) == Select("c2")
    assert parse_action({"role": "assistant", "content": "42"}, POOL) == DirectAnswer("42")
    assert parse_action({"role": "assistant", "content": "42"}, POOL, after_calls=True) == Synthesis("42")


def test_calls_left_in_the_text_are_read() -> None:
    text = 'Let me ask.\n<tool_call>\n{"name": "call_gpt-5_mini", "arguments": {"temperature": 0.2}}\n</tool_call>'
    assert parse_action({"content": text}, POOL, arguments=CALL_ARGUMENTS) == CallModels(
        (Call("gpt-5 mini", None, 0.2),)
    )


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (message(("call_ghost", "{}")), "unknown tool 'call_ghost': use one of call_gpt-5_mini"),
        (message(("call_gpt-5_mini", '{"temperature": ')), "not valid JSON"),
        (message(("call_gpt-5_mini", "[1]")), "must be a JSON object, got list"),
        (message(("call_gpt-5_mini", '{"temperature": "hot"}')), "from 0 to 2, got 'hot'"),
        (message(("call_gpt-5_mini", '{"temperature": 3}')), "from 0 to 2, got 3"),
        (message(("call_gpt-5_mini", '{"temperature": true}')), "from 0 to 2, got True"),
        (message(("call_gpt-5_mini", '{"temperature": NaN}')), "from 0 to 2, got nan"),
        (message(("call_gpt-5_mini", '{"optimized_system_prompt": 7}')), "as a string, got 7"),
        (message(("call_gpt-5_mini", '{"top_p": 1}')), "no argument 'top_p'"),
        (message(("select_response", "{}")), "needs call_id as a string, got None"),
        (message(("select_response", '{"call_id": "c1"}'), ("call_gpt-5_mini", "{}")), "only tool call"),
        ({"tool_calls": [{"function": "f"}]}, "a function with a name"),
        ({"content": None}, "empty reply"),
        ({"content": "  "}, "empty reply"),
    ],
)
def test_what_is_no_action_says_how_to_mend_it(given: dict[str, Any], error: str) -> None:
    with pytest.raises(InvalidActionError) as raised:
        parse_action(given, POOL, arguments=CALL_ARGUMENTS)
    assert error in raised.value.message


@pytest.mark.parametrize("brief", [False, True])
@pytest.mark.parametrize("arguments", [(), ("temperature",), ("optimized_system_prompt",), CALL_ARGUMENTS])
def test_only_what_is_offered_may_be_said_with_a_call(
    arguments: tuple[CallArgument, ...], brief: bool
) -> None:
    *calls, _ = tool_schemas(POOL, arguments=arguments, brief=brief)
    for schema in calls:
        assert tuple(schema["function"]["parameters"]["properties"]) == arguments
    values = {"optimized_system_prompt": "Think.", "temperature": 1}
    for name, value in values.items():
        given = message(("call_gpt-5_mini", json.dumps({name: value})))
        if name in arguments:
            (made,) = parse_action(given, POOL, arguments=arguments).calls  # type: ignore[union-attr]
            assert value in (made.system_prompt, made.temperature)
            continue
        with pytest.raises(InvalidActionError, match=f"no argument '{name}': use ") as raised:
            parse_action(given, POOL, arguments=arguments)
        assert raised.value.kind == "bad_arguments"
        assert raised.value.message.endswith(f"use {arguments[0] if arguments else 'none'}")


async def test_a_response_as_a_tool_message() -> None:
    pool, _ = scripted(
        {"a": completion("x" * 50 + " The answer is 7."), "b": ProviderUnavailableError("503")}
    )
    observation = await environment(pool).step(ask("a", "b"))
    good, bad = observation.responses
    shown = render_response(good, tool_call_id="t1", max_characters=20)
    assert (shown["role"], shown["tool_call_id"]) == ("tool", "t1")
    content = json.loads(shown["content"])
    assert (content["call_id"], content["model"], content["answer"], content["cost_usd"]) == (
        "c1",
        "a",
        "7",
        "0.0002",
    )
    assert "characters left out" in content["text"]
    assert "error" not in content
    failed = json.loads(render_response(bad)["content"])
    assert failed["error"] == "503"
    assert "text" not in failed
