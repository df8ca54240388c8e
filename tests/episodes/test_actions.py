"""Actions as tool calls, there and back."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

import pytest
from conftest import make_model
from episode_kit import ask, completion, environment, scripted

from xrouter.episodes.actions import read_call, read_selection, shown_response, tool_names, tool_schemas
from xrouter.episodes.episode import Call, Select
from xrouter.errors import InvalidActionError, ProviderUnavailableError
from xrouter.settings_tables.router_llm import CALL_ARGUMENTS, CallArgument

POOL = (make_model("gpt-5 mini"), make_model("meta/llama.3"), make_model("meta_llama_3"))


def made(name: str, arguments: Any, offered: Collection[CallArgument] = CALL_ARGUMENTS) -> Call:
    return read_call(name, arguments, tool_names(POOL), offered)


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
        assert made(name, "{}") == Call(model.name)


def test_a_call_with_its_arguments() -> None:
    arguments = {"optimized_system_prompt": "Think.", "temperature": 1}
    for given in (arguments, json.dumps(arguments)):
        assert made("call_gpt-5_mini", given) == Call("gpt-5 mini", "Think.", 1.0)
    for nothing in ("", None, {}, {"optimized_system_prompt": ""}, {"temperature": None}):
        assert made("call_meta_llama_3", nothing) == Call("meta/llama.3")


def test_a_selection() -> None:
    assert read_selection('{"call_id": "c2"}') == Select("c2")
    with pytest.raises(InvalidActionError, match="needs call_id as a string, got None"):
        read_selection("{}")


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("call_ghost", "{}", "unknown tool 'call_ghost': use one of call_gpt-5_mini"),
        ("call_gpt-5_mini", '{"temperature": ', "not valid JSON"),
        ("call_gpt-5_mini", "[1]", "must be a JSON object, got list"),
        ("call_gpt-5_mini", '{"temperature": "hot"}', "from 0 to 2, got 'hot'"),
        ("call_gpt-5_mini", '{"temperature": 3}', "from 0 to 2, got 3"),
        ("call_gpt-5_mini", '{"temperature": true}', "from 0 to 2, got True"),
        ("call_gpt-5_mini", '{"temperature": NaN}', "from 0 to 2, got nan"),
        ("call_gpt-5_mini", '{"optimized_system_prompt": 7}', "as a string, got 7"),
        ("call_gpt-5_mini", '{"top_p": 1}', "no argument 'top_p'"),
    ],
)
def test_what_is_no_call_says_how_to_mend_it(name: str, arguments: str, error: str) -> None:
    with pytest.raises(InvalidActionError) as raised:
        made(name, arguments)
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
        given = json.dumps({name: value})
        if name in arguments:
            call = made("call_gpt-5_mini", given, arguments)
            assert value in (call.system_prompt, call.temperature)
            continue
        with pytest.raises(InvalidActionError, match=f"no argument '{name}': use ") as raised:
            made("call_gpt-5_mini", given, arguments)
        assert raised.value.kind == "bad_arguments"
        assert raised.value.message.endswith(f"use {arguments[0] if arguments else 'none'}")


async def test_a_response_as_it_is_shown() -> None:
    pool, _ = scripted(
        {"a": completion("x" * 50 + " The answer is 7."), "b": ProviderUnavailableError("503")}
    )
    observation = await environment(pool).step(ask("a", "b"))
    good, bad = observation.responses
    content = shown_response(good, max_characters=20)
    assert (content["call_id"], content["model"], content["answer"], content["cost_usd"]) == (
        "c1",
        "a",
        "7",
        "0.0002",
    )
    assert "characters left out" in content["text"]
    assert "error" not in content
    failed = shown_response(bad)
    assert failed["error"] == "503"
    assert "text" not in failed
